package Users::Test::Process;

# Running programs and waiting for them.

use v5.36;
use Exporter qw(import);
use List::Util  qw(min);
use POSIX       qw(WNOHANG);
use Time::HiRes qw(CLOCK_MONOTONIC clock_gettime sleep);

our @EXPORT_OK = qw(@HANDLED DEADLINE end end_all ended now reap run slurp spawn wait_until);

# Seconds that anything waited for may take; memcheck slows httpd down some twenty times.
use constant DEADLINE => $ENV{USERS_TEST_VALGRIND} ? 300 : 60;

our @HANDLED = qw(HUP INT PIPE TERM ALRM);    # signals that end a test as a whole

my %running;    # by process id

# Seconds since some moment, by a clock that nobody sets, as a machine's first minutes set the time
# of day.
sub now : prototype() () {
    return clock_gettime(CLOCK_MONOTONIC);
}

# Start a program in / (the checkout may be out of another user's sight) with its output
# going to files. Returns its process id.
sub spawn ($command, $stdout, $stderr) {
    # A signal that comes before the program runs is the program's: our handlers would end the test's servers.
    my ($signals, $before) = (POSIX::SigSet->new(map { POSIX->can("SIG$_")->() } @HANDLED), POSIX::SigSet->new);
    POSIX::sigprocmask(POSIX::SIG_BLOCK, $signals, $before);
    my $pid = fork;
    if (!defined $pid || $pid) {
        POSIX::sigprocmask(POSIX::SIG_SETMASK, $before);
        $running{ $pid // die "fork: $!\n" } = 1;
        return $pid;
    }
    $SIG{$_} = 'DEFAULT' for @HANDLED;
    POSIX::sigprocmask(POSIX::SIG_SETMASK, $before);
    POSIX::setsid();    # prefork ends its children by a signal to its process group
    open STDIN,  '<',  '/dev/null';
    open STDOUT, '>>', $stdout;
    open STDERR, '>>', $stderr;
    chdir '/';
    no warnings 'exec';
    exec {$command->[0]} @$command or print STDERR "$command->[0]: $!\n";
    POSIX::_exit(127);
}

# The exit status, as the shell counts it, of a program that has ended; undef while it runs.
sub ended ($pid) {
    return if waitpid($pid, WNOHANG) == 0;
    delete $running{$pid};
    return $? & 127 ? 128 + ($? & 127) : $? >> 8;
}

# Wait for the end of a program. Returns its exit status, undef where it doesn't end in time.
sub reap ($pid) {
    my $status;
    wait_until(sub { defined($status = ended($pid)) }, undef);
    return $status;
}

# Tell a program to end. Returns its exit status.
sub end ($pid, $signal = 'TERM') {
    kill $signal => $pid;
    my $status = reap($pid);
    return $status if defined $status;
    kill KILL => $pid;
    reap($pid);
    return 'killed, since it did not end by itself';
}

sub end_all () {
    end($_) for keys %running;
}

# Run a program to its end. Returns its exit status, standard output and standard error.
sub run ($command, $scratch) {
    my ($stdout, $stderr) = map { "$scratch.$_" } qw(stdout stderr);
    unlink $stdout, $stderr;
    my $status = reap(spawn($command, $stdout, $stderr)) // die "@$command: does not end\n";
    return ($status, slurp($stdout), slurp($stderr));
}

# Wait until a condition holds, for so many seconds at most. Returns what it returned; where it stays false, dies
# with what was waited for, or returns false where that is undef. Most programs end within milliseconds.
sub wait_until ($condition, $what, $seconds = DEADLINE) {
    my ($end, $pause) = (now + $seconds, 0.001);
    while (1) {
        my $result = $condition->();
        return $result if $result;
        last if now > $end;
        sleep $pause;
        $pause = min(2 * $pause, 0.02);
    }
    die "waited in vain for $what\n" if defined $what;
    return;
}

sub slurp ($path) {
    open my $file, '<:raw', $path or return '';
    local $/;
    return <$file> // '';
}

1;
