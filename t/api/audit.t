# UsersAudit and UsersEvents: what is written beside registrations and changes, and what is not; usersctl audit.

use v5.36;
use JSON::PP qw();
use Users::Test;
use Users::Test::Usersctl;

use constant TRACE => '0af7651916cd43dd8448eb211c80319c';

my $ACCOUNT  = "<Location /api/users>\nUsersEndpoint account\n</Location>";
my $server   = Users::Test->new;
my $usersctl = Users::Test::Usersctl->new($server);

my ($application) = $server->sql(<<~'SQL') =~ /(\d+)/;
    insert into users.token (digest, application_id, user_id, scopes)
    select sha256('register-token-of-user-1'), min(id), 1, '{register}' from users.application;
    insert into users.credential (user_id, username, secret_digest) values (1, 'audited', sha256('password-of-user-1'));
    select min(id) from users.application
    SQL

# Each virtual host by its name; they inherit what the server says.
sub vhost ($name, $text) {
    return "<VirtualHost *:*>\nServerName $name\n$text\n</VirtualHost>\n";
}

sub start () {
    $server->start(
        modules => [qw(remoteip setenvif)],
        site    => join "\n", qq(UsersDB "@{[$server->conninfo]}"),
            'UsersDBTimeout 20s', 'UsersRequestTimeout 40s', 'UsersTraceParent propagate', 'UsersTokenRate 0',
            'UsersAudit on', 'UsersEvents on', 'RemoteIPHeader X-Client', 'RemoteIPInternalProxy 127.0.0.1', $ACCOUNT,
            vhost(both => ''),
            vhost(off         => "UsersAudit off\nUsersEvents off"),
            vhost('audit.only' => 'UsersEvents off'),
            vhost('event.only' => 'UsersAudit off'),
            vhost(conflict    => 'UsersDuplicates conflict'),
            vhost(alone       => 'UsersChangeLanes 0'),
            vhost(odd         => 'SetEnvIf X-Trace (.*) USERS_TRACE=$1'),
            vhost(external    => "UsersTokenSource environment\nUsersTokenApplication " . CLIENT_ID
                . "\nUsersTokenUser id\nSetEnvIf Host . OAUTH2_CLAIM_sub=1 OAUTH2_CLAIM_scope=profile_update"),
    );
}

# What there is in a table since the last call, without ids and times.
sub written ($table) {
    my $json = $server->sql(<<~SQL);
        with gone as (delete from users.$table returning *)
        select coalesce(json_agg(to_jsonb(gone) - '{id,at,message_id,created_at,due_at,body,attempts,dead_at,failure}'::text[]
          order by id), '[]') from gone
        SQL
    return JSON::PP->new->decode($json);
}

my %owner = (user_id => 1, caller_id => 1, application_id => $application, kind => 'token', address => '127.0.0.1', trace => undef);

# A request to a virtual host and its status, and what it has to have written: rows of users.audit, whose members
# are those of %owner where none is given, and events.
sub writes ($what, $host, $status, $request, $audit, $events) {
    my ($method, %option) = @$request;
    my $answer = $server->request($method => '/api/users', %option, headers => [Host => $host, ($option{headers} // [])->@*]);
    is $answer->{status}, $status, $what or diag $answer->{body};
    my $user = $answer->{json}{user} // {};
    is_deeply written('audit'), [map { { %owner, $method eq 'POST' ? (user_id => $user->{id}) : (), %$_ } } @$audit], '... audit';
    is_deeply written('event'), [map { { $method eq 'POST' ? (user_id => $user->{id}) : (user_id => 1), %$_ } } @$events], '... events';
    return $answer;
}

sub patch ($user, %option) {
    return [PATCH => token => FULL_TOKEN, %option, json => { user => $user }];
}

sub post ($name, $user = {}, %option) {
    return [POST => token => REGISTER_TOKEN, %option, json => { user => {
        fname => 'Jane', lname => 'Roe', provider_server => 'server.example', provider_username => $name, %$user } }];
}

sub updated (@fields) { { action => 'user.updated', fields => \@fields } }
sub created (@fields) { { action => 'user.created', caller_id => undef, fields => \@fields } }
sub event ($type, @fields) { { type => "user.$type", fields => \@fields } }

my @GIVEN = qw(fname lname provider_server provider_username);

start();

subtest 'off, nothing is written' => sub {
    $server->stop;
    $server->start;
    is $server->request(PATCH => '/api/users', token => FULL_TOKEN, json => { user => { city => 'Delft' } })->{status}, 200, 'PATCH';
    is $server->request(POST => '/api/users', patch_free(post('nobody')))->{status}, 201, 'POST';
    is_deeply [written('audit'), written('event')], [[], []], 'neither is the default';
    $server->stop;
    start();
    writes('a virtual host turns them off', 'off', 200, patch({ city => 'Gouda' }), [], []);
    writes('... for POST, too', 'off', 201, post('off'), [], []);
};

sub patch_free ($request) {
    my (undef, %option) = @$request;
    return %option;
}

subtest 'a change' => sub {
    my @trace = (headers => [traceparent => '00-' . TRACE . '-b7ad6b7169203331-01']);
    writes('in a shared statement', 'both', 200, patch({ city => 'Delft' }, @trace),
        [{ updated('city')->%*, trace => TRACE }], [event(updated => 'city')]);
    writes('in one of its own', 'alone', 200, patch({ city => 'Gouda' }, @trace),
        [{ updated('city')->%*, trace => TRACE }], [event(updated => 'city')]);
    writes('of the address', 'both', 200, patch({ email => 'new@example.com', phone => '+31 10' }),
        [updated(qw(email phone))], [event(updated => qw(email phone))]);
    writes('of many fields', 'both', 200,
        patch({ address1 => 'a', address2 => 'b', c_sftp_pass => \1, company_name => 'c', country => 'BE', currency => 'EUR', fname => 'd',
            lname => 'e', locale => 'fr', merge_labels => { one => 1 }, state => 'f', zip => 'g', city => 'Gouda', phone => '+31 10' }),
        [updated(qw(address1 address2 c_sftp_pass company_name country currency fname labels lname locale state zip))],
        [event(updated => qw(address1 address2 c_sftp_pass company_name country currency fname labels lname locale state zip))]);
    for my $host (qw(both alone)) {
        writes("$host: null, and what is so already", $host, 200, patch({ zip => undef, city => 'Gouda', merge_labels => { one => 1 } }),
            [updated('zip')], [event(updated => 'zip')]);
        writes("$host: what is so already, alone", $host, 200, patch({ city => 'Gouda' }), [updated()], [event('updated')]);
        writes("$host: labels", $host, 200, patch({ merge_labels => { one => undef } }), [updated('labels')], [event(updated => 'labels')]);
        $server->sql("update users.account set zip = 'h', labels = '{\"one\": 1}' where id = 1");
    }
};

subtest 'who, and from where' => sub {
    writes('API credentials', 'both', 200, [patch({ city => 'Delft' })->@*, token => undef, basic => ['audited', 'password-of-user-1']],
        [{ updated('city')->%*, kind => 'credential', application_id => undef }], [event(updated => 'city')]);
    writes('a token that another module verified', 'external', 200, [patch({ city => 'Gouda' })->@*, token => undef],
        [{ updated('city')->%*, kind => 'client' }], [event(updated => 'city')]);
    writes('an application that registers in the name of a user', 'both', 201,
        post('by-user', {}, token => 'register-token-of-user-1'), [{ created(@GIVEN)->%*, caller_id => 1 }], [event(created => @GIVEN)]);
    for my $client ('192.0.2.7', '2001:db8::7') {
        writes("an address behind a proxy: $client", 'both', 200, patch({ city => "from $client" }, headers => ['X-Client' => $client]),
            [{ updated('city')->%*, address => $client }], [event(updated => 'city')]);
    }
    writes('a variable that is no id of a trace', 'odd', 200, patch({ city => 'Delft' }, headers => ['X-Trace' => 'a"b\\']),
        [updated('city')], [event(updated => 'city')]);
};

subtest 'what stores nothing writes nothing' => sub {
    for my $host (qw(both alone)) {
        writes("$host: nothing to change", $host, 200, patch({}), [], []);
        writes("$host: a stale tag", $host, 412, patch({ city => 'Gouda' }, headers => ['If-Match' => '"stale"']), [], []);
        writes("$host: a fault", $host, 422, patch({ city => 'Gouda', fname => '' }), [], []);
        writes("$host: a code that there is not", $host, 422, patch({ city => 'Gouda', country => 'XX' }), [], []);
        writes("$host: no right", $host, 403, patch({ city => 'Gouda' }, token => READ_TOKEN), [], []);
        writes("$host: a registration with a fault", $host, 422, post('faulty', { lname => '' }), [], []);
        writes("$host: one with a code that there is not", $host, 422, post('faulty', { currency => 'QQQ' }), [], []);
    }
};

subtest 'a registration' => sub {
    for my $host (qw(both alone)) {
        writes("$host: the names that are given", $host, 201, post("$host-1", { email => "$host\@example.com", city => ' ', zip => '1' }),
            [created(sort 'email', 'zip', @GIVEN)], [event(created => sort 'email', 'zip', @GIVEN)]);
        writes("$host: labels and a country", $host, 201, post("$host-2", { merge_labels => { a => 1 }, country => 'NL' }),
            [created(sort 'labels', 'country', @GIVEN)], [event(created => sort 'labels', 'country', @GIVEN)]);
        writes("$host: an address that is taken", $host, 201, post("$host-3", { email => "$host\@example.com" }),
            [created(sort 'email', @GIVEN)], [event(created => sort 'email', @GIVEN)]);
        writes("$host: an external_id", $host, 201, post("$host-4", { external_id => $host }),
            [created(sort 'external_id', @GIVEN)], [event(created => sort 'external_id', @GIVEN)]);
        writes("$host: the same again", $host, 422, post("$host-5", { external_id => $host }), [], []);

        my @key = (headers => ['Idempotency-Key' => "key-$host"]);
        writes("$host: an Idempotency-Key", $host, 201, post("$host-6", {}, @key), [created(@GIVEN)], [event(created => @GIVEN)]);
        writes("$host: its repeat", $host, 201, post("$host-6", {}, @key),
            [{ action => 'credential.replaced', caller_id => undef, fields => [] }], []);
        writes("$host: another payload", $host, 422, post("$host-7", {}, @key), [], []);
    }
    writes('UsersDuplicates conflict', 'conflict', 201, post('pair'), [created(@GIVEN)], [event(created => @GIVEN)]);
    writes('... again', 'conflict', 409, post('pair'), [], []);
};

subtest 'one of them alone' => sub {
    writes('audit', 'audit.only', 200, patch({ city => 'Rome' }), [updated('city')], []);
    writes('audit of a registration', 'audit.only', 201, post('audit-only'), [created(@GIVEN)], []);
    writes('events', 'event.only', 200, patch({ city => 'Oslo' }), [], [event(updated => 'city')]);
    writes('events of a registration', 'event.only', 201, post('event-only'), [], [event(created => @GIVEN)]);
};

subtest 'never a value' => sub {
    my $mark = 'Zanzibar';
    $server->request(PATCH => '/api/users', token => FULL_TOKEN, headers => [Host => 'both'],
        json => { user => { city => $mark, email => lc "$mark\@example.com", merge_labels => { $mark => $mark } } });
    my (undef, %option) = post($mark, { phone => $mark, merge_labels => { $mark => $mark } })->@*;
    $server->request(POST => '/api/users', %option, headers => [Host => 'both']);
    is $server->sql('select count(*) from users.audit'), 2, 'there are rows';
    unlike $server->sql('select audit, event from users.audit, users.event'), qr/\Q$mark\E/i, 'none has a value';
    $server->sql('truncate users.audit, users.event');
};

# Six rows of two accounts, on three days, of an application and of credentials; one has what a terminal would act on.
sub fill () {
    return $server->sql(<<~'SQL');
        truncate users.audit restart identity;
        insert into users.application (name, client_id, secret_digest) values ('panel', 'panel', sha256('panel')) on conflict do nothing;
        insert into users.audit (at, action, user_id, caller_id, application_id, kind, address, trace, fields)
        select day, action, u, case action when 'user.updated' then u end, application.id, case when application.id is null then 'credential'
          else 'token' end, '2001:db8::1', E'a\033[31m', '{city,zip}'
        from (values ('2026-01-01 00:00Z'::timestamptz, 'user.created', 1, 'panel'), ('2026-01-01 23:59Z', 'user.updated', 1, 'panel'),
          ('2026-01-02 00:00Z', 'user.updated', 1, null), ('2026-01-02 12:00Z', 'user.created', 4711, 'panel'),
          ('2026-01-03 00:00Z', 'credential.replaced', 4711, 'panel'), ('2026-01-03 01:00Z', 'user.updated', 4711, null))
          as v (day, action, u, client_id)
        left join users.application using (client_id)
        order by day;
        update users.account set email = 'john@example.com' where id = 1
        SQL
}

subtest 'usersctl audit list' => sub {
    fill();
    for (
        [[],                                      '1 2 3 4 5 6'],
        [['--newest'],                            '6 5 4 3 2 1'],
        [['--user', 'john@example.com'],          '1 2 3'],
        [['--user', '1'],                         '1 2 3'],
        [['--user', '4711'],                      '4 5 6'],                # an account that is gone
        [['--user', '4712'],                      ''],
        [['--application', 'panel'],              '1 2 4 5'],
        [['--action', 'user.created'],            '1 4'],
        [['--action', 'credential.replaced'],     '5'],
        [['--since', '2026-01-02'],               '3 4 5 6'],
        [['--until', '2026-01-02'],               '1 2 3 4'],
        [['--since', '2026-01-02', '--until', '2026-01-02', '--newest'], '4 3'],
        [['--after', '4'],                        '5 6'],
        [['--after', '4', '--newest'],            '3 2 1'],
        [['--user', '1', '--action', 'user.updated', '--application', 'panel'], '2'],
    ) {
        my ($options, $ids) = @$_;
        is join(' ', map { $_->{id} } $usersctl->told(qw(audit list), @$options)->@*), $ids, "@$options";
    }
    my ($status, $output, $error) = $usersctl->run(qw(audit list --limit 2 --after 1));
    is $error, "usersctl: there are more: --after 3 goes on\n", 'where it goes on';
    like $output, qr/\Aid +at +action +user_id +caller_id +client_id +kind +address +trace +fields\n2 .*\n3 .*\n\z/, '... behind a table';
    like $output, qr/^2 .* user\.updated +1 +1 +panel +token +2001:db8::1 +a\\x1b\[31m +city zip *$/m, '... with no character that harms';
    my $row = $usersctl->told(qw(audit list --after 5))->[0];
    like delete $row->{at}, qr/\A2026-01-0[23]T/, 'JSON: the time';
    is_deeply $row, { id => 6, action => 'user.updated', user_id => 4711, caller_id => 4711, client_id => undef, kind => 'credential',
        address => '2001:db8::1', trace => "a\e[31m", fields => 'city zip' }, '... and the rest';
    for (
        [1, qr/there is no user nobody\@example\.com/, qw(--user nobody@example.com)],
        [1, qr/there is no application nobody/,        qw(--application nobody)],
        [2, qr/--action .*user\.created, user\.updated, credential\.replaced/, qw(--action deleted)],
        [2, qr/--since .*a date such as/,             qw(--since yesterday)],
        [2, qr/--until .*a date such as/,             qw(--until 2026-1-1)],
        [2, qr/--since .*a date such as/,             qw(--since 2026-02-30)],
        [2, qr/--after .*the id of a row/,                      qw(--after x)],
    ) {
        my ($expected, $message, @options) = @$_;
        my ($status, $output, $error) = $usersctl->run(qw(audit list), @options);
        is $status, $expected, "@options";
        like $error, $message, '... says why';
        is $output, '', '... and shows nothing';
    }
};

subtest 'usersctl purge' => sub {
    fill();
    $server->sql(q(update users.audit set at = now() - case when id < 4 then interval '366 days' else interval '364 days' end));
    is $usersctl->told('purge')->{audit}, 3, 'what is older than a year goes';
    is $server->sql('select string_agg(id::text, chr(32) order by id) from users.audit'), '4 5 6', '... and nothing else';
    is $usersctl->told(qw(purge --older-than 1s))->{audit}, 0, '--older-than is for what died';
    is $usersctl->told(qw(purge --audit-older-than 30d))->{audit}, 3, '--audit-older-than is for the audit';
    my ($status, undef, $error) = $usersctl->run(qw(purge --audit-older-than 0d));
    is $status, 2, 'a duration that is none';
    like $error, qr/--audit-older-than /, '... is told';
};

subtest 'an account that is removed' => sub {
    my $answer = writes('its registration', 'both', 201, post('leaver'), [created(@GIVEN)], [event(created => @GIVEN)]);
    my $id = $answer->{json}{user}{id};
    $server->sql(<<~"SQL");
        insert into users.audit (action, user_id, caller_id, application_id, kind, address, fields)
        values ('user.created', $id, null, $application, 'token', '192.0.2.7', '{fname}'),
          ('user.created', 1, $id, $application, 'token', '192.0.2.8', '{fname}'),
          ('user.updated', 1, 1, $application, 'token', '192.0.2.9', '{fname}')
        SQL
    is_deeply [map { [$_->@{qw(user_id address)}] } $usersctl->told(qw(user export), $id)->{audit}->@*],
        [[$id, '192.0.2.7'], [1, '192.0.2.8']], 'export tells what the audit has of it: what was done to it, and what it did';
    is $usersctl->told(qw(user remove --yes), $id)->{audit}, 2, 'remove says how many rows that are';
    is_deeply [map { $_->{address} } $usersctl->told(qw(audit list))->@*], [undef, undef, '192.0.2.9'], '... which stay, without the address';
    $server->sql('truncate users.audit');
};

# The functions that take a note, as the database of an earlier version or a contract of one's own lacks them.
subtest 'without the functions' => sub {
    my $others = $server->sql('select city from users.account where id = 1');
    $server->sql(<<~'SQL');
        do $$ declare f regprocedure; begin
          for f in select oid from pg_proc where pronamespace = 'users_api'::regnamespace and proargnames && '{p_note,p_notes}' loop
            execute format('drop function %s', f);
          end loop;
        end $$
        SQL
    for my $host (qw(both alone audit.only event.only)) {
        writes("$host: a change", $host, 500, patch({ city => 'Nowhere' }), [], []);
        writes("$host: a registration", $host, 500, post("lost-$host"), [], []);
    }
    is $server->sql('select city from users.account where id = 1'), $others, 'nothing is changed';
    is $server->sql(q(select count(*) from users.provider_account where provider_username like 'lost-%')), 0, '... nor made';
    $server->expect_log(qr/not prepared for this version of mod_users, and refused update_account_with_note: 42883 function users_api\.update_account\(.*: UsersAudit and UsersEvents need "usersctl database upgrade"$/);
    $server->expect_log(qr/not prepared for this version of mod_users, and refused register_account_with_note: 42883 function users_api\.register_account\(.*: UsersAudit and UsersEvents need "usersctl database upgrade"$/);
    writes('with both off a change is made', 'off', 200, patch({ city => 'Gent' }), [], []);
    writes('... and a registration', 'off', 201, post('off-old'), [], []);

    my $source = $ENV{USERS_SRCDIR} // '.';
    $server->postgres->run_file('users', "$source/sql/$_") for qw(update.sql register.sql role.sql);
    writes('upgraded, each change has its row', 'both', 200, patch({ city => 'Delft' }), [updated('city')], [event(updated => 'city')]);
    $server->allow_log(qr/is prepared now/);
};

# What the two of update_accounts set, and on which conditions, by their texts: they have a copy each.
subtest 'changes with a note are made as those without' => sub {
    my sub text_of ($parameters) {
        return $server->sql(<<~"SQL") =~ s/ --[^\n]*//gr =~ s/\s+/ /gr;
            select prosrc from pg_proc
            where pronamespace = 'users_api'::regnamespace and proname = 'update_accounts' and pronargs = $parameters
            SQL
    }
    my @texts = (text_of(8), text_of(9));
    my ($sets, $conditions) = map { my $part = $_; [map { $_ =~ $part } @texts] }
        qr/ as a set (.*?) from /, qr/(\(c\.fields <> .*?) returning /;
    like $sets->[0], qr/fname = .*, updated_at = /, 'one sets the fields';
    is $sets->[1], $sets->[0], '... and so does the other';
    like $conditions->[0], qr/suspended_at .*c\.if_match /, 'one has conditions';
    is $conditions->[1], $conditions->[0], '... the other the same';
};

done_testing;
