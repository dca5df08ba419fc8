# usersctl check --settings, with what httpd -t -D DUMP_USERS prints: it connects as the module does, and tells
# what is wrong with the role, the way to the server, the password, the replica and the number of connections.

use v5.36;
use utf8;
use Cwd            qw(abs_path);
use File::Basename qw(dirname);
use IO::Socket::INET;
use JSON::PP qw();
use Users::Test;
use Users::Test::Usersctl;

my $SOURCE = $ENV{USERS_SRCDIR} // abs_path(dirname(__FILE__) . '/../..');

my $server   = Users::Test->new;
my $dir      = $server->dir;
my $usersctl = Users::Test::Usersctl->new($server);
delete @ENV{qw(PGHOST PGUSER)};    # httpd's has neither
$server->sql('alter system set fsync = on');
reload();

# Sessions that begin behind it have the new settings.
sub reload () {
    my $before = $server->sql('select pg_conf_load_time()');
    $server->sql('select pg_reload_conf()');
    wait_until(sub { $server->sql('select pg_conf_load_time()') ne $before }, 'the settings to be read');
}

# What is found with the settings of a configuration: exit status, and by database and check
# [level, text, cure].
sub check_settings ($settings, @arguments) {
    my ($status, $output, $error) =
        $usersctl->run_with($settings, qw(--json check --settings -), '--sql', "$SOURCE/sql", @arguments);
    my %found;
    for (JSON::PP->new->decode($output)->@*) {
        my $known = \$found{ $_->{database} }{ $_->{check} };
        $$known = [$_->@{qw(level text cure)}] if !$$known || $_->{level} ne 'ok';
    }
    is $error, '', 'no complaint';
    return ($status, \%found);
}

sub check ($config, @arguments) {
    return check_settings(scalar $server->dump(%$config), @arguments);
}

# Of the only database.
sub findings ($config, @arguments) {
    my ($status, $found) = check($config, @arguments);
    is scalar keys %$found, 1, 'one database' or diag explain $found;
    return ($status, values %$found);
}

sub bad ($found) {
    return [grep { $found->{$_}[0] =~ /warning|error/ } sort keys %$found];
}

sub is_found ($found, $check, $level, $text, $cure) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is $found->{$check}[0], $level, "$check is $level" or diag explain $found;
    like $found->{$check}[1], $text, '... says what is wrong';
    like $found->{$check}[2], $cure, '... and what to do';
}

my ($USER) = $server->dump =~ /^User (\S+)$/m;

subtest 'as the module' => sub {
    my ($status, $all) = check({});
    is $status, 0, 'nothing is wrong';
    my ($database) = keys %$all;
    is $database, "users\@$dir/pg as mod_users (UsersDB)", 'the database, the role and the directive are named';
    my $found = $all->{$database};
    is_deeply [grep { $found->{$_}[0] eq 'unseen' } sort keys %$found], [qw(events migrations reference sequences)],
        'what its role may not see is told';
    like $found->{reference}[1], qr/the role mod_users may not read/, '... by whom';
    like $found->{reference}[2], qr/runuser -u postgres -- usersctl check/, '... and who may';
    is_deeply bad($found), [], '... and is not wrong';

    ($status, $all) = check({}, '--db', "host=$dir/pg user=postgres dbname=users");
    is $status, 0, 'with --db, too';
    is_deeply [sort map { s/.* //r } keys %$all], ['(--db)', '(UsersDB)'], '... it checks both';
    is $all->{"users\@$dir/pg as postgres (--db)"}{reference}[0], 'ok', '... and sees what it may';
};

subtest 'the role' => sub {
    my $conninfo = "host=$dir/pg dbname=users user=postgres";
    my ($status, $found) = findings({ vhost => "UsersDB \"$conninfo\"\nUsersDefaultCountry ZZ\nUsersDefaultLocale xx\nUsersDefaultCurrency QQQ" });
    is $status, 3, 'a superuser';
    is_found($found, 'role', 'error', qr/^the role postgres .* is a superuser$/, qr/connect as mod_users/);
    is_found($found, 'reference', 'error', qr/the country ZZ .*the currency QQQ .*the language of xx/, qr/usersctl database upgrade/);
};

subtest 'functions that UsersAudit and UsersEvents need' => sub {
    my $rename = sub ($from, $to) {
        $server->sql("alter function users_api.$from(bigint, jsonb, jsonb, text[], boolean, uuid, bytea, text, text, jsonb) rename to $to");
    };
    $rename->('update_account', 'other');
    for my $directive (qw(UsersAudit UsersEvents)) {
        my ($status, $found) = findings({ vhost => "$directive on" });
        is $status, 3, "$directive";
        is_found($found, 'contract', 'error', qr/users_api\.update_account\(\) of 10 parameters$/, qr/usersctl database upgrade/);
    }
    my ($status, $found) = findings({});
    is $found->{contract}[0], 'ok', 'without them it may be missing';
    $rename->('other', 'update_account');
    ($status, $found) = findings({ vhost => 'UsersAudit on' });
    is $found->{contract}[0], 'ok', 'there it is';
};

subtest 'logged statements' => sub {
    $server->sql("alter role mod_users set log_parameter_max_length = -1; alter role mod_users set log_statement = 'all'");
    my ($status, $found) = findings({});
    is_found($found, 'log', 'warning', qr/mod_users: the parameters of statements \(log_parameter_max_length = -1\)$/,
        qr/alter role mod_users set log_parameter_max_length = 0$/);
    is $status, 1, 'a warning';
    $server->sql("alter role mod_users set log_parameter_max_length = 0; alter role mod_users reset log_statement;
        alter role mod_users set session_preload_libraries = auto_explain; load 'auto_explain';
        alter role mod_users set auto_explain.log_min_duration = 0");
    ($status, $found) = findings({});
    is_found($found, 'log', 'warning', qr/by auto_explain/, qr/auto_explain\.log_min_duration = -1$/);
    $server->sql('alter role mod_users reset session_preload_libraries; alter role mod_users reset auto_explain.log_min_duration');
};

subtest 'connections' => sub {
    my $mpm = ($ENV{USERS_TEST_MPM} // '') eq 'prefork' ? 'MaxRequestWorkers 5' : "ThreadsPerChild 4\nMaxRequestWorkers 20";
    my $same = sub ($each, $lag = '2s') {
        join '', "UsersDBMax $each\nUsersReplicaLag $lag\n", map { "<VirtualHost *:*>\nServerName $_\n<Location /api/users>\nUsersEndpoint account\n</Location>\n</VirtualHost>\n" } qw(a.example b.example);
    };
    my $conf = sub ($site) { { conf => "$mpm\nUsersDB \"@{[$server->conninfo]}\"", site => $site } };
    my ($status, $found) = findings($conf->($same->(6)));
    is_deeply $found->{connections}, ['ok', 'httpd may open 30 connections (hosts: 1, children of each: 5, each up to 6 by UsersDBMax), '
        . 'and PostgreSQL allows 597 (max_connections = 600 less 3 reserved)', undef], 'virtual hosts share them';
    ($status, $found) = findings($conf->($same->(6)), '--hosts', 20);
    is $status, 1, 'too many of all hosts';
    is_found($found, 'connections', 'warning', qr/^httpd may open 600 connections \(hosts: 20, .* PostgreSQL allows 597 /, qr/PgBouncer/);
    ($status, $found) = findings($conf->($same->(6) =~ s/(b\.example)/$1\nUsersDBMax 7/r));
    like $found->{connections}[1], qr/may open 65 connections .*each up to 13 /, 'others have their own';
    for my $whose ('role mod_users', 'database users') {
        $server->sql("alter $whose connection limit 29");
        ($status, $found) = findings($conf->($same->(6)));
        is_found($found, 'connections', 'warning', qr/allows 29 \(the connection limit of the $whose\)$/, qr/raise that limit/);
        $server->sql("alter $whose connection limit -1");
    }
};

subtest 'UsersDBPrepare off without a pooler' => sub {
    my ($status, $found) = findings({ vhost => 'UsersDBPrepare off' });
    is_found($found, 'pooler', 'warning', qr/no pooler/, qr/UsersDBPrepare on/);
    is_deeply bad($found), ['pooler'], '... and nothing else';
    $server->sql('alter role mod_users reset plan_cache_mode; alter role mod_users reset statement_timeout');
    (undef, $found) = findings({ vhost => 'UsersDBPrepare off' });
    is_found($found, 'session', 'warning', qr/: plan_cache_mode = auto, statement_timeout = 0$/,
        qr/^alter role mod_users set plan_cache_mode = 'force_generic_plan'; alter role mod_users set statement_timeout = '5s'$/);
    ($status, $found) = findings({});
    is $found->{session}[0], 'ok', 'else the module asks for them';
    $server->sql(q(alter role mod_users set plan_cache_mode = force_generic_plan; alter role mod_users set statement_timeout = '5s'));
};

subtest 'replicas' => sub {
    my $standby = $server->postgres->standby("$dir/standby");
    my $conf    = sub ($conninfo, $lag = '20s') { { vhost => "UsersDBReplica \"$conninfo\"\nUsersReplicaLag $lag" } };
    my $replica = $conf->($standby->conninfo('users'));
    my $name    = "users\@$dir/standby as mod_users (UsersDBReplica)";
    my ($status, $found) = check($replica);
    is $status, 0, 'one that follows' or diag explain $found;
    is $found->{$name}{lag}[0], 'ok', '... is well';
    like $found->{$name}{lag}[1], qr/^it has what UsersDB had \d+ ms ago$/, '... and how far it is';
    ok !$found->{$name}{primary}, 'that it takes no changes is right';

    my $dirs = join ',', map { $_->dir } $standby, $server->postgres;
    ($status, $found) = check($conf->("host=$dirs dbname=users user=mod_users"));
    is $status, 0, 'several, of which one is the primary at present' or diag explain $found;
    like $found->{$name}{lag}[1], qr/^it has what UsersDB had \d+ ms ago$/, '... each is examined';
    my $present = 'users@' . $server->postgres->dir . ' as mod_users (UsersDBReplica)';
    is $found->{$present}{lag}[0], 'ok', 'the primary is well, too' or diag explain $found;
    like $found->{$present}{lag}[1], qr/^it is the server of UsersDB at present/, '... as one that has a share of the reads';

    ($status, $found) = findings({ vhost => "UsersDB \"@{[$standby->conninfo('users')]}\"" });
    is $status, 3, 'a standby as UsersDB';
    is_found($found, 'primary', 'error', qr/is a standby/, qr/target_session_attrs=read-write/);

    $standby->sql('users', 'select pg_wal_replay_pause()');
    wait_until(sub { $standby->sql('users', 'select pg_get_wal_replay_pause_state()') eq 'paused' }, 'the replica to pause');
    $server->sql('create table later ()');
    ($status, $found) = check($conf->($standby->conninfo('users'), '200ms'));
    is $status, 1, 'one that is behind';
    is_found($found->{$name}, 'lag', 'warning', qr/^it has not yet what UsersDB had \d+ ms ago$/, qr/pg_stat_replication/);
    $standby->sql('users', 'select pg_wal_replay_resume()');
    $standby->promote;
    ($status, $found) = check($replica);
    is $status, 1, 'one that was promoted';
    is_found($found->{$name}, 'lag', 'warning', qr/no standby/, qr/streaming replica/);

    my $other = Users::Test->new;
    ($status, $found) = check($conf->($other->conninfo));
    is $status, 3, 'one of another cluster';
    my ($foreign) = grep { /UsersDBReplica/ } keys %$found;
    is_found($found->{$foreign}, 'lag', 'error', qr/another cluster/, qr/streaming replica of UsersDB/);
    $other->postgres->stop;
    ($status, $found) = check($conf->($other->conninfo));
    is $status, 3, 'one that is down';
    is_found($found->{$foreign}, 'connection', 'error', qr/no connection/, qr/UsersDBReplica names its host/);
};

my $port = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1)->sockport;
$server->postgres->listen($port);

subtest 'the way to the server' => sub {
    $server->tls;
    for (map { "$dir/server.$_" } qw(key crt)) {
        chmod 0600, $_;
        chown +(getpwnam 'postgres')[2, 3], $_ if $> == 0;
    }
    $server->sql("alter system set ssl_cert_file = '$dir/server.crt'; alter system set ssl_key_file = '$dir/server.key';
        alter system set ssl = on");
    reload();
    chmod 0644, "$dir/server.crt";
    my $db = sub ($options) { { vhost => "UsersDB \"port=$port dbname=users user=mod_users $options\"" } };
    # 0.0.0.0 is this host to Linux, and another one by its form
    my ($status, $found) = findings($db->('host=0.0.0.0 sslmode=disable'));
    is $status, 1, 'without TLS';
    is_found($found, 'transport', 'warning', qr/^nothing is encrypted, and with sslmode=disable .*pass for 0\.0\.0\.0$/, qr/sslmode=verify-full/);
    ($status, $found) = findings($db->('host=0.0.0.0 sslmode=require'));
    is $status, 1, 'with TLS that verifies nothing';
    is_found($found, 'transport', 'warning', qr/^TLS is used, and with sslmode=require /, qr/sslrootcert=/);
    ($status, $found) = findings($db->("host=localhost hostaddr=0.0.0.0 sslmode=verify-full sslrootcert=$dir/server.crt"));
    is $status, 0, 'with TLS that verifies the host';
    like $found->{transport}[1], qr/^TLSv1\.\d with sslmode=verify-full$/, '... which is told';
    ($status, $found) = findings($db->('host=127.0.0.1 sslmode=disable'));
    is $status, 0, 'on loopback none is needed';
    ($status, $found) = findings($db->("host=0.0.0.0 sslmode=verify-full sslrootcert=$dir/server.crt"));
    is $status, 3, 'a certificate of another name';
    like $found->{connection}[1], qr/certificate .*does not match/, '... is told';
    my $free = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1)->sockport;
    ($status, $found) = findings({ vhost => "UsersDB \"host=127.0.0.1 port=$free dbname=users user=mod_users\"" });
    is_found($found, 'connection', 'error', qr/Connection refused/, qr/UsersDB names its host and port/);
    ($status, $found) = findings({ vhost => "UsersDB \"host=127.0.0.1,localhost port=$free,$port dbname=users user=mod_users\"" });
    is $status, 0, 'of several hosts it takes the first that answers';
};

subtest 'passwords' => sub {
    $server->sql(<<~'SQL');
        alter role mod_users password 'right';
        select format('copy (values (%L), (%L)) to %L', 'host all all all scram-sha-256',
          'local all all peer map=users', setting)
        from pg_settings where name = 'hba_file' \gexec
        SQL
    reload();
    my $conninfo = "host=127.0.0.1 port=$port dbname=users user=mod_users";
    local $ENV{PGPASSFILE} = '/nonexistent';
    my $dump = $server->dump(vhost => "UsersDB \"$conninfo password=right\"");
    unlike $dump, qr/right/, 'the settings conceal it';
    my ($status, $found) = check_settings($dump);
    my ($name) = keys %$found;
    is $status, 3, '... so there is none';
    is_found($found->{$name}, 'connection', 'error', qr/password/, qr/the settings conceal the password: name it by PGPASSWORD or PGPASSFILE/);
    for (
        [{ PGPASSWORD => 'right' }, 0, 'PGPASSWORD has it'],
        [{ PGPASSWORD => 'wrong' }, 3, 'a wrong one'],
    ) {
        my ($env, $wanted, $what) = @$_;
        local %ENV = (%ENV, %$env);
        ($status, $found) = check_settings($dump);
        is $status, $wanted, $what or diag explain $found;
    }
    is_found($found->{$name}, 'connection', 'error', qr/28P01/, qr/the password is not that of the role "mod_users"/);

    my $passfile = "$dir/passfile";
    open my $file, '>', $passfile or die "$passfile: $!\n";
    print $file "*:*:*:*:right\n";
    close $file;
    chmod 0600, $passfile;
    { local $ENV{PGPASSFILE} = $passfile; ($status) = check_settings($dump); }
    is $status, 0, 'PGPASSFILE has it';
    ($status) = check({ vhost => "UsersDB \"$conninfo passfile=$passfile\"" });
    is $status, 0, 'the passfile of the settings has it';
    ($status, $found) = findings({ vhost => "UsersDB \"$conninfo passfile=/nonexistent\"" });
    is_found($found, 'connection', 'error', qr/password/, qr/the passfile \/nonexistent can't be read by the user "\w+" that usersctl runs as/);
    my $me = getpwuid $>;
    like $found->{connection}[2], qr/^run this as the user $USER, which httpd runs as; or: /, '... and who else may read it'
        if $me ne $USER;
    unlike $found->{connection}[2], qr/conceal/, '... nothing of it was concealed';
};

subtest 'settings that are none' => sub {
    my $dump = $server->dump;
    for (
        [''                                      => qr/line 1: there is no UsersDB/],
        ["Syntax OK\n"                           => qr/line 1: there is no UsersDB/],
        ["<Directory />\n"                       => qr/line 1: there is no such section/],
        ["</VirtualHost>\n"                      => qr/line 1: a section ends that has not begun/],
        ["# x\n{}\n"                             => qr/line 2: there is no directive/],
        ["UsersDBMax\n"                          => qr/line 1: there is no value/],
        ["UsersDBMax many\n"                     => qr/line 1: the value can't be read/],
        ["UsersDB \"host=\" =\"\n"               => qr/line 1: the value can't be read/],
        [$dump =~ s{</VirtualHost>\n}{}r         => qr/line \d+: a section has no end/],
        [$dump =~ s/^.*\bUsersDB .*\n//mr        => qr/line \d+: there is no UsersDB/],
    ) {
        my ($settings, $message) = @$_;
        my ($status, $output, $error) = $usersctl->run_with($settings, qw(check --settings -));
        is $status, 2, 'the exit status is 2';
        like $error, qr/\Ausersctl: --settings -, $message: it takes what apache2ctl -t -D DUMP_USERS prints\n\z/, '... and says why';
    }
};

done_testing;
