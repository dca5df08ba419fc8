package Users::Test::Lab;

=head1 NAME

Users::Test::Lab - hosts in a network of their own, of Linux namespaces

=head1 SYNOPSIS

    use Users::Test::Lab;

    my $lab = Users::Test::Lab->enter;    # skips the script where there can be no namespaces
    $lab->add_host(web1 => 21);
    my $pid = $lab->spawn(web1 => ['sleep', 60], user => 'www-data');
    $lab->cut_off('web1');                # from all that are not cut off
    $lab->reconnect('web1');

=head1 DESCRIPTION

C<enter> runs the script again where processes, mounts and the network are its own: it needs root. All that
the lab has (processes, files in C<dir>, links) ends with the script, even when that is killed.

A host is a network namespace with an address and a name in /etc/hosts: C<address>, C<name>. Its directory, of its
name in C<dir>, has the files F<tls.crt>, F<tls.key> and F<tls.pem> (both of them), a certificate by the lab's own
authority, which is F<ca.crt>. The script itself is at C<.1>. Hosts that are cut off reach each other, and nobody else.

C<run> runs a program on a host to its end, and returns its exit status, standard output and standard error.
C<power_off> takes a host from the network and kills what runs on it; C<power_on> is for its network alone.

=cut

use v5.36;
use Cwd        qw(abs_path);
use List::Util qw(any);
use Test::More ();
use Users::Test::Process ();

use constant {
    DOMAIN  => 'cluster.example',
    NETWORK => '10.77.0',
    DIR     => '/run/lab',
};

# What each namespace is needed for. /run and what is in it are the lab's own.
my @NAMESPACES = qw(unshare --net --mount --pid --fork --kill-child --mount-proc);
my $GROUND = join ' && ', 'mount -t tmpfs -o mode=755 lab /run', 'ip link set lo up',
    (map { "ip link add $_ type bridge && ip link set $_ up" } qw(lan island)),
    'ip netns add probe', 'ip link add probe type veth peer name eth0 netns probe', 'ip netns delete probe';

sub enter ($class) {
    _go_inside() unless $ENV{USERS_TEST_LAB};
    system('sh', '-c', $GROUND) == 0 or die "the lab's network can't be made\n";
    mkdir DIR or die DIR . ": $!\n";
    my $self = bless { hosts => {} }, $class;
    $self->_ip('address', 'add', NETWORK . '.1/24', 'dev', 'lan');
    $self->_make_authority;
    return $self;
}

# Does not return. The first process inside is a shell, which reaps whom nobody else does.
sub _go_inside () {
    $ENV{PATH} .= ':/usr/sbin:/sbin';
    for my $program (qw(ip unshare setpriv openssl)) {
        die "this needs $program: install it\n" unless any { -x "$_/$program" } split /:/, $ENV{PATH};
    }
    my $complaint = `@NAMESPACES sh -c '$GROUND' 2>&1`;
    if ($?) {
        Test::More::plan(skip_all => 'no namespaces can be made here (root may, unless the machine forbids it): '
                . $complaint =~ s/\s+/ /gr);
    }
    my @script = ($^X, (map { '-I' . abs_path($_) } grep { !ref && -d } @INC), abs_path($0), @ARGV);
    defined(my $pid = fork) or die "fork: $!\n";
    if (!$pid) {
        $ENV{USERS_TEST_LAB} = 1;
        exec qw(setpriv --pdeathsig KILL), @NAMESPACES, 'sh', '-c', '"$@"; exit $?', 'sh', @script;
        die "setpriv: $!\n";
    }
    local @SIG{qw(HUP INT PIPE TERM)} = (sub ($signal) { kill KILL => $pid }) x 4;
    1 while waitpid($pid, 0) == -1 && $!{EINTR};
    exit($? & 127 ? 128 + ($? & 127) : $? >> 8);
}

sub dir ($self) { DIR }

# ---- Hosts -----------------------------------------------------------------------------------

# number: the last part of its address. owner: a user whose directory and key it is.
sub add_host ($self, $host, $number, $owner = 'root') {
    my $dir = DIR . "/$host";
    $self->{hosts}{$host} = { number => $number };
    $self->_ip('netns', 'add', $host);
    $self->_ip('link', 'add', $host, qw(type veth peer name eth0 netns), $host);
    $self->_ip('-n', $host, 'address', 'add', $self->address($host) . '/24', 'dev', 'eth0');
    $self->_ip('-n', $host, 'link', 'set', $_, 'up') for qw(lo eth0);
    $self->_ip('link', 'set', $host, 'master', 'lan', 'up');
    mkdir $dir or die "$dir: $!\n";
    $self->_certify($host);
    $self->give($owner, $dir, map { "$dir/tls.$_" } qw(crt key));
}

sub address ($self, $host) { NETWORK . ".$self->{hosts}{$host}{number}" }
sub name ($self, $host) { "$host." . DOMAIN }

# names: by name, the host. Everybody knows them all.
sub write_names ($self, %names) {
    my %address = map { $_ => $self->address($_) } keys $self->{hosts}->%*;
    $address{$_} = $address{ $names{$_} } for keys %names;
    $self->write('hosts', "127.0.0.1 localhost\n", map { "$address{$_} " . $self->name($_) . " $_\n" } sort keys %address);
    system(qw(mount --bind), DIR . '/hosts', '/etc/hosts') == 0 or die "/etc/hosts can't be the lab's own\n";
}

# A file of the lab. Returns its path.
sub write ($self, $name, @text) {
    my $path = DIR . "/$name";
    open my $file, '>:utf8', $path or die "$path: $!\n";
    print $file @text;
    close $file or die "$path: $!\n";
    return $path;
}

sub give ($self, $owner, @paths) {
    chown +(getpwnam $owner)[2, 3], @paths;
    return $paths[0];
}

# ---- Programs --------------------------------------------------------------------------------

sub _at ($self, $host, $command, $user) {
    my @as = $user ? ('setpriv', "--reuid=$user", '--regid=' . getgrgid((getpwnam $user)[3]), '--init-groups') : ();
    return [qw(ip netns exec), $host, @as, @$command];
}

# Its output is in HOST/NAME.log. Returns its process id.
sub spawn ($self, $host, $command, %option) {
    my $log = DIR . "/$host/" . ($option{name} // $command->[0]) . '.log';
    local $ENV{HOME} = DIR . "/$host";    # root's is out of their sight
    my $pid = Users::Test::Process::spawn($self->_at($host, $command, $option{user}), $option{output} // $log, $log);
    $self->{hosts}{$host}{running}{$pid} = 1;
    return $pid;
}

sub run ($self, $host, $command, %option) {
    local $ENV{HOME} = DIR . "/$host";
    return Users::Test::Process::run($self->_at($host, $command, $option{user}), DIR . "/$host/command");
}

# End a program of spawn's; all is well where it has ended.
sub end ($self, $host, $pid, $signal = 'TERM') {
    return unless delete $self->{hosts}{$host}{running}{$pid};
    return Users::Test::Process::end($pid, $signal);
}

# ---- The network -----------------------------------------------------------------------------

sub cut_off ($self, @hosts) { $self->_ip('link', 'set', $_, 'master', 'island') for @hosts }
sub reconnect ($self, @hosts) { $self->_ip('link', 'set', $_, 'master', 'lan') for @hosts }

sub power_off ($self, $host) {
    $self->_ip('link', 'set', $host, 'down');
    my @processes = `ip netns pids $host` =~ /\d+/g;
    kill KILL => @processes;
    $self->end($host, $_, 'KILL') for keys $self->{hosts}{$host}{running}->%*;
}

sub power_on ($self, $host) { $self->_ip('link', 'set', $host, 'up') }

sub _ip ($self, @arguments) {
    system('ip', @arguments) == 0 or die "ip @arguments has failed\n";
}

# ---- Certificates ----------------------------------------------------------------------------

my @KEY = qw(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes);

sub _make_authority ($self) {
    my $path = DIR . '/ca';
    $self->_openssl('req', '-x509', @KEY, qw(-days 2 -subj /CN=Lab -keyout), "$path.key", '-out', "$path.crt");
}

# The names that clients know the services by are on every host's certificate, since a TCP proxy passes TLS on.
sub _certify ($self, $host) {
    my ($path, $name) = (DIR . "/$host/tls", $self->name($host));
    my $names = join ',', map { "DNS:$_" } $name, $self->name('db'), $self->name('api');
    $self->_openssl('req', '-new', @KEY, '-subj', "/CN=$name", '-addext',
        "subjectAltName=$names,IP:" . $self->address($host) . ',IP:127.0.0.1', '-keyout', "$path.key", '-out', "$path.csr");
    $self->_openssl('x509', '-req', '-in', "$path.csr", '-CA', DIR . '/ca.crt', '-CAkey', DIR . '/ca.key',
        qw(-CAcreateserial -copy_extensions copy -days 2 -out), "$path.crt");
    chmod 0600, "$path.key";
    $self->write("$host/ca.crt", Users::Test::Process::slurp(DIR . '/ca.crt'));
    $self->write("$host/tls.pem", Users::Test::Process::slurp("$path.crt"), Users::Test::Process::slurp("$path.key"));
    chmod 0600, "$path.pem";
}

sub _openssl ($self, @arguments) {
    my ($status, undef, $error) = Users::Test::Process::run(['openssl', @arguments], DIR . '/openssl');
    die "openssl @arguments: $error" if $status;
}

1;
