package Users::Test::Torture;

=head1 NAME

Users::Test::Torture - calls of mod_users that fail (t/fault/torture.c)

=head1 SYNOPSIS

    my $torture = Users::Test::Torture->new($server->dir);
    local %ENV = (%ENV, $torture->environment($program));
    $server->start(preload => $torture->library);

    $torture->fail(3);
    $server->request(GET => '/api/users', token => READ_TOKEN);
    is $torture->victims, 'PQgetResult', 'the third call failed';

=head1 METHODS

C<environment>, which names the program, or the module where it is none, and C<library> are for the
process. C<fail> has the call of a number fail, counted from here, and as many of those behind it as
it is told; 0 is none. C<victims> are the functions that have failed since then. C<library_too> says
whether memory of libpq and jansson runs out, too.

C<live> is a hash of how many things the module has and has not given back. C<strangers> are the
functions that it calls and F<torture.c> does not know. C<untouched> are those that it knows and that
have not failed in this test.

C<set_clock> sets the clock that the module's deadlines go by (CLOCK_MONOTONIC) to a number of
seconds, in processes that run already, too; it goes on from there. C<clock> tells it. C<looks> is how
often the module has looked at it since it was set.

=cut

use v5.36;
use Cwd            qw(abs_path);
use Fcntl          qw(O_CREAT O_RDWR);
use File::Basename qw(dirname);
use Users::Test::Process qw(now);

my $SOURCE  = $ENV{USERS_SRCDIR}          // abs_path(dirname(__FILE__) . '/../../../..');
my $MODULE  = $ENV{USERS_MODULE}          // "$SOURCE/.libs/mod_users.so";
my $LIBRARY = $ENV{USERS_TORTURE_LIBRARY} // "$SOURCE/t/fault/.libs/torture.so";

# torture_state of torture.c
my @KINDS = qw(nothing connection result options memory lock semaphore library);
my ($FUNCTIONS_MAX, $NAME_MAX, $STRANGERS_MAX) = (96, 32, 1024);
my %AT = (calls => 0, first => 4, last => 8, in_library => 12, ahead => 16, looks => 20, live => 24);
$AT{failed}    = $AT{live} + 4 * @KINDS;
$AT{functions} = $AT{failed} + 4 * $FUNCTIONS_MAX;
$AT{names}     = $AT{functions} + 4;
$AT{strangers} = $AT{names} + $FUNCTIONS_MAX * $NAME_MAX;

sub new ($class, $dir) {
    -e $LIBRARY or die "$LIBRARY is missing: make t/fault/torture.la\n";
    my $path = "$dir/torture";
    sysopen my $file, $path, O_RDWR | O_CREAT or die "$path: $!\n";
    chmod 0666, $path;    # httpd's children are another user's
    truncate $file, $AT{strangers} + $STRANGERS_MAX;
    return bless { path => $path, file => $file, touched => {} }, $class;
}

sub library ($self) { $LIBRARY }

sub environment ($self, $program = $MODULE) {
    return (USERS_TORTURE => $self->{path}, USERS_TORTURED => $program);
}

sub _read ($self, $at, $length) {
    sysseek $self->{file}, $at, 0;
    sysread $self->{file}, (my $bytes), $length;
    return $bytes;
}

sub _set ($self, $name, @values) {
    sysseek $self->{file}, $AT{$name}, 0;
    syswrite $self->{file}, pack 'L*', @values;
}

sub fail ($self, $call, $behind = 0) {
    $self->_set(first => 0);
    $self->_set(calls => 0);
    $self->_set(failed => (0) x $FUNCTIONS_MAX);
    $self->_set(last  => $call + $behind);
    $self->_set(first => $call);
}

sub library_too ($self, $whether) {
    $self->_set(in_library => $whether ? 1 : 0);
}

sub set_clock ($self, $seconds) {
    $self->_set(ahead => int($seconds) - int now);
    $self->_set(looks => 0);
}

sub clock ($self) {
    return now + unpack 'l', $self->_read($AT{ahead}, 4);
}

sub looks ($self) {
    return unpack 'L', $self->_read($AT{looks}, 4);
}

sub victims ($self) {
    my @failed = unpack 'L*', $self->_read($AT{failed}, 4 * $FUNCTIONS_MAX);
    my @names  = $self->_names;
    my @victims = @names[grep { $failed[$_] } keys @names];
    $self->{touched}{$_} = 1 for @victims;
    return @victims;
}

sub _names ($self) {
    my $count = unpack 'L', $self->_read($AT{functions}, 4);
    return unpack "(Z$NAME_MAX)$count", $self->_read($AT{names}, $FUNCTIONS_MAX * $NAME_MAX);
}

sub untouched ($self) {
    return grep { !$self->{touched}{$_} } $self->_names;
}

sub live ($self) {
    my %live;
    @live{@KINDS} = unpack 'l*', $self->_read($AT{live}, 4 * @KINDS);
    delete $live{nothing};
    return \%live;
}

sub strangers ($self) {
    return split ' ', unpack 'Z*', $self->_read($AT{strangers}, $STRANGERS_MAX);
}

1;
