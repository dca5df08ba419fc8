# The role that the panel logs in as: it writes usage by one function, and by the catalogs there is nothing
# else that it may do.

use v5.36;
use Users::Test;
use Users::Test::Session;

my $ROLE    = 'mod_users_panel';
my $DONE    = '00000';
my $REFUSED = '42501';
my $OURS    = q(nspname !~ '^pg_' and nspname <> 'information_schema');

my $server = Users::Test->new;
$server->postgres->let_in($ROLE);
$server->sql(<<~'SQL');
    insert into users.account (id, application_id, external_id, fname, lname, email, country, currency, locale)
    select n, 1, 'x' || n, 'Jane', 'Roe', n || '@example.com', 'NL', 'EUR', 'nl' from generate_series(2, 1200) as n;
    insert into users.provider_account select 1, 'cpanel', 'server.example', 'user' || n, n from generate_series(2, 9) as n;
    SQL

# Try statements as the role. Returns the SQLSTATE of each.
sub attempt (@statements) {
    my $postgres = $server->postgres;
    no warnings 'redefine';
    local *Users::Test::Postgres::conninfo = sub ($self, $database) { "host=@{[$self->dir]} dbname=$database user=$ROLE" };
    return $postgres->attempt('users', @statements);
}

sub of ($id) { return $server->sql("select usage, unprocessed_usage from users.account where id = $id") }

sub set ($lines) { return (attempt("select users_panel.set_usage('$lines')"))[0] }

subtest 'it writes usage' => sub {
    is set('{"id": 2, "projects": 3, "unprocessed_usage": 12.3400000000000000000001}'), $DONE, 'of one account';
    is of(2), '{"projects": 3}|12.3400000000000000000001', '... which has it';
    is set('[{"email": "3@EXAMPLE.com", "containers": "4"}, {"external_id": "x4", "projects": 5},
        {"provider_server": "server.example", "provider_username": "user5", "dns_zones": 6}, {"id": 2, "containers": 1}]'), $DONE, 'of several';
    is_deeply [map { of($_) } 2 .. 5], ['{"projects": 3, "containers": 1}|12.3400000000000000000001',
        '{"containers": 4}|0.0', '{"projects": 5}|0.0', '{"dns_zones": 6}|0.0'], '... however they are named';
    is set('[' . join(',', map { qq({"id": $_, "projects": 1}) } 2 .. 1001) . ']'), $DONE, 'of a thousand';
    is $server->sql(q(select count(*) from users.account where usage @> '{"projects": 1}')), 1000, '... which have it';
    is $server->sql(q(select users_panel.set_usage('[{"id": 2, "projects": 1}, {"id": 3, "projects": 2}]'))), 1,
        'it says how many it has changed';
};

subtest 'all or nothing' => sub {
    my $all    = sub { $server->sql('select id, usage, unprocessed_usage from users.account order by id') };
    my $before = $all->();
    my $good   = '{"id": 2, "projects": 7}';
    for (
        qq([$good, {"id": 99999, "projects": 7}]), qq([$good, {"id": 3, "projects": -1}]), qq([$good, {"id": 3, "projects": 1.5}]),
        qq([$good, {"id": 3, "cr": 1}]),           qq([$good, {"id": 3}]),                 qq([$good, 3]),
        qq([$good, $good]),                        '{"projects": 7}',                      'null',
        '[' . join(',', map { qq({"id": $_, "projects": 7}) } 2 .. 1002) . ']',
    ) {
        is set($_), '22023', substr($_, 0, 60) . ' is refused';
    }
    eval { $server->sql(qq(select users_panel.set_usage('[$good, {"id": 3, "projects": -1}]'))) };
    like $@, qr/element 2: projects must be a whole number/, '... by its number';
    my $session = Users::Test::Session->new($server);
    $session->sql('begin; select from users.account where id = 3 for update');
    is set(qq([$good, {"id": 3, "projects": 7}])), '55P03', 'an account that is locked for longer than a second';
    $session->sql('rollback');
    is $all->(), $before, 'nothing is stored';
};

# Rows of a query by a superuser, each as a list.
sub rows ($query) {
    return map { [split /\|/, $_, -1] } split /\n/, $server->sql($query);
}

sub privileges ($kind) {
    return "(select distinct privilege_type from aclexplode(acldefault('$kind', 10))) as known (privilege)";
}

subtest 'it may do nothing else' => sub {
    is_deeply [rows(<<~SQL)], [], 'nothing with a table or view';
        select privilege || ' on ' || nspname || '.' || relname
        from pg_class join pg_namespace as schema on schema.oid = relnamespace, @{[privileges('r')]}
        where $OURS and relkind in ('r', 'v', 'm', 'p', 'f')
          and (has_table_privilege('$ROLE', pg_class.oid, privilege)
            or privilege in ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
              and has_any_column_privilege('$ROLE', pg_class.oid, privilege))
        SQL
    is_deeply [rows(<<~SQL)], [['users_panel.set_usage(jsonb)']], 'execute one function';
        select pg_proc.oid::regprocedure from pg_proc join pg_namespace as schema on schema.oid = pronamespace
        where $OURS and has_function_privilege('$ROLE', pg_proc.oid, 'EXECUTE')
        SQL
    is_deeply [rows(<<~SQL)], [['USAGE on public'], ['USAGE on users_panel']], 'use its schema';
        select privilege || ' on ' || nspname
        from pg_namespace as schema, @{[privileges('n')]}
        where $OURS and has_schema_privilege('$ROLE', schema.oid, privilege) order by 1
        SQL
    is_deeply [rows(<<~SQL)], [['CONNECT']], 'connect';
        select privilege from @{[privileges('d')]}
        where has_database_privilege('$ROLE', current_database(), privilege)
        SQL
    is_deeply [rows(<<~SQL)], [], 'count by no sequence';
        select relname from pg_class join pg_namespace as schema on schema.oid = relnamespace, @{[privileges('s')]}
        where $OURS and relkind = 'S' and has_sequence_privilege('$ROLE', pg_class.oid, privilege)
        SQL
    is_deeply [rows("select classid::regclass, objid from pg_shdepend where refobjid = '$ROLE'::regrole and deptype = 'o'")], [],
        'it owns nothing';
    is_deeply [rows("select roleid::regrole from pg_auth_members where member = '$ROLE'::regrole")], [], '... is no other role';
    is_deeply [rows(<<~SQL)], [[qw(f f f f f)]], '... above all none that may more';
        select rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls from pg_roles where rolname = '$ROLE'
        SQL
    my @statements = (
        'select * from users.account', 'update users.account set usage = default', 'select * from users_api.account',
        q(select users_admin.set_usage('2', '{"projects": 1}')), q(select * from users_admin.user_id('2')),
        q(select users_api.introspect_token(sha256('x'))), 'create table t (i int)', 'create temporary table t (i int)',
        'create schema s', 'select lo_create(0)', 'set role mod_users', 'set role postgres',
        'alter function users_panel.set_usage(jsonb) reset lock_timeout', 'drop function users_panel.set_usage(jsonb)',
    );
    my @states = attempt(@statements);
    is $states[$_], $REFUSED, $statements[$_] for keys @statements;
    is_deeply [attempt(q(set search_path = users_panel, users, public; select set_usage('{"id": 2, "projects": 1}')))], [$DONE],
        'its search_path does not matter';
    is_deeply [rows(<<~SQL)], [], 'nor may the web server\'s role write usage so';
        select 1 where has_schema_privilege('mod_users', 'users_panel', 'USAGE')
          or has_function_privilege('mod_users', 'users_panel.set_usage(jsonb)', 'EXECUTE')
        SQL
};

subtest 'its SQL runs again' => sub {
    my $rights = sub { $server->sql(q(select oid::regprocedure, proacl, proowner from pg_proc where proname = 'set_usage' order by oid::regprocedure::text)) };
    my $before = $rights->();
    $server->postgres->run_file('users', "$ENV{USERS_SRCDIR}/sql/$_.sql") for qw(usage panel);
    is $rights->(), $before, 'the rights are as they were';
};

done_testing;
