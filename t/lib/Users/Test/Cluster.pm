package Users::Test::Cluster;

=head1 NAME

Users::Test::Cluster - mod_users on two hosts, over three PostgreSQL under Patroni

=head1 SYNOPSIS

    use Users::Test::Cluster;

    my $cluster = Users::Test::Cluster->start;    # skips the script where there can be no namespaces
    my $leader  = $cluster->leader;
    $cluster->switch_over;
    $cluster->wait_until_healthy;

=head1 DESCRIPTION

The hosts, in a L<Users::Test::Lab>: C<pg1>, C<pg2> and C<pg3> with PostgreSQL, Patroni and etcd; C<web1> and
C<web2> with httpd; C<lb> with HAProxy, which distributes the API's requests, and leads to the primary (port 5000)
and to a replica (port 5001) as Patroni's REST API tells. Everything between hosts is TLS.

C<web1> names all hosts of PostgreSQL, C<web2> the one address that HAProxy has. The configuration files are what
F<doc/manual/cluster.md> shows.

C<lab>, C<nodes> and C<webs> are its parts. C<postgres> of a node is a L<Users::Test::Postgres>. C<sql> asks the
primary, as C<leader> names it, by SQL. C<members> is what Patroni's REST API tells of the cluster, by the node's name;
C<leader> and C<sync_standby> are names from there. C<healthy> is true where all is as after the start, and
C<wait_until_healthy> waits for that.

=cut

use v5.36;
use Cwd            qw(abs_path);
use File::Basename qw(dirname);
use JSON::PP       ();
use List::Util     qw(first);
use Time::HiRes    qw(sleep);
use Users::Test::Lab;
use Users::Test::Postgres;
use Test::More ();
use Users::Test::Process qw(ended slurp);

use constant PATIENCE => 240;    # seconds that a busy machine may take for a step
use constant PAUSE => 0.2;       # seconds between two looks at it

my $SOURCE  = $ENV{USERS_SRCDIR}             // abs_path(dirname(__FILE__) . '/../../../..');
my $MODULE  = $ENV{USERS_MODULE}             // "$SOURCE/.libs/mod_users.so";
my $HTTPD   = $ENV{USERS_TEST_HTTPD}         // '/usr/sbin/apache2';
my $MODULES = $ENV{USERS_TEST_HTTPD_MODULES} // '/usr/lib/apache2/modules';

my @MODULES = qw(mpm_event authn_core authz_core authz_host remoteip socache_shmcb ssl);
my $LOAD = join "\n", (map { "LoadModule ${_}_module $MODULES/mod_$_.so" } @MODULES), "LoadModule users_module $MODULE";

my %NUMBER = (pg1 => 11, pg2 => 12, pg3 => 13, web1 => 21, web2 => 22, lb => 31);
my %OWNER  = (lb => 'haproxy', (map { $_ => 'postgres' } qw(pg1 pg2 pg3)), (map { $_ => 'www-data' } qw(web1 web2)));
my @NODES  = qw(pg1 pg2 pg3);
my @WEBS   = qw(web1 web2);
my ($PG_BIN) = sort { ($b =~ m{/(\d+)/bin})[0] <=> ($a =~ m{/(\d+)/bin})[0] } glob '/usr/lib/postgresql/*/bin';

# Nobody but the lab's hosts can come near.
my %PASSWORD = map { $_ => "$_-password" } qw(postgres replicator mod_users);

sub start ($class, %option) {
    my $lab  = Users::Test::Lab->enter;
    my $self = bless { lab => $lab, pid => {}, tokens => $option{tokens} }, $class;
    _need('patroni', 'etcd', 'etcdctl', 'haproxy', 'pgbouncer', 'curl');
    for my $host (sort keys %NUMBER) {
        $lab->add_host($host, $NUMBER{$host}, $OWNER{$host});
    }
    $lab->write_names(db => 'lb', api => 'lb');
    $self->start_etcd($_) for @NODES;
    $self->start_patroni($_) for @NODES;
    $self->wait_until_healthy;
    $self->_install;
    $self->start_httpd($_) for @WEBS;
    $self->_start_haproxy;
    return $self;
}

sub _need (@programs) {
    for my $program (@programs) {
        die "this needs $program: ./quickstart cluster installs it\n"
            unless grep { -x "$_/$program" } split /:/, $ENV{PATH};
    }
}

# What is waited for takes seconds.
sub wait_for ($self, $what, $condition) {
    Users::Test::Process::wait_until(sub { $condition->() || (sleep(PAUSE), 0)[1] }, $what, PATIENCE);
}

# For whoever has to find out why a test failed.
sub show_logs ($self) {
    my $dir = $self->lab->dir;
    Test::More::diag(`cd $dir && for log in */*.log; do echo "== \$log"; grep -v 'INFO: no action' \$log | tail -n 15; done`);
}

sub lab   ($self) { $self->{lab} }
sub nodes ($self) { @NODES }
sub webs  ($self) { @WEBS }

# A configuration file of t/cluster, for a host. Returns its path.
sub _configure ($self, $host, $name, %values) {
    my $lab  = $self->lab;
    my $text = slurp("$SOURCE/t/cluster/$name.in") || die "t/cluster/$name.in: $!\n";
    %values = (DIR => $lab->dir . "/$host", HOST => $host, ADDRESS => $lab->address($host), %values);
    $text =~ s/\@([A-Z_]+)\@/$values{$1} \/\/ die "$name: what is $1?\n"/ge;
    my $path = $lab->give($OWNER{$host}, $lab->write("$host/$name", $text));
    chmod 0600, $path;
    return $path;
}

sub postgres ($self, $node) {
    return $self->{postgres}{$node} //= Users::Test::Postgres->new($self->lab->dir . "/$node");
}

sub sql ($self, $query) {
    return $self->postgres($self->leader)->sql('users', $query);
}

# ---- etcd ------------------------------------------------------------------------------------

# Members are known to each other from the start, and so one can come back with its data.
sub start_etcd ($self, $node) {
    my ($lab, $dir) = ($self->lab, $self->lab->dir . "/$node");
    my ($name, $address) = ($lab->name($node), $lab->address($node));
    my @tls = ('trusted-ca-file' => "$dir/ca.crt", 'cert-file' => "$dir/tls.crt", 'key-file' => "$dir/tls.key");
    my @command = ('etcd',
        '--name' => $node, '--data-dir' => "$dir/etcd",
        '--initial-cluster' => join(',', map { "$_=https://" . $lab->name($_) . ':2380' } @NODES),
        '--initial-advertise-peer-urls' => "https://$name:2380", '--listen-peer-urls' => "https://$address:2380",
        '--advertise-client-urls' => "https://$name:2379", '--listen-client-urls' => "https://$address:2379",
        '--heartbeat-interval' => 200, '--election-timeout' => 2000, '--client-cert-auth', '--peer-client-cert-auth',
        $self->_etcd_api eq 'etcd' ? '--enable-v2' : ());
    for my $peer ('', 'peer-') {
        push @command, map { $_ % 2 ? $tls[$_] : "--$peer$tls[$_]" } keys @tls;
    }
    $self->{pid}{"$node etcd"} = $lab->spawn($node, \@command, user => 'postgres');
}

# What Patroni calls it. With version 3 of the API, Patroni before 3.0.3 lets an old primary that comes back from a
# partition take the leader's key from its successor.
sub _etcd_api ($self) {
    return $self->{etcd_api} //= `patroni --version` =~ /^patroni 3\.0\.[0-2]\b/ ? 'etcd' : 'etcd3';
}

# The node whose etcd leads, where the members agree on one.
sub etcd_leader ($self) {
    my $lab = $self->lab;
    my @urls = map { 'https://' . $lab->name($_) . ':2379' } grep { $self->runs($_, 'etcd') && !$self->{away}{$_} } @NODES;
    my $tls = $lab->dir . '/lb/tls';
    local $ENV{ETCDCTL_API} = 3;
    my ($status, $output) = Users::Test::Process::run(['etcdctl', '--endpoints=' . join(',', @urls),
        "--cacert=@{[$lab->dir]}/ca.crt", "--cert=$tls.crt", "--key=$tls.key", qw(endpoint status --write-out=json)],
        $lab->dir . '/etcdctl');
    return if $status;
    my @status = map { $_->{Status} } JSON::PP->new->decode($output)->@*;
    my %leader = map { ($_->{leader} // 0) => 1 } @status;
    return if keys %leader != 1 || $leader{0};
    my $index = first { $status[$_]{header}{member_id} == $status[$_]{leader} } keys @status;
    return defined $index ? $urls[$index] =~ s{^https://(\w+)\..*}{$1}r : ();
}

# ---- Patroni ---------------------------------------------------------------------------------

sub start_patroni ($self, $node) {
    my $conf = $self->_configure($node, 'patroni.yml', BIN => $PG_BIN, ETCD => $self->_etcd_api,
        map { (uc . '_PASSWORD' => $PASSWORD{$_}) } qw(postgres replicator));
    $self->{pid}{"$node patroni"} = $self->lab->spawn($node, ['patroni', $conf], user => 'postgres');
}

# Ask Patroni's REST API. Returns the status, undef where there is no answer, and the body.
sub patroni ($self, $node, $method, $path, $body = undef) {
    my $tls = $self->lab->dir . '/lb/tls';
    my @data = defined $body ? ('-H', 'Content-Type: application/json', '-d', JSON::PP->new->encode($body)) : ();
    my ($status, $output) = Users::Test::Process::run(
        [qw(curl -sS --max-time), $method eq 'GET' ? 5 : PATIENCE / 2, '--cacert', $self->lab->dir . '/ca.crt', '--cert', "$tls.crt", '--key', "$tls.key",
            '-X', $method, '-w', '\n%{http_code}', @data, 'https://' . $self->lab->name($node) . ":8008$path"],
        $self->lab->dir . '/curl');
    return if $status;
    my ($answer, $code) = $output =~ /^(.*)\n(\d+)$/s;
    return ($code, $answer);
}

# kill -9 of a server of PostgreSQL and of its Patroni.
sub kill_node ($self, $node) {
    $self->kill_patroni($node);
    $self->postgres($node)->kill;
}

sub kill_patroni ($self, $node) { $self->lab->end($node, $self->{pid}{"$node patroni"}, 'KILL') }
sub kill_etcd ($self, $node) { $self->lab->end($node, $self->{pid}{"$node etcd"}, 'KILL') }

# A node that is cut off cannot be asked.
sub cut_off ($self, $node, @hosts) {
    $self->{away}{$node} = 1;
    $self->lab->cut_off($node, @hosts);
}

sub reconnect ($self, $node, @hosts) {
    delete $self->{away}{$node};
    $self->lab->reconnect($node, @hosts);
}

# Have a replica fetch all its data again.
sub rebuild ($self, $node) {
    my $data   = $self->lab->dir . "/$node/data";
    my $before = (stat $data)[1];
    my ($status, $body) = $self->patroni($node, POST => '/reinitialize', { force => JSON::PP::true });
    die "it is not rebuilt: $body\n" if $status != 200;
    $self->wait_for("$node to be rebuilt", sub { ((stat $data)[1] // $before) != $before });
}

sub psql ($self) { "$PG_BIN/psql" }

sub members ($self) {
    for my $node (grep { $self->runs($_, 'patroni') && !$self->{away}{$_} } @NODES) {
        my ($status, $body) = $self->patroni($node, GET => '/cluster');
        next if ($status // 0) != 200;
        return map { $_->{name} => $_ } JSON::PP->new->decode($body)->{members}->@*;
    }
    return;
}

sub _with_role ($self, @roles) {
    my %members = $self->members;
    return first { my $role = $members{$_}{role}; grep { $role eq $_ } @roles } sort keys %members;
}

sub leader ($self) { $self->_with_role('leader') }
sub sync_standby ($self) { $self->_with_role('sync_standby') }

# One that is not the leader, nor the synchronous standby.
sub other_replica ($self) { $self->_with_role('replica') }

sub switch_over ($self) {
    my $leader = $self->leader;
    my ($status, $body) = $self->patroni($leader, POST => '/switchover', { leader => $leader });
    die "no switchover: $body\n" if $status != 200;
}

# ---- Is all well? ----------------------------------------------------------------------------

sub runs ($self, $host, $what) {
    my $pid = $self->{pid}{"$host $what"} // return 0;
    return kill 0 => $pid;
}

sub healthy ($self) {
    my %members = $self->members;
    my ($leader, @more) = grep { $members{$_}{role} eq 'leader' } keys %members;
    return 0 if !$leader || @more || keys %members != @NODES;
    return 0 if grep { $_->{state} !~ /^(?:running|streaming)$/ } values %members;
    my $streams = eval {
        $self->postgres($leader)->sql('postgres', <<~'SQL');
            select count(*) || ' ' || count(*) filter (where sync_state = 'sync') from pg_stat_replication
            where state = 'streaming'
            SQL
    } // '';
    return $streams eq '2 1' && $self->sync_standby && $self->etcd_leader;
}

sub wait_until_healthy ($self) {
    $self->wait_for('a cluster of a primary, a synchronous standby and another one', sub { $self->healthy });
}

# ---- The database ----------------------------------------------------------------------------

sub _install ($self) {
    my $postgres = $self->postgres($self->leader);
    $postgres->sql('postgres', 'create database users');
    $postgres->run_file('users', "$SOURCE/sql/install.sql");
    $postgres->run_file('users', "$SOURCE/sql/demo.sql");
    $postgres->run_file('users', "$SOURCE/t/lib/Users/Test/fixture.sql", $self->{tokens}->%*);
    $postgres->sql('users', "alter role mod_users password '$PASSWORD{mod_users}'");
}

# ---- httpd -----------------------------------------------------------------------------------

# How a host of httpd names the primary, and the replicas.
my $HOSTS = 'host=' . join ',', map { "$_.cluster.example" } @NODES;
my %CONNINFO = (
    web1 => { PRIMARY => "$HOSTS target_session_attrs=read-write", REPLICA => $HOSTS },
    web2 => { PRIMARY => 'host=db.cluster.example port=5000', REPLICA => 'host=db.cluster.example port=5001' },
);

sub _configure_httpd ($self, $web, %option) {
    return $self->_configure($web, 'httpd.conf', MODULES => $LOAD, PREPARE => 'on', $CONNINFO{$web}->%*, %option);
}

sub start_httpd ($self, $web) {
    my $lab  = $self->lab;
    my $conf = $self->_configure_httpd($web);
    my $log  = $lab->dir . "/$web/error.log";
    $lab->give('www-data' => $lab->write("$web/pgpass", "*:*:users:mod_users:$PASSWORD{mod_users}\n"));
    chmod 0600, $lab->dir . "/$web/pgpass";
    unlink $log;
    my $pid = $self->{pid}{"$web httpd"} = $lab->spawn($web, [$HTTPD, '-DFOREGROUND', '-f', $conf], name => 'httpd');
    $self->wait_for("httpd on $web", sub {
        die "httpd ends: " . slurp($lab->dir . "/$web/httpd.log") if defined ended($pid);
        slurp($log) =~ /resuming normal operations/;
    });
}

# Have it read its configuration again, with values of that.
sub reload_httpd ($self, $web, %option) {
    my $log         = $self->lab->dir . "/$web/error.log";
    my $generations = sub { scalar(() = slurp($log) =~ /resuming normal operations/g) };
    my $before      = $generations->();
    $self->_configure_httpd($web, %option);
    kill USR1 => $self->{pid}{"$web httpd"};
    $self->wait_for("httpd on $web to restart", sub { $generations->() > $before });
}

# ---- PgBouncer -------------------------------------------------------------------------------

# On a host of httpd, which goes through it to the primary by HAProxy's address from then on.
sub start_pgbouncer ($self, $web) {
    my $lab   = $self->lab;
    my $users = $lab->give('www-data' => $lab->write("$web/userlist.txt", qq("mod_users" "$PASSWORD{mod_users}"\n)));
    chmod 0600, $users;
    my $conf = $self->_configure($web, 'pgbouncer.ini');
    $self->{pid}{"$web pgbouncer"} = $lab->spawn($web, ['pgbouncer', $conf], user => 'www-data');
    $self->reload_httpd($web, PREPARE => 'off', PRIMARY => "host=$web.cluster.example hostaddr=127.0.0.1 port=6432");
}

sub stop_pgbouncer ($self, $web) {
    $self->reload_httpd($web);
    $self->lab->end($web, $self->{pid}{"$web pgbouncer"}, 'KILL');
}

# ---- HAProxy ---------------------------------------------------------------------------------

sub _start_haproxy ($self) {
    my $conf = $self->_configure('lb', 'haproxy.cfg');
    $self->{pid}{'lb haproxy'} = $self->lab->spawn('lb', ['haproxy', '-db', '-f', $conf]);
}

1;
