# The role that the module logs in as: what it may do is a list here, and whatever else there is, by
# the catalogs, it is refused. A new table or function has to get into the list, or stay out.

use v5.36;
use Users::Test;

use constant {
    DONE    => '00000',
    REFUSED => '42501',    # insufficient_privilege
    NEVER   => '55000',    # a view of several tables, which nobody can write to
};

my $server = Users::Test->new;
$server->sql(<<~'SQL');
    insert into users.account (id, fname, lname, email, country, currency, locale)
    values (2, 'Jane', 'Roe', 'jane@example.com', 'NL', 'EUR', 'nl');
    insert into users.credential (user_id, username, secret_digest)
    values (2, 'jane', sha256('secret'));
    insert into users.provider_account
    select id, 'cpanel', 'server.example', 'jane', 2 from users.application;
    insert into users.idempotency
    select id, 'key', sha256('payload'), 2, null from users.application;
    SQL

# The privileges of a kind (pg_catalog.acldefault has the kinds) that this PostgreSQL knows.
sub privileges ($kind) {
    return "(select distinct privilege_type from aclexplode(acldefault('$kind', 10))) as known (privilege)";
}

# Rows of a query by a superuser, each as a list.
sub rows ($query) {
    return map { [split /\|/, $_, -1] } split /\n/, $server->sql($query);
}

my $OURS = q(nspname !~ '^pg_' and nspname <> 'information_schema');

# All that it could have changed: rows and rights.
sub everything {
    my @tables = map { "users.$_->[0]" } rows(<<~SQL);
        select relname from pg_class
        where relnamespace = 'users'::regnamespace and relkind = 'r' order by 1
        SQL
    return join "\n", map { $server->sql($_) }
        (map { "select * from $_ as row order by row" } @tables),
        "select relname, relacl from pg_class join pg_namespace as schema on schema.oid = relnamespace "
        . "where $OURS order by pg_class.oid";
}
my $before = everything();

# Try statements as the module's role; each has to end with its SQLSTATE.
sub attempt (@cases) {
    my @states = $server->postgres->attempt('users', map { $_->[0] } @cases);
    for my $i (keys @cases) {
        my ($statement, $expected) = $cases[$i]->@*;
        is $states[$i], $expected, $statement =~ s/\s+/ /gr;
    }
}

# ---- The list --------------------------------------------------------------------------------

my @relations = qw(users_api.account users_api.application users_api.credential users_api.token);
my @functions = (
    'users_api.entity_tag(json)',
    'users_api.introspect_token(bytea)',
    'users_api.issue_token(bigint,bigint,bytea,text[],timestamp with time zone)',
    'users_api.issue_token(bigint,bigint,bytea,text[],timestamp with time zone,text)',
    'users_api.register_account(bigint,jsonb,jsonb,text,text,text,boolean,text,bytea,text,boolean)',
    'users_api.register_account(bigint,jsonb,jsonb,text,text,text,boolean,text,bytea,text,boolean,bytea,text)',
    'users_api.register_account(bigint,jsonb,jsonb,text,text,text,boolean,text,bytea,text,boolean,bytea,text,jsonb)',
    'users_api.register_accounts(bigint[],jsonb[],jsonb[],text[],text[],text[],text[],bytea[],bytea[],text[])',
    'users_api.register_accounts(bigint[],jsonb[],jsonb[],text[],text[],text[],text[],bytea[],bytea[],text[],jsonb[])',
    'users_api.revoke_token(bigint,bytea)',
    'users_api.update_account(bigint,jsonb,jsonb,text[],boolean,uuid)',
    'users_api.update_account(bigint,jsonb,jsonb,text[],boolean,uuid,bytea,text,text)',
    'users_api.update_account(bigint,jsonb,jsonb,text[],boolean,uuid,bytea,text,text,jsonb)',
    'users_api.update_accounts(bigint[],jsonb[],jsonb[],text[],uuid[],bytea[],text[],text[])',
    'users_api.update_accounts(bigint[],jsonb[],jsonb[],text[],uuid[],bytea[],text[],text[],jsonb[])',
);

subtest 'what it may do is this' => sub {
    is_deeply [rows(<<~SQL)], [map { ["SELECT on $_"] } @relations], 'read four views';
        select privilege || ' on ' || nspname || '.' || relname
        from pg_class join pg_namespace as schema on schema.oid = relnamespace, @{[privileges('r')]}
        where $OURS and relkind in ('r', 'v', 'm', 'p', 'f')
          and (has_table_privilege('mod_users', pg_class.oid, privilege)
            or privilege in ('SELECT', 'INSERT', 'UPDATE', 'REFERENCES')
              and has_any_column_privilege('mod_users', pg_class.oid, privilege))
        order by 1
        SQL
    is_deeply [rows(<<~SQL)], [map { [$_] } @functions], 'execute these functions';
        select nspname || '.' || proname || '(' || array_to_string(array(
          select format_type(type, null) from unnest(proargtypes) with ordinality as a (type, place)
          order by place), ',') || ')'
        from pg_proc join pg_namespace as schema on schema.oid = pronamespace
        where $OURS and has_function_privilege('mod_users', pg_proc.oid, 'EXECUTE')
        order by 1
        SQL
    is_deeply [rows(<<~SQL)], [['USAGE on public'], ['USAGE on users_api']], 'use their schema';
        select privilege || ' on ' || nspname
        from pg_namespace as schema, @{[privileges('n')]}
        where $OURS and has_schema_privilege('mod_users', schema.oid, privilege)
        order by 1
        SQL
    is_deeply [rows(<<~SQL)], [['CONNECT']], 'connect, as everybody may';
        select privilege from @{[privileges('d')]}
        where has_database_privilege('mod_users', current_database(), privilege)
        order by 1
        SQL
    is_deeply [rows(<<~SQL)], [], 'count by no sequence';
        select relname from pg_class join pg_namespace as schema on schema.oid = relnamespace, @{[privileges('s')]}
        where $OURS and relkind = 'S' and has_sequence_privilege('mod_users', pg_class.oid, privilege)
        SQL
    is_deeply [rows(<<~'SQL')], [], 'it owns nothing';
        select classid::regclass, objid from pg_shdepend
        where refobjid = 'mod_users'::regrole and deptype = 'o'
        SQL
    is_deeply [rows(<<~'SQL')], [], '... and is no other role';
        select roleid::regrole from pg_auth_members where member = 'mod_users'::regrole
        SQL
    is_deeply [rows(<<~'SQL')], [[qw(f f f f f)]], '... above all none that may more';
        select rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls
        from pg_roles where rolname = 'mod_users'
        SQL
};

# ---- Everything else -------------------------------------------------------------------------

# Schema, relation, a column that could be set, what a view allows (bits: 4 update, 8 insert,
# 16 delete).
my @all = rows(<<~SQL);
    select nspname, relname, relkind, pg_relation_is_updatable(pg_class.oid, false), (
      select attname from pg_attribute
      where attrelid = pg_class.oid and attnum > 0 and not attisdropped and attgenerated = ''
        and attidentity <> 'a'
      order by not pg_column_is_updatable(attrelid, attnum, false), attname like '%id', attnum limit 1)
    from pg_class join pg_namespace as schema on schema.oid = relnamespace
    where $OURS and relkind in ('r', 'v', 'm', 'p', 'f')
    order by 1, 2
    SQL
my %readable = map { $_ => 1 } @relations;

subtest 'it reads and writes no table' => sub {
    cmp_ok scalar @all, '>=', 15, 'there are tables and views';
    for my $relation (@all) {
        my ($schema, $name, $kind, $updatable, $column) = @$relation;
        my $full = "$schema.$name";
        my $type = $kind eq 'v' ? 'view' : 'table';
        my $may  = sub ($bit) { $updatable & $bit ? REFUSED : NEVER };
        attempt(
            ["select * from $full limit 1", $readable{$full} ? DONE : REFUSED],
            ["select * from $full for update", REFUSED],
            ["insert into $full default values", $may->(8)],
            ["update $full set $column = $column", $may->(4)],
            ["delete from $full", $may->(16)],
            ["do 'begin lock table $full; end'", REFUSED],
            ["grant select on $full to public", $readable{$full} ? DONE : REFUSED],    # in vain
            ["alter $type $full rename to stolen", REFUSED],
            ["comment on $type $full is 'mine'", REFUSED],
            ["drop $type $full", REFUSED],
        );
        attempt(
            ["truncate $full", REFUSED],
            ["copy $full to stdout", REFUSED],
            ["create index on $full ($column)", REFUSED],
            ["reindex table $full", REFUSED],
            ["cluster $full", REFUSED],
            ["create table pg_temp.copy (like $full)", REFUSED],
        ) if $kind eq 'r';
    }
};

subtest 'it reads no column of a table, whatever is in it' => sub {
    my @columns = rows(<<~SQL);
        select nspname || '.' || relname, attname
        from pg_class join pg_namespace as schema on schema.oid = relnamespace
        join pg_attribute on attrelid = pg_class.oid and attnum > 0 and not attisdropped
        where $OURS and relkind in ('r', 'm', 'p', 'f')
        order by 1, 2
        SQL
    ok grep({ $_->[1] =~ /secret|digest/ } @columns), 'there are secrets';
    attempt(map { ["select $_->[1] from $_->[0]", REFUSED] } @columns);
};

subtest 'it counts by no sequence' => sub {
    for (rows(<<~SQL)) {
        select nspname || '.' || relname from pg_class join pg_namespace as schema on schema.oid = relnamespace
        where $OURS and relkind = 'S' order by 1
        SQL
        attempt(
            ["select nextval('$_->[0]')", REFUSED],
            ["select setval('$_->[0]', 1)", REFUSED],
            ["select last_value from $_->[0]", REFUSED],
        );
    }
};

subtest 'it calls no function that is not for it' => sub {
    my %granted = map { $_ => 1 } @functions;
    my @others = grep { !$granted{ $_->[0] } } rows(<<~SQL);
        select nspname || '.' || proname || '(' || types || ')',
          nspname || '.' || proname || '(' || coalesce(nulls, '') || ')'
        from pg_proc join pg_namespace as schema on schema.oid = pronamespace,
          lateral (
            select coalesce(string_agg(format_type(type, null), ',' order by place), '') as types,
              string_agg('null::' || format_type(type, null), ',' order by place) as nulls
            from unnest(proargtypes) with ordinality as a (type, place)
          ) as arguments
        where $OURS
        order by 1
        SQL
    cmp_ok scalar @others, '>', 5, 'there are some';
    attempt(
        (map { ["select $_->[1]", REFUSED] } @others),
        (map { ["alter function $_ security invoker", REFUSED] } map { $_->[0] } @others),
        (map { ["alter function $_ security invoker", REFUSED], ["drop function $_", REFUSED] }
            @functions),
    );
};

subtest 'it changes nobody else by the views' => sub {
    attempt(
        ["update users_api.credential set secret_digest = sha256('mine') where user_id = 2", REFUSED],
        ["update users_api.application set scopes = '{register}'", REFUSED],
        ["insert into users_api.credential (username, user_id) values ('mine', 2)", REFUSED],
        ["delete from users_api.credential where user_id = 2", REFUSED],
    );
};

subtest 'it defines nothing' => sub {
    my @schemas = map { $_->[0] } rows("select nspname from pg_namespace where $OURS");
    my @extensions = map { $_->[0] } rows(<<~'SQL');    # those that need no other one
        select distinct name from pg_available_extension_versions where not installed and requires is null
        SQL
    attempt(
        (map { [qq(create extension "$_"), REFUSED] } @extensions),
        (map {
            ["create table $_.mine (id int)", REFUSED],
            ["create view $_.mine as select 1", REFUSED],
            ["create sequence $_.mine", REFUSED],
            ["create type $_.mine as (id int)", REFUSED],
            ["create function $_.mine() returns int language sql as 'select 1'", REFUSED],
            ["alter schema $_ rename to mine", REFUSED],
            ["drop schema $_ cascade", REFUSED],
        } @schemas),
        ['create schema mine', REFUSED],
        ['create database mine', REFUSED],
        ['create role mine', REFUSED],
        ['create publication mine for all tables', REFUSED],
        ["create event trigger mine on ddl_command_end execute function users.json()", REFUSED],
        ['alter database users rename to mine', REFUSED],
        ["alter database users set search_path = 'mine'", REFUSED],
        ["alter system set log_statement = 'none'", REFUSED],
        ['alter role mod_users superuser', REFUSED],
        ['alter role mod_users createrole', REFUSED],
        ["alter role postgres password 'mine'", REFUSED],
        ['grant postgres to mod_users', REFUSED],
        ['reassign owned by postgres to mod_users', REFUSED],
        ['set role postgres', REFUSED],
        ['set session authorization postgres', REFUSED],
        ['set log_parameter_max_length = -1', REFUSED],
        ["set session_replication_role = 'replica'", REFUSED],
    );
};

subtest 'it sees nothing of the system' => sub {
    attempt(
        (map { ["select * from $_", REFUSED] }
            qw(pg_authid pg_shadow pg_user_mapping pg_statistic pg_largeobject pg_hba_file_rules
            pg_file_settings pg_subscription)),
        (map { ["select $_", REFUSED] } "pg_read_file('postgresql.conf')", "pg_ls_dir('.')",
            "lo_import('/etc/passwd')", 'pg_reload_conf()', 'pg_rotate_logfile()',
            "pg_terminate_backend((select min(pid) from pg_stat_activity where usename = 'postgres'))",
        ),
        ["copy (select 1) to '/tmp/mine'", REFUSED],
        ["copy (select 1) to program 'id'", REFUSED],
    );
};

subtest 'it makes nothing for itself' => sub {
    attempt(
        ['create temp table mine (id int)', REFUSED],
        ['create temp view mine as select 1', REFUSED],
        ['create temp sequence mine', REFUSED],
        ['select 1 as id into temp mine', REFUSED],
        ['create type pg_temp.mine as (id int)', REFUSED],
        ["create function pg_temp.mine() returns int language sql as 'select 1'", REFUSED],
        ['select lo_creat(-1)', REFUSED],
        ['select lo_create(0)', REFUSED],
        ["select lo_from_bytea(0, 'mine')", REFUSED],
    );
    is $server->sql('select count(*) from pg_largeobject_metadata'), 0, 'there is no large object';
};

subtest 'others of the database keep what they had' => sub {
    $server->sql(<<~'SQL');
        create role neighbour login;
        create schema neighbour authorization neighbour;
        grant temporary on database users to public;
        grant execute on function lo_creat(integer), lo_create(oid), lo_from_bytea(oid, bytea) to public
        SQL
    my $source = $ENV{USERS_SRCDIR} // '.';
    my ($status, $error) = $server->postgres->run_as('postgres', 'users', "$source/sql/role.sql");
    is "$status$error", 0, 'role.sql runs again';
    my $may = sub ($role) {
        return $server->sql(<<~SQL);
            select has_database_privilege('$role', 'users', 'TEMPORARY'),
              has_function_privilege('$role', 'lo_create(oid)', 'EXECUTE')
            SQL
    };
    is $may->('neighbour'), 't|t', 'who owns something in it';
    is $may->('mod_users'), 'f|f', '... but not the module';
    $server->sql('drop schema neighbour; drop owned by neighbour; drop role neighbour');
};

# Where an administrator lets everybody make temporary objects, functions that run with their owner's
# rights must not see them.
subtest 'what it makes for itself is not taken for ours' => sub {
    $server->sql('grant temporary on database users to public');
    attempt(map { [$_, DONE] }
        'create temp table account (like users_api.account)',
        'create temp table token (digest bytea)',
        (map { "create function pg_temp.$_ language plpgsql as 'begin raise division_by_zero; end'" }
            'fault(text, text) returns jsonb', 'lower(text) returns text'),
        'set search_path = pg_temp, users, users_api, public',
        "select users_api.revoke_token(1, sha256('nothing'))",
        "select users_api.introspect_token(sha256('nothing'))",
        q(select users_api.update_account(2, '{"email": "john@example.com"}', '{}', null, false)),
    );
    $server->sql('revoke temporary on database users from public');
};

is everything(), $before, 'every row and every right is as it was';

done_testing;
