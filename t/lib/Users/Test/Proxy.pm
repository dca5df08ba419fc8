package Users::Test::Proxy;

# A t/fault/pgproxy between the module and the private PostgreSQL, which says what it can do.

use v5.36;
use Cwd            qw(abs_path);
use File::Basename qw(dirname);
use IO::Select;
use IPC::Open2 qw(open2);
use Users::Test::Process qw(DEADLINE reap);

my $PROGRAM = ($ENV{USERS_SRCDIR} // abs_path(dirname(__FILE__) . '/../../../..'))
    . '/t/fault/pgproxy';

# server: Users::Test's. It ends with the object, or the script, at the latest.
sub new ($class, $server) {
    my $pid = open2(my $output, my $input, $^X, $PROGRAM, $server->postgres->socket);
    my $self = bless { pid => $pid, input => $input, output => $output, buffer => '' }, $class;
    $self->{port} = $self->_line;
    return $self;
}

sub port ($self) { $self->{port} }

# How the module connects to a database through it.
sub conninfo ($self, $database = 'users') {
    return "host=127.0.0.1 port=$self->{port} dbname=$database user=mod_users sslmode=disable"
        . ' gssencmode=disable';
}

# Have it do something. Returns its answer.
sub tell ($self, @words) {
    print { $self->{input} } "@words\n";
    $self->{input}->flush;
    return $self->_line;
}

sub _line ($self) {
    until ($self->{buffer} =~ /\n/) {
        IO::Select->new($self->{output})->can_read(DEADLINE) or die "the proxy does not answer\n";
        sysread $self->{output}, $self->{buffer}, 65536, length $self->{buffer}
            or die "the proxy has ended\n";
    }
    $self->{buffer} =~ s/^(.*)\n//;
    return $1;
}

sub DESTROY ($self) {
    local ($., $@, $!, $?);
    close $self->{input};
    reap(delete $self->{pid});
}

1;
