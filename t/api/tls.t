# A server that others can reach says in its log that it has no TLS (RFC 6750 section 5.3).

use v5.36;
use Users::Test;

# A network of our own, in which it may listen on every address: nobody is there.
my @ISOLATE = (
    $> == 0 ? qw(unshare --net) : qw(unshare --map-current-user --keep-caps --net),
    'sh', '-c', 'ip link set lo up && exec "$@"', 'sh'
);
if (!$ENV{USERS_TEST_ISOLATED}) {
    plan skip_all => 'no network namespace can be made here'
        if system(@ISOLATE, 'true') != 0;
    local $ENV{USERS_TEST_ISOLATED} = 1;
    exec @ISOLATE, $^X, (map { "-I$_" } @INC), $0;
}

my $server   = Users::Test->new;
my $warning  = qr/\[users:warn\] .* without TLS/;
my $endpoint = <<~CONF;
    UsersDB "@{[$server->conninfo]}"
    <Location /api/users>
      UsersEndpoint account
    </Location>
    CONF

# The names of the servers that the log warns of.
sub warned (%config) {
    $server->start(%config);
    $server->allow_log($_) for $warning, qr/\[ssl:warn\]/;    # it has much to say of certificates
    my @names = map { /\] ([\w.-]+):\d+ serves/ } grep { $_ =~ $warning } $server->error_log;
    $server->stop;
    return [sort @names];
}

sub vhost ($name, $text = $endpoint, $address = '*:*') {
    return "<VirtualHost $address>\nServerName $name\n$text\n</VirtualHost>\n";
}

my $everywhere = 'Listen 0.0.0.0:8080';
my $tls        = $server->tls;

is_deeply warned(site => vhost('a.example')), [], 'none on loopback';
is_deeply warned(conf => 'Listen [::1]:8080', site => vhost('a.example')), [],
    'none on loopback of both kinds';
is_deeply warned(conf => $everywhere, site => vhost('a.example') . vhost('b.example')),
    [qw(a.example b.example)], 'one for each virtual host that others can reach';
is_deeply warned(conf => $everywhere, site => vhost('a.example', '') . vhost('b.example')),
    ['b.example'], 'none for one that does not serve the API';
is_deeply warned(conf => $everywhere, site => vhost('a.example', HEALTH_ENDPOINTS . $endpoint =~ s/<.*//sr)),
    [], 'none for one that has health checks alone';
is_deeply warned(conf => $everywhere, site => vhost('a.example', HEALTH_ENDPOINTS . $endpoint)), ['a.example'],
    'one for one that has both';
is_deeply warned(conf => $everywhere, site => vhost('a.example', $endpoint, '127.0.0.1:8080')),
    [], 'none for a virtual host of a loopback address';
is_deeply warned(conf => $everywhere, site => $endpoint), ['localhost'],
    'one for the server without virtual hosts';
is_deeply warned(
    modules => ['ssl'],
    conf    => "$everywhere\nListen 0.0.0.0:8443 https",
    site    => vhost('plain.example', $endpoint, '*:8080')
        . vhost('tls.example', $endpoint . $tls, '*:8443')
    ),
    ['plain.example'], 'none for one with TLS';
is_deeply warned(
    modules => ['ssl'],
    conf    => "$everywhere\nListen 0.0.0.0:8443 https",
    site    => $endpoint . vhost('plain.example', '', '*:8080') . vhost('tls.example', $tls, '*:8443')
    ),
    [qw(localhost plain.example)], 'TLS of one is not that of those that inherit the same endpoint';

done_testing;
