package Users::Test::Usersctl;

# The administrator's command, as a superuser of a server's PostgreSQL.

use v5.36;
use utf8;
use Cwd            qw(abs_path);
use File::Basename qw(dirname);
use JSON::PP       qw();
use Users::Test::Process qw(reap slurp spawn wait_until);

my $SOURCE = $ENV{USERS_SRCDIR} // abs_path(dirname(__FILE__) . '/../../../..');
my $RUNS   = 0;

sub program ($class) {
    return $ENV{USERS_USERSCTL} // "$SOURCE/usersctl";
}

# server: Users::Test's. libpq's environment names its PostgreSQL from then on.
sub new ($class, $server) {
    delete @ENV{ grep { /^PG/ } keys %ENV };
    $ENV{PGHOST} = $server->dir . '/pg';
    $ENV{PGUSER} = 'postgres';
    return bless { server => $server, dir => $server->dir }, $class;
}

# Run it. input: what it reads. Returns its exit status, standard output and standard error.
sub run_with ($self, $input, @arguments) {
    return $self->end($self->start($input, @arguments));
}

sub run ($self, @arguments) {
    return $self->run_with('', @arguments);
}

# Run it, which must go well, for what it tells: in JSON, and decoded.
sub told_with ($self, $input, @arguments) {
    my ($status, $output, $error) = $self->run_with($input, '--json', @arguments);
    $status == 0 && $error eq '' or die "usersctl @arguments: $error";
    return JSON::PP->new->decode($output);
}

sub told ($self, @arguments) {
    return $self->told_with('', @arguments);
}

# Start it, and go on. The input comes from a file, not from an argument. Returns what "end" wants.
sub start ($self, $input, @arguments) {
    my $scratch = "$self->{dir}/usersctl-" . ++$RUNS;
    open my $file, '>:utf8', "$scratch.in" or die "$scratch.in: $!\n";
    print $file $input;
    close $file;
    utf8::encode($_) for @arguments;
    my $pid = spawn(['/bin/sh', '-c', 'exec "$@" <"$0"', "$scratch.in", $self->program, @arguments],
        "$scratch.out", "$scratch.err");
    return { pid => $pid, scratch => $scratch };
}

# Wait for its end. Returns what "run_with" does.
sub end ($self, $started) {
    my $status = reap($started->{pid}) // die "usersctl does not end\n";
    my @texts = map { slurp("$started->{scratch}.$_") } qw(out err);
    utf8::decode($_) for @texts;
    return ($status, @texts);
}

# Wait until one that was started waits for a lock in the database.
sub wait_for_lock ($self) {
    wait_until(sub { $self->{server}->sql(<<~'SQL') }, 'usersctl to wait for a lock');
        select count(*) from pg_stat_activity
        where application_name = 'usersctl' and wait_event_type = 'Lock'
        SQL
}

1;
