# The module's statements find their rows by indexes, however many accounts there are.

use v5.36;
use Users::Test;

my $ROWS = 3000;

my $server = Users::Test->new;

# ---- Many rows -------------------------------------------------------------------------------

$server->sql(<<~SQL);
    insert into users.application (name, client_id, secret_digest)
    select 'panel', 'panel-' || n, sha256('secret') from generate_series(1, $ROWS) as n;
    update users.application set scopes = '{introspect}' where client_id = 'panel-7';

    insert into users.account (id, application_id, external_id, fname, lname, email, country,
      currency, locale)
    select 1000 + n, 1, n, 'John', 'Doe', n || '\@example.com', 'NL', 'EUR', 'nl'
    from generate_series(1, $ROWS) as n;

    insert into users.token (digest, application_id, user_id, scopes)
    select sha256(('token-' || id)::bytea), 1, id, '{profile_read}'
    from users.account where id > 1000;

    insert into users.credential (user_id, username, secret_digest)
    select id, 'name-' || id, sha256('password') from users.account where id > 1000;

    insert into users.credential (user_id, username, secret_hash) values (1001, 'hashed', 'x');

    insert into users.provider_account
      (application_id, provider, provider_server, provider_username, user_id)
    select 1, 'cpanel', 'server.example', 'user' || id, id from users.account where id > 1000;

    insert into users.idempotency (application_id, key, payload_digest, user_id, credential_id)
    select 1, 'key-' || id, sha256('payload'), user_id, id from users.credential;

    analyze;
    SQL

my @tables = split /\n/, $server->sql(<<~'SQL');
    select relname from pg_class
    where relnamespace = 'users'::regnamespace and relkind = 'r' and reltuples >= 3000
    SQL
is_deeply [sort @tables],
    [qw(account application credential idempotency provider_account token)],
    'every table that grows with the accounts has many rows';

# ---- Requests --------------------------------------------------------------------------------

# PostgreSQL logs how it runs each of the module's statements, and those within functions.
$server->sql(<<~'SQL');
    alter role mod_users set session_preload_libraries = 'auto_explain';
    alter role mod_users set auto_explain.log_min_duration = 0;
    alter role mod_users set auto_explain.log_nested_statements = on;
    SQL

my %registration = (
    fname             => 'Jane',
    lname             => 'Roe',
    email             => '1@example.com',    # taken
    provider_server   => 'server.example',
    provider_username => 'user1',
);

sub post ($key, %user) {
    return [
        POST    => '/api/users',
        token   => REGISTER_TOKEN,
        headers => [defined $key ? ('Idempotency-Key' => qq("$key")) : ()],
        json    => { user => { %registration, %user } },
    ];
}

my @get   = ('GET', '/api/users');
my @patch = (PATCH => '/api/users', token => FULL_TOKEN);

# Status, what it is, the request, and the tables that it has to read rows of by an index.
my @requests = (
    [200, 'GET', [@get, token => 'token-1001'], qw(token application account)],
    [200, 'GET with credentials', [@get, basic => ['name-1001', 'password']],
        qw(credential account)],
    [401, 'GET with an unknown token', [@get, token => 'unknown'], qw(token)],
    [401, 'GET with unknown credentials', [@get, basic => ['unknown', 'password']],
        qw(credential)],
    [200, 'PATCH of an address',
        [@patch, json => { user => { email => 'john@example.net' } }],
        qw(token application account)],
    [412, 'PATCH with If-Match',
        [@patch, headers => ['If-Match' => '"0123"'], json => { user => {} }], qw(account)],
    [412, 'PATCH with If-None-Match',
        [@patch, headers => ['If-None-Match' => '*'], json => { user => {} }], qw(account)],
    [422, 'PATCH of an address that is taken',
        [@patch, json => { user => { email => '2@EXAMPLE.COM' } }], qw(account)],
    [200, 'PATCH with credentials',
        [PATCH => '/api/users', basic => ['name-1001', 'password'],
            json => { user => { merge_labels => { a => 1 } } }],
        qw(credential account)],
    [201, 'POST', post(undef), qw(token application account)],
    [201, 'POST with an external_id', post(undef, external_id => 'new'), qw(account)],
    [422, 'POST with an external_id that is taken', post(undef, external_id => '1'),
        qw(account)],
    [201, 'POST with a key', post('one'), qw(idempotency account)],
    [201, 'POST with the same key', post('one'), qw(idempotency credential account)],
    [422, 'POST with the key of another', post('one', fname => 'John'), qw(idempotency)],
    [422, 'POST with a key and a fault', post('two', currency => 'XXZ'), qw(idempotency)],
);

my $dir    = '/api/oauth';
my @client = (client_id => 'panel-7', client_secret => 'secret');

my @oauth = (
    [200, 'client credentials',
        [POST => "$dir/token", form => [@client, grant_type => 'client_credentials']], qw(application)],
    [200, 'the password grant',
        [POST => "$dir/token", form => [@client, grant_type => 'password', username => 'name-1001',
            password => 'password']], qw(application credential account)],
    [200, 'revocation', [POST => "$dir/revoke", form => [@client, token => 'unknown']],
        qw(application token)],
    [200, 'introspection', [POST => "$dir/introspect", form => [@client, token => 'token-1002']],
        qw(application token account)],
);

my $any = join '|', @tables;

sub test_plans ($name, @cases) {
    for my $case (@cases) {
        my ($status, $what, $request, @indexed) = @$case;
        my $before = length $server->postgres->log;
        is $server->request(@$request)->{status}, $status, "$name: $what is $status";
        my $plans = substr $server->postgres->log, $before;
        for my $table (@indexed) {
            like $plans, qr/(?:Index|Index Only|Bitmap Heap) Scan (?:using \w+ )?on $table\b/,
                "... it reads $table by an index";
        }
        is_deeply [$plans =~ /^.*Seq Scan on (?:$any)\b.*/gm], [], '... and no table as a whole';
    }
}

$server->start;
test_plans('by default', @requests);
$server->stop;
$server->start(vhost => 'UsersReadLanes 0');
test_plans('UsersReadLanes 0', grep { $_->[1] =~ /^GET/ } @requests);
$server->stop;
$server->start(vhost => "UsersPasswordGrant on\n" . OAUTH_ENDPOINTS . HEALTH_ENDPOINTS);
test_plans('OAuth', @oauth);
test_plans('health', [200, 'a check', [GET => '/health/ready'], qw(token)]);
for my $user ('id 1001', "external_id\nUsersTokenApplication ${\CLIENT_ID} 1") {
    my ($how, $value) = $user =~ /(.*) (\d+)/s;
    $server->stop;
    $server->start(
        modules  => ['env'],
        vhost    => "UsersTokenSource environment\nUsersTokenApplication panel-7\nUsersTokenUser $how",
        endpoint => "SetEnv OAUTH2_CLAIM_scope profile_read\nSetEnv OAUTH2_CLAIM_sub $value",
    );
    test_plans("UsersTokenUser $how", [200, 'GET', [@get], qw(application account)]);
}

done_testing;
