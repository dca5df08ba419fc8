package Users::Test::Postgres;

=head1 NAME

Users::Test::Postgres - a private PostgreSQL cluster

=head1 SYNOPSIS

    my $postgres = $server->postgres;
    $postgres->restart('immediate');
    my $standby = $postgres->standby($server->dir . '/standby');
    $postgres->stop('immediate');
    $standby->promote;
    is $standby->sql('users', 'select pg_is_in_recovery()'), 'f';

It is reached through a Unix socket, without a password: by the module as C<mod_users>, by the
test as C<postgres>.

=head1 METHODS

C<start>, C<stop> and C<restart> take a mode: smart, fast or immediate. C<kill> sends SIGKILL to
the postmaster and waits until none of its processes is left. C<pid>, C<running>, C<dir> and
C<log> tell about it.

C<conninfo> is how the module connects to a database, C<sql> runs SQL in one as superuser, C<run_file> a
file, with values for psql's variables.

C<run_as> runs a script in a database with the rights of another role, and returns psql's exit status
and standard error.

C<let_in> has httpd's user log in as a role of another name.

C<count_statements> restarts it, and has it count from then on what the module's role has run in a
database: C<statements> is how often those were that are like a pattern of SQL's. A standby made after
that counts, too.

C<configure> adds lines to postgresql.conf, for the next C<start>. C<listen> restarts it on a TCP
port of loopback too, where no password is asked for.

C<standby> makes another cluster in a directory that streams from this one, and starts it;
C<promote> makes a standby a primary; C<rebuild> makes one that was stopped anew from another cluster.

All that run end with the test.

=cut

use v5.36;
use Cwd            qw(abs_path);
use File::Basename qw(dirname);
use File::Path     qw(rmtree);
use Users::Test::Process qw(run wait_until);

my ($BIN) = sort { ($b =~ m{/(\d+)/bin})[0] <=> ($a =~ m{/(\d+)/bin})[0] }
    glob '/usr/lib/postgresql/*/bin';

# PostgreSQL refuses to run as root, and then httpd's children are www-data.
my $ME    = getpwuid $>;
my $OWNER = $> == 0 ? 'postgres' : $ME;
my $HTTPD = $> == 0 ? 'www-data' : $ME;

my @all;

# dir: of a cluster to be made; must be short (a socket's path has at most 107 bytes) and
# open to httpd's user.
sub new ($class, $dir) {
    my $self = bless { dir => $dir, data => "$dir/data", port => 5432 }, $class;
    push @all, $self;
    return $self;
}

sub stop_all () {
    for my $self (grep { $_->running } @all) {
        CORE::kill CONT => $self->_processes;    # who is frozen does not end
        eval { $self->stop('immediate') };       # it may have been killed
    }
}

# Make and start the cluster.
sub create ($self) {
    $BIN or die "no PostgreSQL server below /usr/lib/postgresql\n";
    my $dir = $self->_make_dir;
    $self->_run_as_owner("$BIN/initdb", '--no-sync', '--encoding=UTF8', '--locale=C.UTF-8',
        '--username=postgres', '--auth=peer', '--pgdata', $self->{data});
    $self->configure(<<~CONF);
        listen_addresses = ''
        unix_socket_directories = '$dir'
        max_connections = 600
        fsync = off
        CONF
    $self->_append('pg_ident.conf', map { "users $_\n" } "$ME postgres", "$HTTPD mod_users",
        $OWNER eq $ME ? () : "$OWNER postgres", $HTTPD eq $ME ? () : "$ME mod_users");
    $self->_write('pg_hba.conf', "local all,replication all peer map=users\n");
    $self->start;
}

sub let_in ($self, $role) {
    $self->_append('pg_ident.conf', "users $HTTPD $role\n");
    $self->sql('postgres', 'select pg_reload_conf()');
}

sub configure ($self, $lines) {
    $self->_append('postgresql.conf', $lines);
}

# port: a free one.
sub listen ($self, $port, $address = '127.0.0.1') {
    $self->configure("listen_addresses = '$address'\nport = $port\n");
    $self->_append('pg_hba.conf', "host all mod_users 127.0.0.1/32 trust\n");
    $self->stop;
    $self->{port} = $port;
    $self->start;
}

sub count_statements ($self, $database) {
    $self->configure("shared_preload_libraries = 'pg_stat_statements'\n");
    $self->restart;
    $self->sql($database, 'create extension pg_stat_statements schema public');
}

sub statements ($self, $database, $pattern) {
    return $self->sql($database, <<~SQL);
        select coalesce(sum(calls), 0) from public.pg_stat_statements
        where userid = 'mod_users'::regrole and query like '$pattern'
        SQL
}

sub standby ($self, $dir) {
    my $standby = (ref $self)->new($dir);
    $standby->_make_dir;
    $standby->_follow($self);
    return $standby;
}

sub rebuild ($self, $primary) {
    rmtree($self->{data});
    $self->_follow($primary);
}

sub _follow ($self, $primary) {
    $self->_run_as_owner("$BIN/pg_basebackup", '--no-sync', '--checkpoint=fast',
        '--write-recovery-conf', '--host', $primary->{dir}, '--username', 'postgres',
        '--pgdata', $self->{data});
    $self->configure("unix_socket_directories = '$self->{dir}'\n");
    $self->start;
}

sub promote ($self) {
    $self->_ctl('promote');
}

sub start ($self) {
    $self->_ctl('start', '--log', "$self->{dir}/log");
}

# mode: smart, fast or immediate.
sub stop ($self, $mode = 'fast') {
    $self->_ctl('stop', '--mode', $mode);
}

sub restart ($self, $mode = 'fast') {
    $self->stop($mode);
    $self->start;
}

sub kill ($self) {
    my $pid = $self->pid;
    CORE::kill STOP => $pid;    # lest it have another child meanwhile
    wait_until(sub { Users::Test::Process::slurp("/proc/$pid/stat") =~ /\) T / }, 'PostgreSQL to stop');
    my @processes = $self->_processes;
    CORE::kill KILL => $processes[0];
    wait_until(sub { !grep { CORE::kill 0 => $_ } @processes }, 'PostgreSQL to end');
}

# The process ids of the postmaster and of its children.
sub _processes ($self) {
    my $pid = $self->pid // return;
    return ($pid, split ' ', Users::Test::Process::slurp("/proc/$pid/task/$pid/children"));
}

sub dir ($self) { $self->{dir} }

sub running ($self) {
    return -e "$self->{data}/postmaster.pid";
}

# The postmaster's process id.
sub pid ($self) {
    open my $file, '<', "$self->{data}/postmaster.pid" or return;
    chomp(my $pid = <$file>);
    return $pid;
}

# What the server logged.
sub log ($self) {
    return Users::Test::Process::slurp("$self->{dir}/log");
}

# Where it listens.
sub socket ($self) {
    return "$self->{dir}/.s.PGSQL.$self->{port}";
}

# How the module connects to a database.
sub conninfo ($self, $database) {
    my $port = $self->{port} == 5432 ? '' : " port=$self->{port}";
    return "host=$self->{dir}$port dbname=$database user=mod_users";
}

# Run SQL as superuser. Returns the rows as lines, their columns with a | between them.
sub sql ($self, $database, $sql, %variables) {
    my $script = "$self->{dir}/script.sql";
    open my $file, '>:utf8', $script or die "$script: $!\n";
    print $file $sql;
    close $file;
    return $self->_psql($database, \%variables, $script);
}

# Run statements as the module's role, one by one. Returns the SQLSTATE of each.
sub attempt ($self, $database, @statements) {
    my $script = "$self->{dir}/attempt.sql";
    open my $file, '>:utf8', $script or die "$script: $!\n";
    print $file "\\o /dev/null\n", map { "$_;\n\\echo :SQLSTATE\n" } @statements;
    close $file;
    chmod 0644, $script;
    my @command = ("$BIN/psql", '-XAtq', $self->conninfo($database), '--file', $script);
    unshift @command, qw(runuser -u), $HTTPD, '--' if $HTTPD ne $ME;
    my ($status, $states, $error) = run(\@command, "$self->{dir}/attempt");
    die "psql: $error" if $status;
    return split /\n/, $states;
}

sub run_as ($self, $role, $database, $script) {
    my ($status, $rows, $error) = run(
        ["$BIN/psql", '-XAtq', '--set=ON_ERROR_STOP=1', '--host', $self->{dir}, '--username', 'postgres',
            '--dbname', $database, '--command', "set session authorization $role", '--file', $script],
        "$self->{dir}/run_as");
    return ($status, $error =~ s/^psql:\S+ //gmr);
}

# Run a file of SQL as superuser.
sub run_file ($self, $database, $path, %variables) {
    return $self->_psql($database, \%variables, $path);
}

sub _psql ($self, $database, $variables, $script) {
    my @variables = map { "--set=$_=$variables->{$_}" } sort keys %$variables;
    local $ENV{PGCLIENTENCODING} = 'UTF8';
    my ($status, $rows, $error) = run(
        ["$BIN/psql", '-XAtq', '--set=ON_ERROR_STOP=1', @variables,
            '--host', $self->{dir}, '--port', $self->{port}, '--username', 'postgres', '--dbname', $database,
            '--file', $script],
        "$self->{dir}/psql");
    die "psql: $error" if $status;
    chomp $rows;
    return $rows;
}

sub _ctl ($self, $action, @options) {
    $self->_run_as_owner("$BIN/pg_ctl", $action, '--wait', '--silent', '--pgdata', $self->{data},
        @options);
}

sub _make_dir ($self) {
    my $dir = $self->{dir};
    mkdir $dir or die "$dir: $!\n";
    chown +(getpwnam $OWNER)[2, 3], $dir;
    return $dir;
}

sub _run_as_owner ($self, @command) {
    unshift @command, qw(runuser -u), $OWNER, '--' if $OWNER ne $ME;
    my ($status, $output, $error) = run(\@command, "$self->{dir}/command");
    die "@command:\n$output$error" if $status;
}

sub _append ($self, $name, @lines) {
    $self->_write($name, Users::Test::Process::slurp("$self->{data}/$name"), @lines);
}

sub _write ($self, $name, @lines) {
    open my $file, '>', "$self->{data}/$name" or die "$name: $!\n";
    print $file @lines;
    close $file;
}

1;
