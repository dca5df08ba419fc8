# usersctl database: an installation, and an upgrade of 0.1.0's database under load. No request
# fails and none waits for it, though somebody reads all of it for ten seconds.

use v5.36;
use Cwd            qw(abs_path);
use File::Basename qw(dirname);
use Users::Test::Fault;
use Users::Test::Process qw(run slurp);
use Users::Test::Session;
use Users::Test::Usersctl;

# Of the release before, for who calls it while the functions are replaced.
use constant KEPT => ('users.insert_account(users.account,text,text)', 'users.new_account(bigint,jsonb,jsonb,text,text)');

use constant {
    ACCOUNTS => $ENV{USERS_TEST_VALGRIND} ? 1_000 : 100_000,
    READER   => 10,     # seconds
};

my $SOURCE = $ENV{USERS_SRCDIR} // abs_path(dirname(__FILE__) . '/../..');
my $HERE   = "$SOURCE/t/fault/upgrade";

my $server   = Users::Test::Fault->new(databases => ['fresh']);
my $usersctl = Users::Test::Usersctl->new($server);
my $sql      = $server->dir . '/sql';    # this version's, and migrations of the tests'

run([qw(cp -r), "$SOURCE/sql", $sql], $server->dir . '/cp');

sub database ($name, $action, @options) {
    return $usersctl->run('--db', $name, '--sql', $sql, 'database', $action, @options);
}

sub append ($path, $text) {
    open my $file, '>>', $path or die "$path: $!\n";
    print $file $text;
    close $file;
}

# The lines of "database status": name => state.
sub states ($name) {
    my ($status, $output) = database($name, 'status');
    my (undef, @lines) = split /\n/, $output;
    return { map { my ($script, $state) = split; ($script => $state) } @lines };
}

sub make_old ($name, $accounts, $options = '') {
    $server->sql("create database $name $options", 'postgres');
    $server->postgres->run_file($name, "$HERE/0.1.0.sql");
    $server->fill($name);
    $server->sql(<<~SQL, $name);
        insert into users.account (id, fname, lname, email, country, currency, locale)
        select id, 'Jane', 'Roe', 'jane' || id || '\@example.com', 'NL', 'EUR', 'nl'
        from generate_series(2, $accounts) as id;
        select setval('users.account_id_seq', $accounts);
        analyze;
        SQL
}

# What there is in our schemas: each thing's definition, without what depends on the order in which
# it came to be.
sub catalog ($name) {
    return [split /\n/, $server->sql(<<~'SQL', $name)];
        with ours as (select oid, nspname from pg_namespace where nspname ~ '^users')
        select format('column %s.%s', relname, attname), concat_ws(' ', format_type(atttypid, atttypmod), attnotnull,
          nullif(attcollation, 0)::regcollation, attgenerated, attidentity, pg_get_expr(adbin, adrelid), col_description(attrelid, attnum))
        from ours join pg_class on relnamespace = ours.oid join pg_attribute on attrelid = pg_class.oid
        left join pg_attrdef on adrelid = attrelid and adnum = attnum
        where attnum > 0 and not attisdropped
        union all select format('%s.%s', nspname, relname), concat_ws(' ', relkind, relowner::regrole, relreplident,
          obj_description(pg_class.oid), case relkind when 'v' then translate(pg_get_viewdef(pg_class.oid), e'\n', ' ')
          when 'i' then pg_get_indexdef(pg_class.oid) end, array(select acl::text from unnest(relacl) acl order by 1))
        from ours join pg_class on relnamespace = ours.oid
        union all select format('constraint %s of %s', conname, conrelid::regclass),
          concat_ws(' ', convalidated, pg_get_constraintdef(pg_constraint.oid))
        from ours join pg_constraint on connamespace = ours.oid
        union all select pg_proc.oid::regprocedure::text, concat_ws(' ', proowner::regrole,
          obj_description(pg_proc.oid), translate(pg_get_functiondef(pg_proc.oid), e'\n', ' '),
          array(select acl::text from unnest(proacl) acl order by 1))
        from ours join pg_proc on pronamespace = ours.oid
        order by 1, 2
        SQL
}

sub reference ($name) {
    return $server->sql(<<~'SQL', $name);
        select 'country', code from users.country union all select 'currency', code from users.currency
        union all select 'language', code from users.language
        union all select 'script', code from users.script union all select 'area', code from users.area
        union all select 'migration', name from users.migration order by 1, 2
        SQL
}

subtest 'an installation' => sub {
    $server->sql('create database installed', 'postgres');
    my ($status, $output, $error) = database('installed', 'status');
    is $status, 1, 'status of an empty database';
    like $error, qr/\Qno tables of mod_users: usersctl database install/, '... names the command';
    ($status, undef, $error) = database('installed', 'upgrade');
    is $status, 1, 'nor is there anything to upgrade';
    like $error, qr/\Qusersctl database install/, '... which names it, too';

    ($status, $output, $error) = database('installed', 'install');
    is $status, 0, 'install' or diag $error;
    is $error, '', '... has nothing to complain of';
    is_deeply catalog('installed'), catalog('fresh'), 'it makes what sql/install.sql makes';
    is reference('installed'), reference('fresh'), '... with the same rows';
    is_deeply [grep { $_ ne 'applied' } values states('installed')->%*], [], 'all is applied';

    ($status, undef, $error) = database('installed', 'install');
    is $status, 1, 'a second time';
    like $error, qr/\Qusersctl database upgrade/, '... names the command that upgrades';

    $server->sql('create database by_psql', 'postgres');
    my $psql = sub { eval { $server->postgres->run_file('by_psql', "$sql/install.sql") } };
    $psql->();
    $psql->();
    like $@, qr/usersctl --db by_psql database upgrade/, 'sql/install.sql names it, too';

    $server->sql("create database latin encoding latin1 locale 'C' template template0", 'postgres');
    ($status, undef, $error) = database('latin', 'install');
    is $status, 1, 'a database in another encoding';
    like $error, qr/UTF-8, not LATIN1: createdb --encoding=UTF8/, '... and the cure';

    ($status, undef, $error) = $usersctl->run(qw(--db installed --sql /nowhere database status));
    is $status, 3, 'no SQL';
    like $error, qr{cannot read /nowhere/migrations: .*--sql DIR}, '... names the directory';
};

subtest 'the SQL names its migrations' => sub {
    my @files = map { m{([^/]+)\.sql$} } glob "$SOURCE/sql/migrations/*.sql";
    my @listed = grep { $_ ne 'functions' } split /\n/, $server->sql('select name from users.migration order by name');
    is_deeply \@listed, \@files, 'tables.sql has those that there are';
};

subtest 'an upgrade under load' => sub {
    make_old('old', ACCOUNTS);
    # The module of that version is not here: this one's calls reach its functions.
    $server->sql(slurp("$HERE/calls.sql"), 'old');
    run([qw(cp), (glob "$HERE/9*.sql"), "$sql/migrations"], $server->dir . '/cp');
    append($_, slurp("$HERE/write_document.sql")) for "$sql/document.sql", "$sql/migrations/901-nickname.sql";
    my @pending = grep { $_ ne 'applied' } values states('old')->%*;
    is_deeply [grep { $_ ne "pending" } @pending], [], 'status: everything is pending';
    is +(database('old', 'status'))[0], 1, '... by its exit status, too';
    # what a broken run of "create index concurrently" leaves
    $server->sql(<<~'SQL', 'old');
        alter table users.account add column nickname text;
        create index account_nickname on users.account (nickname);
        update pg_index set indisvalid = false where indexrelid = 'users.account_nickname'::regclass;
        alter table users.account drop column nickname;
        SQL

    $server->start_child(
        conninfo => $server->conninfo('old'),
        max      => 4,
        acquire  => 3,
        timeout  => 3,
        vhost    => "UsersTokenRate 0\n" . OAUTH_ENDPOINTS,
    );
    my @ask = (POST => '/api/oauth/token', basic => [CLIENT_ID, CLIENT_SECRET],
        form => [grant_type => 'client_credentials']);
    my $load = $server->load(4, [GET], [PATCH], [GET], [POST], [@ask]);
    my $reader = Users::Test::Session->new($server, 'old');
    $reader->sql('begin');
    $reader->sql('select count(*) from users.account, users.application');
    $reader->sql("select count(*) from users_api.$_") for qw(account application token credential);
    my $upgrade = $usersctl->start('', '--db', 'old', '--sql', $sql, qw(database upgrade));
    $reader->sql("select pg_sleep(@{[READER]})");
    my $busy = states('old');
    is $busy->{functions}, 'pending', 'it waits for whoever reads';
    $reader->sql('commit');

    # a busy machine may need more than one DEADLINE for so many accounts
    for (1 .. 4) {
        last if eval {
            wait_until(sub { $server->sql("select to_regclass('users.account_nickname')", 'old') }, 'the index');
        };
    }
    my ($status, $output, $error) = $usersctl->end($upgrade);
    is $status, 0, 'upgrade' or diag $error;
    like $error, qr/waits for a lock held by process \d+ \(psql of postgres\)/, '... says who is in the way';
    my @answers = $server->end_load($load);
    my %statuses = count(map { $_->{status} } @answers)->%*;
    is_deeply [sort keys %statuses], [200, 201], 'no request fails'
        or diag explain \%statuses;
    my ($slowest) = sort { $b <=> $a } map { $_->{seconds} } @answers;
    note sprintf '%d answers, the slowest after %.2f s', scalar @answers, $slowest;

    is_deeply [grep { $_ ne 'applied' } values states('old')->%*], [], 'status: all is applied';
    is $server->sql('select indisvalid from pg_index where indexrelid = ' . "'users.account_nickname'::regclass", 'old'),
        't', 'the index that was invalid is made anew';
    is $server->sql(q(select count(*) from users.account where document_middle not like ',"nickname":null%'), 'old'),
        0, 'every document has the new member';
    $server->own_contract;
    is $server->request(GET)->{json}{user}{nickname} // 'null', 'null', 'and GET shows it';
    ok exists $server->request(GET)->{json}{user}{nickname}, '... as null';

    ($status, $output, $error) = database('old', 'upgrade');
    is $status, 0, 'again' or diag $error;
    is $error, '', '... nothing is to be done';
    $server->stop;
};

# 017 rewrites users.currency. What has its snapshot before that, and reads the table after it, finds it empty.
subtest 'a registration that waits for the rewrite of a table' => sub {
    make_old('rewritten', 10);
    $server->postgres->run_file('rewritten', $_) for glob "$SOURCE/sql/migrations/01[12]-*.sql";
    my ($migration, $module) = map { Users::Test::Session->new($server, 'rewritten') } 1, 2;
    my $number   = 0;
    my $register = sub (%named) {
        my $fields = join ', ', map { qq("$_": "$named{$_}") } sort keys %named;
        $number++;
        return <<~SQL;
            select outcome, faults from users_api.register_account(1, '{"fname": "Jane", "lname": "Roe", "provider": "cpanel",
              "provider_server": "s", "provider_username": "user$number"@{[$fields && ", $fields"]}}', '{"user": {}}', 'USD', 'en',
              'users.example', false, 'name$number', sha256('secret'), null, true)
            SQL
    };
    is $module->sql($register->()), 'created|[]', 'a session that has its plans';
    for my $case ([[], 'created|[]'], [[currency => 'EUR'], 'created|[]'],
        [[currency => 'XXX'], 'invalid|[{"text": "is not a known currency", "field": "currency"}]'])
    {
        my ($named, $outcome) = @$case;
        $migration->sql('begin; lock table users.currency in access exclusive mode');
        $module->send($register->(@$named));
        wait_until(sub { $server->sql("select count(*) from pg_stat_activity where wait_event_type = 'Lock'") }, 'it to wait');
        $migration->sql(<<~'SQL');
            alter table users.currency add column stamp uuid default gen_random_uuid();
            alter table users.currency drop column stamp;
            commit
            SQL
        is $module->rows, $outcome, join " ", "... and names", @$named ? @$named : "nothing";
    }
    $_->end for $migration, $module;
};

subtest 'an upgraded database is like a new one' => sub {
    run([qw(rm -r), $sql], $server->dir . '/rm');
    run([qw(cp -r), "$SOURCE/sql", $sql], $server->dir . '/cp');
    make_old('plain', 10);
    $server->sql("insert into users.token (digest, application_id, scopes)
        select sha256('old'), 1, string_to_array(repeat('register public ', 3000), ' ')", 'plain');
    # of a provider's user: the first account, two later ones, one of another user, one that another application has
    $server->sql(<<~'SQL', 'plain');
        insert into users.application (id, name, client_id, secret_digest) overriding system value values (9, 'b', 'b', sha256('b'));
        update users.account set application_id = case id when 7 then 9 else 1 end,
          labels = jsonb_build_object('cpanel', jsonb_build_object('s.example', case id when 6 then 'jo' else 'jane' end), 'a', 1)
        where id between 3 and 7;
        insert into users.provider_account (application_id, provider, provider_server, provider_username, user_id)
        values (1, 'cpanel', 's.example', 'jane', 3);
        SQL
    my ($status, undef, $error) = database('plain', 'upgrade');
    is $status, 0, 'upgrade' or diag $error;
    is $server->sql('select user_id from users.provider_account_later order by 1', 'plain'), "4\n5",
        'accounts that were registered again are known by their labels';
    my %kept = map { $_ => 1 } KEPT;
    is_deeply [grep { !$kept{ (split /\|/)[0] } } catalog('plain')->@*], catalog('fresh'),
        'the same tables, views, functions and rights';
    is reference('plain'), reference('fresh'), 'the same reference data';
    is $server->sql(q(select scopes from users.token where digest = sha256('old')), 'plain'), '{register,public}',
        'scopes that were repeated are a set';
    my $default = q(select array_to_string(default_scopes, ' ') from users_api.application where client_id = );
    is $server->sql("$default'@{[CLIENT_ID]}'", 'plain'), 'public register', 'an application keeps its default scopes';
    is $server->sql("$default'@{[CLIENT_ID]}'", 'fresh'), 'public', '... which a new one does not have';

    ($status, undef, $error) = database('old', 'upgrade');
    is $status, 1, 'an earlier usersctl leaves a later database alone';
    like $error, qr/later version/, '... and says why';
    is states('old')->{'903-nickname-index'}, 'later', '... and what';
};

subtest 'one that breaks off' => sub {
    make_old('broken', 10);
    append("$sql/migrations/900-broken.sql", "create table users.half (id int);\nselect 1/0;\n");
    my ($status, undef, $error) = database('broken', 'upgrade');
    is $status, 3, 'it fails';
    like $error, qr/^usersctl: 900-broken: division by zero$/m, '... and says where';
    is states('broken')->{'900-broken'}, 'pending', 'what failed is pending';
    is states('broken')->{'001-migration'}, 'applied', '... what came before is not';
    is $server->sql("select to_regclass('users.half')", 'broken'), '', '... and nothing is left of it';
    unlink "$sql/migrations/900-broken.sql";
    is +(database('broken', 'upgrade'))[0], 0, 'mended, it goes on';
};

subtest 'what has to be mended by hand' => sub {
    make_old('turkish', 10, "template template0 encoding utf8 locale 'C.UTF-8' locale_provider icu icu_locale 'tr'");
    my $upgrade = sub ($pattern, $what) {
        my ($status, undef, $error) = database('turkish', 'upgrade');
        is $status, 3, "$what: no upgrade";
        like $error, $pattern, '... and it says which';
        is states('turkish')->{'011-account-email'}, 'pending', '... and begins with nothing';
    };
    $server->sql("update users.account set email = 'Info\@example.com' where id = 5;
        update users.account set email = 'info\@example.com' where id = 7", 'turkish');
    $upgrade->(qr/\Qinfo\E\@\Qexample.com (ids 5, 7). Give all of them but one another address\E/, 'accounts that are one now');
    $server->sql("update users.account set email = 'other\@example.com' where id = 7", 'turkish');
    $server->sql("insert into users.billing_plan (id, name) values (9, repeat('a long name ', 30))", 'turkish');
    $upgrade->(qr/users\.billing_plan\.name has values of more than 255 characters: a long name a/, 'a name that is too long');
    $server->sql('delete from users.billing_plan where id = 9', 'turkish');
    $server->sql('create view public.mine as select user_id from users_api.account', 'turkish');
    $upgrade->(qr/made of those of users_api: public\.mine\. Drop them/, 'a view over ours');
    $server->sql('drop view public.mine; create role panel; grant select on users_api.account to panel with grant option;
        grant select on users_api.credential to public', 'turkish');
    my ($status, undef, $error) = database('turkish', 'upgrade');
    is $status, 0, 'mended' or diag $error;
    is $server->sql(<<~'SQL', 'turkish'), <<~'RIGHTS' =~ s/\n\z//r, 'rights to the views are kept';
        select relname, grantee::regrole, privilege_type, is_grantable from pg_class, aclexplode(relacl)
        where relnamespace = 'users_api'::regnamespace and relname in ('account', 'credential') and grantee <> relowner
        order by 1, 2
        SQL
        account|mod_users|SELECT|f
        account|panel|SELECT|t
        credential|-|SELECT|f
        credential|mod_users|SELECT|f
        RIGHTS
};

subtest 'two at once' => sub {
    make_old('twice', 10);
    my $holder = Users::Test::Session->new($server, 'twice');
    $holder->sql('begin');
    $holder->sql('lock table users.account in access share mode');
    $holder->sql("select pg_advisory_lock(hashtext('usersctl database'))");
    my ($status, undef, $error) = database('twice', 'upgrade');
    is $status, 1, 'the second is refused';
    like $error, qr/another usersctl upgrades/, '... and says why';
    $holder->end;
};

# Who can create in a schema of the search_path must not run code with the rights of others.
subtest 'functions of other schemas are not ours' => sub {
    my @plant = map { "create function public.$_ returns text language plpgsql as 'begin raise division_by_zero; end'" }
        'to_json(text)', 'timezone(text, timestamptz)', 'to_char(timestamp, text)', 'concat(variadic text[])',
        'jsonb_object_field_text(jsonb, text)';
    push @plant, "create operator public.->> (function = public.jsonb_object_field_text, leftarg = jsonb, rightarg = text)";
    make_old('planted', 10);
    $server->sql('grant create on schema public to public', 'planted');
    is_deeply [$server->postgres->attempt('planted', @plant)], [('00000') x @plant], 'they are there';
    my $change = "set search_path = public, pg_catalog; update users.account set city = 'Delft'";
    ok !eval { $server->sql($change, 'planted') }, '0.1.0 runs them';
    is +(database('planted', 'upgrade'))[0], 0, 'upgrade';
    ok eval { $server->sql($change, 'planted'); 1 }, 'now they are not run' or diag $@;
    is_deeply [$server->postgres->attempt('planted', 'create function public.f() returns int language sql as $$ select 1 $$')],
        ['42501'], 'nor can more of them be made';
};

subtest 'what is upgraded by a superuser belongs to its owner' => sub {
    make_old('owned', 10);
    $server->sql(<<~'SQL', 'owned');
        create role owner;
        alter database owned owner to owner;
        do $$ declare c text; begin
          for c in select format('alter schema %I owner to owner', nspname) from pg_namespace where nspname ~ '^users'
            union all select format('alter function %s owner to owner', oid::regprocedure) from pg_proc
              where pronamespace in (select oid from pg_namespace where nspname ~ '^users')
            union all select format('alter %s %s owner to owner', case relkind when 'r' then 'table' else 'view' end, oid::regclass)
              from pg_class where relkind in ('r', 'v') and relnamespace in (select oid from pg_namespace where nspname ~ '^users')
          loop execute c; end loop; end $$;
        SQL
    my ($status, undef, $error) = database('owned', 'upgrade');
    is $status, 0, 'upgrade' or diag $error;
    is $server->sql(<<~'SQL', 'owned'), '', 'nothing is the superuser\'s';
        select relname from pg_class where relowner <> 'owner'::regrole
          and relnamespace in (select oid from pg_namespace where nspname ~ '^users')
        union all select proname from pg_proc where proowner <> 'owner'::regrole
          and pronamespace in (select oid from pg_namespace where nspname ~ '^users')
        SQL
};

subtest 'whose requests PostgreSQL logs' => sub {
    my ($status, undef, $error) = database('fresh', 'status');
    is $error, '', 'those of mod_users are not';
    $server->sql('create role "www-data" login in role mod_users');
    $server->sql("alter role \"www-data\" set log_statement = 'all'");
    ($status, undef, $error) = database('fresh', 'status');
    is $status, 0, 'a warning is no failure';
    like $error, qr/warning: .* reach PostgreSQL's log by the settings of "www-data"/, 'those of a role that inherits are';
    $server->sql('alter role "www-data" set log_parameter_max_length = 0');
    ($status, undef, $error) = database('fresh', 'status');
    is $error, '', '... unless it has the settings, too';
};

done_testing;
