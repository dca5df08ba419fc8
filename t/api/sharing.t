# Concurrent GETs of one child share a statement, and each gets its own answer all the same.

use v5.36;
use List::Util qw(shuffle);
use Socket     qw(SOL_SOCKET SO_LINGER);
use Users::Test;
use Users::Test::Session;

my $PACE     = $ENV{USERS_TEST_VALGRIND} ? 10 : 1;    # memcheck slows everything down
my $PATIENCE = 2 * $PACE;     # seconds, UsersDBAcquireTimeout where it matters
my $ENOUGH   = 20 * $PACE;    # seconds, the other deadlines
my $BATCH    = 128;           # the most requests that share a statement
my $THREADS  = 200;
my $PREFORK  = ($ENV{USERS_TEST_MPM} // '') eq 'prefork';
my $MOST     = $PREFORK ? 20 : $THREADS;    # requests at once

my $NOT_SHARED = 'a child of prefork serves one request at a time';

# One child under a threaded MPM, and place for that of the next generation.
my $MPM = <<~CONF;
    <IfModule mpm_prefork_module>
      StartServers $MOST
      ServerLimit $MOST
      MaxRequestWorkers $MOST
    </IfModule>
    <IfModule !mpm_prefork_module>
      StartServers 1
      ServerLimit 8
      ThreadLimit $THREADS
      ThreadsPerChild $THREADS
      MaxRequestWorkers $THREADS
      MinSpareThreads 1
      MaxSpareThreads $THREADS
    </IfModule>
    CONF

my $server = Users::Test->new;
my @users  = 1001 .. 1200;

$server->sql(<<~'SQL');
    insert into users.account (id, fname, lname, email, country, currency, locale)
    select n, 'John', 'Number ' || n, n || '@example.com', 'NL', 'EUR', 'nl'
    from generate_series(1001, 1200) as n;
    update users.account set suspended_at = now() where id = 1200;
    insert into users.token (digest, application_id, user_id, scopes, expires_at, revoked_at)
    select sha256(token::bytea), application.id, user_id, array[scope], expires_at, given.revoked_at
    from users.application, (
      select 'token-of-' || id, id, 'profile_read', null::timestamptz, null::timestamptz
      from users.account
      union all values
        ('expired', 1001, 'profile_read', now() - interval '1 s', null::timestamptz),
        ('revoked', 1001, 'profile_read', null, now()),
        ('without-scope', 1001, 'profile_update', null, null),
        ('without-user', null, 'profile_read', null, null)
    ) as given (token, user_id, scope, expires_at, revoked_at);
    SQL

# ---- Turns -----------------------------------------------------------------------------------

# Each statement that looks for tokens takes a turn: the next number. It waits while that number
# is locked. A subquery without reference to its surroundings runs once a statement.
$server->sql(<<~'SQL');
    create sequence users.turn;
    create function users.take_turn() returns boolean language plpgsql security definer as
      $$ begin perform pg_advisory_xact_lock_shared(nextval('users.turn')); return true; end $$;
    alter view users_api.token rename to untimed_token;
    create view users_api.token as
      select * from users_api.untimed_token where (select users.take_turn());
    grant select on users_api.token to mod_users;
    SQL

my $session = Users::Test::Session->new($server);

# Begin to count anew, and have some turns wait until they are let go.
sub hold (@turns) {
    $session->sql("select pg_advisory_unlock_all(), setval('users.turn', 1, false)");
    $session->sql("select pg_advisory_lock($_)") for @turns;
}

sub let (@turns) {
    $session->sql("select pg_advisory_unlock($_)") for @turns;
}

# How many statements there have been since.
sub turns () {
    return $session->sql(
        'select case when is_called then last_value else 0 end from users.turn');
}

sub backends () {
    return split /\n/, $session->sql("select pid from pg_stat_activity where usename = 'mod_users'");
}

# Wait until these turns, and no other, wait to be let go.
sub wait_for_turns (@turns) {
    my $waiting = sub {
        $session->sql("select objid from pg_locks where locktype = 'advisory' and not granted
            order by objid");
    };
    wait_until(sub { $waiting->() eq join "\n", @turns }, "the turns @turns to wait");
}

# Kill all connections, those that lie idle too.
sub kill_backends () {
    $session->sql(<<~'SQL');
        select pg_terminate_backend(pid, 10000) from pg_stat_activity where usename = 'mod_users'
        SQL
}

# ---- Requests --------------------------------------------------------------------------------

sub start (%option) {
    $server->stop if $server->pid;
    $server->start(conf => $MPM, vhost => <<~CONF);
        UsersDBTimeout ${ENOUGH}s
        UsersRequestTimeout @{[3 * $ENOUGH]}s
        UsersDBAcquireTimeout @{[$option{patience} // $ENOUGH]}s
        UsersDBConnectTimeout ${PACE}s
        @{[$PREFORK ? '' : 'UsersDBMax 4']}
        @{[$option{lanes} // '']}
        CONF
    $server->allow_log(qr/server reached MaxRequestWorkers setting/);    # it is small on purpose
    $server->request(GET => '/api/users', token => READ_TOKEN);    # a connection that lies idle
}

sub token ($user) {
    return "token-of-$user";
}

# What is logged last before the token is looked up.
sub received () {
    return scalar grep { /the credential is a bearer token/ } $server->error_log;
}

sub ask ($connection, $token) {
    $connection->send(Users::Test::Client::compose(GET => '/api/users', token => $token));
}

# Send a GET for each token and wait until the module has them all. Returns their connections.
sub begin (@tokens) {
    my $before = received();
    my @connections = map { $server->connect } @tokens;
    ask($connections[$_], $tokens[$_]) for keys @tokens;
    wait_until(sub { received() == $before + @tokens }, @tokens . ' requests to arrive');
    return @connections;
}

# A GET that leads, waiting for its turn, and GETs that come meanwhile.
sub begin_behind ($leader, @followers) {
    my ($first) = begin($leader);
    wait_for_turns(1);
    return ($first, begin(@followers));
}

# Whose account an answer shows; else its status.
sub account ($answer) {
    return $answer->{status} == 200 ? $answer->{json}{user}{id} : "status $answer->{status}";
}

sub accounts (@connections) {
    return map { account($_->answer) } @connections;
}

# What tells an answer from the next: all but the time of day.
sub gist ($answer) {
    my %headers = $answer->{headers}->%*;
    delete @headers{qw(date keep-alive connection)};
    return { status => $answer->{status}, headers => \%headers, body => $answer->{body} };
}

# ---- Each its own ----------------------------------------------------------------------------

my %kinds = (
    'unknown'       => 'status 401',
    'expired'       => 'status 401',
    'revoked'       => 'status 401',
    'without-scope' => 'status 403',
    'without-user'  => 'status 403',
    token(1200)     => 'status 403',    # a suspended account
    map { token($_) => $_ } 1001 .. 1040,
);

# turns: as many statements as run at once.
sub test_answers ($name, @turns) {
    my (%alone, %shows);
    for my $token (sort keys %kinds) {
        my $answer = $server->request(GET => '/api/users', token => $token);
        $alone{$token} = gist($answer);
        $shows{$token} = account($answer);
    }
    is_deeply \%shows, \%kinds, "$name: each token has its answer";
    for my $round (1 .. 3) {
        my @tokens = (shuffle((sort keys %kinds) x 5))[0 .. $MOST - 1];
        hold(@turns);
        my @connections = begin(@tokens);
        let(@turns);
        is_deeply [map { gist($_->answer) } @connections], [@alone{@tokens}],
            "... $MOST at once get the same, round $round";
    }
}

# shared: does one statement serve several?
sub test_statements ($shared, @turns) {
    my @asked = @users[0 .. 99];
    hold(@turns);
    my @held = begin(map { token($_) } @asked);
    wait_for_turns(@turns);
    is turns(), @turns, '... ' . @turns . ' of the statements run at once';
    let(@turns);
    is_deeply [accounts(@held)], \@asked, '... for 100 GETs';
    is backends(), @turns, '... on as many connections';
    if ($shared) {
        cmp_ok turns(), '<', 25, '... each serves what has come meanwhile';
    } else {
        is turns(), 100, '... each serves one';
    }
}

for my $case (['UsersReadLanes 0', 4], ["UsersReadLanes 3\nUsersHostLanes 0", 3], ['', 1]) {
    my ($lanes, $statements) = @$case;
    start(lanes => $lanes);
    my @turns = 1 .. $statements;
    test_answers($lanes || 'by default', @turns);
    test_statements($lanes ne 'UsersReadLanes 0', @turns) unless $PREFORK;
}

# What follows goes on with the default.

hold();
my @alone = map { $server->request(GET => '/api/users', token => token($_)) } @users[0 .. 9];
is_deeply [map { account($_) } @alone], [@users[0 .. 9]], 'GETs one after the other are answered';
is turns(), 10, '... by one statement each';

SKIP: {
    skip $NOT_SHARED, 1 if $PREFORK;

    my @asked = @users[0 .. 198];
    hold(1);
    my @held = begin_behind(map { token($_) } @asked);
    cmp_ok @held, '>', $BATCH + 1, 'more GETs can wait than a statement has room for';
    let(1);
    is_deeply [accounts(@held)], \@asked, '... each is answered';
    cmp_ok turns(), '>=', 3, '... by several statements';
    cmp_ok turns(), '<', 50, '... but few';
}

# ---- Clients that go away --------------------------------------------------------------------

# Close with a reset: httpd learns of it at once.
sub abandon ($connection) {
    setsockopt($connection->{socket}, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0) or die $!;
    close $connection->{socket};
}

for my $round (1 .. 3) {
    my @others = @users[1 .. $MOST - 1];
    hold(1);
    my ($leader, @waiting) = begin_behind(map { token($_) } $users[0], @others);
    abandon($leader);
    abandon($waiting[$_]) for grep { $_ % 3 == 0 } keys @waiting;
    let(1);
    my @left = grep { $_ % 3 } keys @waiting;
    is_deeply [accounts(@waiting[@left])], [map { $_ == 1200 ? 'status 403' : $_ } @others[@left]],
        "clients that go away do not harm the others, round $round";
}

# ---- An account that can't be shown ----------------------------------------------------------

my $BAD = 1005;

$server->sql(<<~SQL);
    insert into users.credential (user_id, username, secret_digest)
    values ($BAD, 'bad', sha256('password'))
    SQL

# Its document fails with this SQLSTATE, until mended.
sub break_document ($sqlstate) {
    $session->sql(<<~SQL);
        create function public.broken() returns json language plpgsql stable as
          \$\$ begin raise sqlstate '$sqlstate' using message = 'no document'; end \$\$;
        alter view users_api.account rename to sound_account;
        create view users_api.account as select user_id, suspended,
          case user_id when $BAD then public.broken() else document end as document
          from users_api.sound_account;
        grant select on users_api.account to mod_users
        SQL
}

sub mend_document () {
    $session->sql(<<~'SQL');
        drop view users_api.account;
        alter view users_api.sound_account rename to account;
        drop function public.broken()
        SQL
}

# An error by which PostgreSQL refuses a value is no fault of a request that brings none.
for my $sqlstate ('P0001', '22003') {
    my @asked = @users[0 .. 9];
    my @bad = (GET => '/api/users', token => token($BAD));
    break_document($sqlstate);
    $server->expect_log(qr/\[users:error\] .* the database \S+ refused .*: $sqlstate no document/);
    is $server->request(@bad)->{status}, 500, "an account that fails by $sqlstate is 500";
    is $server->request(GET => '/api/users', basic => ['bad', 'password'])->{status}, 500,
        '... to its API credentials too';
    hold(1);
    my @held = begin_behind(map { token($_) } @asked);
    let(1);
    is_deeply [accounts(@held)], [map { $_ == $BAD ? 'status 500' : $_ } @asked],
        '... and the others that share its statement are shown';
    mend_document();
    is account($server->request(@bad)), $BAD, '... so is it, when mended';
}

# ---- Connections that die --------------------------------------------------------------------

SKIP: {
    skip $NOT_SHARED, 1 if $PREFORK;

    my @asked = @users[0 .. 49];
    hold(1, 2);
    my ($leader, @shared) = begin_behind(map { token($_) } @asked);
    let(1);
    is account($leader->answer), $asked[0], 'who leads is answered';
    wait_for_turns(2);
    kill_backends();
    is_deeply [accounts(@shared)], [@asked[1 .. 49]],
        '... those whose statement dies with its connection are, by another one';

    hold(1, 2, 3);
    ($leader, @shared) = begin_behind(map { token($_) } @asked);
    let(1);
    is account($leader->answer), $asked[0], 'who leads is answered';
    for my $turn (2, 3) {
        wait_for_turns($turn);
        kill_backends();
    }
    my @answers = map { $_->answer } @shared;
    my @lost = grep { $answers[$_]{status} == 503 } keys @answers;
    cmp_ok @lost, '>', 1, '... those whose second statement dies too are 503';
    is scalar(grep { $answers[$_]{headers}{'retry-after'} } @lost), @lost,
        '... and told to come again';
    is_deeply [map { account($_) } @answers],
        [map { $answers[$_]{status} == 503 ? 'status 503' : $asked[$_ + 1] } keys @answers],
        '... who came later is answered';
    is_deeply [accounts(begin(map { token($_) } @asked))], [@asked], '... so is who comes again';
}

# ---- A graceful restart ----------------------------------------------------------------------

my @kept = map { $server->connect } 0 .. 9;

sub ask_all () {
    ask($kept[$_], token($users[$_])) for keys @kept;
}

# The answers' accounts. Connections that the server closes are replaced. It closes those that lie
# idle without notice: a request that meets that is lost before a byte of its answer, and is sent
# again (RFC 9112 section 9.3.1), which is on a fresh connection and so must not be needed twice.
sub answer_all () {
    my @shown;
    for my $i (keys @kept) {
        my $answer = eval { $kept[$i]->answer };
        if (!$answer && $kept[$i]{buffer} eq '') {
            $kept[$i] = $server->connect;
            ask($kept[$i], token($users[$i]));
            $answer = $kept[$i]->answer;
        }
        push @shown, $answer ? account($answer) : 'half an answer';
        $kept[$i] = $server->connect if ($answer->{headers}{connection} // '') eq 'close';
    }
    return @shown;
}

sub generations () {
    return scalar grep { /resuming normal operations/ } $server->error_log;
}

SKIP: {
    skip 'a single process does not restart', 1 if $server->single_process;

    ask_all();
    is_deeply [accounts(@kept)], [@users[0 .. 9]], 'connections are kept alive';
    hold(1);
    my $before = received();
    ask_all();
    wait_until(sub { received() == $before + @kept }, 'the requests to arrive');
    $server->graceful;
    let(1);
    is_deeply [accounts(@kept)], [@users[0 .. 9]],
        'requests under way at a graceful restart are answered';
    @kept = map { $server->connect } @kept;

    hold();
    for my $restart (1 .. 2) {
        $before = generations();
        my @wrong;
        kill USR1 => $server->pid;
        wait_until(
            sub {
                my $over = generations() > $before;
                ask_all();
                my @shown = answer_all();
                push @wrong, map { "$_: $shown[$_]" } grep { $shown[$_] ne $users[$_] } keys @shown;
                return $over;
            },
            'httpd to restart'
        );
        is_deeply \@wrong, [], "each GET around graceful restart $restart is answered";
    }
}

# ---- Deadlines -------------------------------------------------------------------------------

SKIP: {
    skip $NOT_SHARED, 1 if $PREFORK;

    start(patience => $PATIENCE);
    hold(1);
    my ($leader, @early) = begin_behind(map { token($_) } @users[0 .. 9]);
    for my $answer (map { $_->answer } @early) {
        is $answer->{status}, 503, 'a GET that waits past UsersDBAcquireTimeout is 503';
        like $answer->{headers}{'retry-after'}, qr/^[1-9]\d*$/, '... and told to come again';
    }
    is turns(), 1, '... without a statement';
    my @late = begin(map { token($_) } @users[10 .. 19]);
    let(1);
    is_deeply [accounts($leader, @late)], [@users[0, 10 .. 19]],
        '... while those with time left are answered';
    is_deeply [accounts(begin(map { token($_) } @users[0 .. 9]))], [@users[0 .. 9]],
        '... and those that come again';
}

done_testing;
