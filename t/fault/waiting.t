# Changes that wait in PostgreSQL for somebody's lock: few of them do at once, few threads wait behind them,
# and nobody else notices.

use v5.36;
use IO::Select;
use Users::Test::Fault;
use Users::Test::Session;

plan skip_all => 'a child of prefork serves one request at a time' if ($ENV{USERS_TEST_MPM} // '') eq 'prefork';

use constant THREADS => 32;

my $server  = Users::Test::Fault->new;
my $session = Users::Test::Session->new($server);

# Accounts 1000 to 1099, each with a token of its name.
$server->sql(<<~'SQL');
    insert into users.account (id, fname, lname, email, country, currency, locale)
    select n, 'John', 'Number ' || n, n || '@example.com', 'NL', 'EUR', 'nl'
    from generate_series(1000, 1099) as n;
    insert into users.token (digest, application_id, user_id, scopes)
    select sha256(('token-' || n)::bytea), (select min(id) from users.application), n, '{profile_read,profile_update}'
    from generate_series(1000, 1099) as n;
    SQL

sub start (%option) {
    $server->stop if $server->pid;
    $server->start_child(
        max => 4, acquire => 60, timeout => 60, threads => THREADS,
        vhost => "UsersRequestTimeout 120s\n" . OAUTH_ENDPOINTS . ($option{vhost} // ''));
    $server->allow_trouble('busy');
}

sub change ($id, %user) {
    return (PATCH => '/api/users', token => "token-$id", json => { user => %user ? \%user : { city => 'Delft' } });
}

sub get ($id) {
    return (GET => '/api/users', token => "token-$id");
}

# Lock accounts until unlock().
sub lock_accounts (@ids) {
    my $ids = join ',', @ids;
    $session->sql("begin; select from users.account where id in ($ids) for update");
}

sub unlock () {
    $session->sql('rollback');
}

# Those of the connections whose answer has begun to come.
sub answered (@connections) {
    return grep { IO::Select->new($_->{socket})->can_read(0) } @connections;
}

# The answers of those that are refused, which are so many, and the connections of the others.
sub refused ($count, @connections) {
    wait_until(sub { answered(@connections) >= $count }, "$count changes to be refused");
    my %done = map { $_ => 1 } answered(@connections);
    is_unavailable($_->answer, 'a change that would wait too far behind') for grep { $done{$_} } @connections;
    return grep { !$done{$_} } @connections;
}

# Nobody else is refused or has to wait for the lock.
sub test_others ($what) {
    my @others = map { $server->request(@$_) } ([get(1001)], [change(1001)], [change(1002)], [get(1002)]) x 5;
    is_deeply count(map { $_->{status} } @others), { 200 => 20 }, "others are served while $what";
    is $server->request(POST)->{status}, 201, '... and registered';
    is $server->request(change(1003, email => '1004@example.com'))->{status}, 422, '... also one whose change is refused'
        unless $what =~ /many/;
}

sub waiting () {
    return $server->sql(q(select count(*) from pg_stat_activity where usename = 'mod_users' and wait_event_type = 'Lock'));
}

sub finish ($what, @waiting) {
    unlock();
    is_deeply count(map { $_->answer->{status} } @waiting), { 200 => scalar @waiting }, "$what are made";
}

for my $lanes (1, 0) {
    subtest "one account is locked, UsersChangeLanes $lanes" => sub {
        start(vhost => "UsersChangeLanes $lanes");
        lock_accounts(1000);
        my @changes = map { $server->begin(change(1000)) } 1 .. 16;
        my $most    = 1 + THREADS / 4;
        my @waiting = refused(16 - $most, @changes);
        is @waiting, $most, 'one waits for the lock, and a quarter of the threads behind it';
        $server->wait_for_locks(1);
        is waiting(), 1, '... only the one in PostgreSQL';
        test_others('one account is locked');
        is_unavailable($server->request(change(1000)), 'the next change of that account');
        is $server->request(get(1000))->{status}, 200, '... but it can be read';
        is scalar answered(@waiting), 0, '... while the changes wait';
        finish('those that waited', @waiting);
        is $server->request(change(1000))->{status}, 200, '... and so is the next';
    };
}

subtest 'many accounts are locked' => sub {
    start();
    my @ids = 1010 .. 1034;
    lock_accounts(@ids);
    my @changes = map { $server->begin(change($_)) } @ids;
    my $most    = 2 + THREADS / 2;
    my @waiting = refused(@ids - $most, @changes);
    is @waiting, $most, 'two wait for locks, and half of the threads behind them';
    $server->wait_for_locks(2);
    is waiting(), 2, '... only the two in PostgreSQL';
    test_others('many accounts are locked');
    finish('those that waited', @waiting);
};

subtest 'nothing can be registered' => sub {
    start();
    $session->sql('begin; lock table users.credential in share mode');
    my @posts = map { $server->begin(POST, headers => ['Idempotency-Key' => $_]) } 1 .. 10;
    $server->wait_for_locks(2);
    is_deeply count(map { $server->request(get($_))->{status} } 1000 .. 1020), { 200 => 21 }, 'a read finds a connection';
    is_deeply count(map { $server->request(change($_))->{status} } 1000 .. 1010), { 200 => 11 }, '... and so does a change';
    is waiting(), 2, '... while two registrations wait';
    unlock();
    is_deeply count(map { $_->answer->{status} } @posts), { 201 => 10 }, 'all are registered in the end';
};

subtest 'the connections of changes' => sub {
    start();
    $session->sql('begin; lock table users.token in exclusive mode');
    my @revoke = (
        POST => '/api/oauth/revoke',
        form => [client_id => CLIENT_ID, client_secret => CLIENT_SECRET, token => 'unknown']);
    my @waiting = map { $server->begin(@revoke) } 1 .. 6;
    $server->wait_for_locks(3);
    is_deeply count(map { $server->request(get($_))->{status} } 1000 .. 1020), { 200 => 21 }, 'a read finds one';
    is waiting(), 3, '... since they leave one alone';
    unlock();
    is_deeply count(map { $_->answer->{status} } @waiting), { 200 => 6 }, 'all changes are made in the end';
};

subtest 'the only connection' => sub {
    $server->start_child(max => 1);
    is $server->request(PATCH)->{status}, 200, 'is for changes, too';
    is $server->request(POST)->{status},  201, '... of each kind';
    $server->start_child(max => 2);
    is $server->request(PATCH)->{status}, 200, 'so is one of two';
    is $server->request(POST)->{status},  201, '... of each kind';
};

done_testing;
