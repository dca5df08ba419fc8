# Wrong secrets: counted by name and address, and hashed a few at a time.

use v5.36;
use List::Util  qw(sum0);
use Users::Test;
use Users::Test::Torture;

my $PREFORK = ($ENV{USERS_TEST_MPM} // '') eq 'prefork';

# Clients come from where X-Client says. Two children, so that they must know of each other.
my @ADDRESSES = (
    modules => ['remoteip'],
    conf    => <<~CONF,
        RemoteIPHeader X-Client
        RemoteIPInternalProxy 127.0.0.1
        StartServers 2
        <IfModule !mpm_prefork_module>
          ServerLimit 2
          ThreadsPerChild 16
          ThreadLimit 16
          MaxRequestWorkers 32
          MinSpareThreads 1
          MaxSpareThreads 32
        </IfModule>
        CONF
);

my $server = Users::Test->new(databases => ['second']);
for my $database (qw(users second)) {
    $server->sql(<<~'SQL', $database);
        insert into users.credential (user_id, username, secret_digest, secret_hash) values
          (1, 'john',   sha256('right'), null),
          (1, 'hashed', null, '$2y$05$abcdefghijklmnopqrstuuGW0Hyo9Kutwab1irCpEelJozXqOfxUe'),
          (1, 'other',  null, '$2y$05$abcdefghijklmnopqrstuuGW0Hyo9Kutwab1irCpEelJozXqOfxUe');
        SQL
}
my $HASHED = 'canary-of-a-hashed-password';    # the password of that hash

sub attempt ($name, $secret, %option) {
    return (GET => '/api/users', basic => [$name, $secret],
        headers => ['X-Client' => $option{from} // '192.0.2.1', Host => $option{host} // 'localhost']);
}

sub try (@arguments) {
    return $server->request(attempt(@arguments));
}

sub statuses (@answers) {
    return join ' ', map { $_->{status} } @answers;
}

# What a client sees, but for the seconds that are left.
sub shown ($answer) {
    my %headers = $answer->{headers}->%*;
    delete @headers{qw(date retry-after)};
    return [$answer->@{qw(status reason body)}, \%headers];
}

sub restart (%conf) {
    $server->stop if $server->pid;
    my %addresses = @ADDRESSES;
    $addresses{conf} .= $conf{conf} // '';
    $server->start(%addresses, vhost => $conf{vhost} // '', site => $conf{site});
    $server->allow_log(qr/server reached MaxRequestWorkers/);
    $server->allow_trouble(qw(lockout hashes));
}

# What the log has of names that are locked out, at a level.
sub lockouts ($from, $level) {
    return grep { /\[users:$level\] .*wrong secrets \(\d+\) of / } $from->error_log;
}

# Names that share a place share its count, so one that is new may be locked out already: of two thousand a
# few in a hundred runs.
use constant SHARED => 3;

# Names at random, each of which is locked out at once, as the log of another server has them. What it
# leaves out it tells after a minute, by a clock that can be set (t/fault/torture.c).
my $flooded = Users::Test->new;
my $torture = Users::Test::Torture->new($flooded->dir);
{
    local %ENV = (%ENV, $torture->environment);
    $torture->set_clock(3600);
    $flooded->start(preload => $torture->library, vhost => 'UsersMaxFailures 1');
}

my $flood_names = 0;

sub try_flooded ($name) {
    return $flooded->request(GET => '/api/users', basic => [$name, 'wrong'])->{status};
}

# Tries names until so many were locked out, and returns the last one.
sub flood ($names) {
    my ($name, %status);
    do {
        $name = 'name' . $flood_names++;
        $status{ try_flooded($name) }++;
    } while ($status{401} // 0) < $names && $flood_names < 100;
    cmp_ok delete $status{429} // 0, '<=', SHARED, 'few are locked out by a name that was tried before';
    is_deeply \%status, { 401 => $names }, 'each other name is by its own first wrong secret';
    return $name;
}

subtest 'names at random do not fill the log' => sub {
    is try_flooded(flood(40)), 429, '... as the next one tells';
    is lockouts($flooded, 'warn'), 10, 'ten stand in the log';
    is lockouts($flooded, 'info'), 30, '... and all for who looks closer';
};

subtest 'a name from an address' => sub {
    restart();
    is try(hashed => $HASHED)->{status}, 200, 'the right secret';
    is statuses(map { try(hashed => 'wrong') } 1 .. 10), join(' ', (401) x 10), 'ten wrong ones';
    my $answer = try(hashed => 'wrong');
    is $answer->{status}, 429, 'the eleventh is too many';
    like $answer->{headers}{'retry-after'}, qr/^\d+$/, 'it says when to come back';
    cmp_ok $answer->{headers}{'retry-after'}, '<=', 600, 'within ten minutes';
    cmp_ok $answer->{headers}{'retry-after'}, '>',  500, 'and not much sooner';
    is_deeply $answer->{json}{errors},
        ['too many wrong secrets came from this address: try again later'], 'and why';
    is $answer->{headers}{'www-authenticate'}, undef, 'and asks for no other';
    is try(hashed => $HASHED)->{status}, 429, 'the right one is too late, though it is remembered';
    is try(hashed => $HASHED, from => '192.0.2.2')->{status}, 200, 'but the owner elsewhere gets in';
    is try(other => $HASHED)->{status}, 200, 'and others do from there';
    is try('hashed ' => 'wrong')->{status}, 401, 'names are compared whole';
    is $server->request(GET => '/api/users', token => READ_TOKEN, headers => ['X-Client' => '192.0.2.1'])
        ->{status}, 200, 'tokens are not names';
};

sub ask_for_token ($secret, @more) {
    return $server->request(POST => '/api/oauth/token', headers => ['X-Client' => '192.0.2.1'],
        form => [client_id => CLIENT_ID, client_secret => $secret, grant_type => 'client_credentials', @more]);
}

# The octets of a request for a name at random.
sub guess () {
    my ($method, $path, %option) = attempt(join('', map { ('a' .. 'z')[rand 26] } 1 .. 24), 'wrong');
    return Users::Test::Client::compose($method, $path, %option);
}

subtest 'a generated secret that is right is let in' => sub {
    restart(vhost => OAUTH_ENDPOINTS);
    is statuses(map { try(john => 'wrong') } 1 .. 12), join(' ', (401) x 10, 429, 429), 'wrong ones are refused';
    is try(john => 'right')->{status}, 200, 'the right one is not';
    is try(john => 'wrong')->{status}, 401, '... and makes them forgotten';
    is statuses(map { ask_for_token('wrong') } 1 .. 12), join(' ', (401) x 10, 429, 429), 'so with an application';
    is ask_for_token(CLIENT_SECRET)->{status}, 200, '... whose right secret is let in';
};

subtest 'the network of an IPv6 address is one' => sub {
    restart();
    my @network = map { sprintf '2001:db8:1:2:%x::%x', $_, $_ } 1 .. 12;
    is statuses(map { try(hashed => 'wrong', from => $_) } @network), join(' ', (401) x 10, 429, 429),
        'its addresses count together';
    is try(hashed => $HASHED, from => '2001:db8:1:2::ffff')->{status}, 429, '... and are refused together';
    is try(hashed => $HASHED, from => '2001:db8:1:3::1')->{status}, 200, 'another network is not';
    is try(hashed => $HASHED, from => '32.1.13.184')->{status}, 200, 'nor the IPv4 address of these octets';
    try(hashed => 'wrong', from => '::ffff:192.0.2.77') for 1 .. 10;
    is try(hashed => $HASHED, from => '192.0.2.77')->{status}, 429, 'an IPv4 address is one, mapped or not';
    is try(hashed => $HASHED, from => '192.0.2.78')->{status}, 200, '... and not its neighbour';
};

subtest 'nothing pushes a count out' => sub {
    restart(conf => "MaxKeepAliveRequests 0\nUsersCache shmcb:users-cache(16384)");
    try($_ => 'wrong') for ('hashed') x 10, ('john') x 10;
    my @connections = map { $server->connect } 1 .. 8;
    my %count;
    for (1 .. 250) {
        $_->send(guess) for @connections;
        $count{ $_->answer->{status} }++ for @connections;
    }
    is sum0(map { $_ // 0 } @count{qw(401 429)}), 2000, 'two thousand names';
    cmp_ok $count{401}, '>=', 2000 - SHARED, '... none of which was tried before';
    is try(hashed => $HASHED)->{status}, 429, '... later the one is locked out still';
    is try(john => 'wrong')->{status}, 429, '... and the other, too';
};

subtest 'a reload forgets nothing' => sub {
    restart();
    try(hashed => 'wrong') for 1 .. 10;
    for (1 .. 2) {
        my @children = $server->children;
        $server->graceful;
        wait_until(sub { !grep { kill 0 => $_ } @children }, 'children to end');
        is try(hashed => $HASHED)->{status}, 429, 'locked out';
    }
};

subtest 'a secret that was changed starts afresh' => sub {
    my ($old) = $server->sql(q(select secret_hash from users.credential where username = 'other'));
    my $new = crypt 'another password', '$2y$05$abcdefghijklmnopqrstuu';
    $new = crypt 'another password', '$6$salt' if $new !~ /^\$2y/;
    restart(vhost => OAUTH_ENDPOINTS);
    try(other => 'wrong') for 1 .. 10;
    is try(other => 'another password')->{status}, 429, 'locked out';
    $server->sql("update users.credential set secret_hash = '$new' where username = 'other'");
    is statuses(map { try(other => 'wrong') } 1 .. 3), '401 401 401', 'a new one is not';
    is try(other => 'another password')->{status}, 200, '... and is let in';
    $server->sql("update users.credential set secret_hash = '$old' where username = 'other'");
    is try(other => $HASHED)->{status}, 429, 'the old one is locked out still';
    ask_for_token('wrong') for 1 .. 11;
    $server->sql(q(update users.application set secret_digest = sha256('new')));
    is statuses(map { ask_for_token($_) } qw(wrong new)), '401 200', q(so with an application's);
    $server->sql("update users.application set secret_digest = sha256('${\CLIENT_SECRET}')");
};

subtest 'the log tells whose name it is, and from where' => sub {
    restart(vhost => "UsersMaxFailures 3\nUsersFailureWindow 20min\nUsersPasswordGrant on\n" . OAUTH_ENDPOINTS);
    my @told;
    my $locks_out = sub ($pattern, $name) {
        my @now = lockouts($server, 'warn');
        is @now, @told + 1, "$name: one line in the log";
        like $now[-1], $pattern, '... with the name and the address';
        @told = @now;
    };
    try(john => 'wrong') for 1 .. 50;
    $locks_out->(qr/\[client 192\.0\.2\.1:\d+\] too many wrong secrets \(3\) of the API credentials "john" came from 192\.0\.2\.1, which is refused under this name for 1200 s \(UsersMaxFailures, UsersFailureWindow\)$/, 'john');
    try(john => 'wrong', from => '2001:db8::1') for 1 .. 50;
    $locks_out->(qr/"john" came from 2001:db8::1, /, 'john from elsewhere');
    try(nobody => 'wrong') for 1 .. 5;
    $locks_out->(qr/the API credentials "nobody" came/, 'a name that nobody has');
    try("j\xc3\xa9\\" => 'wrong') for 1 .. 5;
    $locks_out->(qr/the API credentials "j\\xc3\\xa9\\\\" came/, 'one that can not be printed');
    try('x' x 5000 => 'wrong') for 1 .. 5;
    $locks_out->(qr/the API credentials "x{64}\.\.\." came/, 'one that is long');
    ask_for_token('wrong') for 1 .. 5;
    $locks_out->(qr/too many wrong secrets \(3\) of the application "@{[CLIENT_ID]}" came from 192\.0\.2\.1, /, 'an application');
    unlike join("\n", lockouts($server, '\w+')), qr/"wrong"|wrong wrong/, 'the secrets stay out';
};

subtest 'it tells nothing of a name' => sub {
    restart();
    for my $pair (['john', 'nobody'], ['hashed', 'nobody@example.com'], ['john', 'A' x 24]) {
        my ($known, $unknown) = @$pair;
        for my $n (1 .. 12) {
            my @from = (from => '198.51.100.' . length "$known$unknown");
            is_deeply shown(try($unknown => 'wrong', @from)), shown(try($known => 'wrong', @from)),
                "$unknown is answered as $known, $n";
        }
    }
    restart();
    is try(nobody => $HASHED)->{status}, 401, q(another's password proves no name);
    is try('A' x 24 => $HASHED)->{status}, 401, 'of whichever form';
};

subtest 'many at once' => sub {
    restart();
    my $generated = 'generated-name-of-john-0';
    $server->sql("insert into users.credential (user_id, username, secret_digest) values (1, '$generated', sha256('right'))");
    for my $case ([$generated => 'a digest'], [hashed => 'a hash'], [nobody => 'no such name']) {
        my ($name, $what) = @$case;
        my %count;
        $count{ $_->{status} }++ for $server->parallel(map { [attempt($name => 'wrong')] } 1 .. 60);
        my $busy = delete $count{503} // 0;
        ok !$busy || $name ne $generated, "$what: no hash is computed that isn't needed";
        while (($count{429} // 0) < 1) {    # those that found no slot said nothing of the secret
            $count{ try($name => 'wrong')->{status} }++;
        }
        is $count{401}, 10, "$what: ten guesses, whoever serves them";
        is sum0(values %count), $count{401} + $count{429}, 'and no other answer';
    }
};

subtest 'failures are forgotten' => sub {
    restart();
    for (1 .. 3) {
        try(john => 'wrong') for 1 .. 9;
        is try(john => 'right')->{status}, 200, 'by the right secret';
    }
    restart(vhost => "UsersFailureWindow 1s\nUsersMaxFailures 2");
    wait_until(sub { try(hashed => 'wrong')->{status} == 429 }, 'to be locked out');
    wait_until(sub { try(hashed => $HASHED)->{status} == 200 }, 'the window to end');
    pass 'at the end of the window';
    restart(vhost => 'UsersMaxFailures 0');
    is statuses(map { try(john => 'wrong') } 1 .. 12), join(' ', (401) x 12), 'or never counted';
};

subtest 'whose name it is' => sub {
    restart(site => <<~SITE);
        UsersPasswordGrant on
        UsersMaxFailures 2
        UsersDB "@{[$server->conninfo]}"
        <Location /api/users>
          UsersEndpoint account
        </Location>
        @{[OAUTH_ENDPOINTS]}
        <VirtualHost *:*>
          ServerName localhost
        </VirtualHost>
        <VirtualHost *:*>
          ServerName same.example
        </VirtualHost>
        <VirtualHost *:*>
          ServerName second.example
          UsersDB "@{[$server->conninfo('second')]}"
        </VirtualHost>
        SITE
    try(hashed => 'wrong') for 1 .. 2;
    is try(hashed => $HASHED)->{status}, 429, 'locked out';
    is try(hashed => $HASHED, host => 'same.example')->{status}, 429, 'in all that one database serves';
    is try(hashed => $HASHED, host => 'second.example')->{status}, 200, 'but not in another';

    my @client = (client_id => CLIENT_ID, client_secret => CLIENT_SECRET);
    my $ask = sub (@parameters) {
        $server->request(POST => '/api/oauth/token', form => \@parameters,
            headers => ['X-Client' => '192.0.2.1']);
    };
    my $answer = $ask->(@client, grant_type => 'password', username => 'hashed', password => $HASHED);
    is $answer->{status}, 429, 'the password grant asks for the same secret';
    is $answer->{json}{error}, 'temporarily_unavailable', 'in the words of OAuth';
    ok $answer->{headers}{'retry-after'}, 'with Retry-After';

    $ask->(client_id => CLIENT_ID, client_secret => 'wrong', grant_type => 'client_credentials') for 1 .. 2;
    is $ask->(client_id => CLIENT_ID, client_secret => 'wrong', grant_type => 'client_credentials')->{status}, 429,
        q(an application's secret counts too);
    is try(CLIENT_ID, 'wrong')->{status}, 401, 'as that of an application';
};

subtest 'an application that has two secrets' => sub {
    $server->sql(<<~'SQL');
        update users.application
        set old_secret_digest = sha256('old'), old_secret_expires_at = now() + interval '1 day'
        SQL
    restart(vhost => "UsersMaxFailures 2\n" . OAUTH_ENDPOINTS);
    is statuses(map { ask_for_token($_) } 'wrong', 'old', 'wrong', CLIENT_SECRET), '401 200 401 200',
        'either makes failures forgotten';
    for my $right ('old', CLIENT_SECRET) {
        is statuses(map { ask_for_token($_) } ('wrong') x 3, $right), '401 401 429 200',
            'what is neither counts once, and either is let in';
    }

    $server->sql('update users.application set old_secret_expires_at = now()');
    restart(vhost => "UsersMaxFailures 2\n" . OAUTH_ENDPOINTS);
    is statuses(map { ask_for_token($_) } 'old', 'old', 'old', CLIENT_SECRET), '401 401 429 200',
        'one that has ended is wrong, and counts';
};

subtest 'a verified password is read anew each time' => sub {
    restart();
    is statuses(map { try(hashed => $HASHED) } 1 .. 3), '200 200 200', 'it is right';
    $server->sql(q(update users.credential set secret_hash = '$2y$05$abcdefghijklmnopqrstuunYdhHrPrQsWwVD7FJZar2U048CuDd2m'
        where username = 'hashed'));
    is try(hashed => $HASHED)->{status}, 401, 'a changed one is refused at once';
    is try(other => $HASHED)->{status}, 200, 'that of another name is not';
    $server->sql(q(update users.credential set revoked_at = now() where username = 'other'));
    is try(other => $HASHED)->{status}, 401, 'a revoked one is refused at once';
    $server->sql(q(update users.credential set revoked_at = null where username = 'other'));
    $server->sql(q(update users.account set suspended_at = now() where id = 1));
    is try(other => $HASHED)->{status}, 403, 'so is a suspended account';
    $server->sql(q(update users.account set suspended_at = null where id = 1));
    restart(vhost => 'UsersCredentialCache 0');
    is statuses(map { try(other => $HASHED) } 1 .. 3), '200 200 200', 'without a cache too';
};

subtest 'a flood of passwords leaves threads to others' => sub {
    plan skip_all => 'a child of prefork serves one request at a time' if $PREFORK;
    $server->sql(<<~'SQL');
        update users.credential
        set secret_hash = '$2y$12$abcdefghijklmnopqrstuunYdhHrPrQsWwVD7FJZar2U048CuDd2m'
        where secret_hash is not null
        SQL
    restart();
    $server->expect_trouble('hashes');
    my @flood = map { $server->connect } 1 .. 24;    # of 32 threads, eight may hash or wait
    my $n     = 0;
    for (@flood) {
        my ($method, $path, %option) = attempt('nobody' . $n++, 'wrong');
        $_->send(Users::Test::Client::compose($method, $path, %option));
    }
    is statuses(map { $server->request(GET => '/api/users', token => READ_TOKEN) } 1 .. 20),
        join(' ', (200) x 20), 'a token is served meanwhile';
    my %count;
    for (map { $_->answer } @flood) {
        $count{ $_->{status} }++;
        ok $_->{headers}{'retry-after'}, 'with Retry-After' if $_->{status} == 503;
    }
    like join(' ', sort keys %count), qr{^(?:401 )?503$}, 'some are told to come again';
};

subtest 'after a minute the log tells how many it has left out' => sub {
    $torture->set_clock($torture->clock + 61);
    my $another = flood(1);
    my @lines = grep { /\[users:warn\] .*30 times more than the log tells \(10 a minute\)$/ } $flooded->error_log;
    is @lines, 1, 'has a line with how many' or diag(join "\n", lockouts($flooded, '\w+'));
    is lockouts($flooded, 'warn'), 11, '... and one of its own';
    try_flooded($another) for 1 .. 20;
    is scalar(grep { /more than the log tells/ } $flooded->error_log), 1, '... once';
    $flooded->expect_trouble('lockout');
};

done_testing;
