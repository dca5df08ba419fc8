package Users::Test::Witness;

# Watches a server of PostgreSQL until it is told to end, and writes down what it is: a primary that can acknowledge
# changes, since a standby of its own has them (ready), one that can't yet (primary), a standby, or away.

use v5.36;
use IO::Handle;
use IO::Select;
use IPC::Open2 qw(open2);
use Time::HiRes qw(sleep);
use Users::Test::Process qw(now);

use constant {
    PAUSE   => 0.02,    # seconds between two questions
    SILENCE => 2,       # after so many it is away
};

my $QUESTION = "select case when pg_is_in_recovery() then 'standby' when exists (select from pg_stat_replication"
    . " where sync_state in ('sync', 'quorum')) then 'ready' else 'primary' end;\n";

# A line is a time (now) and what the server is from then on.
sub run ($psql, $socket_directory) {
    my $last = '';
    STDOUT->autoflush(1);
    while (1) {
        my $pid = open2(my $output, my $input, $psql, '-XAtq', '--host', $socket_directory, '--username', 'postgres',
            '--dbname', 'postgres');
        my $is = '';
        while ($is ne 'away') {
            $is = _ask($input, $output);
            say sprintf('%.3f', now), " $is" if $is ne $last;
            $last = $is;
            sleep PAUSE;
        }
        kill KILL => $pid;
        waitpid $pid, 0;
    }
}

sub _ask ($input, $output) {
    local $SIG{PIPE} = 'IGNORE';
    print $input $QUESTION or return 'away';
    $input->flush or return 'away';
    IO::Select->new($output)->can_read(SILENCE) or return 'away';
    chomp(my $answer = <$output> // 'away');
    return $answer;
}

1;
