# The database goes away, freezes, is slow, comes back.

use v5.36;
use IO::Socket::INET;
use Users::Test;
use Users::Test::Process qw(DEADLINE);
use Users::Test::Session;

my $PACE    = $ENV{USERS_TEST_VALGRIND} ? 10 : 1;    # memcheck slows everything down
my $ACQUIRE = 1 * $PACE;      # seconds, UsersDBAcquireTimeout
my $CONNECT = 0.3 * $PACE;    # seconds, UsersDBConnectTimeout
my $TIMEOUT = 0.6 * $PACE;    # seconds, UsersDBTimeout
my $SLACK   = 2 * $PACE;      # seconds that a busy machine may take on top

my $PREFORK  = ($ENV{USERS_TEST_MPM} // '') eq 'prefork';
my $CHILDREN = $PREFORK ? 10 : 1;

# One child under a threaded MPM, so that its pool is the only one; a few under prefork,
# where a child serves one request at a time.
my $MPM = <<~CONF;
    <IfModule mpm_prefork_module>
      StartServers $CHILDREN
      ServerLimit $CHILDREN
      MaxRequestWorkers $CHILDREN
    </IfModule>
    <IfModule !mpm_prefork_module>
      StartServers 1
      ServerLimit 1
      ThreadsPerChild 32
      MaxRequestWorkers 32
      MinSpareThreads 1
      MaxSpareThreads 32
    </IfModule>
    CONF
my $ONE_CHILD = $MPM =~ s/(StartServers|ServerLimit|MaxRequestWorkers) $CHILDREN$/$1 1/mgr;

my $server = Users::Test->new;

sub start (%option) {
    $server->stop if $server->pid;
    $server->start(conf => $option{conf} // $ONE_CHILD, vhost => <<~CONF);
        UsersDB "@{[$option{conninfo} // $server->conninfo]}"
        UsersDBAcquireTimeout @{[1000 * ($option{acquire} // $ACQUIRE)]}ms
        UsersDBConnectTimeout @{[1000 * ($option{connect} // $CONNECT)]}ms
        UsersDBTimeout @{[1000 * ($option{timeout} // $TIMEOUT)]}ms
        UsersRequestTimeout @{[1000 * ($option{request} // 60)]}ms
        UsersDBMax @{[$option{max} // 2]}
        @{[$option{vhost} // '']}
        CONF
    $server->allow_log(qr/server reached MaxRequestWorkers setting/);    # it is small on purpose
}

my @get   = (GET => '/api/users', token => READ_TOKEN);
my @patch = (PATCH => '/api/users', token => FULL_TOKEN, json => { user => { city => 'Delft' } });
my @post  = (
    POST  => '/api/users',
    token => REGISTER_TOKEN,
    json  => {
        user => {
            fname             => 'Jane',
            lname             => 'Roe',
            provider_server   => 'server.example',
            provider_username => 'jane'
        }
    });

# Send a request of which the answer is read later.
sub begin ($method, $path, %option) {
    my $connection = $server->connect;
    $connection->send(
        Users::Test::Client::compose($method, $path, %option, headers => [Connection => 'close']));
    return $connection;
}

# A request and the seconds that it took.
sub timed (@request) {
    my $before = now;
    my $answer = $server->request(@request);
    return ($answer, now - $before);
}

sub backends () {
    return split /\n/,
        $server->sql("select pid from pg_stat_activity where usename = 'mod_users' order by pid");
}

sub wait_for_locks ($count) {
    wait_until(
        sub {
            $count == $server->sql(<<~SQL);
                select count(*) from pg_stat_activity
                where usename = 'mod_users' and wait_event_type = 'Lock'
                SQL
        },
        "$count statements to wait for a lock"
    );
}

sub terminate_backends () {
    $server->sql(
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'mod_users'");
    wait_until(sub { !backends() }, 'the connections to end');
}

sub city () {
    return $server->sql('select city from users.account where id = 1');
}

sub is_unavailable ($answer, $name) {
    is $answer->{status}, 503, "$name: 503";
    like $answer->{headers}{'retry-after'}, qr/^[1-9]\d*$/, "$name: Retry-After";
    my $dir = $server->dir;
    unlike $answer->{body}, qr/\Q$dir\E|socket|host|sql|connect/i, "$name: nothing is given away";
}

sub count_lines ($pattern) {
    return scalar grep { $_ =~ $pattern } $server->error_log;
}

subtest 'no connection is made before it is needed' => sub {
    start();
    is backends(), 0, 'none at the start';
    is $server->request(GET => '/api/users')->{status}, 401, 'a request without credentials';
    is $server->request(GET => '/nowhere')->{status}, 404, 'and one for something else';
    is backends(), 0, 'need none';
    is $server->request(@get)->{status}, 200, 'one that has a token';
    is backends(), 1, 'needs one';
};

subtest 'httpd starts without PostgreSQL and recovers by itself' => sub {
    $server->stop;
    $server->postgres->stop;
    start();
    my $lost = qr/\[users:error\] .* the database \S+ can't be reached: /;
    my $back = qr/\[users:warn\] .* the database \S+ is back/;
    $server->expect_log($_) for $lost, $back;

    for my $request (\@get, \@patch, \@post) {
        my ($answer, $seconds) = timed(@$request);
        is_unavailable($answer, $request->[0]);
        cmp_ok $seconds, '<', $ACQUIRE + $SLACK, "$request->[0]: within UsersDBAcquireTimeout";
    }
    $server->request(@get) for 1 .. 10;
    is count_lines($lost), 1, 'one line in the log tells of the loss';

    $server->postgres->start;
    my $before = now;
    wait_until(sub { $server->request(@get)->{status} == 200 }, 'GET to answer');
    cmp_ok now - $before, '<', 1 + $SLACK, 'within a second of its start requests succeed';
    is $server->request(@patch)->{status}, 200, 'a PATCH too';
    is $server->request(@post)->{status},  201, 'and a POST';
    is count_lines($back), 1, 'one line in the log tells of the return';
    is count_lines($lost), 1, 'and there is no other';

    $server->postgres->stop;
    $server->request(@get) for 1 .. 10;
    is count_lines($lost), 2, 'the next loss is told again';
    $server->postgres->start;
    wait_until(sub { $server->request(@get)->{status} == 200 }, 'the next return');
    is count_lines($back), 2, 'so is the next return, once';
};

subtest 'a client does not notice that idle connections have died' => sub {
    my %deaths = (
        'terminated'        => \&terminate_backends,
        'restarted'         => sub { $server->postgres->restart },
        'restarted at once' => sub { $server->postgres->restart('immediate') },
    );
    for my $name (sort keys %deaths) {
        start(conf => $MPM);
        $server->parallel(map { [@get] } 1 .. 10);
        cmp_ok backends(), '>', 0, "$name: there are idle connections";
        $deaths{$name}->();
        my @answers = $server->parallel(map { [@get] } 1 .. 10);
        is scalar(grep { $_->{status} == 200 } @answers), 10, "$name: every GET answers";
        $deaths{$name}->();
        is $server->request(@patch)->{status}, 200, "$name: so does a PATCH, which has not begun";
    }
};

subtest 'a change whose connection dies is settled on another one' => sub {
    start(timeout => 30);
    $server->sql("update users.account set city = 'Leiden' where id = 1");
    my $session = Users::Test::Session->new($server);
    $session->sql('begin; select from users.account where id = 1 for update');
    my $patch = begin(@patch);
    wait_for_locks(1);
    my ($first) = backends();
    $server->sql("select pg_terminate_backend($first)");
    wait_until(sub { (backends())[0] // $first != $first }, 'another connection');
    wait_for_locks(1);
    is city(), 'Leiden', 'it has changed nothing';
    $session->sql('rollback');
    is $patch->answer->{status}, 200, 'the repeat succeeds';
    is city(), 'Delft', 'and changes it';

    start(timeout => 30, request => 2 * $ACQUIRE);    # the shorter one counts
    $server->allow_trouble('late');
    $server->sql("update users.account set city = 'Leiden' where id = 1");
    $session->sql('begin; select from users.account where id = 1 for update');
    my $before = now;
    $patch = begin(@patch);
    wait_for_locks(1);
    ($first) = backends();
    $server->sql("select pg_terminate_backend($first)");
    my $answer = $patch->answer;
    is_unavailable($answer, 'what can not be settled in time');
    like $answer->{json}{errors}[0], qr/outcome is not known/, 'it says so';
    cmp_ok now - $before, '<', 2 * $ACQUIRE + $SLACK, 'in time';
    $session->sql('rollback');
    is $server->request(@patch)->{status}, 200, 'the next one is served';
};

subtest 'who finds no free connection is told so in time' => sub {
    plan skip_all => 'a child of prefork serves one request at a time' if $PREFORK;
    my $acquire = 3 * $ACQUIRE;
    start(max => 1, acquire => $acquire, timeout => 5 * $acquire);
    $server->expect_trouble('busy');
    my $session = Users::Test::Session->new($server);
    $session->sql('begin; select from users.account where id = 1 for update');
    my $patch = begin(@patch);
    wait_for_locks(1);
    my $before  = now;
    my @answers = $server->parallel(map { [@get] } 1 .. 10);
    my $seconds = now - $before;
    is_unavailable($answers[$_], "GET $_") for keys @answers;
    cmp_ok $seconds, '>', 0.9 * $acquire, 'after UsersDBAcquireTimeout';
    cmp_ok $seconds, '<', 1.8 * $acquire, 'and not after twice of it';
    $session->sql('rollback');
    is $patch->answer->{status}, 200, 'who had the connection is not disturbed';
    is $server->request(@get)->{status}, 200, 'then it is free again';
};

subtest 'a child has no more than UsersDBMax connections' => sub {
    my $max = $PREFORK ? 1 : 3;
    start(conf => $MPM, max => $max, timeout => 20, vhost => 'UsersReadLanes 0');
    $server->allow_trouble('busy');
    my $session = Users::Test::Session->new($server);
    $session->sql('begin; lock table users.account in access exclusive mode');
    my @gets = map { begin(@get) } 1 .. 15;
    wait_for_locks($CHILDREN * $max);
    is backends(), $CHILDREN * $max, 'as many as there may be, under load';
    $session->sql('rollback');
    my %count;
    while (my $get = shift @gets) {
        $count{ $get->answer->{status} }++;
    }
    is_deeply [grep { $_ != 200 && $_ != 503 } keys %count], [], 'each request is answered';
    cmp_ok $count{200}, '>=', $CHILDREN * $max, 'those that had a connection succeed';
};

subtest 'a statement that waits for a lock' => sub {
    start(max => 1);
    $server->expect_trouble('late');
    my %cases = (
        'GET: look-up' => [504, \@get, 'lock table users.token in access exclusive mode'],
        'GET: account' => [504, \@get, 'lock table users.billing_plan in access exclusive mode'],
        'PATCH'        => [503, \@patch, 'select from users.account where id = 1 for update'],
        'POST'         => [503, \@post,  'lock table users.credential in share mode'],
    );
    $server->request(@get);
    my @before  = backends();
    my $session = Users::Test::Session->new($server);
    for my $name (sort keys %cases) {
        my ($status, $request, $lock) = $cases{$name}->@*;
        $session->sql("begin; $lock");
        my ($answer, $seconds) = timed(@$request);
        $session->sql('rollback');
        is $answer->{status}, $status, "$name: $status";
        is_unavailable($answer, $name) if $status == 503;
        cmp_ok $seconds, '>', 0.7 * $TIMEOUT, "$name: it has waited";
        cmp_ok $seconds, '<', $TIMEOUT + $SLACK, "$name: within UsersDBTimeout";
        is $server->request(@get)->{status}, 200, "$name: then the connection is free again";
    }
    is_deeply [backends()], \@before, 'none has cost the connection';
};

subtest 'a statement that takes too long' => sub {
    start(max => 1);
    $server->expect_trouble('late');
    $server->sql(<<~SQL);
        alter view users_api.token rename to quick_token;
        create view users_api.token as
          select quick_token.* from users_api.quick_token cross join pg_sleep(300);
        grant select on users_api.token to mod_users;
        SQL
    my ($answer, $seconds) = timed(@get);
    is $answer->{status}, 504, 'GET: 504';
    cmp_ok $seconds, '<', $TIMEOUT + $SLACK, 'GET: within UsersDBTimeout';
    $server->sql(<<~SQL);
        drop view users_api.token;
        alter view users_api.quick_token rename to token;
        SQL
    is $server->request(@get)->{status}, 200, 'GET: then the connection is free again';

    $server->sql(<<~SQL);
        create function users.dawdle() returns trigger language plpgsql
          as 'begin perform pg_sleep(300); return new; end';
        create trigger dawdle before insert or update on users.account
          for each row execute function users.dawdle();
        SQL
    for my $request (\@patch, \@post) {
        ($answer, $seconds) = timed(@$request);
        is_unavailable($answer, $request->[0]);
        cmp_ok $seconds, '<', $TIMEOUT + $SLACK, "$request->[0]: within UsersDBTimeout";
    }
    $server->sql('drop function users.dawdle() cascade');
    is $server->request(@patch)->{status}, 200, 'PATCH: then the connection is free again';
};

subtest 'a frozen server costs no more than the deadline' => sub {
    start(max => 1, request => 2 * $ACQUIRE);
    $server->expect_trouble('late');
    is $server->request(@get)->{status}, 200, 'there is a connection';
    my ($frozen) = backends();
    kill STOP => $frozen;
    my ($answer, $seconds) = timed(@get);
    is $answer->{status}, 504, 'GET: 504';
    cmp_ok $seconds, '<', $TIMEOUT + $SLACK, 'GET: within UsersDBTimeout';
    is $server->request(@get)->{status}, 200, 'the next request has another connection';
    kill CONT => $frozen;
    wait_until(sub { backends() == 1 }, 'the frozen process to end');

    start(max => 1, timeout => 30, request => 2 * $ACQUIRE);
    $server->allow_trouble('late');
    my $session = Users::Test::Session->new($server);
    $session->sql('begin; select from users.account where id = 1 for update');
    my $before = now;
    my $patch  = begin(@patch);
    wait_for_locks(1);
    ($frozen) = backends();
    kill STOP => $frozen;
    is_unavailable($patch->answer, 'PATCH');
    cmp_ok now - $before, '<', 2 * $ACQUIRE + $SLACK, 'PATCH: within UsersRequestTimeout';
    kill CONT => $frozen;
    wait_until(sub { !grep { $_ == $frozen } backends() }, 'the frozen process to end');
    $session->sql('rollback');
    is $server->request(@patch)->{status}, 200, 'the next request has another connection';

    start(max => 1);
    my $postmaster = $server->postgres->pid;
    kill STOP => $postmaster;
    ($answer, $seconds) = timed(@get);
    kill CONT => $postmaster;
    is_unavailable($answer, 'nobody takes connections');
    cmp_ok $seconds, '<', $CONNECT + $SLACK, 'within UsersDBConnectTimeout';
    wait_until(sub { $server->request(@get)->{status} == 200 }, 'GET to answer');
    $server->expect_log(qr/\[users:error\] .* the database \S+ can't be reached: /);
    $server->expect_log(qr/\[users:warn\] .* the database \S+ is back/);
};

subtest 'of several hosts the first that answers is taken' => sub {
    my $connect = 3 * $CONNECT;
    my $socket = $server->postgres->conninfo('users') =~ /host=(\S+)/ ? $1 : die;
    my $mute   = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 100) or die $@;
    my $port   = $mute->sockport;
    my %hosts  = (
        'the first has no server' => "host=/nonexistent,$socket",
        'the first does not answer' => "host=127.0.0.1,$socket port=$port,5432",
        'two of three do not' =>
            "host=127.0.0.1,/nonexistent,$socket port=$port,5432,5432",
        'the first answers' => "host=$socket,/nonexistent",
    );
    for my $name (sort keys %hosts) {
        start(connect => $connect, conninfo => "$hosts{$name} dbname=users user=mod_users");
        my ($answer, $seconds) = timed(@get);
        is $answer->{status}, 200, "$name: GET answers";
        cmp_ok $seconds, '<', $connect + $SLACK, "$name: after UsersDBConnectTimeout at most";
        terminate_backends();
        ($answer, $seconds) = timed(@get);
        is $answer->{status}, 200, "$name: GET answers again";
        cmp_ok $seconds, '<', $connect, "$name: the last good one is tried first";
    }
};

done_testing;
