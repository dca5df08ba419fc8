# Who may prepare a database: administrators who are no superusers, one after the other in one
# cluster. What they may not set they are told, with what a superuser has to run.

use v5.36;
use Cwd            qw(abs_path);
use File::Basename qw(dirname);
use File::Temp     qw();
use Test::More;
use Users::Test::Postgres;
use Users::Test::Process qw(run);
use Users::Test::Usersctl;

my $SQL = ($ENV{USERS_SRCDIR} // abs_path(dirname(__FILE__) . '/../..')) . '/sql';

my $dir = File::Temp->newdir('users-XXXXXX', DIR => '/tmp');
chmod 0755, $dir;
my $postgres = Users::Test::Postgres->new("$dir/pg");
END { Users::Test::Postgres::stop_all() }
$postgres->create;

sub sql ($query, $database = 'postgres') { $postgres->sql($database, $query) }

# From 16 on a role is changed by who made it, and no longer by every other CREATEROLE.
my $MAKER_ALONE = sql('show server_version_num') >= 160000;

my @LOG = (log_parameter_max_length => 0);    # which is a superuser's to set

# Take away what is said of large objects, which are a superuser's to forbid: it is said where the role
# may make them. Returns the rest, and the statement that a superuser has to run.
sub without_objects ($error, $database) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $may = sql(q(select has_function_privilege('mod_users', 'lo_create(oid)', 'EXECUTE')), $database);
    my $cure = $error =~ s/^\S.*everybody may make large objects.*\s.*As a superuser: (revoke .* from public;)\n//m
        ? $1 : '';
    is $cure ne '', $may eq 't', '... and tells of large objects where they may be made';
    return ($error, $cure);
}

# Run a script as an administrator, which goes well. Returns what it says besides.
sub says ($role, $database, $script) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($status, $error) = $postgres->run_as($role, $database, "$SQL/$script");
    is $status, 0, "$role runs $script in $database";
    return (without_objects($error, $database))[0];
}

# Upgrade a database by usersctl, which goes well. Returns what it says besides.
sub upgrade ($role, $database) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    local $ENV{PGOPTIONS} = "-c role=$role";
    my ($status, undef, $error) = run(
        [Users::Test::Usersctl->program, '--db', "host=$dir/pg user=postgres dbname=$database",
            '--sql', $SQL, qw(database upgrade)],
        "$dir/usersctl"
    );
    is $status, 0, "usersctl upgrades $database for $role";
    return (without_objects($error, $database))[0];
}

# These are what a role lacks. Returns the statements that a superuser has to run.
sub warns ($error, $role, @settings) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @statements = map { "alter role mod_users set $settings[2 * $_] = '$settings[2 * $_ + 1]';" }
        0 .. $#settings / 2;
    is $error, <<~"ERROR", '... with a warning, and no other word';
        WARNING:  the role mod_users lacks settings that $role may not give it
        HINT:  As a superuser: @statements
        ERROR
    return "@statements";
}

sub settings () {
    return sql(q(select unnest(rolconfig) from pg_roles where rolname = 'mod_users' order by 1));
}

sql("create role $_ login createrole") for qw(first second);
sql('create role plain login');
sql("create database of_$_ owner $_") for qw(first second plain);

subtest 'who may not make the role prepares nothing' => sub {
    my ($status, $error) = $postgres->run_as('plain', 'of_plain', "$SQL/install.sql");
    isnt $status, 0, 'it fails';
    like $error, qr/ERROR:  permission denied to create role$/m, '... and says why';
    is sql(q(select count(*) from pg_namespace where nspname like 'users%'), 'of_plain'), 0,
        'nothing is left of it';
};

subtest 'the first administrator makes the role' => sub {
    my $cure = warns(says('first', 'of_first', 'install.sql'), 'first', @LOG);
    is scalar(split /\n/, settings()), 8, 'it lacks one of its settings';
    warns(says('first', 'of_first', 'role.sql'), 'first', @LOG);
    like upgrade('first', 'of_first'), qr/\Ausersctl: warning: the role mod_users lacks [^\n]*\Q$cure\E\n\z/,
        '... and has the warning, too';
    sql($cure);
    is scalar(split /\n/, settings()), 9, 'when a superuser has run that, all are there';
    is says('first', 'of_first', 'role.sql'), '', 'then there is no warning';
};

subtest 'what everybody may make the module may not' => sub {
    my $may = sub {
        return sql(q(select has_database_privilege('mod_users', current_database(), 'TEMPORARY'),
            has_function_privilege('mod_users', 'lo_create(oid)', 'EXECUTE')), 'of_first');
    };
    is $may->(), 'f|t', 'temporary tables are forbidden by who owns the database';
    my (undef, $error) = $postgres->run_as('first', 'of_first', "$SQL/role.sql");
    my (undef, $cure) = without_objects($error, 'of_first');
    sql($cure, 'of_first');
    is $may->(), 'f|f', '... and large objects by a superuser, as the warning says';
    is says('first', 'of_first', 'role.sql'), '', '... which is gone then';
    sql('grant temporary on database of_first to public');
    (undef, $error) = $postgres->run_as('second', 'of_first', "$SQL/role.sql");
    like $error, qr/ERROR/, 'who does not own the schema changes nothing';
    says('first', 'of_first', 'role.sql');
    is $may->(), 'f|f', '... and who does forbids them once more';
    is sql(q(select has_database_privilege('mod_users_panel', current_database(), 'TEMPORARY')), 'of_first'), 'f',
        '... to the panel, too, which keeps none of its own';
};

my $settings = settings();

subtest 'others find it as it should be' => sub {
    for my $role (qw(second plain)) {
        is says($role, "of_$role", 'install.sql'), '', 'there is no warning';
        is settings(), $settings, 'the role is as it was';
        is_deeply [$postgres->attempt("of_$role", 'select * from users_api.account',
            "select users_api.introspect_token(sha256('nothing'))")], ['00000', '00000'],
            'it can use the database';
    }
};

subtest 'what is missing is given, or named' => sub {
    my $lose = sub { sql("alter role mod_users reset $_") for qw(jit lock_timeout) };
    my @lost = (jit => 'off', lock_timeout => '4s');
    $lose->();
    my $cure = warns(says('plain', 'of_plain', 'role.sql'), 'plain', @lost);
    if ($MAKER_ALONE) {
        warns(says('second', 'of_second', 'role.sql'), 'second', @lost);
    } else {
        is says('second', 'of_second', 'role.sql'), '', '... who may give it all';
        is settings(), $settings, 'and does';
        $lose->();
    }
    is says('first', 'of_first', 'role.sql'), '', '... who made it';
    is settings(), $settings, 'and gives it all';

    $lose->();
    sql($cure =~ s/role mod_users/role mod_users in database of_plain/gr);
    is says('plain', 'of_plain', 'role.sql'), '', 'what a superuser gave it in that database counts';
    sql('alter role mod_users in database of_plain reset all');
    sql(q(alter role mod_users set jit = on));
    warns(says('plain', 'of_plain', 'role.sql'), 'plain', @lost);
    sql($cure);
};

subtest 'an upgrade goes on without the panel\'s role' => sub {
    sql('drop owned by mod_users_panel', "of_$_") for qw(first second plain);
    sql('drop role mod_users_panel');
    is upgrade('plain', 'of_plain'),
        "usersctl: warning: plain may not make the role mod_users_panel, by which the panel writes usage. "
        . "As a superuser: create role mod_users_panel login; then usersctl database upgrade\n", 'where who runs it may not make it';
    sql('create role mod_users_panel login');
    is upgrade('plain', 'of_plain'), '', 'when a superuser has made it there is no warning';
    is sql(q(select has_function_privilege('mod_users_panel', 'users_panel.set_usage(jsonb)', 'EXECUTE')), 'of_plain'), 't',
        '... and it may write usage';
};

done_testing;
