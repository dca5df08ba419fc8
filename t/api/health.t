# The health checks: live while httpd answers, ready while the database does; it is asked once a second at
# most, however many ask; and nobody learns more than that.

use v5.36;
use Users::Test::Fault;
use Users::Test::Session;

my $PREFORK = ($ENV{USERS_TEST_MPM} // '') eq 'prefork';

my $server  = Users::Test::Fault->new;
my $session = Users::Test::Session->new($server);

# Each check is a line of PostgreSQL's log; and a token is looked up once nobody holds its lock.
$server->sql(<<~'SQL');
    alter role mod_users set log_statement = 'all';
    create function public.wait_for(bytea) returns boolean language plpgsql as
      $$ begin perform pg_advisory_xact_lock_shared(get_byte($1, 0)); return true; end $$;
    alter view users_api.token rename to live_token;
    create view users_api.token as
      select * from users_api.live_token where public.wait_for(digest);
    grant select on users_api.token to mod_users
    SQL

# One child under a threaded MPM, whose pool is the only one; under prefork a few.
sub start (%option) {
    my $workers = $PREFORK ? 10 : 32;
    $server->stop if $server->pid;
    $server->start(vhost => HEALTH_ENDPOINTS . ($option{vhost} // ''), conf => $option{conf} // <<~CONF);
        StartServers @{[$PREFORK ? $workers : 1]}
        ServerLimit @{[$PREFORK ? $workers : 1]}
        MaxRequestWorkers $workers
        <IfModule !mpm_prefork_module>
          ThreadsPerChild $workers
          MinSpareThreads 1
          MaxSpareThreads $workers
        </IfModule>
        CONF
    $server->allow_log(qr/server reached MaxRequestWorkers setting/);    # it is small on purpose
}

sub checks () {
    return scalar(() = $server->postgres->log =~ / execute check_health: /g);
}

my @LIVE  = (GET => '/health/live');
my @READY = (GET => '/health/ready');

# As a load balancer and a reader of the answer see it: "200 UP UP" for the status, reads, writes.
sub told ($answer) {
    my %check = map { $_->{name} => $_->{status} } $answer->{json}{checks}->@*;
    return join ' ', $answer->{status}, map { $_ // '-' } @check{qw(reads writes)};
}

sub wait_until_told ($words) {
    my $last = '';
    eval {
        wait_until(sub { ($last = told($server->request(@READY))) eq $words }, "the health to be $words");
    };
    is $last, $words, "it is $words in the end";
}

# In the log at trace2: how often somebody has begun to check.
sub begun () {
    return $server->count_log(qr/the health of the database \S+ is checked/);
}

# Ask until it is our turn to check, which then takes until something ends: its connection, and what was
# told before.
sub begin_check () {
    my $before = begun();
    my @told;
    while (1) {
        my $asked = $server->begin(@READY);
        wait_until(sub { $asked->can_read || begun() > $before }, 'an answer, or a check');
        return ($asked, @told) unless $asked->can_read;
        push @told, told($asked->answer);
    }
}

subtest 'what is said' => sub {
    start();
    my $live = $server->request(@LIVE);
    is $live->{status}, 200, 'live';
    is $live->{body}, '{"status":"UP","checks":[]}', '... in the form of MicroProfile Health';
    is checks(), 0, '... without the database';
    my $ready = $server->request(@READY);
    is $ready->{status}, 200, 'ready';
    is $ready->{body},
        '{"status":"UP","checks":[{"name":"reads","status":"UP"},{"name":"writes","status":"UP"}]}', '... in the same form';
    is checks(), 1, '... by a statement';
    for ($live, $ready) {
        is $_->{headers}{'content-type'}, 'application/json', 'it is JSON';
        like $_->{headers}{'cache-control'}, qr/no-cache|no-store/, '... of which no cache keeps a copy unasked';
    }
    $server->wait_for_log(qr/\[users:info\] .*the health of the database users\@\S+: reads UP, writes UP/);
};

subtest 'other requests are answered as at other endpoints' => sub {
    for my $path ('/health/live', '/health/ready') {
        my ($get, $head) = map { $server->request($_ => $path) } qw(GET HEAD);
        delete $_->{headers}{date} for $get, $head;
        is_deeply $head->{headers}, $get->{headers}, "HEAD $path has the header fields of GET";
        like $server->raw(Users::Test::Client::compose(HEAD => $path, headers => [Connection => 'close'])),
            qr/\r\n\r\n\z/, '... and no body';
        my $options = $server->request(OPTIONS => $path);
        is $options->{status}, 204, 'OPTIONS';
        is $options->{headers}{allow}, 'GET, HEAD, OPTIONS', '... with Allow';
        for my $case (['PUT', 405], ['POST', 405], ['PATCH', 405], ['DELETE', 405], ['FROBNICATE', 501]) {
            my ($method, $status) = @$case;
            my $answer = $server->request($method => $path, json => {});
            is $answer->{status}, $status, "$method: $status";
            is $answer->{headers}{allow}, $status == 405 ? 'GET, HEAD, OPTIONS' : undef, '... and Allow where there are others';
            ok $answer->{json}{errors}[0], '... in JSON';
        }
        my $answer = $server->request(GET => $path, headers => [Accept => 'text/html']);
        is $answer->{status}, 406, 'no other form';
        like $answer->{json}{errors}[0], qr/only application\/json/, '... says so';
        is $server->request(GET => $path, headers => [Accept => $_])->{status}, 200, "Accept: $_"
            for '*/*', 'application/json', 'text/html;q=0.9, application/*;q=0.1';
        is $server->request(GET => "$path/more")->{status}, 404, 'there is nothing below it';
        is $server->request(GET => $path, token => 'nonsense')->{status}, 200, 'no credential counts';
    }
    start(vhost => HEALTH_ENDPOINTS =~ s/UsersEndpoint health/Require all denied/gr);
    $server->expect_log(qr/AH01630: client denied by server configuration/);
    for (\@LIVE, \@READY) {
        my $answer = $server->request(@$_);
        is $answer->{status}, 403, 'Require excludes whom it excludes';
        ok $answer->{json}{errors}[0], '... in JSON';
    }
};

subtest 'the path tells which it is' => sub {
    for my $path (qw(/live /ready /health/live /api/health/ready /-/ready)) {
        my ($status, $output) = $server->configtest(vhost => "<Location $path>\nUsersEndpoint health\n</Location>");
        is $status, 0, "$path is good" or diag($output);
    }
    for my $path (qw(/health /health/live/ /alive /health/started /ready/x)) {
        my ($status, $output) = $server->configtest(vhost => "<Location $path>\nUsersEndpoint health\n</Location>");
        isnt $status, 0, "$path is refused";
        like $output, qr{\bUsersEndpoint: health is served at paths that end in /live and in /ready}, '... with what it takes';
    }
};

subtest 'many ask' => sub {
    my @asked;
    start(conf => <<~CONF);
        StartServers 3
        ServerLimit 6
        <IfModule mpm_prefork_module>
          MaxRequestWorkers 6
        </IfModule>
        <IfModule !mpm_prefork_module>
          ThreadsPerChild 16
          MaxRequestWorkers 96
          MinSpareThreads 48
          MaxSpareThreads 96
        </IfModule>
        CONF
    my $before = checks();
    my $began  = now;
    push @asked, $server->request(@READY);
    push @asked, $server->parallel(map { [@READY] } 1 .. 40) for 1 .. 5;
    if (!$server->single_process) {
        $server->allow_log(qr/long lost child came home/);    # httpd's word on the restart
        $server->graceful;
        push @asked, $server->parallel(map { [@READY] } 1 .. 40) for 1 .. 5;
    }
    my $seconds = now - $began;
    my $checks  = checks() - $before;
    is_deeply count(map { told($_) } @asked), { '200 UP UP' => scalar @asked }, 'all are told';
    cmp_ok $checks, '>=', 1, 'the database was asked';
    cmp_ok $checks, '<=', 1 + int $seconds, '... at most once a second, by all children, over a reload';
    cmp_ok $seconds, '<', @asked, '... which is fewer than asked';
};

subtest 'the database is away, and comes back' => sub {
    start();
    is told($server->request(@READY)), '200 UP UP', 'it is there';
    $server->expect_log(qr/the database \S+ can't be reached/);
    $server->allow_log(qr/the database \S+ is back/);    # of prefork, only by a child that was told of it
    $server->postgres->stop('immediate');
    wait_until_told('503 DOWN DOWN');
    my $answer = $server->request(@READY);
    is_unavailable($answer, 'the answer');
    is $answer->{json}{status}, 'DOWN', '... is DOWN as a whole, too';
    is $server->request(@LIVE)->{status}, 200, 'live is as it was';
    $server->postgres->start;
    $session = Users::Test::Session->new($server);
    wait_until_told('200 UP UP');
    is $server->request(GET)->{status}, 200, '... and no outage lasts';
};

subtest 'it takes no changes' => sub {
    start();
    is told($server->request(@READY)), '200 UP UP', 'it does before';
    $server->sql('alter database users set default_transaction_read_only = on');    # of sessions to come
    $server->sql("set transaction_read_only = off;"
            . " select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = 'mod_users'");
    wait_until_told('200 UP DOWN');
    is $server->request(@READY)->{json}{status}, 'UP', 'reads decide';
    is $server->request(GET)->{status}, 200, '... as GET finds';
    $server->sql("begin; set transaction read write; alter database users reset default_transaction_read_only; commit");
    wait_until_told('200 UP UP');
};

subtest 'the contract is not there' => sub {
    start();
    $server->expect_log(qr/is not prepared for this version of mod_users, and refused check_health: 42P01/);
    $server->allow_log(qr/the database \S+ is prepared now/);
    $server->sql('alter view users_api.token rename to gone');
    wait_until_told('503 DOWN DOWN');
    unlike $server->request(@READY)->{body}, qr/token|relation|42P01/, 'no error of the database is shown';
    $server->sql('alter view users_api.gone rename to token');
    wait_until_told('200 UP UP');
};

sub key_of ($token) {
    return "get_byte(sha256('$token'), 0)";
}

subtest 'all connections are in use' => sub {
    plan skip_all => 'a child of prefork serves one request at a time' if $PREFORK || $server->single_process;
    start(vhost => <<~CONF);
        UsersReadLanes 0
        UsersDBMax 1
        UsersDBAcquireTimeout 1s
        UsersDBTimeout 20s
        UsersRequestTimeout 30s
        CONF
    $server->allow_trouble('busy');
    $session->sql("select pg_advisory_lock(${\key_of($_)})") for READ_TOKEN, FULL_TOKEN;
    my @held = $server->begin(GET);
    $server->wait_for_locks(1);
    push @held, $server->begin(GET => '/api/users', token => FULL_TOKEN);
    wait_until(sub { $server->count_log(qr/the credential is a bearer token/) == 2 }, 'another one to queue');
    my ($checker) = begin_check();
    $session->sql("select pg_advisory_unlock(${\key_of(READ_TOKEN)})");    # the other one's turn comes first
    like told($checker->answer), qr/^200 UP/, 'while they get on';

    $session->sql('select pg_advisory_unlock_all()');
    like $_->answer->{status}, qr/^(?:200|503)$/, 'a request that was held is answered' for @held;
    wait_until_told('200 UP UP');
    $session->sql("select pg_advisory_lock(${\key_of(READ_TOKEN)})");
    my $stuck = $server->begin(GET);
    $server->wait_for_locks(1);
    wait_until_told('503 DOWN DOWN');
    is $server->request(@LIVE)->{status}, 200, 'live is as it was';
    $session->sql('select pg_advisory_unlock_all()');
    is $stuck->answer->{status}, 200, 'what was stuck is answered';
};

subtest 'a check is under way' => sub {
    plan skip_all => 'its child is the only one' if $server->single_process;
    start(vhost => join "\n", map { "Users$_ 60s" } qw(DBTimeout DBAcquireTimeout DBConnectTimeout RequestTimeout));
    is told($server->request(@READY)), '200 UP UP', 'before';
    my @frozen = ($server->postgres->pid, $server->backends);
    kill STOP => @frozen;
    my ($checker, @others) = begin_check();
    push @others, map { told($_) } $server->parallel(map { [@READY] } 1 .. 5);
    ok !$checker->can_read, 'it waits';
    is_deeply count(@others), { '200 UP UP' => scalar @others }, 'others are told what was found last';
    kill CONT => @frozen;
    is told($checker->answer), '200 UP UP', 'then it is answered';
};

done_testing;
