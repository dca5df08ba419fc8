package Users::Test::Load;

# A client that sends requests until it is told to end: see Users::Test::Fault.

use v5.36;
use List::Util  qw(max);
use POSIX       qw(SIGTERM SIG_BLOCK sigpending sigprocmask);
use Time::HiRes qw(sleep);
use Users::Test::Client;
use Users::Test::Process qw(now slurp);

# What a request has its own number in place of, which is as long.
use constant SERIAL => 'serial-of-request';

# Send the requests of a file, which has a NUL between them, in turn to a port, with a pause of so many seconds
# after each. Prints a line for each: when it ended, how many seconds it took, the status of its answer (0: there was none),
# its method, its number and how it ended.
sub run ($port, $file, $host = '127.0.0.1', $pause = 0) {
    my @requests = split /\0/, slurp($file);
    my $connection;
    STDOUT->autoflush(1);
    sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGTERM));    # the last request has its answer too
    for (my $i = 0; !_is_told_to_end(); $i++) {
        my $serial  = sprintf '%08d-%08d', $$, $i;
        my $request = $requests[$i % @requests] =~ s/@{[SERIAL]}/$serial/gr;
        my $reused  = defined $connection;
        my $before  = now;
        my $answer  = eval {
            $connection //= Users::Test::Client->new($port, $host);
            $connection->send($request);
            $connection->answer;
        };
        my $status = $answer ? $answer->{status} : 0;
        my $end    = $answer ? 'answered' : _fault($connection, $reused);
        undef $connection if !$answer || ($answer->{headers}{connection} // '') eq 'close';
        printf "%.6f %.6f %d %s %s %s\n", now, now - $before, $status, $request =~ /^(\w+)/, $serial, $end;
        # else refusals would be all that the machine does
        sleep max($pause, $status == 200 ? 0 : 0.005);
    }
}

sub _is_told_to_end () {
    my $pending = POSIX::SigSet->new;
    sigpending($pending);
    return $pending->ismember(SIGTERM);
}

# Why there is no answer: no connection, its end within the answer, or before a byte of it. That
# may be the server's right where the connection had been idle.
sub _fault ($connection, $reused) {
    return 'refused' if !$connection;
    return 'broken'  if $connection->heard || $@ =~ /in time/;
    return $reused ? 'idle' : 'unheard';
}

1;
