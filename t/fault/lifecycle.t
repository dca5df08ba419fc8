# httpd restarts, ends, replaces its children and gains the module while clients are at work:
# nothing that it has begun to serve is lost, nothing that it needs no more stays behind.

use v5.36;
use Users::Test::Fault;
use Users::Test::Session;

plan skip_all => 'a single process neither restarts nor has children' if $ENV{USERS_TEST_VALGRIND};

# Shared memory and semaphores of our own: nobody else's come and go.
my @ISOLATE = (
    $> == 0 ? 'unshare' : qw(unshare --map-current-user --keep-caps), qw(--ipc --mount),
    'sh', '-c', 'mount -t tmpfs -o mode=1777 tmpfs /dev/shm && exec "$@"', 'sh'
);
if (!$ENV{USERS_TEST_ISOLATED} && system(@ISOLATE, 'true') == 0) {
    local $ENV{USERS_TEST_ISOLATED} = 1;
    exec @ISOLATE, $^X, (map { "-I$_" } grep { !ref } @INC), $0;
}
my $ISOLATED = delete $ENV{USERS_TEST_ISOLATED};

my $server = Users::Test::Fault->new;

# Changes leave their city in a list.
$server->sql(<<~'SQL');
    create table public.change (city text, at timestamptz default clock_timestamp());
    create function public.note() returns trigger language plpgsql security definer as
      $$ begin insert into public.change (city) values (new.city); return new; end $$;
    create trigger note after update on users.account for each row execute function public.note();
    insert into users.credential (user_id, username, secret_digest, secret_hash) values
      (1, 'generated-name-of-john-0', sha256('right'), null),
      (1, 'hashed', null, '$2y$04$abcdefghijklmnopqrstuuFkqCYl1sZhFcdBXBznR1I2LdekaY3XO');
    SQL

# A server of several children; the connections of its module have this name.
sub config (%option) {
    my $name = $option{name} // 'mod_users';
    return (
        modules => $option{modules},
        conf    => <<~CONF,
            StartServers 2
            KeepAliveTimeout 2
            <IfModule mpm_prefork_module>
              MaxRequestWorkers 32
              MinSpareServers 2
              MaxSpareServers 4
            </IfModule>
            <IfModule !mpm_prefork_module>
              ThreadsPerChild 16
              MaxRequestWorkers 32
              ServerLimit 32
              MinSpareThreads 1
              MaxSpareThreads 32
            </IfModule>
            @{[$option{conf} // '']}
            CONF
        vhost => <<~CONF,
            UsersDB "@{[$server->conninfo]} application_name=$name"
            UsersDBTimeout 30s
            UsersRequestTimeout 30s
            CONF
    );
}

sub start (%option) {
    $server->sql('truncate public.change');
    $server->sql('delete from users.account where id > 1');
    $server->start($option{bare} ? (config(%option), bare => 1) : config(%option));
    $server->allow_log(qr/server (?:is within|reached) M\w+(?: of)? M\w+/);    # they are small
}

# Clients that read, change and register, on connections that are kept alive and on fresh ones.
sub load () {
    my @change = (PATCH => '/api/users?' . SERIAL, token => FULL_TOKEN,
        json => { user => { city => SERIAL } });
    my @registration = (POST => '/api/users?' . SERIAL, token => REGISTER_TOKEN,
        json => {
            user => {
                fname             => 'Jane',
                lname             => 'Roe',
                provider_server   => 'server.example',
                provider_username => SERIAL,
            }
        });
    my @read = (GET => '/api/users?' . SERIAL, token => READ_TOKEN);
    my @all  = (\@read, \@change, \@read, \@registration);
    return [
        $server->load(4, @all),
        $server->load(4, map { [@$_, headers => [Connection => 'close']] } @all)
    ];
}

sub end_load ($loads) {
    return map { $server->end_load($_) } @$loads;
}

# Wait until the load has had so many more answers.
sub go_on ($count) {
    my $before = $server->access_log;
    wait_until(sub { $server->access_log >= $before + $count }, "$count more requests");
}

sub gone (@pids) {
    wait_until(sub { !grep { kill 0 => $_ } @pids }, 'children to end');
    return now;
}

# Everything that was acknowledged, and nothing else, is in the database, once.
sub is_stored ($what, $acknowledged, $query) {
    my %acknowledged = map { $_ => 1 } @$acknowledged;
    my $stored       = count(split /\n/, $server->sql($query));
    is_deeply [grep { !$stored->{$_} } @$acknowledged], [], "... no $what is lost";
    is_deeply [grep { $stored->{$_} != ($acknowledged{$_} // 0) } keys %$stored], [],
        '... each is there once, and no other';
}

# What the clients saw, after the server's end. allowed: faults of requests that it never began.
sub test_answers ($name, $answers, %allowed) {
    my %faults = count(map { $_->{end} } @$answers)->%*;
    my $good   = delete $faults{answered};
    note sprintf '%s: %d answered, %s', $name, $good, join ', ', map { "$faults{$_} $_" } sort keys %faults;
    cmp_ok $good, '>', 100, "$name: requests are answered";
    delete @faults{ 'idle', keys %allowed };
    is_deeply \%faults, {}, '... all that the server has accepted';
    is_deeply [grep { !/^(?:200|201)$/ } keys count(map { $_->{status} || 200 } @$answers)->%*], [],
        '... as they should be';
    my %begun = map { / \/api\/users\?([\d-]+) / ? ($1 => 1) : () } $server->access_log;
    is grep({ !$_->{status} && $begun{ $_->{serial} } } @$answers), 0, '... all that it has begun';
    my sub acknowledged ($method) {
        return [map { $_->{serial} } grep { $_->{method} eq $method && $_->{status} } @$answers];
    }
    is_stored('change', acknowledged('PATCH'), 'select city from public.change');
    is_stored('registration', acknowledged('POST'),
        q(select labels -> 'cpanel' ->> 'server.example' from users.account where id > 1));
    is $server->count_log(qr/exit signal/), 0, '... and no child crashed';
}

subtest 'graceful restarts' => sub {
    start();
    my $load = load();
    for (1 .. 5) {
        my @children = $server->children;
        $server->graceful;
        go_on(50);
        gone(@children);
    }
    go_on(50);
    my @answers = end_load($load);
    $server->stop('WINCH');
    test_answers('five in a row', \@answers);
};

subtest 'graceful stop' => sub {
    start();
    my $load = load();
    go_on(200);
    $server->stop('WINCH');
    my @answers = end_load($load);
    # once its listeners are closed, what waits there or comes then was never accepted
    test_answers('under load', \@answers, refused => 1, unheard => 1);
};

subtest 'children that have served their time' => sub {
    start(conf => 'MaxConnectionsPerChild 200');
    my $load = load();
    for (1 .. 3) {
        my @children = $server->children;
        wait_until(sub { grep { !kill 0 => $_ } @children }, 'one of the children to end');
    }
    go_on(100);
    my @answers = end_load($load);
    $server->stop('WINCH');
    test_answers('recycled', \@answers);
};

subtest 'the module comes by a reload' => sub {
    start(bare => 1);
    my $load = load();
    go_on(50);
    my @children = $server->children;    # now, since prefork makes more of them under load
    $server->graceful(config());
    my $new = gone(@children);
    go_on(200);
    my @answers = end_load($load);
    $server->stop('WINCH');
    my @before = grep { $_->{status} =~ /^40[45]$/ } @answers;    # httpd's own, of a path without a file
    cmp_ok @before, '>', 0, 'before, there was nothing';
    is grep({ $_->{at} - $_->{seconds} > $new } @before), 0, '... when it is there, it serves all';
    test_answers('with it', [grep { $_->{status} !~ /^40[45]$/ } @answers]);
};

# ---- What is left behind ---------------------------------------------------------------------

# How many connections the module has, by name.
sub connections () {
    return count(split /\n/,
        $server->sql("select application_name from pg_stat_activity where usename = 'mod_users'"));
}

# Wait until connections of this name are gone. Returns for how long.
sub wait_for_end ($name) {
    my $before = now;
    wait_until(sub { !connections()->{$name} }, "connections of $name to end");
    return now - $before;
}

subtest 'connections of a child end with it, not before' => sub {
    start(name => 'old');
    my @children = $server->children;
    my $session  = Users::Test::Session->new($server);
    $session->sql('begin; select from users.account where id = 1 for update');
    my $patch = $server->begin(PATCH);
    $server->wait_for_locks(1);
    $server->graceful(config(name => 'new'));
    my %statuses;
    wait_until(sub { $statuses{ $server->request(GET)->{status} }++; connections()->{new} },
        'new children to serve by connections of their own');    # an old one may be quicker
    is_deeply [keys %statuses], [200], 'somebody serves meanwhile';
    wait_until(sub { (connections()->{old} // 0) <= 1 }, 'the others to be closed');
    is connections()->{old}, 1, 'an old one keeps that which a request is using';
    $session->sql('commit');
    is $patch->answer->{status}, 200, '... to the end of that';
    gone(@children);
    cmp_ok wait_for_end('old'), '<', 1 + SLACK, '... and then it is closed';

    $server->parallel(map { [GET], [PATCH] } 1 .. 8);
    my %old = map { $_ => 1 } $server->backends;
    kill KILL => $server->children;
    wait_until(sub { !grep { $old{$_} } $server->backends }, 'connections of killed children to end');
    is $server->request(GET)->{status}, 200, 'those of killed children end too, and others take over';
    $server->stop;
};

subtest 'a stop ends children of prefork in the midst of a request' => sub {
    plan skip_all => 'others have their threads end first' if ($ENV{USERS_TEST_MPM} // '') ne 'prefork';
    start(name => 'busy');
    my $session = Users::Test::Session->new($server);
    $session->sql('begin; select from users.account where id = 1 for update');
    my $patch = $server->begin(PATCH);
    $server->wait_for_locks(1);
    $server->stop;    # which tests the log
    $session->sql('rollback');
    wait_for_end('busy');
};

# What httpd holds of the system: files, shared memory and semaphores; and all there is of these.
sub held () {
    my $pid = $server->pid;
    open my $maps, '<', "/proc/$pid/maps" or die "/proc/$pid/maps: $!\n";
    my %held = (
        files  => scalar(() = glob "/proc/$pid/fd/*"),
        shared => scalar(grep { /^\S+ ...s / } <$maps>),
        kept   => [map { s{.*/}{}r } grep { !/-\d+\./ } glob $server->dir . '/*'],
    );
    return \%held unless $ISOLATED;
    $held{'/dev/shm'} = [grep { !/PostgreSQL/ } glob '/dev/shm/*'];
    for my $kind (qw(shm sem)) {
        open my $list, '<', "/proc/sysvipc/$kind" or die "/proc/sysvipc/$kind: $!\n";
        my ($heading, @lines) = <$list>;
        $held{$kind} = @lines;
    }
    return \%held;
}

sub test_leaks ($name, $restarts, %option) {
    subtest $name => sub {
        start(%option);
        my $serve = sub {
            my @answers = $server->parallel(map { ([GET], [PATCH], [GET => '/api/users', basic => ['generated-name-of-john-0' => 'wrong']]) } 1 .. 3);
            is_deeply count(map { $_->{status} } @answers), { 200 => 6, 401 => 3 }, 'it serves';
        };
        $serve->();
        my @children = $server->children;
        $server->graceful(config(%option, name => 'r0'));
        gone(@children);
        my $before = held();
        cmp_ok $before->{shared}, '>', 1, '... with shared memory';    # the scoreboard is one
        for my $n (1 .. $restarts) {
            $serve->() if $n % 5 == 0;
            @children = $server->children;
            $server->graceful(config(%option, name => "r$n"));
            gone(@children);
        }
        wait_for_end($_) for 'mod_users', map { "r$_" } 0 .. $restarts - 1;
        is_deeply held(), $before, "after $restarts restarts it holds no more than before";
        $serve->();
        is_deeply [keys connections()->%*], ["r$restarts"], '... nor does the database';
        $server->stop('WINCH');
        wait_for_end("r$restarts");
        is_deeply connections(), {}, '... and when it has ended, nothing';
        is $server->count_log(qr/exit signal/), 0, 'no child crashed';
    };
}

# Kinds of httpd's mutexes; Debian's own configuration chooses the second. flock is not among them: a child
# that is born as httpd restarts may find its file removed, and says so.
my @MUTEXES = ('pthread', 'file:' . $server->dir, 'sysvsem');

test_leaks('restarts leave nothing behind', 20);
for my $mutex (@MUTEXES[1 .. $#MUTEXES]) {
    test_leaks("... with Mutex $mutex", 3, conf => "Mutex $mutex users-cache");
}

# ---- What children share ---------------------------------------------------------------------

sub attempt (@pair) {
    return $server->request(GET => '/api/users', basic => \@pair)->{status};
}

subtest 'children share what they know of wrong secrets' => sub {
    start();
    $server->expect_trouble('lockout');
    my @expected = ({ 401 => 10, 429 => 20 }, { 429 => 30 }, { 429 => 30 });
    for my $round ('at first', 'after a restart', 'after another') {
        if ($round ne 'at first') {
            my @children = $server->children;
            $server->graceful;
            gone(@children);
        }
        my @answers = $server->parallel(map { [GET => '/api/users', basic => ['generated-name-of-john-0' => 'wrong']] } 1 .. 30);
        is_deeply count(map { $_->{status} } @answers), shift @expected,
            "$round: ten attempts, whoever takes them, and then none";
    }
    $server->stop;
};

# The password of "hashed" is remembered; each of the mutexes works.
subtest 'and of right ones' => sub {
    for my $mutex (@MUTEXES) {
        start(conf => "Mutex $mutex users-cache");
        for my $round ('at first', 'after a restart', 'after another') {
            if ($round ne 'at first') {
                my @children = $server->children;
                $server->graceful;
                gone(@children);
            }
            my $before = $server->count_log(qr/the password has to be hashed/);
            is attempt(hashed => 'old password'), 200, "$mutex, $round: a right password";
            is_deeply count(map { attempt(hashed => 'old password') } 1 .. 20), { 200 => 20 }, '... again';
            is $server->count_log(qr/the password has to be hashed/), $before + 1, '... is hashed once';
        }
        is $server->count_log(qr/UsersCache keeps nothing/), 0, '... the cache works';
        $server->stop;
    }
};

done_testing;
