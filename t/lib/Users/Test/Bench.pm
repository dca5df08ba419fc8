package Users::Test::Bench;

=head1 NAME

Users::Test::Bench - what the programs of t/bench that put load on a server share

=head1 SYNOPSIS

    use Users::Test::Bench;

    my $bench = Users::Test::Bench->new($server, seconds => 3);
    $bench->make_durable;
    $bench->start_httpd(1);
    my $figures = $bench->load('reads', 64, accounts => 1000);
    say $figures->{rate};

Brings the functions C<cores>, C<give_up>, C<median>, C<program>, C<progress>, C<silence_tests> and C<write_file>.

=head1 METHODS

C<make_durable> has PostgreSQL wait for the disk at each commit. C<start_httpd> starts httpd with so many children, as
conf/mpm.conf has them; C<children> are their process ids.

C<psql> runs psql as superuser and C<finish> any program, however long that takes. Both return its output, and
C<file> is the path of a file of this bench.

C<load> has wrk send requests of a kind of F<t/bench/load.lua> over so many connections. Options: C<accounts> to draw
from, of which those up to C<unchanged> are never changed, C<seconds>, C<path>, and C<check> for the status of each answer.
An answer that is a fault ends the program. Returns how many C<requests> were answered, the C<rate> per second, the
microseconds of CPU that C<httpd> and C<postgres> took for each, the milliseconds of the C<p50> and C<p99>, how
many connections httpd C<closed> under a request, and the percentage of the machine's CPU that C<others> had: neither
these servers nor wrk. Figures of a machine that others use mean little.

C<machine> tells what all of it ran on.

=cut

use v5.36;
use parent qw(Exporter);
use Cwd            qw(abs_path);
use File::Basename qw(dirname);
use List::Util     qw(max min sum);
use POSIX          ();
use Users::Test    ();
use Users::Test::Process qw(reap slurp spawn wait_until);

use constant THREADS => 384;    # conf/mpm.conf's, as the number of children is

our @EXPORT = qw(cores give_up median program progress silence_tests write_file);

my $LOAD = abs_path(dirname(__FILE__) . '/../../../bench/load.lua');

# option: seconds, of each measurement.
sub new ($class, $server, %option) {
    return bless {
        server  => $server,
        seconds => $option{seconds},
        wrk     => program('wrk', 'wrk', map { "$_/wrk" } split /:/, $ENV{PATH}),
        psql    => program('psql', 'postgresql-client', map { "$_/psql" } split /:/, $ENV{PATH}),
        runs    => 0,
    }, $class;
}

sub program ($name, $package, @places) {
    my ($found) = grep { -x } @places;
    return $found // give_up("$name is missing: install the package $package");
}

sub give_up ($why) {
    print STDERR "bench: $why\n";
    exit 1;
}

# Users::Test tells what it finds as a test does; here only failures are of interest.
sub silence_tests () {
    Test::More->builder->output(\my $unread);
    Test::More->builder->no_ending(1);
}

sub progress ($what) {
    print STDERR "$what\n";
}

sub write_file ($path, $content) {
    open my $file, '>:raw', $path or die "$path: $!\n";
    print $file $content;
    close $file or die "$path: $!\n";
}

# Of a figure, by its name, in a list of measurements.
sub median ($name, $measured) {
    my @sorted = sort { $a <=> $b } map { $_->{$name} } @$measured;
    return ($sorted[$#sorted / 2] + $sorted[@sorted / 2]) / 2;
}

sub file ($self, $name) {
    return $self->{server}->dir . "/bench-$name";
}

# ---- The servers -----------------------------------------------------------------------------

# The tests' cluster trades durability for speed.
sub make_durable ($self) {
    my $server = $self->{server};
    $server->sql('alter system set fsync = on');
    $server->postgres->restart;
    my $settings = join ',', map { $server->sql("show $_") } qw(fsync synchronous_commit);
    $settings eq 'on,on' or give_up('the cluster is not durable');
}

# As in conf/mpm.conf, and without the tests' logs.
sub start_httpd ($self, $children) {
    my $server  = $self->{server};
    my $threads = $children * THREADS;
    $server->start(
        modules => ['reqtimeout'],
        conf    => <<~CONF,
            LogLevel notice
            StartServers $children
            ServerLimit $children
            ThreadLimit @{[THREADS]}
            ThreadsPerChild @{[THREADS]}
            MaxRequestWorkers $threads
            MinSpareThreads 1
            MaxSpareThreads $threads
            MaxKeepAliveRequests 0
            CONF
        vhost => 'CustomLog /dev/null - env=never',
    );
    $server->allow_log(qr/AH00484: server reached MaxRequestWorkers/);
    wait_until(sub { $self->children == $children }, 'the children');
}

sub children ($self) {
    my @children = sort { $a <=> $b } $self->{server}->children;
    return @children;
}

# ---- Programs --------------------------------------------------------------------------------

# Run a program to its end, however long that takes (an alarm bounds it). Returns its output.
sub finish ($self, $command) {
    my ($stdout, $stderr) = map { $self->file($_) } qw(stdout stderr);
    unlink $stdout, $stderr;
    my $pid = spawn($command, $stdout, $stderr);
    my $status;
    1 until defined($status = reap($pid));
    $status == 0 or give_up("$command->[0] ended with $status: " . slurp($stdout) . slurp($stderr));
    return slurp($stdout);
}

sub psql ($self, @arguments) {
    return $self->finish([$self->psql_command(@arguments)]) =~ s/\n\z//r;
}

sub psql_command ($self, @arguments) {
    return ($self->{psql}, '-XAtq', '--set=ON_ERROR_STOP=1', $self->{server}->conninfo =~ s/user=\w+/user=postgres/r,
        @arguments);
}

# Of a load generator: it shares the machine with what it measures.
sub threads ($connections) {
    return max(1, min($connections, int(cores() / 2)));
}

sub load ($self, $kind, $connections, %how) {
    my $server  = $self->{server};
    my $seconds = $how{seconds} // $self->{seconds};
    my @before  = cpus($server);
    my $output  = $self->finish([$self->{wrk}, '--threads', threads($connections), '--connections', $connections,
        '--duration', "${seconds}s", '--timeout', '10s', '--script', $LOAD,
        'http://127.0.0.1:' . $server->port . ($how{path} // '/api/users'), '--', $kind, ++$self->{runs},
        $how{unchanged} // 0, $how{accounts}, $self->file('tags'), Users::Test::REGISTER_TOKEN, $how{check} // 0]);
    my ($requests, $duration, $p50, $p99, $refused, $wrong, $failed, $closed) =
        split ' ', (split /\n/, $output)[-1];
    my $what = "$kind at $connections connections";
    $requests or give_up("$what: no answer");
    $refused + $wrong + $failed == 0
        or give_up("$what: of $requests answers $refused were 4xx or 5xx and $wrong had another "
            . "status than they should; $failed connections failed or took too long. "
            . ((grep { !/:notice\]/ } $server->error_log)[-1] // ''));
    my @after = cpus($server);
    my ($httpd, $postgres, $wrk, $busy) = map { $after[$_] - $before[$_] } keys @after;
    return {
        requests => $requests,
        rate     => $requests / $duration * 1e6,
        httpd    => $httpd / $requests,
        postgres => $postgres / $requests,
        others   => 100 * ($busy - $httpd - $postgres - $wrk) / $duration / cores(),
        p50      => $p50 / 1000,
        p99      => $p99 / 1000,
        closed   => $closed,
    };
}

# ---- The machine -----------------------------------------------------------------------------

sub cores () {
    state $cores = 0 + `nproc`;
    return $cores;
}

sub machine ($self) {
    my $server = $self->{server};
    my $httpd =
        $self->finish([$ENV{USERS_TEST_HTTPD} // '/usr/sbin/apache2', '-v']) =~ s{.*?/(\S+).*}{$1}sr;
    my $postgresql = $server->sql('show server_version') =~ s/ .*//r;
    my $filesystem = $self->finish([qw(/usr/bin/stat --file-system --format=%T), $server->dir]) =~ s/\n//r;
    my $kernel     = (POSIX::uname())[2];
    return cores() . " cores, httpd $httpd, PostgreSQL $postgresql on $filesystem, Linux $kernel";
}

# Microseconds of CPU that have gone to httpd, to PostgreSQL, to programs that this one ran, and to all; what the host of a
# virtual machine kept for itself (steal) is among the last.
sub cpus ($server) {
    my (undef, @all) = split ' ', (split /\n/, slurp('/proc/stat'))[0];
    my (undef, undef, @ended) = times;
    return cpu($server->pid), cpu($server->postgres->pid), 1e6 * sum(@ended), in_microseconds(sum(@all[0 .. 2, 5 .. 7]));
}

sub in_microseconds ($ticks) {
    return $ticks * 1e6 / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}

# Microseconds of a process and its children, the ended ones too.
sub cpu ($parent) {
    my $ticks = 0;
    for my $file (glob '/proc/[0-9]*/stat') {
        my ($pid, @fields) = (eval { slurp($file) } // '') =~ /^(\d+) \(.*\) (.*)/s or next;
        my ($of, @used) = (split ' ', $fields[0])[1, 11 .. 14];
        $ticks += sum(@used[0, 1], $pid == $parent ? @used[2, 3] : ()) if $pid == $parent || $of == $parent;
    }
    return in_microseconds($ticks);
}

1;
