# The access log in JSON that the manual has: each line is an object, whatever clients send.

use v5.36;
use Cwd            qw(abs_path);
use File::Basename qw(dirname);
use JSON::PP       ();
use Users::Test;

use constant TRACE => '0af7651916cd43dd8448eb211c80319c';

my $SOURCE = $ENV{USERS_SRCDIR} // abs_path(dirname(__FILE__) . '/../..');
my $server = Users::Test->new;
my $log    = $server->dir . '/users.json';

sub read_all ($path) {
    open my $file, '<:raw', $path or return '';
    local $/;
    return <$file>;
}

my ($conf) = read_all("$SOURCE/doc/manual/operate.md") =~ /^((?: {4}SetEnvIfExpr .*\n)+ {4}LogFormat .*\n {4}CustomLog \S+ users_json\n)/m;
ok $conf, 'the manual has it' or BAIL_OUT('no JSON access log in the manual');
$conf =~ s{/var/log/apache2/users\.json}{$log};
$server->start(modules => ['setenvif'], vhost => "UsersTraceParent propagate\n$conf");

# What a request adds to the log, as it is and decoded.
my $length = 0;

sub logged () {
    wait_until(sub { -s $log > $length && read_all($log) =~ /\n\z/ }, 'a line');
    my $line = substr read_all($log), $length;
    $length += length $line;
    return ($line, eval { JSON::PP->new->utf8->decode($line) });
}

sub decoded ($text) { return $text =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ger }

subtest 'a request' => sub {
    $server->request(GET => '/api/users?token=secret', token => FULL_TOKEN,
        headers => ['User-Agent' => 'curl/8.1 (x; "y")', traceparent => '00-' . TRACE . '-b7ad6b7169203331-01']);
    my ($line, $entry) = logged();
    is $entry->{status}, 200, 'its status';
    is $entry->{method}, 'GET', 'its method';
    is $entry->{path}, '/api/users', 'its path, without the query';
    is $entry->{account}, '1', 'the account';
    is $entry->{application}, $server->sql("select id from users.application where client_id = '${\CLIENT_ID}'"), 'the application';
    is join(' ', sort split / /, $entry->{scope}), 'profile_read profile_update', 'the scope';
    is $entry->{trace}, TRACE, 'the trace';
    is decoded($entry->{agent}), 'curl/8.1 (x; "y")', 'the agent';
    like $line, qr/"microseconds":\d+,/, 'the time that it took is a number';
    like $line, qr/"bytes":\d+,/, '... and so is the length of the answer';
    like $entry->{time}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d{4}$/, 'the time';
    is $entry->{client}, '127.0.0.1', 'the client';
};

subtest 'one without anything' => sub {
    $server->raw("GET /api/users HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    my ($line, $entry) = logged();
    is $entry->{status}, 401, 'its status';
    is $entry->{account}, '-', 'no account';
    is $entry->{trace}, '-', 'no trace';
    is $entry->{agent}, '-', 'no agent';
};

my @HOSTILE = ('"', '\\', '\\"', '","status":200,"x":"', "\t", "\xC3\xA9", "\xFF\xFE", "\xED\xA0\x80", '%', '%22', '%e',
    '\\u0000', '\\x22', '{}', "'", '$1', '&<>', 'a' x 200);

subtest 'agents' => sub {
    for my $agent (@HOSTILE, 'b' x 4000, join '', grep { $_ ne "\t" } @HOSTILE) {
        $server->raw("GET /api/users HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nUser-Agent: a${agent}z\r\n\r\n");
        my ($line, $entry) = logged();
        is $entry && decoded($entry->{agent}), "a${agent}z", 'an object, with the agent as sent' or diag($line);
    }
};

subtest 'paths' => sub {
    $server->allow_log(qr/\[core:error\] .*AH10244: invalid URI path/);
    for my $path (map { "/$_" } @HOSTILE, map({ sprintf '%%%02x', $_ } 1 .. 255), '%c3%a9') {
        $server->raw("GET $path HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        my ($line, $entry) = logged();
        ok $entry, 'an object' or diag($line);
        is decoded($entry->{path}), $path, 'with the path as sent' if $entry && $entry->{path} ne '-';
    }
};

subtest 'what httpd can not read' => sub {
    for my $bytes ("G\xC3\xA9T / HTTP/1.1\r\n\r\n", "\"G\\ET\" / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02\r\n\r\n", "GET\r\n\r\n", "\r\n\"\x01\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/9.\xFF\r\n\r\n", "GET / HTTP/1.1\r\nHost: \"\r\n\r\n", "GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: \x01\"\r\n\r\n", 'GET /' . 'a' x 10000 . " HTTP/1.1\r\n\r\n") {
        $server->raw($bytes);
        my ($line, $entry) = logged();
        ok $entry, 'an object' or diag($line);
        like $entry->{status} // '', qr/^4\d\d$/, 'of a refusal';
    }
};

done_testing;
