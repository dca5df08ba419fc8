# A token that was issued for API credentials (RFC 6749 section 4.3) ends with them, whoever ends them.

use v5.36;
use Users::Test;
use Users::Test::Session;
use Users::Test::Usersctl;

my $server   = Users::Test->new;
my $usersctl = Users::Test::Usersctl->new($server);
my $session  = Users::Test::Session->new($server);
$server->sql(q(update users.application set scopes = '{public,register,introspect}'));
$server->start(vhost => "UsersPasswordGrant on\n" . OAUTH_ENDPOINTS);

# The panel's role: it may end credentials, and see no token.
$server->sql(<<~'SQL');
    create role panel;
    grant usage on schema users to panel;
    grant select, update, delete on users.credential to panel;
    SQL

sub add_credential ($name, $user = 1) {
    $server->sql("insert into users.credential (user_id, username, secret_digest) values ($user, '$name', sha256('$name'))");
}

sub grant ($name, $secret = $name) {
    return (
        POST => '/api/oauth/token',
        form => [
            client_id  => CLIENT_ID,  client_secret => CLIENT_SECRET,
            grant_type => 'password', username      => $name, password => $secret
        ]);
}

sub token (@grant) {
    my $answer = $server->request(grant(@grant));
    is $answer->{status}, 200, "a token for $grant[0]";
    return $answer->{json}{access_token};
}

sub status_of ($token) {
    my $status = $server->request(GET => '/api/users', token => $token)->{status};
    my $active = $server->request(
        POST => '/api/oauth/introspect',
        form => [client_id => CLIENT_ID, client_secret => CLIENT_SECRET, token => $token])->{json}{active};
    is !!$active, $status == 200, '... introspection says the same';
    return $status;
}

sub waits () {
    return $server->sql(q(select count(*) from pg_stat_activity where wait_event_type = 'Lock'));
}

my %ends = (
    'usersctl credential revoke' => sub ($name) { $usersctl->run(qw(credential revoke), $name) },
    'an update by the panel'     => sub ($name) {
        $server->sql("set role panel; update users.credential set revoked_at = now() where username = '$name'");
    },
    'a deletion by the panel' => sub ($name) {
        $server->sql("set role panel; delete from users.credential where username = '$name'");
    },
    'the end of all credentials' => sub ($name) {
        $server->sql('update users.credential set revoked_at = now() where revoked_at is null');
    },
);

for my $end (sort keys %ends) {
    subtest $end => sub {
        my ($name, $other) = map { "$_ $end" } qw(this other);
        add_credential($name);
        my @tokens = map { token($name) } 1 .. 3;
        is status_of($_), 200, 'it is live' for @tokens;
        add_credential($other);
        my $theirs = token($other);
        $ends{$end}->($name);
        is status_of($_), 401, 'it has ended with its credentials' for @tokens;
        is status_of($theirs), $end =~ /all/ ? 401 : 200, 'that of other credentials is as they are';
        is status_of(READ_TOKEN), 200, 'what was issued for none lives';
        is $server->request(grant($name))->{status}, 400, 'there is no other';
        $server->sql("update users.credential set revoked_at = null where username = '$name'");
        is status_of($tokens[0]), 401, '... and it does not come back with them';
    };
}

subtest 'a repeat of the registration' => sub {
    my $register = sub {
        my $user = { map { $_ => $_ } qw(fname lname provider_server provider_username) };
        my $answer = $server->request(
            POST    => '/api/users', token => REGISTER_TOKEN, json => { user => $user },
            headers => ['Idempotency-Key' => 'repeat']);
        return $answer->{json}{user}{api}->@{qw(username password)};
    };
    my $first = token($register->());
    is status_of($first), 200, 'it is live';
    my $second = token($register->());
    is status_of($first),  401, 'it has ended';
    is status_of($second), 200, '... and that for the new credentials lives';
};

subtest 'credentials that end meanwhile' => sub {
    add_credential('meanwhile');
    $session->sql(q(begin; update users.credential set revoked_at = now() where username = 'meanwhile'));
    my $connection = $server->connect;
    $connection->send(Users::Test::Client::compose(grant('meanwhile')));
    wait_until(sub { waits() == 1 }, 'the grant to wait');
    $session->sql('commit');
    my $answer = $connection->answer;
    is $answer->{status}, 400, 'bring no token';
    is $answer->{json}{error}, 'invalid_grant', '... but an error of RFC 6749';

    add_credential('earlier');
    $session->sql(<<~'SQL');
        begin;
        select users_api.issue_token((select min(id) from users.application), 1, sha256('earlier'), '{profile_read}', null, 'earlier')
        SQL
    my $revoke = $usersctl->start('', qw(credential revoke earlier));
    wait_until(sub { waits() == 1 }, 'the revocation to wait');
    $session->sql('commit');
    is +($usersctl->end($revoke))[0], 0, 'a revocation waits for a token that is being issued';
    is status_of('earlier'), 401, '... and ends it';
};

subtest 'whose credentials' => sub {
    $server->sql(<<~'SQL');
        insert into users.account (id, fname, lname, email, country, currency, locale)
        values (1000, 'Jane', 'Roe', 'jane@example.com', 'NL', 'EUR', 'nl')
        SQL
    add_credential('janes', 1000);
    my $issue = sub ($credential) {
        $server->sql(<<~SQL);
            select users_api.issue_token((select min(id) from users.application), 1, sha256(random()::text::bytea),
              '{profile_read}', null, $credential)
            SQL
    };
    is $issue->("'janes'"),     'f', 'those of another account do not do';
    is $issue->("'nobody''s'"), 'f', '... nor unknown ones';
    is $issue->('null'),        't', 'there need not be any';
    $server->sql('delete from users.account where id = 1000');
    is $server->sql(q(select count(*) from users.credential where username = 'janes')), 0, 'an account is deleted with all';
};

done_testing;
