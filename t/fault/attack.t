# A client does what it likes, on sixteen connections, as fast as it can: nobody else is refused, and it
# is answered as it should be. The attack suite is this and what SECURITY.md names beside each threat.

use v5.36;
use Users::Test::Fault;
use Users::Test::Session;

plan skip_all => 'a child of prefork serves one request at a time' if ($ENV{USERS_TEST_MPM} // '') eq 'prefork';

use constant {
    CLIENTS => 16,
    TURNS   => 10,    # of everybody else, during each attack
};

my $server  = Users::Test::Fault->new;
my $session = Users::Test::Session->new($server);
$server->sql(<<~'SQL');
    insert into users.account (id, fname, lname, email, country, currency, locale)
    select n, 'John', 'Number ' || n, n || '@example.com', 'NL', 'EUR', 'nl' from generate_series(9000000, 9000039) as n;
    insert into users.token (digest, application_id, user_id, scopes)
    select sha256(('token-' || n)::bytea), (select min(id) from users.application), n, '{profile_read,profile_update}'
    from generate_series(9000000, 9000039) as n;
    insert into users.credential (user_id, username, secret_digest, secret_hash) values
      (9000020, 'generated-name-of-john-0', sha256('right'), null),
      (9000020, 'hashed', null, '$2y$05$abcdefghijklmnopqrstuuGW0Hyo9Kutwab1irCpEelJozXqOfxUe');
    insert into users.application (name, client_id, secret_digest, scopes) values ('greedy', 'greedy', sha256('s'), '{public}');
    SQL

# Waiting is not what is tested: who has to wait for the attack's end is refused much later than that.
$server->start_child(
    max => 4, acquire => 20, timeout => 20, threads => 32,
    modules => ['remoteip'],
    conf    => "RemoteIPHeader X-Client\nRemoteIPInternalProxy 127.0.0.1\nMaxKeepAliveRequests 0",
    vhost   => "UsersRequestTimeout 40s\nUsersCredentialCache 0\nUsersTokenRate 30\n" . OAUTH_ENDPOINTS);
$server->allow_trouble(qw(busy hashes late limit lockout));

my $turn = 0;

# Everybody else: what they ask for, and what they are told.
sub others () {
    my @requests = (
        [GET => '/api/users', token => 'token-' . (9000020 + $turn % 20)],
        [PATCH => '/api/users', token => 'token-' . (9000020 + ++$turn % 20), json => { user => { city => "City $turn" } }],
        [PATCH => '/api/users', token => 'token-9000021', json => { user => { email => "new$turn\@example.com" } }],
        [POST],
        [GET => '/api/users', basic => ['generated-name-of-john-0', 'right']],
        [GET => '/api/users', basic => ['hashed', 'canary-of-a-hashed-password']],
        [POST => '/api/oauth/token', form => [client_id => CLIENT_ID, client_secret => CLIENT_SECRET, grant_type => 'client_credentials']],
    );
    for (@requests) {
        my ($method, $path, %option) = @$_;
        $option{headers} = ['X-Client' => '192.0.2.1', ($option{headers} // [])->@*];
        $_ = [$method, $path, %option];
    }
    return map { $_->{status} } $server->parallel(@requests);
}

my $OTHERS = { 200 => 6 * TURNS, 201 => TURNS };

# name: of the attack; answers: what the attacker may be told, how often at most where that is a number, and
# at least once where it is "some"; client: the requests of one of its clients, by number.
sub test_attack ($name, $answers, $client) {
    subtest $name => sub {
        my @loads = map { $server->load(1, $client->($_)) } 1 .. CLIENTS;
        my @others = map { others() } 1 .. TURNS;
        $session->sql('rollback');
        my @attack = grep { $_->{end} eq 'answered' } map { $server->end_load($_) } @loads;
        is_deeply count(@others), $OTHERS, 'nobody else is refused';
        my $count = count(map { $_->{status} } @attack);
        is_deeply [grep { !exists $answers->{$_} } sort keys %$count], [], 'the attacker is answered as it should be';
        for my $status (grep { defined $answers->{$_} } sort keys %$answers) {
            my ($is, $may) = ($count->{$status} // 0, $answers->{$status});
            $may eq 'some' ? cmp_ok($is, '>', 0, "... some by $status") : cmp_ok($is, '<=', $may, "... at most $may by $status");
        }
        note join ', ', map { "$_: $count->{$_}" } sort keys %$count;
    };
}

sub change ($account, $body, @headers) {
    return [PATCH => '/api/users', token => "token-$account", body => $body,
        headers => ['Content-Type' => 'application/json', @headers]];
}

sub names ($client, $form, $count = 200) {
    return map { [GET => '/api/users', basic => [sprintf($form, $client, $_), 'wrong']] } 1 .. $count;
}

# ---- With a token or credentials of one's own -------------------------------------------------

$session->sql('begin; select from users.account where id = 9000000 for update');
test_attack('changes of an account that something has locked', { 200 => undef, 503 => 'some' },
    sub ($n) { [GET => '/api/users', token => 'token-9000000'], change(9000000, '{"user": {"city": "Gouda"}}') });

my $labels = sub ($text) { qq({"user": {"country": "XX", "merge_labels": {"n": $text}}}) };
my %bodies = (
    'numbers'              => [422, $labels->('[' . '1e300,' x 10_000 . '1]')],
    'digits'               => [422, $labels->('0.' . '1' x 16_000)],
    'numbers for integers' => [400, $labels->('[' . '99999999999999999999,' x 3_000 . '1]')],
    'keys'                 => [422, $labels->('{' . join(',', map { qq("k$_": $_) } 1 .. 4000) . '}')],
    'depth'                => [400, $labels->('[' x 30_000 . ']' x 30_000)],
    'escapes'              => [422, $labels->('"' . '\u00e9' x 10_000 . '"')],
    'faults'               => [422, '{"user": {' . join(', ', map { qq("$_": []) }
        qw(fname lname email phone address1 address2 city state zip company_name country currency locale)) . '}}'],
    'more than is taken'   => [413, 'x' x 70_000],
);
for my $what (sort keys %bodies) {
    my ($status, $body) = $bodies{$what}->@*;
    test_attack("bodies full of $what", { $status => undef }, sub ($n) { change(9000001, $body) });
}

my $tags = join ', ', map { qq("$_") } 1 .. 900;
test_attack('entity tags', { 412 => undef }, sub ($n) { change(9000002, '{"user": {"city": "Gouda"}}', 'If-Match' => $tags) });

test_attack('addresses of others', { 422 => 20, 429 => 'some' },
    sub ($n) { map { change(9000003, qq({"user": {"country": "XX", "email": "$_\@example.com"}})) } 9000020, 9000022 .. 9000039 });

test_attack('tokens', { 200 => undef, 429 => 'some' },
    sub ($n) { [POST => '/api/oauth/token', form => [client_id => 'greedy', client_secret => 's', grant_type => 'client_credentials']] });

test_attack('registrations', { 201 => undef }, sub ($n) { [POST] });

# ---- With nothing ----------------------------------------------------------------------------

test_attack('tokens that there are not', { 401 => undef },
    sub ($n) { [GET => '/api/users', token => SERIAL], [POST => '/api/users', token => SERIAL, json => {}] });

test_attack('passwords that have to be hashed', { 401 => undef, 503 => undef }, sub ($n) { names($n, 'name-%d-%d') });

test_attack('passwords of one name', { 401 => 10, 429 => 'some', 503 => undef }, sub ($n) { names($n, 'hashed') });

# So many that a name comes a few times at most: names share the places where wrong secrets are counted.
test_attack('generated secrets', { 401 => undef }, sub ($n) { names($n, 'generated-name-%04d-%04d', 1000) });

test_attack('secrets of an application', { 401 => 10, 429 => 'some' },
    sub ($n) { [POST => '/api/oauth/token', form => [client_id => CLIENT_ID, client_secret => 'wrong', grant_type => 'client_credentials']] });

done_testing;
