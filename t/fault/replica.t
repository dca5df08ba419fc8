# UsersDBReplica: GET reads from a standby, unless that lags, fails, or does not know yet. Several: replicas.t.

use v5.36;
use Users::Test::Fault;
use Users::Test::Proxy;
use Users::Test::Session;

my $server  = Users::Test::Fault->new;
my $primary = $server->postgres;
$primary->count_statements('users');
my $standby = $primary->standby($server->dir . '/standby');

my $BCRYPT = '$2y$05$abcdefghijklmnopqrstuuGW0Hyo9Kutwab1irCpEelJozXqOfxUe';
my $HASHED = 'canary-of-a-hashed-password';
my $OTHER  = 'token-of-user-1000';    # who changes nothing
my @OTHER  = (GET => '/api/users', token => $OTHER);
$server->sql(<<~SQL);
    insert into users.account (id, fname, lname, email, country, currency, locale)
    values (1000, 'Jane', 'Roe', 'jane\@example.com', 'NL', 'EUR', 'en');
    insert into users.token (digest, application_id, user_id, scopes)
    select sha256('$OTHER'), id, 1000, '{profile_read}' from users.application;
    insert into users.credential (user_id, username, secret_digest, secret_hash)
    values (1, 'digest', sha256('right'), null), (1, 'hashed', null, '$BCRYPT');
    SQL

sub start ($lag, %option) {
    my $replica = $option{replica} // $standby->conninfo('users');
    my $more    = $option{vhost} // '';
    $server->start_child(
        max     => 2,
        modules => $option{modules},
        conf    => $option{conf},
        timeout => $option{timeout},
        connect => $option{connect},
        vhost   => "UsersDBReplica \"$replica\"\nUsersReplicaLag $lag\n$more",
    );
}

# Change every account behind the module's back.
sub move_to ($city) {
    $server->sql("update users.account set city = '$city'");
}

sub city_of (@request) {
    my $answer = $server->request(@request);
    return $answer->{status} == 200 ? $answer->{json}{user}{city} : $answer->{status};
}

# Is the account in the answer to this request looked up there?
sub asks ($postgres, @request) {
    my $before = $postgres->statements('users', '%document%');
    $server->request(@request);
    return $postgres->statements('users', '%document%') > $before;
}

# A transaction that is under way can leave half a record at the end of the log, which no standby can read yet: another one's
# commit completes it.
sub catch_up () {
    $server->sql("select pg_logical_emit_message(true, 'test', 'complete')");
    my $position = $server->sql('select pg_current_wal_flush_lsn()');
    wait_until(
        sub { $standby->sql('users', "select pg_last_wal_replay_lsn() >= '$position'") eq 't' },
        'the standby to catch up'
    );
}

sub wait_for_standby () {
    catch_up();
    wait_until(sub { asks($standby, @OTHER) }, 'a look-up at the standby');
}

# The standby has all that was done before, and nothing that is done within.
sub while_paused ($code) {
    catch_up();
    $standby->sql('users', 'select pg_wal_replay_pause()');
    wait_until(
        sub { $standby->sql('users', 'select pg_get_wal_replay_pause_state()') eq 'paused' },
        'the standby to pause'
    );
    $code->();
    $standby->sql('users', 'select pg_wal_replay_resume()');
}

sub are_all_good ($name, @answers) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is_deeply count(map { $_->{status} } @answers), { 200 => scalar @answers }, $name;
}

sub connections_of_standby () {
    return $standby->sql('users', "select count(*) from pg_stat_activity where usename = 'mod_users'");
}

subtest 'off by default' => sub {
    $server->start_child(max => 2);
    is $server->request(GET)->{status}, 200, 'GET';
    is connections_of_standby(), 0, 'nobody connects to a standby';
};

subtest 'GET reads from it' => sub {
    for my $lanes (0, 1) {
        move_to('Delft');
        start('1h', vhost => "UsersReadLanes $lanes");
        wait_for_standby();
        while_paused(sub {
            move_to('Gouda');
            is city_of(GET), 'Delft', "UsersReadLanes $lanes: GET is as old as the standby";
            my @together = $server->parallel(map { ([GET], [@OTHER]) } 1 .. 10);
            is_deeply count(map { $_->{json}{user}{city} } @together), { Delft => 20 }, '... many, too';
            ok asks($standby, HEAD => '/api/users', token => READ_TOKEN), '... and HEAD';
            ok !asks($primary, GET), 'the primary is not asked';
        });
    }
};

subtest 'who changes something sees it at once' => sub {
    move_to('Delft');
    start('1h');
    wait_for_standby();
    while_paused(sub {
        my $tag = $server->request(GET)->{headers}{etag};
        my $changed = $server->request(PATCH => '/api/users', token => FULL_TOKEN,
            headers => ['If-Match' => $tag], json => { user => { city => 'Breda' } });
        is $changed->{status}, 200, 'PATCH';
        is city_of(GET => '/api/users', token => FULL_TOKEN), 'Breda', 'its token reads what it wrote';
        is city_of(GET), 'Breda', '... as does another token of the account';
        move_to('Gouda');
        is city_of(@OTHER), 'Delft', 'another account is read from the standby all the while';
    });
};

subtest '... also by a child that ends' => sub {
    plan skip_all => 'a single process does not restart' if $server->single_process;
    start('1h', timeout => 20, conf => 'ServerLimit 2', vhost => 'UsersRequestTimeout 20s');
    my $lock = Users::Test::Session->new($server);
    $lock->sql('begin; select from users.account where id = 1 for update');
    my $patch = $server->begin(PATCH);
    $server->wait_for_locks(1);
    $server->graceful;
    wait_for_standby();    # the new child finds it good
    while_paused(sub {
        $lock->sql("update users.account set state = 'new'; commit");
        is $patch->answer->{status}, 200, 'PATCH, in the old child';
        is $server->request(GET)->{json}{user}{state}, 'new', 'the new one reads what it has changed';
    });
};

# Till the end of the script, to look user 1 up takes long at a standby.
sub slow_down () {
    $server->stop;
    $server->sql(<<~SQL);
        create function public.slowly(id bigint, document json) returns json language plpgsql stable as \$\$
        begin
          perform pg_sleep(5) where id = 1 and pg_is_in_recovery();
          return document;
        end
        \$\$;
        alter view users_api.account rename to fast_account;
        create view users_api.account as
          select user_id, suspended, application_id, external_id, public.slowly(user_id, document) as document
          from users_api.fast_account;
        grant select on users_api.account to mod_users
        SQL
}

subtest '... by a PATCH that was refused, too' => sub {
    move_to('Delft');
    start('1h');
    wait_for_standby();
    while_paused(sub {
        my $tag = $server->request(GET)->{headers}{etag};
        move_to('Gouda');
        my $stale = $server->request(PATCH => '/api/users', token => FULL_TOKEN,
            headers => ['If-Match' => $tag], json => { user => { city => 'Breda' } });
        is $stale->{status}, 412, 'the tag was that of an old state';
        is city_of(GET), 'Gouda', 'and to read it again helps';
    });
};

subtest '... for UsersReplicaLag' => sub {
    start('2s');
    wait_for_standby();
    my $changed = now;
    $server->request(PATCH);
    ok asks($primary, GET), 'the primary is asked for the account';
    wait_until(sub { !asks($primary, GET) }, 'the standby to be enough again');
    cmp_ok now - $changed, '>=', 2, '... until then';
};

subtest 'what the standby does not know yet is looked up at the primary' => sub {
    start('1h', vhost => "UsersPasswordGrant on\n" . OAUTH_ENDPOINTS);
    wait_for_standby();
    while_paused(sub {
        my $registered = $server->request(POST);
        is $registered->{status}, 201, 'an account is registered';
        my $api = $registered->{json}{user}{api};
        my @new = (GET => '/api/users', basic => [$api->@{qw(username password)}]);
        is $server->request(@new)->{status}, 200, 'its credentials are good at once';
        is $server->request(@new)->{json}{user}{fname}, 'Jane', '... and bring the account';

        my $issued = $server->request(POST => '/api/oauth/token', basic => [CLIENT_ID, CLIENT_SECRET],
            form => [grant_type => 'password', %$api]);
        is $issued->{status}, 200, 'a token is issued';
        is $server->request(GET => '/api/users', token => $issued->{json}{access_token})->{status}, 200,
            '... and good at once';
        is $server->request(GET => '/api/users', token => 'nobodys')->{status}, 401,
            'a token that nobody has is a 401';
    });
};

subtest 'passwords' => sub {
    my @path = (GET => '/api/users');
    start('1h');
    wait_for_standby();
    ok asks($standby, @path, basic => ['digest', 'right']), 'one that has a digest';
    ok !asks($primary, @path, basic => ['digest', 'right']), '... is judged by what the standby tells';
    ok asks($primary, @path, basic => ['hashed', $HASHED]), 'one that has to be hashed is not';
    ok !asks($primary, @path, basic => ['hashed', $HASHED]), '... but the next time it is';
    ok asks($primary, @path, basic => ['digest', 'wrong']), 'a wrong one never is';
    while_paused(sub {
        $server->sql("update users.credential set secret_digest = sha256('new') where username = 'digest'");
        is $server->request(@path, basic => ['digest', 'new'])->{status}, 200, 'a new one is good at once';
    });
};

subtest 'who was verified by another module' => sub {
    move_to('Delft');
    start('1h', modules => ['setenvif'], vhost => <<~CONF);
        UsersTokenSource environment
        UsersTokenApplication @{[CLIENT_ID]}
        UsersTokenUser id
        SetEnvIf X-User (.*) OAUTH2_CLAIM_sub=\$1
        SetEnvIf X-User . OAUTH2_CLAIM_scope=profile_read
        CONF
    my @known = (GET => '/api/users', headers => ['X-User' => 1000]);
    catch_up();
    wait_until(sub { asks($standby, @known) }, 'a look-up at the standby');
    while_paused(sub {
        move_to('Gouda');
        is city_of(@known), 'Delft', 'GET reads from the standby';
        $server->sql(<<~SQL);
            insert into users.account (id, fname, lname, email, city, country, currency, locale)
            values (1001, 'Joe', 'Roe', 'joe\@example.com', 'Breda', 'NL', 'EUR', 'en')
            SQL
        is city_of(GET => '/api/users', headers => ['X-User' => 1001]), 'Breda',
            'and from the primary for who is too new';
    });
};

subtest 'a virtual host with a UsersDB of its own has no replica but its own' => sub {
    my $endpoint = "<Location /api/users>\nUsersEndpoint account\n</Location>";
    move_to('Delft');
    $server->start_child(site => <<~SITE);
        UsersDB "@{[$server->conninfo]}"
        UsersDBReplica "@{[$standby->conninfo('users')]}"
        UsersReplicaLag 1h
        $endpoint
        <VirtualHost *:*>
          ServerName inherits.example
        </VirtualHost>
        <VirtualHost *:*>
          ServerName own.example
          UsersDB "@{[$server->conninfo]} application_name=own"
        </VirtualHost>
        SITE
    my %at = map { $_ => [GET => '/api/users', token => $OTHER, headers => [Host => "$_.example"]] }
        qw(inherits own);
    catch_up();
    wait_until(sub { asks($standby, $at{inherits}->@*) }, 'a look-up at the standby');
    is $server->request($at{own}->@*)->{status}, 200, 'GET from one with';
    is connections_of_standby(), 1, '... asks no replica';
    while_paused(sub {
        move_to('Gouda');
        is city_of($at{inherits}->@*), 'Delft', 'one without has the replica, too';
        is city_of($at{own}->@*), 'Gouda', '... but one with has not';
    });
};

subtest 'what ends is seen within UsersReplicaLag' => sub {
    start('2s', vhost => METRICS_ENDPOINT);
    wait_for_standby();
    my $looked = sub ($result) { $server->figures->{qq(users_db_replica_lookups_total{result="$result"})} };
    my $before = $looked->('answered');
    ok asks($standby, GET), 'while it is good it is asked';
    is $looked->('answered'), $before + 1, '... which is counted';
    $before = $looked->('unsure');
    is $server->request(GET => '/api/users', token => 'unknown')->{status}, 401, 'whom it does not know';
    is $looked->('unsure'), $before + 1, '... is looked up at the primary, which is counted, too';
    $server->expect_log(qr/\[users:warn\] .* the replica \S+ is too far behind for UsersReplicaLag: no GET reads from it/);
    $server->expect_log(qr/\[users:warn\] .* the replica \S+ has caught up/);
    while_paused(sub {
        $server->sql("update users.token set revoked_at = now() where digest = sha256('$OTHER')");
        my $revoked = now;
        $server->wait_for_answer(401, @OTHER);
        cmp_ok now - $revoked, '<', 2 + SLACK, 'a revoked token is refused';
        move_to('Gouda');
        is city_of(GET), 'Gouda', 'GET reads from the primary then';
        wait_until(sub { $server->request(GET); $server->count_log(qr/the replica \S+ is too far/) },
            'the log to tell');
        my $figures = $server->figures;
        cmp_ok $looked->('avoided'), '>', 0, 'those that passed it by are counted';
        my ($all, $up_to_a_second) = $figures->@{ map { "users_db_replica_lag_seconds_$_" } 'count', 'bucket{le="1"}' };
        cmp_ok $all, '>', $up_to_a_second, 'its lag of more than a second was measured';
        cmp_ok $up_to_a_second, '>', 0, '... and before that a smaller one';
    });
    wait_until(sub { asks($standby, GET) }, 'the standby to be used again');
    is $server->count_log(qr/the replica \S+ is too far/), 1, 'the log has told it once';
    $server->sql("update users.token set revoked_at = null where digest = sha256('$OTHER')");
};

subtest 'a standby that is restarted' => sub {
    start('2s');
    wait_for_standby();
    $server->expect_log(qr/\[users:error\] .* the replica \S+ can't be reached: /);
    $server->expect_log(qr/\[users:warn\] .* the replica \S+ is back after /);
    my $load = $server->load(4, [GET]);
    $standby->stop('immediate');
    wait_until(sub { $server->count_log(qr/the replica \S+ can't be reached/) }, 'the loss to be noticed');
    $standby->start;
    my $back = now;
    wait_until(sub { asks($standby, GET) }, 'it to be used again');
    note sprintf 'used again %.3f s after its return', now - $back;
    are_all_good('no GET fails', $server->end_load($load));
    is $server->count_log(qr/\[users:error\]/), 1, 'the log has one line of its loss';
};

subtest 'a standby that is frozen' => sub {
    start('2s', timeout => 3);
    wait_for_standby();
    $server->allow_log(qr/the replica \S+ (?:can't be reached|is back|is too far|has caught up)/);
    $server->expect_trouble('late');
    my @frozen = ($standby->pid, split /\n/,
        $standby->sql('users', "select pid from pg_stat_activity where usename = 'mod_users'"));
    kill STOP => @frozen;
    are_all_good('the primary answers in its place', $server->parallel(map { [GET] } 1 .. 10));
    my $load = $server->load(4, [GET]);
    wait_until(sub { $server->count_log(qr/the replica \S+ can't be reached/) }, 'it to be known');
    kill CONT => @frozen;
    wait_until(sub { asks($standby, GET) }, 'it to be used again');
    my @answers = $server->end_load($load);
    are_all_good('... always', @answers);
    my ($slowest) = sort { $b <=> $a } map { $_->{seconds} } @answers;
    cmp_ok $slowest, '<', 5 + SLACK, '... within UsersRequestTimeout';
    note sprintf 'the slowest took %.3f s', $slowest;
};

subtest 'its connection breaks at any message' => sub {
    my $proxy = Users::Test::Proxy->new($server);    # the primary as a replica of itself
    start('200ms', replica => $proxy->conninfo, timeout => 0.6, connect => 0.3, vhost => METRICS_ENDPOINT);
    $server->allow_log(qr/the replica \S+ (?:can't be reached|is back)/);
    $server->allow_trouble('late');
    my $trace;
    my $get = sub { $proxy->tell('pass'); $server->request(GET); $trace = $proxy->tell('trace') };
    my $answered = sub { $server->figures->{'users_db_replica_lookups_total{result="answered"}'} };
    my $use      = sub { my $before = $answered->(); wait_until(sub { $get->(); $answered->() > $before }, 'it to be used') };
    my %how = (warm => [qw(close reset freeze)], cold => [qw(close reset)]);
    for my $temperature (qw(warm cold)) {
        $use->() for 1 .. 2;    # the first connects
        if ($temperature eq 'cold') {
            $proxy->tell('drop');
            $get->();
        }
        my %count = count($trace =~ /([cs])\S/g)->%*;
        my @places = ((map { [client => $_] } 0 .. $count{c}), map { [server => $_] } 0 .. $count{s});
        my @faults;
        for my $case (map { my $place = $_; map { [@$place, 0, $_] } $how{$temperature}->@* } @places) {
            $use->();
            $proxy->tell('drop') if $temperature eq 'cold';
            $proxy->tell('fault', @$case);
            my ($answer, $seconds) = $server->timed(GET);
            push @faults, "@$case: $answer->{status} after $seconds s"
                if $answer->{status} != 200 || $seconds > 5 + SLACK;
            $proxy->tell('pass');
            $proxy->tell('thaw');
        }
        is_deeply \@faults, [], "$temperature: GET is served, in each of " . @places . ' places';
    }
};

subtest 'a primary that is away' => sub {
    start('1s', vhost => HEALTH_ENDPOINTS);
    wait_for_standby();
    $server->expect_log(qr/\[users:error\] .* the database \S+ can't be reached: /);
    $server->expect_log(qr/\[users:warn\] .* the database \S+ is back after /);
    my $load = $server->load(2, [GET]);
    $primary->stop('immediate');
    $server->wait_for_answer(503, PATCH);
    my $since = now;
    wait_until(sub { now - $since > 2 }, 'UsersReplicaLag to pass');
    is $server->request(GET)->{status}, 200, 'GET is served by the standby';
    my $health = $server->request(GET => '/health/ready');
    is_deeply [$health->{status}, map { $_->{status} } $health->{json}{checks}->@*], [200, 'UP', 'DOWN'], '... as the health says';
    is_unavailable($server->request(PATCH), 'PATCH');
    is_unavailable($server->request(GET => '/api/users', token => 'nobodys'), 'an unknown token');
    $primary->start;
    $server->wait_for_answer(200, PATCH);
    are_all_good('no GET fails', $server->end_load($load));
};

subtest 'a replica that can never be used' => sub {
    my %bad = (
        'nobody listens'        => 'host=' . $server->dir . ' dbname=users user=mod_users',
        'there is no such role' => $standby->conninfo('users') . ' user=nobody',
    );
    for my $name (sort keys %bad) {
        start('2s', replica => $bad{$name});
        $server->expect_log(qr/\[users:error\] .* the replica \S+ can't be reached: /);
        is $server->request(GET)->{status}, 200, "$name: the primary answers" for 1 .. 3;
        wait_until(sub { $server->count_log(qr/the replica \S+ can't be reached/) }, 'the log to tell');
    }
};

subtest 'a look-up that takes longer than UsersReplicaLag' => sub {
    move_to('Delft');
    slow_down();
    start('4s', timeout => 8, vhost => "UsersRequestTimeout 20s\nUsersReadLanes 0");
    $server->allow_log(qr/the replica \S+ (?:is too far|has caught up)/);
    my $get;
    wait_for_standby();
    while_paused(sub {
        is $server->request(PATCH => '/api/users', token => FULL_TOKEN, json => { user => { city => 'Breda' } })
            ->{status}, 200, 'a change';
        $get = $server->begin(GET);
        wait_until(
            sub {
                $standby->sql('users', "select count(*) from pg_stat_activity where wait_event = 'PgSleep'");
            },
            'a look-up that does not see it'
        );
    });
    # The others find it good again, and so it is when the change is longer ago than UsersReplicaLag.
    my $load = $server->load(1, [@OTHER]);
    wait_for_standby();
    is $get->answer->{json}{user}{city}, 'Breda', 'what was not good when it began does not count';
    are_all_good('... others were served all the while', $server->end_load($load));
};

done_testing;
