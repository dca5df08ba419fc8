package Users::Test::Load;

# A client that sends requests until it is told to end: see Users::Test::Fault.

use v5.36;
use Time::HiRes qw(sleep time);
use Users::Test::Client;
use Users::Test::Process qw(slurp);

# Send the requests of a file, which has a NUL between them, in turn to a port. Prints a line
# for each answer: when it came, how many seconds it took, its status (0: the connection ended).
sub run ($port, $file) {
    my @requests = split /\0/, slurp($file);
    my $connection;
    my $done = 0;
    local $SIG{TERM} = sub { $done = 1 };
    STDOUT->autoflush(1);
    for (my $i = 0; !$done; $i++) {
        my $before = time;
        my $answer = eval {
            $connection //= Users::Test::Client->new($port);
            $connection->send($requests[$i % @requests]);
            $connection->answer;
        };
        last if $done && !$answer;    # it was interrupted
        my $status = $answer ? $answer->{status} : 0;
        undef $connection if !$answer || ($answer->{headers}{connection} // '') eq 'close';
        printf "%.6f %.6f %d\n", time, time - $before, $status;
        sleep 0.005 if $status != 200;    # else refusals would be all that the machine does
    }
}

1;
