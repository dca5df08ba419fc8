package Users::Test::Postgres;

# A private PostgreSQL cluster, reached through a Unix socket without a password.

use v5.36;
use Users::Test::Process qw(run);

my ($BIN) = sort { ($b =~ m{/(\d+)/bin})[0] <=> ($a =~ m{/(\d+)/bin})[0] }
    glob '/usr/lib/postgresql/*/bin';

# PostgreSQL refuses to run as root, and then httpd's children are www-data.
my $ME    = getpwuid $>;
my $OWNER = $> == 0 ? 'postgres' : $ME;
my $HTTPD = $> == 0 ? 'www-data' : $ME;

# dir: of a cluster to be made; must be short (a socket's path has at most 107 bytes) and
# open to httpd's user.
sub new ($class, $dir) {
    return bless { dir => $dir, data => "$dir/data" }, $class;
}

# Make and start the cluster.
sub create ($self) {
    $BIN or die "no PostgreSQL server below /usr/lib/postgresql\n";
    my $dir = $self->{dir};
    mkdir $dir or die "$dir: $!\n";
    chown +(getpwnam $OWNER)[2, 3], $dir;
    $self->_run_as_owner("$BIN/initdb", '--no-sync', '--encoding=UTF8', '--locale=C.UTF-8',
        '--username=postgres', '--auth=peer', '--pgdata', $self->{data});
    $self->_append('postgresql.conf', <<~CONF);
        listen_addresses = ''
        unix_socket_directories = '$dir'
        max_connections = 200
        fsync = off
        CONF
    $self->_append('pg_ident.conf', "users $ME postgres\n", "users $HTTPD mod_users\n");
    $self->_write('pg_hba.conf', "local all all peer map=users\n");
    $self->start;
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

# How the module connects to a database.
sub conninfo ($self, $database) {
    return "host=$self->{dir} dbname=$database user=mod_users";
}

# Run SQL as superuser. Returns the rows as lines, their columns with a | between them.
sub sql ($self, $database, $sql, %variables) {
    my $script = "$self->{dir}/script.sql";
    open my $file, '>:utf8', $script or die "$script: $!\n";
    print $file $sql;
    close $file;
    return $self->_psql($database, \%variables, $script);
}

# Make a database with the contract, and the demo's accounts with these tokens.
sub install ($self, $database, $source, %tokens) {
    $self->sql('postgres', "create database $database");
    $self->_psql($database, {}, "$source/install.sql");
    $self->_psql($database, \%tokens, "$source/demo.sql");
}

sub _psql ($self, $database, $variables, $script) {
    my @variables = map { "--set=$_=$variables->{$_}" } sort keys %$variables;
    local $ENV{PGCLIENTENCODING} = 'UTF8';
    my ($status, $rows, $error) = run(
        ["$BIN/psql", '-XAtq', '--set=ON_ERROR_STOP=1', @variables,
            '--host', $self->{dir}, '--username', 'postgres', '--dbname', $database,
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
