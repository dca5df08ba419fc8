# A backup by pg_dump, as doc/manual/operate.md says, restored in another PostgreSQL: that serves the API as
# the first did, with all that guards and computes there.

use v5.36;
use Users::Test;
use Users::Test::Postgres;
use Users::Test::Process qw(run);
use Users::Test::Usersctl;

my ($BIN) = sort { ($b =~ m{/(\d+)/bin})[0] <=> ($a =~ m{/(\d+)/bin})[0] } glob '/usr/lib/postgresql/*/bin';

my $server   = Users::Test->start(vhost => OAUTH_ENDPOINTS);
my $dir      = $server->dir;
my $first    = $server->postgres;
my $restored = Users::Test::Postgres->new("$dir/restored");
$restored->create;

# What a program of PostgreSQL's prints, run as superuser of a cluster; input: a file.
sub tool ($postgres, $input, $name, @arguments) {
    my ($status, $output, $error) = run(
        ['/bin/sh', '-c', 'input=$0; exec "$@" <"$input"', $input, "$BIN/$name", '--host', $postgres->dir,
            '--username', 'postgres', @arguments],
        "$dir/tool"
    );
    return ($output, $status, $error);
}

# ---- Before ----------------------------------------------------------------------------------

my $jane = $server->request(POST => '/api/users', token => REGISTER_TOKEN, json => { user => {
    fname => 'Jane', lname => 'Roe', email => 'Jane@example.com', labels => { panel => { n => 1.10 } },
    provider_server => 'server.example', provider_username => 'jane' } });
is $jane->{status}, 201, 'an account is registered';
my @jane = (basic => [$jane->{json}{user}{api}->@{qw(username password)}]);
is $server->request(PATCH => '/api/users', @jane, json => { user => { city => 'Utrecht' } })->{status}, 200, '... changed';
$server->sql(q(update users.account set usage = '{"projects": 3}', unprocessed_usage = 12.3456789012345678 where email = 'Jane@example.com'));
my $before = $server->request(GET => '/api/users', @jane);
is $before->{status}, 200, '... and read';
like $before->{body}, qr/12\.3456789012345678/, 'its usage has all decimals';

my ($roles, $dump) = ("$dir/roles.sql", "$dir/users.dump");
for (['pg_dumpall', '--roles-only', "--file=$roles"], ['pg_dump', '--format=custom', "--file=$dump", 'users']) {
    my (undef, $status, $error) = tool($first, '/dev/null', @$_);
    is $status, 0, "$_->[0] goes well" or diag $error;
}
$server->stop;

# ---- Restoring -------------------------------------------------------------------------------

subtest 'the backup is restored' => sub {
    my ($output, $status, $error) = tool($restored, $roles, 'psql', '--quiet', '--no-psqlrc', '--dbname=postgres');
    is $status, 0, 'the roles';
    like $error, qr/^\S*ERROR:  role "postgres" already exists\n\z/, '... all but the one that is there';
    ($output, $status, $error) = tool($restored, $dump, 'pg_restore', '--create', '--exit-on-error', '--dbname=postgres');
    is $status, 0, 'the database' or diag $error;
    is $error, '', '... without a complaint';
    $restored->sql('users', 'analyze');
};

# pg_dump of newer versions has a random word in two lines.
sub schema ($postgres) {
    my ($schema, $status, $error) = tool($postgres, '/dev/null', 'pg_dump', '--schema-only', '--create', 'users');
    $status == 0 or die $error;
    return [grep { !/^\\(?:un)?restrict / } split /\n/, $schema];
}

sub rows_of ($postgres, $table) {
    return $postgres->sql('users', "select to_jsonb(t) from $table t order by 1");
}

subtest 'what is there' => sub {
    my $schema = schema($first);
    cmp_ok scalar @$schema, '>', 1000, 'the schema is dumped';
    is_deeply schema($restored), $schema, 'tables, generated columns, collations, triggers, functions and rights are the same';
    my $settings = q(select setconfig from pg_db_role_setting where setrole = 'mod_users'::regrole);
    like $first->sql('postgres', $settings), qr/log_parameter_max_length=0/, 'the role has settings';
    is $restored->sql('postgres', $settings), $first->sql('postgres', $settings), '... and has them again';
    my @tables = split /\n/, $first->sql('users',
        q(select oid::regclass from pg_class where relkind = 'r' and relnamespace = 'users'::regnamespace order by 1));
    cmp_ok scalar @tables, '>', 10, 'there are tables';
    is rows_of($restored, $_), rows_of($first, $_), "$_ has the same rows" for @tables;
    is_deeply [$restored->attempt('users', 'create temporary table t ()', 'select count(*) from users.account')],
        ['42501', '42501'], 'the role may make no temporary table and read no table';
    my $usersctl = Users::Test::Usersctl->new($server);
    local $ENV{PGHOST} = $restored->dir;
    my ($status) = $usersctl->run('--sql', "$ENV{USERS_SRCDIR}/sql", 'database', 'status');
    is $status, 0, 'usersctl has nothing to upgrade';
};

# ---- After -----------------------------------------------------------------------------------

$server->start(vhost => OAUTH_ENDPOINTS . qq(UsersDB "@{[$restored->conninfo('users')]}"));

subtest 'the API is served' => sub {
    my $after = $server->request(GET => '/api/users', @jane);
    is $after->{status}, 200, 'GET with API credentials of before';
    is $after->{body}, $before->{body}, '... shows the same';
    is $after->{headers}{etag}, $before->{headers}{etag}, '... with the same entity tag';
    is $server->request(GET => '/api/users', token => READ_TOKEN)->{status}, 200, 'a token of before';
    my $changed = $server->request(PATCH => '/api/users', @jane, headers => ['If-Match' => $after->{headers}{etag}],
        json => { user => { city => 'Delft', merge_labels => { more => { x => 1 } } } });
    is $changed->{status}, 200, 'PATCH';
    is $changed->{json}{user}{city}, 'Delft', '... and the trigger has written the document';
    my $taken = $server->request(PATCH => '/api/users', token => UPDATE_TOKEN, json => { user => { email => 'JANE@EXAMPLE.COM' } });
    is $taken->{status}, 422, 'an address that another has, in other case, is refused';
    my $next = $server->request(POST => '/api/users', token => REGISTER_TOKEN, json => { user => {
        fname => 'Joe', lname => 'Roe', email => 'JANE@example.com', provider_server => 's', provider_username => 'joe' } });
    is $next->{status}, 201, 'POST';
    cmp_ok $next->{json}{user}{id}, '>', $jane->{json}{user}{id}, '... with the next id';
    isnt lc $next->{json}{user}{email}, 'jane@example.com', '... and an address of its own';
    my $token = $server->request(POST => '/api/oauth/token', basic => [CLIENT_ID, CLIENT_SECRET],
        form => [grant_type => 'client_credentials']);
    is $token->{status}, 200, 'an application gets a token';
};

done_testing;
