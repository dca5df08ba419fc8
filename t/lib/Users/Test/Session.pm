package Users::Test::Session;

# A superuser's session with the private PostgreSQL that stays open: what it locks stays
# locked while requests are made.

use v5.36;
use IO::Select;
use IPC::Open2 qw(open2);
use Users::Test::Process qw(DEADLINE reap);

my $DONE = 'done with that';    # what psql prints behind the rows of a statement

# server: Users::Test's. Ends with the object at the latest.
sub new ($class, $server, $database = 'users') {
    my $bin = $server->sql("select setting from pg_config where name = 'BINDIR'");
    my $pid = open2(my $output, my $input, "$bin/psql", '-XAtq', '--set=ON_ERROR_STOP=1',
        $server->conninfo($database) =~ s/user=\w+/user=postgres/r);
    return bless { pid => $pid, input => $input, output => $output }, $class;
}

# Run SQL to its end, which may be within a transaction. Returns the rows as lines.
sub sql ($self, $sql) {
    $self->send($sql);
    return $self->rows;
}

# The same in two steps, for SQL that has to wait for something.

sub send ($self, $sql) {
    $self->{sql} = $sql;
    print { $self->{input} } "$sql;\nselect '$DONE';\n";
    $self->{input}->flush;
}

sub rows ($self) {
    my $rows = '';
    until ($rows =~ s/^$DONE\n//m) {
        IO::Select->new($self->{output})->can_read(DEADLINE) or die "does not end: $self->{sql}\n";
        sysread $self->{output}, $rows, 65536, length $rows or die "psql gave up: $self->{sql}\n";
    }
    chomp $rows;
    return $rows;
}

# End it; an open transaction is rolled back.
sub end ($self) {
    close $self->{input};
    reap(delete $self->{pid});
}

sub DESTROY ($self) {
    local ($., $@, $!, $?);
    $self->end if $self->{pid};
}

1;
