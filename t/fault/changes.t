# Changes that come together share a statement and a commit: each is judged for itself, nobody answers
# for another's fault, nothing that was acknowledged is lost and nothing is made twice.

use v5.36;
use Users::Test::Fault;
use Users::Test::Proxy;
use Users::Test::Session;

plan skip_all => 'a child of prefork serves one request at a time' if ($ENV{USERS_TEST_MPM} // '') eq 'prefork';

my $server  = Users::Test::Fault->new;
my $session = Users::Test::Session->new($server);
my $other   = Users::Test::Session->new($server);

# Accounts 1000 to 1099, each with a token of its name; 1099 is suspended later on. A change of a city that
# begins with "Wait" or "Hold" waits while that lock is held; "Fail" and "Slow" do what they say.
my %gate = (Wait => 4711, Hold => 4712);
$server->sql(<<~SQL);
    insert into users.account (id, fname, lname, email, country, currency, locale, city)
    select n, 'John', 'Number ' || n, n || '\@example.com', 'NL', 'EUR', 'nl', 'Home'
    from generate_series(1000, 1099) as n;
    insert into users.token (digest, application_id, user_id, scopes)
    select sha256(('token-' || n)::bytea), (select min(id) from users.application), n, '{profile_read,profile_update}'
    from generate_series(1000, 1099) as n;
    create table users.made (id bigint, city text);
    create function users.gate() returns trigger language plpgsql security definer as \$\$
    begin
      if new.city like 'Wait%' then
        perform pg_advisory_xact_lock_shared($gate{Wait});
      elsif new.city like 'Hold%' then
        perform pg_advisory_xact_lock_shared($gate{Hold});
      elsif new.city like 'Fail%' then
        raise sqlstate 'P0001' using message = 'the trigger says no';
      elsif new.city like 'Slow%' then
        perform pg_sleep(60);
      end if;
      insert into users.made values (new.id, new.city);
      return new;
    end \$\$;
    create trigger gate before insert or update on users.account for each row execute function users.gate();
    SQL

sub start (%option) {
    $server->start_child(
        max => 4, acquire => $option{acquire} // 20, timeout => $option{timeout} // 20, threads => 64,
        vhost => "UsersRequestTimeout 60s\n" . ($option{vhost} // ''), conninfo => $option{conninfo});
    $server->request(GET => '/api/users', token => 'token-1000');
    $server->sql(<<~'SQL');
        update users.token set revoked_at = null;
        update users.account set city = 'Home', phone = null, suspended_at = null where id >= 1000;
        delete from users.made
        SQL
}

sub change ($id, $user, %option) {
    return [PATCH => '/api/users', token => "token-$id", json => { user => ref $user ? $user : { city => $user } }, %option];
}

sub registration ($name, %user) {
    return [POST => '/api/users', token => REGISTER_TOKEN, json => { user => {
        fname => 'Jane', lname => 'Roe', provider_server => 'server.example', provider_username => $name, %user } }];
}

# How many changes each statement has taken so far.
sub batches () {
    return map { /(?:update|register)_accounts(?:_with_note)? for ([0-9]+) requests/ ? $1 : () } $server->error_log;
}

sub hold ($name) { $session->sql("select pg_advisory_lock($gate{$name})") }
sub let  ($name) { $session->sql("select pg_advisory_unlock($gate{$name})") }

# How many changes have joined those under way, so far.
sub joined () {
    return $server->count_log(qr/the change joins those under way/);
}

# Have a request of the same kind lead, which waits at the gate, and these come meanwhile. joining: how many of them are
# to share a statement, at least. Returns the connections.
sub begin_behind ($joining, @requests) {
    my ($leader, $needs) = $requests[0][0] eq 'PATCH' ? (change(1000, 'Wait ' . rand), qr/needs profile_update/)
        : (registration('leader' . rand, city => 'Wait'), qr/needs register/);
    hold('Wait');
    $leader = $server->begin(@$leader);
    $server->wait_for_locks(1);
    my ($come, $joined) = ($server->count_log($needs), joined());
    my @connections = map { $server->begin(@$_) } @requests;
    wait_until(sub { $server->count_log($needs) == $come + @requests && joined() >= $joined + $joining }, 'all requests to come');
    return ($leader, @connections);
}

# The same, and let all go. joining: as above; before and after: what to do while they wait, and from then on. Returns
# the answers, without that of the leader.
sub together ($requests, %do) {
    my ($leader, @connections) = begin_behind($do{joining} // 0, @$requests);
    $do{before}->() if $do{before};
    let('Wait');
    $do{after}->() if $do{after};
    like $leader->answer->{status}, qr/^20[01]$/, 'who leads is served';
    return [map { $_->answer } @connections];
}

sub statuses ($answers) {
    return [map { $_->{status} } @$answers];
}

sub column ($column, @ids) {
    my $ids = join ',', @ids;
    return [split /\n/, $server->sql("select coalesce(($column)::text, '-') from users.account where id in ($ids) order by id")];
}

sub made ($id) {
    return $server->sql("select count(*) from users.made where id = $id");
}

sub tag ($id) {
    return $server->request(GET => '/api/users', token => "token-$id")->{headers}{etag};
}

subtest 'changes of several accounts' => sub {
    start();
    my @ids = 1001 .. 1030;
    my $before  = () = batches();
    my $answers = together([map { change($_, "City $_") } @ids], joining => scalar @ids);
    is_deeply statuses($answers), [(200) x @ids], 'each is made';
    is_deeply [map { $_->{json}{user}{city} } @$answers], [map { "City $_" } @ids], '... and answered with its own account';
    is_deeply [(batches())[$before .. $before + 1]], [1, scalar @ids], '... by one statement';
    is_deeply [map { $_->{headers}{etag} } @$answers], [map { tag($_) } @ids], '... whose tags are the next GETs\'';
    is_deeply column('city', @ids), [map { "City $_" } @ids], '... and stored';
    is $server->sql(<<~SQL), 1, '... in one transaction';
        select count(distinct xmin::text) from users.account where id between 1001 and 1030
        SQL
};

subtest 'each is judged for itself' => sub {
    start();
    my $tag = tag(1001);
    $other->sql("begin; update users.account set phone = 'other' where id = 1009");
    my @changes = (
        change(1001, 'Delft', headers => ['If-Match' => $tag]),
        change(1002, 'Delft', headers => ['If-Match' => '"stale"']),
        change(1003, { city => 'Delft', country => 'XX' }),
        change(1004, { city => 'Delft', locale  => 'xx', currency => 'QQQ' }),
        change(1005, { email => '1006@example.com' }),
        change(1006, { fname => '' }),
        change(1007, { merge_labels => { big => 'x' x 16_500 } }),
        change(1008, 'Delft'),
        change(1009, 'Delft'),
        change(1010, 'Delft'),
        change(1011, { city => undef, c_sftp_pass => \1, country => 'BE', currency => 'USD', locale => 'fr' }),
        change(1012, { merge_labels => { a => 1 }, city => 'Delft' }),
    );
    my $answers = together(
        \@changes,
        before => sub {
            $server->sql('update users.account set suspended_at = now() where id = 1008');
            $server->sql(q(update users.token set revoked_at = now() where digest = sha256('token-1010')));
        },
        after => sub {
            wait_until(sub { made(1012) }, 'those that nobody has locked to be made');
            $other->sql('commit');
        });
    is_deeply statuses($answers), [200, 412, (422) x 5, 403, 200, 401, 200, 200], 'each has its own answer';
    is_deeply $answers->[3]{json}, { errors => ['locale is not a known locale', 'currency is not a known currency'] },
        '... with all of its faults';
    is_deeply column('city', 1001 .. 1012),
        ['Delft', 'Home', 'Home', 'Home', 'Home', 'Home', 'Home', 'Home', 'Delft', 'Home', '-', 'Delft'],
        '... and nothing else is stored';
    is_deeply column('phone', 1009), ['other'], '... nor overwritten';
    is_deeply column('labels', 1012), ['{"a": 1}'], '... labels are merged';
};

subtest 'changes of one account' => sub {
    start();
    my $answers = together([map { change(1001, { merge_labels => { "key$_" => $_ } }) } 1 .. 10]);
    is_deeply statuses($answers), [(200) x 10], 'all are made';
    is $server->sql(q(select count(*) from users.account, jsonb_object_keys(labels) where id = 1001)), 10,
        '... one after the other: none is lost';
    is made(1001), 10, '... nor made twice';

    my $tag = tag(1001);
    $answers = together([map { change(1001, "City $_", headers => ['If-Match' => $tag]) } 1 .. 10]);
    is_deeply count(statuses($answers)->@*), { 200 => 1, 412 => 9 }, 'of those with one tag one is';
};

subtest 'an address that is taken meanwhile' => sub {
    start();
    my $answers = together([(map { change($_, { email => 'same@example.com' }) } 1001 .. 1005), change(1006, 'Delft')]);
    is_deeply count(statuses($answers)->@*), { 200 => 2, 422 => 4 }, 'one account has it';
};

subtest 'a statement that fails' => sub {
    start();
    $server->expect_log(qr/refused update_account.*: P0001 the trigger says no/);
    my $answers = together([map { change($_, $_ == 1003 ? 'Fail' : 'Delft') } 1001 .. 1009]);
    is_deeply statuses($answers), [200, 200, 500, (200) x 6], 'each change is tried alone: one fails';
    is_deeply [map { made($_) } 1001 .. 1009], [1, 1, 0, (1) x 6], '... and none is made twice';
};

subtest 'a statement that takes too long' => sub {
    start(timeout => 2);
    $server->allow_trouble('late');
    my $answers = together([map { change($_, $_ == 1003 ? 'Slow' : 'Delft') } 1001 .. 1009]);
    is_deeply statuses($answers), [200, 200, 503, (200) x 6], 'each change is tried alone: one is given up';
    is_deeply [map { made($_) } 1001 .. 1009], [1, 1, 0, (1) x 6], '... and none is made twice';
};

sub kill_backends () {
    $server->sql("select pg_terminate_backend(pid, 10000) from pg_stat_activity where usename = 'mod_users'");
}

subtest 'a connection that dies' => sub {
    start();
    my @ids = 1001 .. 1020;
    my @connections = begin_behind(scalar @ids, map { change($_, "First $_") } @ids);
    kill_backends();
    let('Wait');
    is_deeply statuses([map { $_->answer } @connections]), [(200) x 21], 'under the leader: all are made';

    hold('Hold');
    @connections = begin_behind(scalar @ids, map { change($_, "Hold $_") } @ids);
    let('Wait');
    is shift(@connections)->answer->{status}, 200, 'under those that wait: the leader is served';
    $server->wait_for_locks(1);
    kill_backends();
    let('Hold');
    is_deeply statuses([map { $_->answer } @connections]), [(200) x 20], '... and the others settled';
    is_deeply column('city', @ids), [map { "Hold $_" } @ids], '... and stored';
    is_deeply [map { made($_) } 1000 .. 1020], [(2) x 21], '... none of them twice';
};

# Four requests that share a statement, whose connection is cut at this place. A busy machine may have the leader ready before
# all four have come to wait: then it is done again.
sub cut ($proxy, $statement, $requests, $name, @fault) {
    for my $try (1 .. 10) {
        my $shared  = grep { $_ == 4 } batches();
        my $answers = together([$requests->("$name$try")], joining => 4, before => sub {
            $proxy->tell('fault', @fault, 'once', $statement);
        });
        $proxy->tell('pass');
        return ("$name$try", $answers) if $shared < grep { $_ == 4 } batches();
    }
    die "four requests never share a statement\n";
}

# Cut the connection at every message of a prepared statement that four requests share: Bind, Describe, Execute, Sync;
# BindComplete, RowDescription, four DataRow, CommandComplete, ReadyForQuery. requests: the four, by a name that is new;
# are_made: how many of that name are stored, and how often all together. bytes: of the next message, that come through.
sub test_cuts ($statement, $status, $requests, $are_made, %option) {
    my $proxy = Users::Test::Proxy->new($server);
    start(conninfo => $proxy->conninfo, vhost => $option{vhost});
    together([$requests->('prepared')]);
    my ($cuts, @faults) = 0;
    my $begin = $option{begin} // sub { };
    for my $place (map({ [client => $_] } 0 .. 4), map({ [server => $_] } 0 .. 8)) {
        for my $bytes (($option{bytes} // [0, 3])->@*) {
            my $how = ++$cuts % 2 ? 'reset' : 'close';
            my ($name, $answers) = cut($proxy, $statement, sub ($name) { $begin->(); $requests->($name) }, "cut$cuts-", @$place, $bytes, $how);
            my $is = join ' ', statuses($answers)->@*, $are_made->($name);
            push @faults, "@$place $bytes: $is" if $is ne join ' ', ($status) x 4, 4, 4;
        }
    }
    is_deeply \@faults, [], "after each of $cuts cuts all are made once, and told";
    my @lost = grep { /$statement for 4 requests .*: connection lost/ } $server->error_log;
    cmp_ok scalar @lost, '>', $cuts / 2, 'most cuts take it from them';
}

subtest 'changes whose connection is cut' => sub {
    test_cuts('update_accounts', 200, sub ($city) { map { change($_, $city) } 1001 .. 1004 }, sub ($city) {
        return $server->sql("select count(distinct id) || ' ' || count(*) from users.made where city = '$city'");
    });
};

# What users.audit and users.event have of these accounts: how many accounts and how many rows, alike in both.
sub noted ($accounts) {
    my ($audit, $event) = map { $server->sql(<<~SQL) } qw(audit event);
        select count(distinct user_id) || ' ' || count(*) from users.$_ where user_id in (select id from users.account where $accounts)
        SQL
    return $audit eq $event ? $audit : "audit $audit, events $event";
}

my @NOTED = (
    vhost => "UsersAudit on\nUsersEvents on",
    bytes => [0],
    begin => sub { $server->sql('truncate users.audit, users.event') },
);

subtest 'changes with notes whose connection is cut' => sub {
    test_cuts('update_accounts_with_note', 200, sub ($city) { map { change($_, $city) } 1001 .. 1004 },
        sub ($city) { noted("city = '$city'") }, @NOTED);
};

subtest 'a graceful restart' => sub {
    plan skip_all => 'a single process does not restart' if $server->single_process;
    start();
    my $answers = together([map { change($_, 'Delft') } 1001 .. 1010], before => sub { $server->graceful });
    is_deeply statuses($answers), [(200) x 10], 'changes under way are made';
    is_deeply [map { made($_) } 1001 .. 1010], [(1) x 10], '... once';
};

# All lanes are those of changes that do not end.
subtest 'changes that are stuck' => sub {
    start(acquire => 1, vhost => "UsersHostLanes 1\nUsersChangeLanes 2");
    hold('Wait');
    my @stuck = map { $server->begin(change($_, 'Wait ' . rand)->@*) } 1001, 1002;
    $server->wait_for_locks(2);
    is_deeply [map { $server->request(GET => '/api/users', token => "token-$_")->{status} } 1003 .. 1010], [(200) x 8],
        'hold up no GET';
    is made(1001), 0, '... while they last';
    let('Wait');
    is_deeply statuses([map { $_->answer } @stuck]), [200, 200], '... and are made in the end';
};

# How many accounts there are of these names: with their pair, and with a credential.
sub registered (@names) {
    my $names = join ',', map { "'$_'" } @names;
    return $server->sql(<<~SQL);
        select count(distinct a.id) || ' ' || count(c.id)
        from users.account as a
        join users.credential as c on c.user_id = a.id and c.revoked_at is null
        where exists (select from jsonb_each_text(a.labels -> 'cpanel') where value in ($names))
        SQL
}

subtest 'registrations' => sub {
    start();
    $server->sql('delete from users.made');

    my @names   = map { "user$_" } 1 .. 30;
    my $before  = () = batches();
    my $answers = together([map { registration($_, email => "$_\@new.example") } @names], joining => 30);
    is_deeply statuses($answers), [(201) x 30], 'each account is made';
    is_deeply [(batches())[$before .. $before + 1]], [1, 30], '... by one statement';
    is registered(@names), '30 30', '... with a credential each';
    is_deeply [map { $_->{json}{user}{email} } @$answers], [map { "$_\@new.example" } @names], '... and answered with its own';
    my $api = $answers->[7]{json}{user}{api};
    is $server->request(GET => '/api/users', basic => [@$api{qw(username password)}])->{json}{user}{email},
        'user8@new.example', '... whose credentials are its own';

    my @others = map { "other$_" } 1 .. 12;
    $answers = together([
        (map { registration($others[$_], email => 'One@new.example') } 0 .. 4),
        registration($others[5], email => 'user1@new.example'),
        registration($others[6], country => 'XX', currency => 'QQQ'),
        registration($others[7], locale => 'xx', merge_labels => { a => 1 }),
        registration($others[8], external_id => 'e1'),
        registration($others[8], external_id => 'e1'),
        registration($others[9], merge_labels => { a => 'x' x 16_500 }),
        registration($others[10]),
        registration($others[10]),
    ]);
    is_deeply statuses([@$answers[0 .. 7, 10 .. 12]]), [(201) x 6, 422, 201, 422, 201, 201], 'each is judged for itself';
    is_deeply [sort map { $_->{status} } @$answers[8, 9]], [201, 422], '... one has the external_id';
    is scalar(grep { lc $_->{json}{user}{email} eq 'one@new.example' } @$answers[0 .. 4]), 1, '... one has the address';
    is_deeply [map { $_->{json}{user}{locale} } $answers->[7]], ['en'], '... an unknown locale is the default';
    is registered(@others[0 .. 7, 10]), '9 9', '... and the rest stores nothing';

    $other->sql(q(begin; update users.account set email = 'held@new.example' where id = 1050));
    my $held = $server->begin(registration('held', email => 'HELD@new.example')->@*);
    $server->wait_for_locks(1);
    is $server->request(registration('free')->@*)->{status}, 201, 'an address that another transaction has holds up nobody else';
    $other->sql('rollback');
    is $held->answer->{json}{user}{email}, 'HELD@new.example', '... and who wants it waits';

    $server->expect_log(qr/refused register_account.*: P0001 the trigger says no/);
    $answers = together([map { registration("failing$_", city => $_ == 3 ? 'Fail' : 'Delft') } 1 .. 6]);
    is_deeply statuses($answers), [201, 201, 500, 201, 201, 201], 'a statement that fails: each is tried alone';

    hold('Wait');
    my @connections = map { $server->begin(registration("lost$_", city => 'Wait')->@*) } 1 .. 10;
    $server->wait_for_locks(1);
    kill_backends();
    let('Wait');
    is_deeply statuses([map { $_->answer } @connections]), [(201) x 10], 'a connection that dies: all are made';
    is registered(map { "lost$_" } 1 .. 10), '10 10', '... once';
};

subtest 'registrations whose connection is cut' => sub {
    my @names = map { "-$_" } 1 .. 4;
    test_cuts('register_accounts', 201, sub ($name) { map { registration("$name$_") } @names },
        sub ($name) { registered(map { "$name$_" } @names) });
};

subtest 'registrations with notes whose connection is cut' => sub {
    test_cuts('register_accounts_with_note', 201, sub ($name) { map { registration("$name-$_", city => $name) } 1 .. 4 },
        sub ($name) { noted("city = '$name'") }, @NOTED);
};

subtest 'UsersChangeLanes 0' => sub {
    start(vhost => 'UsersChangeLanes 0');
    my $before = () = batches();
    is_deeply statuses([map { $_->answer } map { $server->begin(change($_, 'Delft')->@*) } 1001 .. 1010]), [(200) x 10],
        'each change has a statement of its own';
    is scalar(() = batches()), $before, '... and shares none';
};

done_testing;
