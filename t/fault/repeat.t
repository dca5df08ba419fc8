# The contract makes a change once, however often it is asked for under one name: after the
# first try, while that is under way, and where the first try comes last.

use v5.36;
use Users::Test;
use Users::Test::Session;

my $server   = Users::Test->new;
my $sessions = 0;

my $application = $server->sql('select id from users.application');
my $random      = 0;

sub nonce () {
    return sprintf '00000000-0000-4000-8000-%012d', ++$random;
}

# A PATCH of user 1's city, as SQL. Options: tag (If-Match), user.
sub update ($nonce, $city, %option) {
    my $if_match = $option{tag} ? "array['$option{tag}']" : 'null';
    my $user     = $option{user} // 1;
    return <<~SQL =~ s/\s+$//r;
        select outcome, document #>> '{user,city}' from users_api.update_account($user,
          '{"city":"$city"}', '{"user":{"city":"$city"}}', $if_match, true, '$nonce')
        SQL
}

# A POST, as SQL. Options: key (Idempotency-Key), conflict (UsersDuplicates), user (fields).
sub registration ($name, %option) {
    my $fields = join ',', map { qq("$_->[0]":"$_->[1]") } ['fname', 'Jane'], ['lname', 'Roe'],
        ['provider', 'cpanel'], ['provider_server', 'server.example'],
        ['provider_username', $option{pair} // $name],
        map { [$_, $option{user}{$_}] } sort keys $option{user}->%*;
    my $key      = $option{key} ? "'$option{key}'" : 'null';
    my $conflict = $option{conflict} ? 'true' : 'false';
    return <<~SQL =~ s/\s+$//r;
        select outcome, account ->> 'id', account ->> 'email', labels
        from users_api.register_account($application, '{$fields}', '{"user":{$fields}}',
          'USD', 'en', 'users.example', $conflict, '$name', sha256('secret of $name'), $key, true)
        SQL
}

# The issue of a token, as SQL. Options: user, scope, application.
sub issue ($token, %option) {
    my $user  = $option{user}  // 'null';
    my $scope = $option{scope} // 'public';
    return 'select users_api.issue_token('
        . join(', ', $option{application} // $application, $user, "sha256('$token')", "'{$scope}'",
            q(clock_timestamp() + interval '1 hour')) . ')';
}

# When a token was made and ends, and whether it is live.
sub token ($token) {
    return $server->sql(<<~SQL);
        select created_at, expires_at, exists (select from users_api.token as live where live.digest = token.digest)
        from users.token where digest = sha256('$token')
        SQL
}

sub city () {
    return $server->sql('select city from users.account where id = 1');
}

sub tag () {
    return $server->sql(
        'select users_api.entity_tag(document) from users_api.account where user_id = 1');
}

# What there is of a registration: accounts, credentials, pairs.
sub count_all () {
    return $server->sql(<<~SQL);
        select (select count(*) from users.account), (select count(*) from users.credential),
          (select count(*) from users.provider_account)
        SQL
}

sub is_live ($name) {
    return $server->sql("select count(*) from users_api.credential where username = '$name'");
}

# Run SQL while the same is under way in an open transaction, which ends so: commit or rollback.
# Returns what both said.
sub run_beside ($sql, $end) {
    my ($first, $second) = map { Users::Test::Session->new($server) } 1, 2;
    my $rows = $first->sql("begin; $sql");
    $second->send($sql);
    wait_until(
        sub {
            $server->sql(q(select count(*) from pg_stat_activity where wait_event_type = 'Lock'));
        },
        'the second to wait'
    );
    $first->sql($end);
    return ($rows, $second->rows);
}

subtest 'an update is made once' => sub {
    my $nonce = nonce();
    is $server->sql(update($nonce, 'Delft')), 'updated|Delft', 'it is made';
    my $tag = tag();
    is $server->sql(update($nonce, 'Delft')), 'updated|Delft', 'a repeat tells the same';
    is tag(), $tag, 'and changes nothing';

    $server->sql(update(nonce(), 'Leiden'));
    is $server->sql(update($nonce, 'Delft')), 'updated|Leiden',
        'after another change it tells of that';
    is city(), 'Leiden', 'and does not undo it';
    is $server->sql(update(nonce(), 'Delft')), 'updated|Delft', 'under another nonce it is another';
};

subtest 'a repeat finds that its first try has changed the tag' => sub {
    my ($nonce, $tag) = (nonce(), tag());
    is $server->sql(update($nonce, 'Gouda', tag => $tag)), 'updated|Gouda', 'the first try';
    is $server->sql(update($nonce, 'Gouda', tag => $tag)), 'updated|Gouda', 'its repeat';
    is $server->sql(update(nonce(), 'Breda', tag => $tag)), 'stale|', 'another change is stale';
    is city(), 'Gouda', 'and not made';
};

subtest 'an update beside its first try' => sub {
    my $nonce = nonce();
    my @rows  = run_beside(update($nonce, 'Haarlem', tag => tag()), 'commit');
    is_deeply \@rows, [('updated|Haarlem') x 2], 'that is made: both tell of it';
    is $server->sql("select count(*) from users.change where nonce = '$nonce'"), 1, 'it is one';

    @rows = run_beside(update(nonce(), 'Zwolle', tag => tag()), 'rollback');
    is_deeply \@rows, [('updated|Zwolle') x 2], 'that is not made: the repeat makes it';
    is city(), 'Zwolle', 'it is there';
};

# Its first try may be one of many: that locks all accounts and then inserts all names.
subtest 'an update beside a first try that has locked the account' => sub {
    my $nonce = nonce();
    my ($first, $second) = map { Users::Test::Session->new($server) } 1, 2;
    $first->sql('begin; select from users.account where id = 1 for no key update');
    $second->send(update($nonce, 'Breda'));
    wait_until(sub { $server->sql(q(select count(*) from pg_stat_activity where wait_event_type = 'Lock')) }, 'the second to wait');
    is $first->sql(<<~SQL), 'Tiel', 'that is not in its way';
        update users.account set city = 'Tiel' where id = 1;
        insert into users.change (user_id, nonce) values (1, '$nonce');
        select city from users.account where id = 1
        SQL
    $first->sql('commit');
    is join('', $second->rows), 'updated|Tiel', '... and it finds what was made';
    is city(), 'Tiel', '... once';
};

subtest 'a trigger that keeps an account from being changed or made' => sub {
    $server->sql(<<~'SQL');
        create function users.keep() returns trigger language plpgsql as 'begin return null; end';
        create trigger keep before insert or update on users.account for each row execute function users.keep()
        SQL
    eval { $server->sql(update(nonce(), 'Ede')) };
    like $@, qr/something keeps the account 1 from being changed/, 'is told of';
    eval { $server->sql(registration('kept')) };
    like $@, qr/something keeps an account from being made/, '... in either case';
    $server->sql('drop function users.keep cascade');
};

subtest 'an account that was suspended since' => sub {
    my $nonce = nonce();
    $server->sql(update($nonce, 'Assen'));
    $server->sql('update users.account set suspended_at = now() where id = 1');
    is $server->sql(update($nonce, 'Assen')), 'updated|Assen', 'a repeat tells what was made';
    is $server->sql(update(nonce(), 'Emmen')), 'absent|', 'another change is refused';
    $server->sql('update users.account set suspended_at = null where id = 1');
    is $server->sql(update(nonce(), 'X', user => 999)), 'absent|', 'so is one of no account';
};

# The names of so many changes, as the module makes them, that long ago.
sub remember ($count, $age) {
    $server->sql(<<~SQL);
        insert into users.change (user_id, nonce, created_at)
        select 1, (lpad(to_hex((extract(epoch from made_at) * 1000)::bigint), 12, '0') || '7'
          || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid, made_at
        from generate_series(1, $count) as n, (select now() - interval '$age') as t (made_at)
        SQL
}

subtest 'nonces do not pile up' => sub {
    my $recent = q(select count(*) from users.change where created_at > now() - interval '1 hour');
    $server->sql('delete from users.change');
    remember(500, '59 minutes');
    remember(500, '61 minutes');
    my $made = 0;
    wait_until(
        sub {
            $server->sql(join ';', map { update(nonce(), 'City ' . ++$made) } 1 .. 20);
            $server->sql('select count(*) from users.change') == $server->sql($recent);
        },
        'changes to delete what is older than an hour'
    );
    is $server->sql($recent), 500 + $made, '... and nothing else';
    is $server->sql(update(nonce(), 'Weert', tag => 'other')), 'stale|', 'a refusal';
    is $server->sql('select count(*) from users.change'), 500 + $made, '... leaves none';
};

# By what stands in a repeat's way when its first try has been made.
my %registrations = (
    'of a name alone'     => {},
    'with an address'     => { user => { email => 'jane@roe.example' } },
    'with an external_id' => { user => { external_id => 'jane' } },
    'of a pair once'      => { conflict => 1 },
    'with a key'          => { key => 'jane' },
    'with all of it'      => {
        key      => 'janet',
        conflict => 1,
        user     => { email => 'janet@roe.example', external_id => 'janet' },
    },
);
for my $title (sort keys %registrations) {
    my %option = $registrations{$title}->%*;
    my $slug   = $title =~ tr/ /-/r;

    subtest "a registration $title is made once" => sub {
        my $sql   = registration("once-$slug", %option);
        my $first = $server->sql($sql);
        like $first, qr/^created\|/, 'it is made';
        my $count = count_all();
        my $again = $server->sql($sql);
        is $again =~ s/^repeated\b/created/r, $first, 'a repeat tells the same';
        is count_all(), $count, 'and makes nothing';
        is is_live("once-$slug"), 1, 'its credential is good';
    };

    for my $end (qw(commit rollback)) {
        subtest "a registration $title beside its first try: $end" => sub {
            my %other = %option;
            $other{key} .= "-$end" if $other{key};
            $other{user} = { map { $_ => "$end-$option{user}{$_}" } keys $option{user}->%* };
            my @before = split /\|/, count_all();
            my @rows   = run_beside(registration("$end-$slug", %other), $end);
            like $rows[0], qr/^created\|/, 'the first';
            like $rows[1], qr/^(?:created|repeated)\|/, 'the repeat';
            is $rows[1] =~ s/^repeated\b/created/r, $rows[0], 'tells the same' if $end eq 'commit';
            is_deeply [split /\|/, count_all()], [map { $_ + 1 } @before], 'there is one of each';
            is is_live("$end-$slug"), 1, 'its credential is good';
        };
    }
}

subtest 'a client that repeats its key between a try and its repeat' => sub {
    my ($first, $second) =
        map { registration($_, key => 'between', pair => 'between') } qw(try1 try2);
    my $account = ($server->sql($first) =~ /^created\|(\d+)/)[0];
    like $server->sql($second), qr/^repeated\|$account\|/, 'gets the same account';
    like $server->sql($first), qr/^repeated\|$account\|/, 'so does the repeat';
    is_deeply [map { is_live($_) } qw(try1 try2)], [0, 1],
        'it does not take from the client what it was given later';
    like $server->sql($second), qr/^repeated\|$account\|/, 'that one may be repeated too';
    is_deeply [map { is_live($_) } qw(try1 try2)], [0, 1], 'and stays good';
};

subtest 'what was refused may be repeated' => sub {
    my %taken = (
        'a pair'         => [duplicate => conflict => 1, pair => 'once-of-a-pair-once'],
        'an external_id' => [invalid   => user => { external_id => 'jane' }],
    );
    for my $name (sort keys %taken) {
        my ($outcome, %option) = $taken{$name}->@*;
        my $count = count_all();
        for my $try (1, 2) {
            like $server->sql(registration('refused', key => 'refused', %option)), qr/^$outcome\|/,
                "$name, try $try: $outcome";
        }
        is count_all(), $count, "$name: nothing is made";
        is $server->sql(q(select count(*) from users.idempotency where key = 'refused')), 0,
            "$name: the key is free";
    }
};

# The same with a note, which asks for a row of users.audit and one of users.event. By registration: its SQL ends in
# "true)", that of an update in "'NONCE')".
sub noted ($sql) {
    my $note = q('{"audit": true, "event": true, "kind": "token", "fields": "fname"}');
    return $sql =~ s/, true\)$/, true, null, null, $note)/r if $sql =~ /register_account/;
    return $sql =~ s/\)$/, null, null, null, $note)/r;
}

# What is written of each action and event since the last call.
sub notes () {
    return join ' ', split /\n/, $server->sql(<<~'SQL');
        with audit as (delete from users.audit returning action), event as (delete from users.event returning type)
        select what || ':' || count(*) from (select action from audit union all select 'event ' || type from event) as written (what)
        group by what order by what collate "C"
        SQL
}

subtest 'an update is noted once' => sub {
    my $once = 'event user.updated:1 user.updated:1';
    my ($nonce, $tag) = (nonce(), tag());
    my $session = Users::Test::Session->new($server);
    is $session->sql(noted(update($nonce, 'Delft', tag => $tag))), 'updated|Delft', 'it is made';
    is notes(), $once, '... and noted';
    is $_->sql(noted(update($nonce, 'Delft', tag => $tag))), 'updated|Delft', 'a repeat tells the same' for $session, $server;
    is $server->sql(noted(update(nonce(), 'Delft', tag => $tag))), 'stale|', 'another change is stale';
    is notes(), '', '... and neither is noted';

    run_beside(noted(update(nonce(), "$_ beside")), $_) for qw(commit rollback);
    is notes(), 'event user.updated:2 user.updated:2', 'beside a first try that is made, or not, each is noted once';
};

for my $title (sort keys %registrations) {
    my %option = $registrations{$title}->%*;
    $option{key}  .= '-noted' if $option{key};
    $option{user} = { map { $_ => "noted-$option{user}{$_}" } keys $option{user}->%* };
    my $slug = 'noted-' . $title =~ tr/ /-/r;

    # A pooler may give the repeat the session of the first try.
    subtest "a registration $title is noted once" => sub {
        my $once    = 'event user.created:1 user.created:1';
        my $session = Users::Test::Session->new($server);
        like $session->sql(noted(registration("once-$slug", %option))), qr/^created\|/, 'it is made';
        is notes(), $once, '... and noted';
        like $_->sql(noted(registration("once-$slug", %option))), qr/^(?:created|repeated)\|/, 'a repeat' for $session, $server;
        is notes(), '', '... is not';

        for my $end (qw(commit rollback)) {
            my %other = %option;
            $other{key} .= "-$end" if $other{key};
            $other{user} = { map { $_ => "$end-$option{user}{$_}" } keys $option{user}->%* };
            run_beside(noted(registration("$end-$slug", %other)), $end);
            is notes(), $once, "beside its first try: $end";
        }
    };
}

subtest 'a credential that replaces another is noted once' => sub {
    my ($first, $second) = map { noted(registration($_, key => 'noted', pair => 'noted')) } qw(noted1 noted2);
    $server->sql($first);
    is notes(), 'event user.created:1 user.created:1', 'the first';
    like $server->sql($second), qr/^repeated\|/, 'the client repeats its key';
    is notes(), 'credential.replaced:1', '... which is no event';
    like $server->sql($_), qr/^repeated\|/, 'a try of either again' for $first, $second;
    is notes(), '', '... is not noted';
    like $server->sql(noted(registration('noted3', key => 'noted', pair => 'other'))), qr/^key_reused\|/, 'another payload';
    is notes(), '', '... is not, either';
};

subtest 'a token is issued once' => sub {
    is $server->sql(issue('once')), 't', 'it is made';
    my ($created, $expires) = split /\|/, token('once');
    is $server->sql(issue('once')), 't', 'a repeat tells the same';
    my ($later, $end, $live) = split /\|/, token('once');
    cmp_ok $later, 'gt', $created, 'from when it is valid is what the repeat tells';
    cmp_ok $end,   'gt', $expires, '... and until when';
    is $live, 't', 'it is live';
    is $server->sql(q(select count(*) from users.token where digest = sha256('once'))), 1, 'it is one';

    $server->sql(q(update users.token set revoked_at = now() where digest = sha256('once')));
    is $server->sql(issue('once')), 'f', 'when it has ended there is none';
    like token('once'), qr/\|f$/, '... and none comes to life again';
};

subtest 'a token beside its first try' => sub {
    for my $end (qw(commit rollback)) {
        is_deeply [run_beside(issue($end, user => 1, scope => 'profile_read'), $end)], ['t', 't'], $end;
        like token($end), qr/\|t$/, 'it is live';
    }
};

subtest 'another token of the same digest' => sub {
    my $other = $server->sql(<<~SQL);
        insert into users.application (name, client_id, secret_digest, scopes)
        values ('other', 'other', sha256('other'), '{public,register}') returning id
        SQL
    $server->sql(issue('taken'));
    my $before = token('taken');
    my %case = (
        'for an account'      => { user => 1 },
        'with another scope'  => { scope => 'register' },
        'another application' => { application => $other },
    );
    for my $name (sort keys %case) {
        is $server->sql(issue('taken', $case{$name}->%*)), 'f', "$name: is none";
    }
    is token('taken'), $before, 'the one that is there stays as it was';
};

done_testing;
