# PgBouncer between the module and PostgreSQL: each transaction in another session.

use v5.36;
use IO::Socket::UNIX;
use JSON::PP qw();
use Users::Test::Fault;
use Users::Test::Process qw(end spawn);
use Users::Test::Session;
use Users::Test::Usersctl;

my ($PGBOUNCER) = grep { -x } '/usr/sbin/pgbouncer', '/usr/bin/pgbouncer';
$PGBOUNCER or die "this needs pgbouncer: install it\n";

my $server   = Users::Test::Fault->new;
my $postgres = $server->postgres;
my $dir      = $server->dir . '/bouncer';
my $port     = 6432;                               # of a socket in that directory
my $conninfo = "host=$dir port=$port dbname=users user=mod_users";
my $pid;

mkdir $dir or die "$dir: $!\n";
chown +(getpwnam 'www-data')[2, 3], $dir if $> == 0;

# It refuses to run as root; as httpd's user it may log in as mod_users.
sub start_bouncer (@settings) {
    open my $file, '>', "$dir/ini" or die "$dir/ini: $!\n";
    print $file <<~INI, map { "$_\n" } @settings;
        [databases]
        users = host=@{[$postgres->dir]} dbname=users user=mod_users
        [pgbouncer]
        unix_socket_dir = $dir
        listen_port = $port
        auth_type = any
        pool_mode = transaction
        default_pool_size = 3
        server_login_retry = 1
        logfile = $dir/log
        INI
    close $file;
    my @user = $> == 0 ? qw(/usr/bin/setpriv --reuid=www-data --regid=www-data --clear-groups) : ();
    $pid = spawn([@user, $PGBOUNCER, "$dir/ini"], "$dir/stdout", "$dir/stderr");
    wait_until(sub { IO::Socket::UNIX->new(Peer => "$dir/.s.PGSQL.$port") }, 'pgbouncer to start');
}

# By SIGTERM it waits for its clients to end, since version 1.23.
sub stop_bouncer () {
    end($pid, 'KILL');
}

sub start_httpd ($prepare, %option) {
    $server->start_child(max => 8, conninfo => $conninfo, %option,
        vhost => "UsersDBPrepare $prepare\nUsersReadLanes @{[$option{lanes} // 0]}");
}

subtest 'usersctl check tells of it' => sub {
    start_bouncer();
    my $usersctl = Users::Test::Usersctl->new($server);
    delete @ENV{qw(PGHOST PGUSER)};
    for (['off', 'ok', qr/^a pooler is in between$/], ['on', 'error', undef]) {
        my ($prepare, $level, $text) = @$_;
        my $dump = $server->dump(vhost => "UsersDB \"$conninfo\"\nUsersDBPrepare $prepare\nUsersDBMax 1000");
        my (undef, $output) = $usersctl->run_with($dump, qw(--json check --settings -));
        my %found = map { $_->{check} => $_ } JSON::PP->new->decode($output)->@*;
        if ($text) {
            is $found{pooler}{level}, $level, "UsersDBPrepare $prepare" or diag $output;
            like $found{pooler}{text}, $text, '... says so';
            is $found{connections}{level}, 'ok', '... and how many connections a pooler has is not known';
            is $found{contract}{level}, 'ok', '... and the rest is checked through it';
        } else {
            is $found{connection}{level}, $level, "UsersDBPrepare $prepare is refused";
            like $found{connection}{cure}, qr/UsersDBPrepare off/, '... and what to do is told';
        }
    }
    stop_bouncer();
    start_bouncer('ignore_startup_parameters = options');
    my $dump = $server->dump(vhost => "UsersDB \"$conninfo\"");
    my ($status, $output) = $usersctl->run_with($dump, qw(--json check --settings -));
    my %found = map { $_->{check} => $_ } JSON::PP->new->decode($output)->@*;
    is $status, 1, 'UsersDBPrepare on is a warning where it is let through';
    is $found{pooler}{level}, 'warning', '... of the pooler';
    like $found{pooler}{cure}, qr/UsersDBPrepare off.*max_prepared_statements/, '... with what to do';
    stop_bouncer();
};

subtest 'UsersDBPrepare off needs no setting of PgBouncer' => sub {
    start_bouncer();
    for my $lanes (0, 1, 3) {
        start_httpd('off', lanes => $lanes);
        for my $round (1 .. 2) {
            my @answers = $server->parallel(map { ([GET], [PATCH], [POST]) } 1 .. 8);
            is_deeply count(map { $_->{status} } @answers), { 200 => 16, 201 => 8 },
                "requests that share sessions are served, UsersReadLanes $lanes, round $round";
        }
    }
    cmp_ok $server->backends, '<=', 3, 'by no more sessions than the pooler has';
    is $server->sql(<<~SQL), 'mod_users', 'they have the name of the application';
        select distinct application_name from pg_stat_activity where usename = 'mod_users'
        SQL
};

subtest 'nothing is left in a session' => sub {
    $server->sql(<<~'SQL');
        create table public.seen (prepared text);
        create function public.see() returns trigger language plpgsql security definer as $$
          begin
            insert into public.seen select string_agg(name, ' ' order by name) from pg_prepared_statements;
            return new;
          end $$;
        create trigger see before update on users.account
          for each row execute function public.see();
        SQL
    for my $case (['off', ''], ['on', 'find_token update_accounts']) {
        my ($prepare, $prepared) = @$case;
        start_httpd($prepare, max => 1, conninfo => $server->conninfo);
        $server->sql('delete from public.seen');
        is $server->request(PATCH)->{status}, 200, "UsersDBPrepare $prepare";
        is $server->sql('select prepared from public.seen'), $prepared,
            '... prepares ' . ($prepared || 'nothing');
    }
    $server->sql('drop trigger see on users.account');
};

subtest 'a transaction has the time-outs of the role' => sub {
    $server->sql("alter role mod_users set statement_timeout = '300ms'");
    $server->sql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'mod_users'");
    wait_until(sub { !$server->backends }, 'the sessions to end');
    start_httpd('off', timeout => 20);
    $server->expect_trouble('late');
    my $session = Users::Test::Session->new($server);
    $session->sql('begin; lock table users.token in access exclusive mode');
    is $server->request(GET)->{status}, 504, 'a GET that waits for a lock';
    $session->sql('rollback');
    is $server->request(GET)->{status}, 200, '... the next one is served';
};

subtest 'PostgreSQL restarts behind the pooler' => sub {
    $server->postgres->stop('immediate');
    for my $request ([GET], [PATCH]) {
        my ($answer, $seconds) = $server->timed(@$request);
        like $answer->{status}, qr/^50[34]$/, "without it $request->[0] is 503 or 504";
    }
    $server->postgres->start;
    my $seconds = $server->wait_for_answer(200, GET);
    note sprintf 'good again after %.3f s', $seconds;
    cmp_ok $seconds, '<', 5 + SLACK, 'it heals soon after';
    is $server->request(PATCH)->{status}, 200, '... for changes too';
};

subtest 'the pooler restarts' => sub {
    $server->allow_log(qr/the database \S+ (?:can't be reached|is back)/);
    stop_bouncer();
    is_unavailable($server->request(GET), 'without it');
    start_bouncer();
    cmp_ok $server->wait_for_answer(200, GET), '<', 1 + SLACK,
        'with it requests succeed within a second';
};

subtest 'options of an administrator must be ignored by the pooler' => sub {
    my @own = (conninfo => "$conninfo options='-c jit=on'");
    start_httpd('off', @own);
    $server->expect_log(qr/the database \S+ can't be reached: .*\boptions\b/);
    is_unavailable($server->request(GET), 'options');
    stop_bouncer();
    start_bouncer('ignore_startup_parameters = options');
    start_httpd('off', @own);
    is $server->request(GET)->{status}, 200, 'ignore_startup_parameters = options lets them pass';
};

subtest 'one that carries prepared statements serves UsersDBPrepare on' => sub {
    my ($major, $minor) = `$PGBOUNCER --version` =~ /(\d+)\.(\d+)/;
    plan skip_all => "PgBouncer $major.$minor carries none" if $major == 1 && $minor < 21;
    stop_bouncer();
    start_bouncer('max_prepared_statements = 20', 'ignore_startup_parameters = options');
    start_httpd('on');
    for my $round (1 .. 2) {
        my @answers = $server->parallel(map { ([GET], [PATCH], [POST]) } 1 .. 8);
        is_deeply count(map { $_->{status} } @answers), { 200 => 16, 201 => 8 }, "all are served, round $round";
    }
    cmp_ok $server->backends, '<=', 3, 'by no more sessions than the pooler has';
};

subtest 'a pooler of sessions serves UsersDBPrepare on' => sub {
    stop_bouncer();
    start_bouncer('pool_mode = session', 'ignore_startup_parameters = options');
    start_httpd('on', max => 3);
    my @answers = $server->parallel(map { ([GET], [PATCH], [POST]) } 1 .. 8);
    is_deeply count(map { $_->{status} } @answers), { 200 => 16, 201 => 8 }, 'all are served';
};

# Who has had a session before has prepared statements of the same names in it.
subtest '... also where it hands sessions on' => sub {
    plan skip_all => 'a single process does not restart' if $server->single_process;
    stop_bouncer();
    $server->sql(q(alter role mod_users set log_statement = 'all'));
    start_bouncer('pool_mode = session', 'default_pool_size = 2', 'ignore_startup_parameters = options',
        'server_reset_query = DISCARD ALL', 'server_reset_query_always = 1');
    start_httpd('on', max => 2, acquire => 10, timeout => 10);
    $server->allow_log(qr/long lost child came home/);    # httpd's word on the restart
    $server->request(GET);
    my @sessions = $server->backends;
    my $discarded = sub { scalar(() = $server->postgres->log =~ /DISCARD ALL/g) };
    for my $round (1 .. 5) {
        my $before = $discarded->();
        my @answers = $server->parallel(map { ([GET], [PATCH], [POST]) } 1 .. 8);
        is_deeply count(map { $_->{status} } @answers), { 200 => 16, 201 => 8 }, "all are served, round $round";
        $server->graceful;
        wait_until(sub { $discarded->() > $before }, 'a session to be reset');
    }
    is $server->request(GET)->{status}, 200, 'and the next one';
    my %now = map { $_ => 1 } $server->backends;
    ok $now{ $sessions[0] }, '... by the same session as at first';
    is $server->count_log(qr/\[users:info\].* ended with/), 0, 'nobody has noticed';
};

$server->stop;
stop_bouncer();
done_testing;
