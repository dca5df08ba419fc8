# UsersDBReplica with several hosts: GET reads from those that are good, the least busy first. What the children know of them they
# share, and examine without a GET.

use v5.36;
use Time::HiRes qw(sleep);
use Users::Test::Fault;
use Users::Test::Session;

my $server  = Users::Test::Fault->new;
my $primary = $server->postgres;
$primary->count_statements('users');
my %standby  = map { $_ => $primary->standby($server->dir . "/$_") } qw(a b);
my @standbys = @standby{qw(a b)};
my $REPLICAS = 'host=' . join(',', map { $_->dir } @standbys) . ' dbname=users user=mod_users';

my @OTHER = (GET => '/api/users', token => 'token-of-user-1000');    # whose account nobody changes through the module
$server->sql(<<~SQL);
    insert into users.account (id, fname, lname, email, country, currency, locale)
    values (1000, 'Jane', 'Roe', 'jane\@example.com', 'NL', 'EUR', 'en');
    insert into users.token (digest, application_id, user_id, scopes)
    select sha256('$OTHER[3]'), id, 1000, '{profile_read}' from users.application
    SQL

open my $file, '>', $server->dir . '/services' or die "services: $!\n";
print $file "[replicas]\n", map { "$_\n" } split / /, $REPLICAS;
close $file;
$ENV{PGSERVICEFILE} = $server->dir . '/services';

sub start ($lag, %option) {
    my $replicas = delete $option{replicas} // $REPLICAS;
    $server->start_child(max => 4, %option,
        vhost => "UsersDBReplica \"$replicas\"\nUsersReplicaLag $lag\n" . HEALTH_ENDPOINTS . METRICS_ENDPOINT);
}

# Change every account behind the module's back.
sub move_to ($city) {
    $server->sql("update users.account set city = '$city'");
}

sub city () {
    my $answer = $server->request(GET);
    return $answer->{status} == 200 ? $answer->{json}{user}{city} : $answer->{status};
}

# How often an account was looked up there.
sub look_ups ($postgres) {
    return $postgres->statements('users', '%document%');
}

sub examinations ($standby) {
    return $standby->statements('users', '%pg_last_wal_replay_lsn%');
}

# How many look-ups each of them has while the code runs.
sub shares ($code, @postgres) {
    my @before = map { look_ups($_) } @postgres;
    $code->();
    return map { look_ups($postgres[$_]) - $before[$_] } keys @postgres;
}

sub wait_for ($standby) {
    wait_until(sub { (shares(sub { $server->request(GET) }, $standby))[0] }, 'a look-up at ' . $standby->dir);
}

sub wait_for_log ($name, $text) {
    wait_until(sub { $server->count_log(qr{the replica \S+/$name $text}) }, "$name $text");
}

sub catch_up ($standby) {
    $server->sql("select pg_logical_emit_message(true, 'test', 'complete')");
    my $position = $server->sql('select pg_current_wal_flush_lsn()');
    wait_until(sub { $standby->sql('users', "select coalesce(pg_last_wal_replay_lsn() >= '$position', false)") eq 't' },
        'the standby to catch up');
}

sub pause ($standby) {
    catch_up($standby);
    $standby->sql('users', 'select pg_wal_replay_pause()');
    wait_until(sub { $standby->sql('users', 'select pg_get_wal_replay_pause_state()') eq 'paused' }, 'the standby to pause');
}

sub are_all_good ($name, @answers) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is_deeply count(map { $_->{status} } @answers), { 200 => scalar @answers }, $name;
}

subtest 'they share the reads' => sub {
    move_to('Delft');
    catch_up($_) for @standbys;
    start('10s', replicas => 'service=replicas');
    wait_for($_) for @standbys;
    my @shares = shares(sub { $server->request(GET) for 1 .. 20 }, $primary, @standbys);
    is_deeply \@shares, [0, 10, 10], 'one after the other they take turns, and the primary has none';
    @shares = shares(sub { $server->parallel(map { [GET] } 1 .. 40) }, $primary, @standbys);
    is shift @shares, 0, 'of many together the primary has none';
    ok !(grep { $_ < 1 } @shares), '... and both replicas have some' or diag "@shares";
    is $server->figures->{'users_db_pool_max{role="replica"}'}, 2 * 4, 'each has a pool';
};

subtest 'the one that is busy has no more' => sub {
    my @answers;
    $server->allow_log(qr/the replica \S+ (?:can't be reached|is back)/);
    $server->allow_trouble('late');
    my @frozen = ($standbys[0]->pid, split /\n/,
        $standbys[0]->sql('users', "select pid from pg_stat_activity where usename = 'mod_users'"));
    kill STOP => @frozen;
    my @shares = shares(
        sub {
            my @begun = map { $server->begin(GET) } 1 .. 2;    # one of them waits
            push @answers, $server->request(GET) for 1 .. 20;
            push @answers, map { $_->answer } @begun;
        },
        $primary, $standbys[1]
    );
    are_all_good('all are answered', @answers);
    is_deeply \@shares, [0, 22], 'by the other replica, also the one that had waited';
    kill CONT => @frozen;
    wait_for($standbys[0]);
};

subtest 'one that is stopped' => sub {
    my ($load, $back);
    $server->expect_log(qr{\[users:error\] .* the replica \S+/a can't be reached: });
    $server->expect_log(qr{\[users:warn\] .* the replica \S+/a is back after });
    my ($asked) = shares(
        sub {
            $load = $server->load(4, [GET]);
            $standbys[0]->stop('immediate');
            wait_for_log('a', qr/can't be reached/);
            $standbys[0]->start;
            $back = now;
            wait_for($standbys[0]);
            $back = now - $back;
        },
        $primary
    );
    are_all_good('no GET fails', $server->end_load($load));
    is $asked, 0, '... nor is one the primary\'s';
    cmp_ok $back, '<', 2 + SLACK, 'it is soon used again';
    note sprintf 'after %.3f s', $back;
};

subtest 'one that lags' => sub {
    start('2s');
    wait_for($_) for @standbys;
    $server->expect_log(qr{\[users:warn\] .* the replica \S+/a is too far behind for UsersReplicaLag: no GET});
    $server->expect_log(qr{\[users:warn\] .* the replica \S+/a has caught up});
    pause($standbys[0]);
    move_to('Gouda');
    my $changed = now;
    wait_for_log('a', qr/is too far behind/);
    cmp_ok now - $changed, '<', 2 + 1 + SLACK, 'it is noticed within UsersReplicaLag and a moment';
    my %seen;
    my @shares = shares(sub { $seen{ city() }++ for 1 .. 20 }, $standbys[0]);
    is_deeply \%seen, { Gouda => 20 }, 'nobody reads what is too old';
    is_deeply \@shares, [0], '... since it is not asked';
    $standbys[0]->sql('users', 'select pg_wal_replay_resume()');
    wait_for($standbys[0]);
    wait_for_log('a', qr/has caught up/);
};

subtest 'one that is made anew' => sub {
    $server->expect_log(qr{\[users:error\] .* the replica \S+/a can't be reached: });
    $server->expect_log(qr{\[users:warn\] .* the replica \S+/a is back after });
    $server->allow_log(qr{the replica \S+/a (?:is too far behind|has caught up)});
    my $load = $server->load(2, [GET]);
    $standbys[0]->stop('immediate');
    move_to('Breda');
    wait_for_log('a', qr/can't be reached/);
    $standbys[0]->rebuild($primary);
    wait_for($standbys[0]);
    my %seen = count(map { city() } 1 .. 20)->%*;
    is_deeply \%seen, { Breda => 20 }, 'it tells what it has of the primary';
    are_all_good('no GET fails', $server->end_load($load));
};

subtest 'without the primary' => sub {
    $server->expect_log(qr/\[users:error\] .* the database \S+ can't be reached: /);
    $server->expect_log(qr/\[users:warn\] .* the database \S+ is back after /);
    $server->expect_log(qr{\[users:warn\] .* the replica \S+/a is too far behind});
    $server->allow_log(qr{the replica \S+ (?:can't be reached|is back|is too far behind|has caught up)});
    pause($standbys[0]);
    move_to('Leiden');
    my $before = $server->count_log(qr{/a is too far behind});
    wait_until(sub { $server->count_log(qr{/a is too far behind}) > $before }, 'the log to tell');
    catch_up($standbys[1]);
    $primary->stop('immediate');
    $server->wait_for_answer(503, PATCH);
    my $since = now;
    wait_until(sub { now - $since > 2 }, 'UsersReplicaLag to pass');
    my %seen = count(map { city() } 1 .. 20)->%*;
    is_deeply \%seen, { Leiden => 20 }, 'the one that has its last changes is read';
    my $health = $server->request(GET => '/health/ready');
    is_deeply [$health->{status}, map { $_->{status} } $health->{json}{checks}->@*], [200, 'UP', 'DOWN'], '... as the health says';
    $standbys[1]->stop('immediate');
    wait_until(sub { city() eq 'Breda' }, 'the one that is left to be read, old as it is');
    $primary->start;
    $standbys[1]->start;
    $standbys[0]->sql('users', 'select pg_wal_replay_resume()');
    $server->wait_for_answer(200, PATCH);
    catch_up($_) for @standbys;
    wait_until(sub { (shares(sub { $server->request(@OTHER) }, $_))[0] }, 'it to be used again') for @standbys;
};

subtest 'a steady writer, and few GETs' => sub {
    start('2s');
    for my $standby (@standbys) {    # it never has what the primary wrote just now
        $standby->sql('postgres', q(alter system set recovery_min_apply_delay = '200ms'));
        $standby->sql('postgres', 'select pg_reload_conf()');
    }
    my $session = Users::Test::Session->new($server);
    $session->send(<<~'SQL');
        do $$ begin
          for i in 1 .. 600 loop
            update users.account set city = 'City ' || i where id = 1;
            commit;
            exit when exists (select from users.account where id = 1 and state = 'stop');
            perform pg_sleep(0.1);
          end loop;
        end $$
        SQL
    wait_until(sub { examinations($standbys[0]) && (shares(sub { $server->request(@OTHER) }, @standbys))[0] }, 'a look-up');
    my $answered = 0;
    for (1 .. 4) {
        sleep 2.1;    # longer than UsersReplicaLag: what a GET has found is not known any more at the next
        my @shares = shares(sub { $server->request(@OTHER) }, $primary, @standbys);
        $answered++ if !$shares[0];
    }
    cmp_ok $answered, '>=', 3, 'they are answered by replicas';
    note "$answered of 4";
    $server->sql("update users.account set state = 'stop' where id = 1");
    $session->rows;
    for my $standby (@standbys) {
        $standby->sql('postgres', 'alter system reset recovery_min_apply_delay');
        $standby->sql('postgres', 'select pg_reload_conf()');
    }
};

subtest 'one child examines for all' => sub {
    plan skip_all => 'a single process has no other' if $server->single_process;
    my $children = 4;
    start('2s', threads => 8, conf => <<~CONF);
        ServerLimit $children
        StartServers $children
        MaxRequestWorkers @{[8 * $children]}
        MaxSpareThreads @{[8 * $children]}
        CONF
    wait_until(sub { my @made = $server->children; @made == $children }, 'the children');
    my $begun = examinations($standbys[0]);
    wait_until(sub { examinations($standbys[0]) > $begun }, 'an examination');
    $begun = examinations($standbys[0]);
    my $before = now;
    wait_until(sub { examinations($standbys[0]) >= $begun + 6 }, 'six more');
    cmp_ok now - $before, '>=', 5 * 0.5, 'they come twice a second';
    cmp_ok $standbys[0]->sql('users', "select count(*) from pg_stat_activity where usename = 'mod_users'"), '<=', 2,
        '... by one child, or another where that was late';

    $server->request(GET) for 1 .. 8;
    my @shares = shares(sub { $server->request(GET) for 1 .. 40 }, $primary, @standbys);
    is shift @shares, 0, 'what it finds the others know';
    ok !(grep { $_ < 1 } @shares), '... of both' or diag "@shares";

    $server->allow_log(qr/children are killed successively/);    # says httpd
    kill KILL => $server->children;
    $begun  = examinations($standbys[0]);
    $before = now;
    wait_until(sub { examinations($standbys[0]) > $begun }, 'another child to examine');
    cmp_ok now - $before, '<', 2 + SLACK, 'when it is killed another one does, within UsersReplicaLag';
};

done_testing;
