# usersctl check, as an administrator: each thing that can be wrong with a database is provoked, and it is
# named with its cure; nothing else is.

use v5.36;
use utf8;
use Cwd            qw(abs_path);
use File::Basename qw(dirname);
use JSON::PP       qw();
use Users::Test;
use Users::Test::Usersctl;

my $SOURCE = $ENV{USERS_SRCDIR} // abs_path(dirname(__FILE__) . '/../..');
my @SQL    = ('--sql', "$SOURCE/sql");

my $server   = Users::Test->new;
my $usersctl = Users::Test::Usersctl->new($server);
# autovacuum would mend some of what is provoked
$server->sql("alter system set fsync = on; alter system set autovacuum_naptime = '1h'");
reload();

# Sessions that begin behind it have the new settings.
sub reload () {
    my $before = $server->sql('select pg_conf_load_time()');
    $server->sql('select pg_reload_conf()');
    wait_until(sub { $server->sql('select pg_conf_load_time()') ne $before }, 'the settings to be read');
}

# What it finds: exit status, and by check [level, text, cure] of the worst.
sub check (@arguments) {
    my %RANK = (ok => 0, unseen => 1, warning => 2, error => 3);
    my ($status, $output, $error) = $usersctl->run('--json', 'check', @SQL, @arguments);
    my %found;
    for (JSON::PP->new->decode($output)->@*) {
        my $found = [$_->@{qw(level text cure)}];
        my $other = $found{ $_->{check} };
        $found{ $_->{check} } = $found if !$other || $RANK{ $found->[0] } > $RANK{ $other->[0] };
    }
    return ($status, \%found, $error);
}

# In a copy of the database, or in all of them where $sql is a hash of what does it and undoes it: it has to
# tell of this one thing, in these words, and of the other checks that are named only.
sub tells ($name, $sql, $check, $level, $text, $cure, @besides) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $server->sql($sql->{do}, 'postgres') if ref $sql;
    reload() if ref $sql;
    $server->sql('create database copy template users', 'postgres');
    $server->sql('revoke temporary on database copy from public', 'postgres');    # which is not copied
    $server->sql($sql, 'copy') unless ref $sql;
    my ($status, $found, $error) = check('--db', 'copy');
    is $found->{$check}[0], $level, "$name: $level" or diag explain $found;
    like $found->{$check}[1], $text, '... says what is wrong';
    like $found->{$check}[2], $cure, '... and what to do';
    is $status, $level eq 'error' ? 3 : 1, '... the exit status tells';
    is $error, '', '... and nothing else is said';
    my %besides = map { $_ => 1 } $check, @besides;
    is_deeply [grep { !$besides{$_} && $found->{$_}[0] ne 'ok' } sort keys %$found], [], '... and nothing else is found'
        or diag explain $found;
    $server->sql('drop database copy', 'postgres');
    $server->sql($sql->{undo}, 'postgres') if ref $sql;
    reload() if ref $sql;
}

subtest 'nothing is wrong' => sub {
    my ($status, $found, $error) = check('--db', 'users');
    is $status, 0, 'the exit status is 0';
    is $error, '', 'it has no complaint';
    is_deeply [grep { $found->{$_}[0] ne 'ok' } sort keys %$found], [], 'all is well' or diag explain $found;
    is_deeply [sort keys %$found], [sort qw(clock collation connection connections contract durability encoding events indexes log
        memory migrations pooler primary privileges reference rights role sequences size transport vacuum version wraparound)],
        'it has looked at all of this';
    my ($same, $text) = $usersctl->run('check', @SQL);
    is $same, 0, 'without --db it is the database users';
    like $text, qr/\Ausers\@\S+ as postgres \(--db\)\n  ok       connection   connected as postgres to \S+\n/, 'the text has a heading';
    is scalar(() = $text =~ /^  ok       [a-z]+ +\S.*$/mg), scalar keys %$found, '... and a line of each';
};

subtest 'the contract and the rights' => sub {
    tells('no contract', 'drop schema users_api cascade', 'contract', 'error', qr/^the database copy has no schema users_api$/,
        qr/usersctl database install/);
    tells('a function is missing', 'drop function users_api.revoke_token(bigint, bytea)', 'contract', 'error',
        qr/users_api\.revoke_token\(\) of 2 parameters/, qr/usersctl database upgrade/);
    tells('one of another version', 'alter function users_api.introspect_token rename to old', 'contract', 'error',
        qr/users_api\.introspect_token\(\) of 1 parameters/, qr/usersctl database upgrade/);
    tells('a column is missing', 'alter view users_api.account rename column suspended to gone', 'contract', 'error',
        qr/users_api\.account \(suspended\)/, qr/usersctl database status/);
    tells('changes that can share no statement', 'drop function users_api.update_accounts(bigint[], jsonb[], jsonb[], text[], uuid[], bytea[], text[], text[])', 'contract', 'warning',
        qr/users_api\.update_accounts\(\)/, qr/usersctl database upgrade/);
    tells('a view may not be read', 'revoke select on users_api.token from mod_users', 'rights', 'error',
        qr/the role mod_users lacks: select on users_api\.token$/, qr/sql\/role\.sql/);
    tells('a function may not be executed', 'revoke execute on all functions in schema users_api from mod_users', 'rights', 'error',
        qr/the role mod_users lacks: .*execute on function users_api\.issue_token/, qr/sql\/role\.sql/);
    tells('no role is there', 'revoke usage on schema users_api from mod_users', 'rights', 'warning',
        qr/^no role but superusers/, qr/usersctl database upgrade/);
};

subtest 'too many rights' => sub {
    for (
        ['createdb',  'alter role mod_users createdb createrole', 'alter role mod_users nocreatedb nocreaterole', qr/has createrole, createdb$/],
        ['a member',  'grant pg_read_all_settings to mod_users', 'revoke pg_read_all_settings from mod_users', qr/member of pg_read_all_settings$/],
    ) {
        my ($name, $do, $undo, $text) = @$_;
        tells($name, { do => $do, undo => $undo }, 'role', 'warning', $text, qr/connect as mod_users/);
    }
    tells('owner', 'create table public.x (); alter table public.x owner to mod_users', 'role', 'warning',
        qr/owns 1 objects/, qr/connect as mod_users/, 'privileges');
    tells('a member of mod_users',
        { do => 'create role web login in role mod_users', undo => 'drop role web' },
        'role', 'warning', qr/^the role web .*member of mod_users, whose settings it does not have$/, qr/pg_ident/, 'log');
    for (
        ['a schema',        'grant create on database copy to mod_users',          qr/create schemas/,                   qr/revoke create on database copy from mod_users/],
        ['temporary',       'grant temporary on database copy to public',          qr/make temporary tables/,            qr/revoke temporary on database copy from mod_users, public/],
        ['public',          'grant create on schema public to public',             qr/make objects in the schema public/, qr/revoke create on schema public/],
        ['large objects',   'grant execute on function lo_create(oid) to public',  qr/make large objects/,               qr/role\.sql/],
        ['the tables',      'grant usage on schema users to mod_users',            qr/use the schema users/,             qr/revoke usage on schema users/],
        ['a table',         'grant select on users.account to mod_users',          qr/reach 1 tables, such as users\.account/, qr/revoke all on all tables in schema users/],
        ['a view to write', 'grant delete on users_api.account to mod_users',      qr/such as users_api\.account/,       qr/revoke all/],
    ) {
        my ($name, $sql, $text, $cure) = @$_;
        tells($name, $sql, 'privileges', 'warning', $text, $cure);
    }
};

subtest "PostgreSQL's log" => sub {
    my @logs = (q(alter system set log_statement = 'all'), 'alter system reset log_statement');
    tells('parameters', {
            do   => "$logs[0]; alter role mod_users set log_parameter_max_length = -1",
            undo => "$logs[1]; alter role mod_users set log_parameter_max_length = 0",
        }, 'log', 'warning', qr/mod_users: the parameters of statements \(log_parameter_max_length = -1\)$/,
        qr/alter role mod_users set log_parameter_max_length = 0$/);
    tells('of slow ones', {
            do   => 'alter system set log_min_duration_statement = 100; alter role mod_users reset log_parameter_max_length',
            undo => 'alter system reset log_min_duration_statement; alter role mod_users set log_parameter_max_length = 0',
        }, 'log', 'warning', qr/log_parameter_max_length = -1/, qr/log_parameter_max_length = 0$/);
    tells('of errors', {
            do   => 'alter role mod_users set log_parameter_max_length_on_error = 64',
            undo => 'alter role mod_users set log_parameter_max_length_on_error = 0',
        }, 'log', 'warning', qr/of statements that fail \(log_parameter_max_length_on_error = 64\)$/,
        qr/log_parameter_max_length_on_error = 0$/);
    tells('auto_explain', {
            do   => "load 'auto_explain'; alter role mod_users set session_preload_libraries = auto_explain;
                alter role mod_users set auto_explain.log_min_duration = 0",
            undo => 'alter role mod_users reset session_preload_libraries;
                alter role mod_users reset auto_explain.log_min_duration',
        }, 'log', 'warning', qr/by auto_explain \(auto_explain\.log_min_duration = 0\)$/, qr/set auto_explain\.log_min_duration = -1$/);
    tells('pgaudit', {
            do   => 'alter role mod_users set pgaudit.log = read; alter role mod_users set pgaudit.log_parameter = on',
            undo => 'alter role mod_users reset pgaudit.log; alter role mod_users reset pgaudit.log_parameter',
        }, 'log', 'warning', qr/by pgaudit/, qr/set pgaudit\.log_parameter = off$/);
};

subtest 'what the tables have' => sub {
    tells('a migration', q(delete from users.migration where name in ('002-application-old-secret', '024-credential-ended')),
        'migrations', 'warning', qr/has not had: 002-application-old-secret, 024-credential-ended$/, qr/usersctl database upgrade/);
    tells('functions', q(update users.migration set digest = sha256('old') where name = 'functions'),
        'migrations', 'warning', qr/has not had: functions$/, qr/usersctl database upgrade/);
    tells('a later version', q(insert into users.migration (name) values ('999-future')),
        'migrations', 'warning', qr/of a later version .*: 999-future$/, qr/install the version/);
    tells('reference data', 'truncate users.language, users.script, users.area', 'reference', 'error',
        qr/^new accounts need what is not there: areas, languages, scripts$/, qr/usersctl database upgrade/);
    tells('the plan', 'delete from users.account; delete from users.billing_plan; delete from users.account_group', 'reference', 'error',
        qr/: the billing plan 1, the group 1$/, qr/insert into users\.billing_plan .*insert into users\.account_group|insert into users\.account_group .*insert into users\.billing_plan/);
    tells('an index is gone', 'drop index users.account_email_folded', 'indexes', 'error',
        qr/: account_email_folded is missing$/, qr/create index concurrently/);
    tells('an index is invalid', q(update pg_index set indisvalid = false where indexrelid = 'users.token_user_id'::regclass),
        'indexes', 'error', qr/: token_user_id is invalid$/, qr/reindex index concurrently users\.token_user_id$/);
    tells('a sequence', q(select setval('users.account_id_seq', 8000000000000000000)), 'sequences', 'warning',
        qr/: users\.account_id_seq$/, qr/another type/);
    tells('dead rows', <<~'SQL', 'vacuum', 'warning', qr/users\.change has 15000 dead rows beside 0 live ones \(last vacuum: never\)/, qr/vacuum users\.change$/);
        alter table users.change set (autovacuum_enabled = off);
        insert into users.change select 1, gen_random_uuid() from generate_series(1, 15000);
        delete from users.change;
        select pg_stat_force_next_flush()
        SQL
    tells('many accounts', q(update pg_class set reltuples = 1000000 where oid = 'users.account'::regclass), 'memory', 'warning',
        qr/^about 1000000 accounts .* take some 1240 MB, and shared_buffers are 128 MB$/, qr/set shared_buffers = '1239MB'/);
};

# The check has all indexes in its list, and the module's statements name nothing else of the contract.
subtest 'its lists are whole' => sub {
    my @indexes = split /\n/, $server->sql(<<~'SQL');
        select relname from pg_index join pg_class on pg_class.oid = indexrelid
        where relnamespace = 'users'::regnamespace order by relname collate "C"
        SQL
    $server->sql('create database copy template users', 'postgres');
    $server->sql(join(';', map { "alter index users.$_ rename to x$_" } @indexes), 'copy');
    my (undef, $found) = check('--db', 'copy');
    is_deeply [$found->{indexes}[1] =~ /(\w+) is missing/g], \@indexes, 'the indexes';
    is $found->{indexes}[2], 'usersctl database upgrade, if migrations are pending, '
        . 'else make what is missing as in sql/tables.sql, by create index concurrently', '... with one cure of all';
    $server->sql('drop schema users_api cascade; create schema users_api; grant usage on schema users_api to mod_users', 'copy');
    (undef, $found) = check('--db', 'copy');
    my ($status, $output) = $usersctl->run('--json', 'check', '--db', 'copy', @SQL);
    my %missing = map { $_ => 1 } $output =~ /users_api\.(\w+)/g;
    my %named;
    for my $file (glob "$SOURCE/mod_users/db/*.c") {
        open my $in, '<', $file or die "$file: $!\n";
        $named{$_}++ for map { /users_api\.([a-z]\w*)/g } grep { /"/ } <$in>;
    }
    is_deeply [sort keys %missing], [sort keys %named], 'the views and functions';
    $server->sql('drop database copy', 'postgres');
};

subtest 'the server' => sub {
    tells('a commit that is not waited for',
        { do => 'alter system set synchronous_commit = off', undo => 'alter system reset synchronous_commit' },
        'durability', 'warning', qr/: synchronous_commit = off$/, qr/set it to on/);
    tells('fsync', { do => 'alter system set fsync = off', undo => 'alter system set fsync = on' },
        'durability', 'warning', qr/: fsync = off$/, qr/set it to on/);
    tells('autovacuum', { do => 'alter system set autovacuum = off', undo => 'alter system reset autovacuum' },
        'vacuum', 'warning', qr/^autovacuum is off$/, qr/autovacuum = on/);
    tells('read only', 'alter database copy set default_transaction_read_only = on', 'primary', 'error',
        qr/default_transaction_read_only/, qr/set it to off/);
    tells('transaction ids', <<~'SQL', 'wraparound', 'error', qr/is 19000000\d\d ago/, qr/vacuum \(freeze\)/);
        update pg_database set datfrozenxid = (((pg_current_xact_id()::text::bigint - 1900000000) & 4294967295)::text)::xid
        where datname = 'copy'
        SQL
    tells('a collation of a column', <<~'SQL', 'collation', 'warning', qr/the collation "?de-x-icu"? \(0, now /, qr/^reindex database copy; alter collation .*refresh version$/);
        create table public.x (x text collate "de-x-icu");
        update pg_collation set collversion = '0' where collname = 'de-x-icu'
        SQL
    tells('the clock', <<~'SQL', 'clock', 'warning', qr/^the server's clock is 3(?:599|600) s ahead of this host's$/, qr/NTP/);
        create or replace function pg_catalog.clock_timestamp() returns timestamptz language sql volatile as
          'select now() + interval ''1 hour'''
        SQL
};

subtest 'other databases' => sub {
    $server->sql("create database latin template template0 encoding LATIN1 locale 'C'", 'postgres');
    my ($status, $found) = check('--db', 'latin');
    is $status, 3, 'another encoding';
    is_deeply [$found->{encoding}->@[0, 1]], ['error', 'the database is encoded in LATIN1'], '... is told';
    like $found->{encoding}[2], qr/--encoding=UTF8/, '... and what to do';

    $server->sql("create database icu template template0 locale_provider icu icu_locale 'de' encoding UTF8", 'postgres');
    $server->sql("update pg_database set datcollversion = '0' where datname = 'icu'", 'postgres');
    (undef, $found) = check('--db', 'icu');
    is $found->{collation}[0], 'warning', 'a collation of the database that has changed';
    like $found->{collation}[1], qr/the database \(0, now /, '... is told';
    like $found->{collation}[2], qr/^reindex database icu; alter database icu refresh collation version$/, '... and what to do';

    $server->install('own');
    $server->sql('drop schema users_admin cascade; drop function users_api.register_accounts(bigint[], jsonb[], jsonb[], text[], text[], text[], text[], bytea[], bytea[], text[])', 'own');
    $server->sql('alter schema users rename to mine', 'own');
    ($status, $found) = check('--db', 'own');
    is $status, 1, 'a contract over tables of ones own';
    is_deeply [grep { $found->{$_}[0] ne 'ok' } sort keys %$found], ['contract'], '... is no fault' or diag explain $found;
    ok !$found->{$_}, "... and nobody asks for $_" for qw(indexes migrations reference);

    ($status, $found) = check('--db', 'nowhere');
    is $status, 3, 'a database that is not there';
    like $found->{connection}[1], qr/database "nowhere" does not exist/, '... is told';
    like $found->{connection}[2], qr/usersctl database install/, '... and what to do';
    ($status, $found) = check('--db', 'host=/nonexistent');
    is $status, 3, 'a server that is not there';
    like $found->{connection}[1], qr/no connection: .*nonexistent/, '... is told';
    like $found->{connection}[2], qr/the server runs/, '... and what to do';
    ($status, $found) = check('--db', 'dbname=users user=nobody');
    is $status, 3, 'a role that is not let in';
    like $found->{connection}[2], qr/usersctl runs as the user "\w+" and asked for the role "nobody"/, '... is told';
};

subtest 'the command line' => sub {
    for (
        [qr/must not hold a password/, '--db', 'password=hush'],
        [qr/COUNT "0" must be/,        '--hosts', 0],
        [qr/--settings .*No such file/, '--settings', '/nonexistent'],
        [qr/users is too much/,        'users'],
    ) {
        my ($message, @arguments) = @$_;
        my ($status, $output, $error) = $usersctl->run('check', @arguments);
        is $status, 2, "check @arguments";
        is $output, '', '... tells nothing';
        like $error, qr/\Ausersctl: [^\n]*$message[^\n]*\n\z/, '... but why';
    }
    my ($status, $output, $error) = $usersctl->run('--json', 'check', '--db', 'users', '--sql', '/nonexistent');
    is $status, 0, 'without the SQL of this version it checks the rest';
    like $output, qr/"check":"migrations","level":"unseen"/, '... and says what it could not see';
    like $error, qr/\Ausersctl: .*nonexistent.*\n\z/, '... and why';
};

done_testing;
