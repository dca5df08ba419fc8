# The clock that deadlines go by starts when the machine boots. Whether that was just now or years
# ago, nothing is taken for a moment ago that never was, and what has to end does. The module's clock
# is set, not the machine's (torture.c).

use v5.36;
use Users::Test::Fault;
use Users::Test::Session;
use Users::Test::Torture;

use constant {
    HOUR    => 3600,
    ANOTHER => 'token-of-user-1000',    # who changes nothing
};
use constant BASIC => (GET => '/api/users', basic => ['hashed', 'old password']);

my %STARTS = (
    'a machine that has just booted'           => 0,
    'one that is up for 2^32 microseconds'     => 2**32 / 1_000_000 - HOUR / 2,
    'one that is up for 2^32 milliseconds'     => 2**32 / 1_000 - HOUR / 2,
    'one that has been up for ten years'       => 10 * 365 * 24 * HOUR,
);

# The replica is another database of the cluster: which of them was asked shows.
my $server  = Users::Test::Fault->new(databases => ['replica']);
my $torture = Users::Test::Torture->new($server->dir);
%ENV = (%ENV, $torture->environment);
for my $database (qw(users replica)) {
    $server->sql(<<~SQL, $database);
        insert into users.account (id, fname, lname, email, country, currency, locale)
        values (1000, 'Jane', 'Roe', 'jane\@example.com', 'NL', 'EUR', 'en');
        insert into users.token (digest, application_id, user_id, scopes)
        select sha256('${\ANOTHER}'), id, 1000, '{profile_read}' from users.application;
        insert into users.credential (user_id, username, secret_hash)
        values (1, 'hashed', '\$2y\$04\$abcdefghijklmnopqrstuuFkqCYl1sZhFcdBXBznR1I2LdekaY3XO');
        update users.account set city = '$database'
        SQL
}

sub start ($clock, $vhost, %option) {
    $server->stop if $server->pid;
    $torture->set_clock($clock);
    $server->start_child(preload => $torture->library, vhost => $vhost, %option);
}

sub city_of (@request) {
    my $answer = $server->request(@request);
    return $answer->{status} == 200 ? $answer->{json}{user}{city} : $answer->{status};
}

sub reads_from_the_replica ($clock) {
    start($clock, sprintf "UsersDBReplica \"%s\"\nUsersReplicaLag 1h", $server->conninfo('replica'));
    my @another = (GET => '/api/users', token => ANOTHER);
    wait_until(sub { city_of(GET) eq 'replica' }, 'GET to read from the replica');
    is $server->request(PATCH => '/api/users', token => FULL_TOKEN, json => { user => { city => 'users' } })
        ->{status}, 200, 'PATCH';
    is city_of(GET), 'users', 'who has changed something reads from the database';
    is city_of(@another), 'replica', '... and nobody else';
    $torture->set_clock($torture->clock + HOUR + 1);
    wait_until(sub { city_of(GET) eq 'replica' }, 'UsersReplicaLag to be over');
    is city_of(@another), 'replica', 'and who has changed nothing reads from the replica as before';
}

sub gives_up_in_time ($clock) {
    start($clock, 'UsersReadLanes 1', max => 1, acquire => 0.5, timeout => 3);
    $server->expect_trouble(qw(late busy));
    my $session = Users::Test::Session->new($server);
    $session->sql('begin; lock table users.account');
    my $before  = now;
    my $waiting = $server->begin(GET);
    $server->wait_for_locks(1);
    for my $request ([GET], [BASIC]) {    # in the queue of the lane, and of the pool
        my ($answer, $seconds) = $server->timed(@$request);
        is_unavailable($answer, "$request->[0], which finds no connection");
        cmp_ok $seconds, '>=', 0.5, '... has waited for one';
        cmp_ok $seconds, '<', 0.5 + SLACK, '... for UsersDBAcquireTimeout';
    }
    is $waiting->answer->{status}, 504, 'a statement that waits for a lock ends';
    cmp_ok now - $before, '<', 3 + SLACK, '... after UsersDBTimeout';
    $session->sql('rollback');
}

sub ends_an_outage ($clock) {
    start($clock, '');
    $server->expect_log(qr/\[users:error\] .* the database \S+ can't be reached/);
    $server->expect_log(qr/\[users:warn\] .* the database \S+ is back after/);
    is $server->request(GET)->{status}, 200, 'GET';
    my $before = now;
    $server->postgres->stop('immediate');
    is_unavailable($server->request(GET), 'without the database') for 1 .. 2;
    $server->postgres->start;
    cmp_ok $server->wait_for_answer(200, GET), '<', 1 + SLACK, 'it is back';
    my ($seconds) = $server->wait_for_log(qr/the database \S+ is back after/) =~ /after (-?[\d.]+) s/;
    cmp_ok $seconds, '>=', 0, '... after no less than no time';
    cmp_ok $seconds, '<=', sprintf('%.1f', now - $before), '... nor more than has passed';
}

sub locks_out_for_a_while ($clock) {
    start($clock, "UsersMaxFailures 2\nUsersFailureWindow 2s");
    $server->expect_log(qr/\[users:warn\] .* too many wrong secrets \(2\) of the API credentials "hashed"/);
    is $server->request(BASIC)->{status}, 200, 'a password is compared with its hash';
    my @wrong = (GET => '/api/users', basic => ['hashed', 'wrong']);
    is $server->request(@wrong)->{status}, 401, "wrong password $_" for 1 .. 2;
    my $refused = $server->request(@wrong);
    is $refused->{status}, 429, '... one too many';
    like $refused->{headers}{'retry-after'}, qr/^[12]$/, '... for UsersFailureWindow';
    cmp_ok $server->wait_for_answer(200, BASIC), '<', 2 + SLACK, '... which ends';
}

for my $name (sort { $STARTS{$a} <=> $STARTS{$b} } keys %STARTS) {
    subtest $name => sub {
        $_->($STARTS{$name})
            for \&reads_from_the_replica, \&gives_up_in_time, \&ends_an_outage, \&locks_out_for_a_while;
        cmp_ok $torture->looks, '>', 0, 'the module has looked at this clock';
    };
}

subtest 'a child that ends while it checks the health' => sub {
    plan skip_all => 'its child is the only one' if $server->single_process;
    my @ready = (GET => '/health/ready');
    my $begun = sub { $server->count_log(qr/the health of the database \S+ is checked/) };
    start(HOUR, HEALTH_ENDPOINTS, timeout => 60, acquire => 60);
    is $server->request(@ready)->{status}, 200, 'it is good';
    $torture->set_clock(HOUR + 2);
    my @frozen = $server->backends;
    kill STOP => @frozen;
    my $last = $server->begin(@ready);
    wait_until(sub { $begun->() == 2 }, 'another check to begin');
    kill KILL => $server->children;
    ok !eval { $last->answer }, 'it never answers';
    kill CONT => @frozen;
    is $server->request(@ready)->{status}, 200, 'the next one tells what was found last';
    is $begun->(), 2, '... and leaves it the time to check';
    $torture->set_clock(HOUR + 2 * 3600);
    is $server->request(@ready)->{status}, 200, 'after that another one';
    is $begun->(), 3, '... checks';
};

done_testing;
