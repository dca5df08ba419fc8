# A client that sends slowly, or reads slowly, holds no connection to the database.

use v5.36;
use IO::Select;
use JSON::PP qw(encode_json);
use Time::HiRes qw(sleep);
use Users::Test::Fault;

my $server = Users::Test::Fault->new;
$server->start_child(max => 1, timeout => 5, vhost => 'UsersRequestTimeout 2s');

subtest 'a slow body' => sub {
    my $body = '{"user": {"city": "Gouda"}}';
    my @slow = map { $server->connect } 1 .. 5;
    for my $connection (@slow) {
        $connection->send(Users::Test::Client::compose(PATCH => '/api/users',
            token => FULL_TOKEN, body => '', headers => [
                'Content-Type' => 'application/json', 'Content-Length' => length $body,
                'Expect' => '100-continue', 'Connection' => 'close'
            ]));
        is $connection->answer->{status}, 100, 'a client that has the rights may send';
        $connection->send(substr $body, 0, 10);
    }
    my $before = now;
    do {
        is $server->request(GET)->{status}, 200, 'the only connection serves others';
        is $server->request(PATCH)->{status}, 200, '... for changes too';
        sleep 0.3;
    } while now - $before < 2.5;
    $_->send(substr $body, 10) for @slow;
    is_deeply count(map { $_->answer->{status} } @slow), { 200 => 5 },
        'the time that the body takes is not counted by UsersRequestTimeout';
};

# Who was let in sends the rest of the body when that has ended.
subtest 'what ends while the body is on its way' => sub {
    $server->sql(<<~SQL);
        insert into users.account (id, fname, lname, email, country, currency, locale)
        values (9000, 'John', 'Roe', 'john.roe\@example.com', 'NL', 'EUR', 'nl');
        insert into users.application (name, client_id, secret_digest, scopes) values ('gone', 'gone', sha256('s'), '{}');
        insert into users.token (digest, application_id, user_id, scopes)
        select sha256(t.name::bytea), application.id, 9000, '{profile_read,profile_update}'
        from (values ('revoked', '@{[CLIENT_ID]}'), ('expired', '@{[CLIENT_ID]}'), ('of-gone', 'gone'), ('suspended', '@{[CLIENT_ID]}')) as t (name, client_id)
        join users.application using (client_id);
        insert into users.token (digest, application_id, scopes) select sha256('register'), id, '{register}'
        from users.application where client_id = 'gone';
        insert into users.credential (user_id, username, secret_digest) values (9000, 'name', sha256('secret'))
        SQL
    my @cases = (
        ['a token that is revoked', { token => 'revoked' }, 401, "update users.token set revoked_at = now() where digest = sha256('revoked')"],
        ['one that expires', { token => 'expired' }, 401, "update users.token set expires_at = now() where digest = sha256('expired')"],
        ['one whose application is removed', { token => 'of-gone' }, 401, "update users.application set revoked_at = now() where client_id = 'gone'"],
        ['API credentials', { basic => ['name', 'secret'] }, 401, "update users.credential set revoked_at = now() where username = 'name'"],
        ['an account that is suspended', { token => 'suspended' }, 403, 'update users.account set suspended_at = now() where id = 9000'],
        ['a token to register', { token => REGISTER_TOKEN }, 401,
            "update users.token set revoked_at = now() where digest = sha256('@{[REGISTER_TOKEN]}')", POST],
        ['one whose application is removed', { token => 'register' }, 401,
            "update users.application set revoked_at = now() where client_id = 'gone'", POST],
    );
    my $accounts = $server->sql('select count(*) from users.account');
    for my $lanes (1, 0) {
        $server->start_child(vhost => "UsersChangeLanes $lanes", timeout => 5);
        for my $case (@cases) {
            my ($what, $credential, $status, $end, $method, undef, %option) = @$case;
            $server->sql('update users.application set revoked_at = null');
            $method //= 'PATCH';
            my $body = encode_json($option{json} // { user => { city => 'Gouda' } });
            my $connection = $server->connect;
            $connection->send(Users::Test::Client::compose($method, '/api/users', %$credential, body => '', headers => [
                'Content-Type' => 'application/json', 'Content-Length' => length $body, 'Expect' => '100-continue',
            ]));
            is $connection->answer->{status}, 100, "$what: let in";
            $connection->send(substr $body, 0, 5);
            $server->sql($end);
            $connection->send(substr $body, 5);
            my $answer = $connection->answer;
            is $answer->{status}, $status, "... and refused";
            my $again = $server->request($method, '/api/users', %$credential, body => $body,
                headers => ['Content-Type' => 'application/json']);
            is_deeply [@$answer{qw(status body)}, $answer->{headers}{'www-authenticate'}],
                [@$again{qw(status body)}, $again->{headers}{'www-authenticate'}], '... as it is from then on';
        }
        is $server->sql(q(select count(*) from users.account where city = 'Gouda' and id = 9000)), 0, 'nothing is stored';
        is $server->sql('select count(*) from users.account'), $accounts, '... and no account made';
        $server->sql(<<~'SQL');
            update users.token set revoked_at = null, expires_at = null;
            update users.application set revoked_at = null;
            update users.credential set revoked_at = null;
            update users.account set suspended_at = null
            SQL
    }
};

subtest 'a slow reader' => sub {
    $server->start_child(max => 1, acquire => 20, timeout => 20, vhost => 'UsersRequestTimeout 60s');
    $server->sql(<<~'SQL');    # more than the sockets' buffers take
        alter view users_api.account rename to small_account;
        create view users_api.account as select user_id, suspended,
          json_build_object('user', repeat('x', 16000000)) as document
          from users_api.small_account;
        grant select on users_api.account to mod_users
        SQL
    $server->own_contract;
    my @slow = map { $server->begin(GET) } 1 .. 3;
    wait_until(sub { 3 == grep { IO::Select->new($_->{socket})->can_read(0) } @slow },
        'the answers to begin');
    is $server->request(POST)->{status}, 201, 'the only connection serves others' for 1 .. 5;
    is grep({ length $_->rest > 16_000_000 } @slow), 3, 'who reads late gets it all';
};

done_testing;
