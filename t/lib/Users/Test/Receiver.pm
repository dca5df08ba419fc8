package Users::Test::Receiver;

=head1 NAME

Users::Test::Receiver - what usersctl event deliver sends to

=head1 SYNOPSIS

    my $receiver = Users::Test::Receiver->new($dir);
    $receiver->behave(500);
    ... deliver to $receiver->url ...
    is [$receiver->requests]->[0]{status}, 500;

An HTTP server of its own process on a free port of 127.0.0.1, which answers each request in a process of its own.

C<behave> says how, from then on: C<STATUS>, with header lines behind it; C<slow SECONDS STATUS>; C<hold> until it is to
behave otherwise, and then so; C<hang> until the client goes; C<close> without an answer; C<cut STATUS> closes within the
body; C<endless> has a body without an end. C<stop> ends it, so that connections are refused, and C<start> has it listen on
the same port again.

C<requests> are those whose head and body came, in the order in which their answers were sent, each a hash of its C<method>,
C<target>, C<headers>, C<body>, C<status> (0: none), and when it C<began> and C<ended>. C<arrived> counts requests, answered or not.
C<forget> forgets them.

=cut

use v5.36;
use IO::Socket::INET;
use JSON::PP    ();
use POSIX       ();
use Time::HiRes qw(sleep);
use Users::Test::Process qw(end now slurp spawn wait_until);

my $RUNS = 0;

sub new ($class, $dir) {
    # It does not listen, and keeps the port from others while nobody does.
    my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', ReuseAddr => 1, Proto => 'tcp') or die "no free port: $@\n";
    my $self = bless { files => "$dir/receiver-" . ++$RUNS, port => $socket->sockport, socket => $socket }, $class;
    $self->forget;
    $self->behave(200);
    $self->start;
    return $self;
}

sub port ($self) { $self->{port} }

sub url ($self) { "http://127.0.0.1:$self->{port}/events" }

sub start ($self) {
    my $ready = "$self->{files}.ready";
    unlink $ready;
    my $code = 'Users::Test::Receiver::serve(@ARGV)';
    $self->{pid} = spawn([$^X, (map { "-I$_" } @INC), '-MUsers::Test::Receiver', '-e', $code, @$self{qw(port files)}],
        "$self->{files}.out", "$self->{files}.err");
    wait_until(sub { -e $ready }, 'the receiver');
}

sub stop ($self) {
    end(delete $self->{pid}, 'KILL');
}

sub behave ($self, @words) {
    _write("$self->{files}.behaviour", join "\n", @words);
}

sub forget ($self) {
    _write("$self->{files}.$_", '') for qw(requests arrived);
}

sub requests ($self) {
    return map { JSON::PP->new->decode($_) } split /\n/, slurp("$self->{files}.requests");
}

sub arrived ($self) {
    return length slurp("$self->{files}.arrived");
}

sub _write ($path, $text) {
    open my $file, '>', "$path.new" or die "$path.new: $!\n";
    print $file $text;
    close $file;
    rename "$path.new", $path;
}

sub _append ($path, $text) {
    open my $file, '>>', $path or die "$path: $!\n";
    syswrite $file, $text;    # at once, so that others' lines stay whole
}

# ---- The server ------------------------------------------------------------------------------

sub serve ($port, $files) {
    local $SIG{CHLD} = 'IGNORE';
    my $socket = IO::Socket::INET->new(LocalAddr => "127.0.0.1:$port", Listen => 128, ReuseAddr => 1) or die "$port: $@\n";
    _write("$files.ready", '');
    while (1) {
        my $client = $socket->accept or next;
        next if fork;
        close $socket;
        alarm 60;
        _answer($client, $files);
        POSIX::_exit(0);
    }
}

sub _answer ($client, $files) {
    my $began = now;
    my $bytes = '';
    my ($head, $length);
    until (defined $length && length $bytes >= $length) {
        sysread $client, $bytes, 65536, length $bytes or return;
        next if defined $length || $bytes !~ s/\A(.*?\r\n)\r\n//s;
        $head   = $1;
        $length = $head =~ /^content-length: *(\d+)/im ? $1 : 0;
    }
    my ($method, $target) = split / /, $head;
    my %headers = map { lc($_->[0]) => $_->[1] } map { [/^([^:\s]+): *(.*?)\r$/] } grep { /^[^:\s]+:/ } split /\n/, $head;
    _append("$files.arrived", '.');
    my ($behaviour, @lines);
    wait_until(sub { ($behaviour, @lines) = split /\n/, slurp("$files.behaviour"); $behaviour ne 'hold' }, 'leave to answer');
    if ($behaviour eq 'hang') {
        1 while sysread $client, my $nothing, 65536;
        return;
    }
    sleep $1 if $behaviour =~ s/^slow ([0-9.]+) //;
    my $announced = $behaviour =~ s/^cut // ? 4 : 3;
    my $status = $behaviour eq 'close' ? 0 : $behaviour eq 'endless' ? 200 : $behaviour;
    _append("$files.requests", JSON::PP->new->canonical->encode({
            method => $method, target => $target, headers => \%headers, body => $bytes, status => $status, began => $began, ended => now,
    }) . "\n");
    return if !$status;
    local $SIG{PIPE} = 'IGNORE';
    print $client join "\r\n", "HTTP/1.1 $status Status", 'Connection: close', @lines,
        ($behaviour eq 'endless' ? () : "Content-Length: $announced"), '', "ok\n";
    $client->flush;
    if ($behaviour eq 'endless') {
        1 while print $client 'x' x 65536;
    }
}

1;
