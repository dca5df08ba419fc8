package Users::Test::Client;

# One connection to an HTTP/1.1 server: exact bytes out, answers in. Where USERS_TEST_ANSWERS names a
# directory, a script leaves all that it gets in a file there: t/openapi/judge.mjs says what that has, and
# judges it.

use v5.36;
use IO::Select;
use IO::Socket::INET;
use JSON::PP ();
use MIME::Base64 qw(encode_base64);
use Users::Test::Process qw(DEADLINE);

# ---- Records ---------------------------------------------------------------------------------

# What is written goes out at once, and whole: processes that the script forks write there too.
my $records;
if (my $dir = $ENV{USERS_TEST_ANSWERS}) {
    if (my ($name) = $0 =~ m{(\w+/[\w-]+)\.t$}) {
        my $path = "$dir/" . $name =~ s{/}{-}r . '.answers';
        mkdir $dir;
        unlink $path;
        open $records, '>>:raw', $path or die "$path: $!\n";
    }
}

# kind: A, an answer; R, all that came on a connection; C, a server's configuration.
sub record ($kind, $port, @parts) {
    return unless $records;
    utf8::encode($_) for grep { utf8::is_utf8($_) } @parts;
    syswrite $records, join('', join(' ', $kind, $port, map { length } @parts), "\n", @parts, "\n");
}

# What an answer is to: the head of a request; nothing where it isn't known which of several.
sub _asked ($self) {
    return '' if $self->{answered};
    my @requests = $self->{asked} =~ m{^[A-Za-z-]+\ \S+\ HTTP/1\.[01]\r?\n.*?(?=\r?\n\r?\n|\z)}gms;
    return @requests == 1 ? $requests[0] : '';
}

# ----------------------------------------------------------------------------------------------

sub new ($class, $port, $host = '127.0.0.1') {
    my $socket = IO::Socket::INET->new(PeerAddr => $host, PeerPort => $port)
        or die "port $port: $@\n";
    $socket->autoflush(1);
    return bless { socket => $socket, buffer => '', port => $port, asked => '' }, $class;
}

# The bytes of a request. Options:
#   token => bearer token, basic => [name, password], headers => [name => value, ...],
#   json => data, sent as application/json, form => [name => value, ...], or body => bytes
sub compose ($method, $path, %option) {
    my @headers = @{ $option{headers} // [] };
    my $body = $option{body};
    if (exists $option{json}) {
        $body = JSON::PP->new->utf8->canonical->encode($option{json});
        _default(\@headers, 'Content-Type', 'application/json');
    }
    if (exists $option{form}) {
        my @pairs = map { _escape($_) } @{ $option{form} };
        $body = '';
        while (my ($name, $value) = splice @pairs, 0, 2) {
            $body .= ($body eq '' ? '' : '&') . "$name=$value";
        }
        _default(\@headers, 'Content-Type', 'application/x-www-form-urlencoded');
    }
    if (defined $body && !_has(\@headers, 'Transfer-Encoding')) {
        _default(\@headers, 'Content-Length', length $body);
    }
    _default(\@headers, 'Host', 'localhost');
    push @headers, Authorization => "Bearer $option{token}" if defined $option{token};
    push @headers, Authorization => 'Basic ' . encode_base64(join(':', @{ $option{basic} }), '')
        if $option{basic};

    my $bytes = "$method $path HTTP/1.1\r\n";
    while (my ($name, $value) = splice @headers, 0, 2) {
        $bytes .= "$name: $value\r\n";
    }
    return "$bytes\r\n" . ($body // '');
}

sub send ($self, $bytes) {
    $self->{heard} = 0;
    $self->{asked} = '' if delete $self->{answered};
    $self->{asked} .= substr $bytes, 0, 4096;
    local $SIG{PIPE} = 'IGNORE';    # the server may have answered and closed
    print { $self->{socket} } $bytes;
}

# Has a byte come since the last send?
sub heard ($self) {
    return $self->{heard};
}

# No more bytes will be sent.
sub shut ($self) {
    shutdown $self->{socket}, 1;
}

# Read one answer: { status, reason, headers, body, json }. headers: by name in lower case,
# a repeated one as an array. json: the decoded body where it is JSON. Dies where the
# connection ends before the answer does. method: of the request; HEAD's has no body.
sub answer ($self, $method = 'GET') {
    my $head = $self->_until("\r\n\r\n");
    my ($line, @lines) = split /\r\n/, $head;
    my ($status, $reason) = $line =~ m{^HTTP/1\.1 (\d{3}) ?(.*)$} or die "no answer: $line\n";
    my %headers;
    for (@lines) {
        my ($name, $value) = /^([^:]+):\s*(.*)$/ or die "no header field: $_\n";
        my $known = \$headers{ lc $name };
        $$known = !defined $$known ? $value : [ref $$known ? @$$known : $$known, $value];
    }
    my $answer = { status => $status, reason => $reason, headers => \%headers, body => '' };
    $answer->{body} = $self->_body($answer)
        unless $method eq 'HEAD' || $status < 200 || $status == 204 || $status == 304;
    record(A => $self->{port}, $self->_asked, $head, $answer->{body});
    $self->{answered} = 1;
    $answer->{json} = eval { JSON::PP->new->utf8->decode($answer->{body}) }
        if ($headers{'content-type'} // '') =~ m{^application/(?:\w+\+)?json\b};
    return $answer;
}

# Is there something to read, or the end of the connection?
sub can_read ($self) {
    return length $self->{buffer} || IO::Select->new($self->{socket})->can_read(0);
}

# Everything up to the end of the connection.
sub rest ($self) {
    my $bytes = $self->_all;
    record(R => $self->{port}, $self->_asked, $bytes);
    return $bytes;
}

sub _all ($self) {
    1 while $self->_fill;
    return $self->_take(length $self->{buffer});
}

sub _body ($self, $answer) {
    my $headers = $answer->{headers};
    return $self->_chunks if ($headers->{'transfer-encoding'} // '') eq 'chunked';
    my $length = $headers->{'content-length'} // return $self->_all;
    $self->_need while length $self->{buffer} < $length;
    return $self->_take($length);
}

sub _chunks ($self) {
    my $body = '';
    while (my $length = hex $self->_until("\r\n")) {
        $self->_need while length $self->{buffer} < $length + 2;
        $body .= $self->_take($length);
        $self->_take(2);
    }
    $self->_until("\r\n");
    return $body;
}

# The bytes before a delimiter, which is taken too.
sub _until ($self, $delimiter) {
    my $at;
    $self->_need while ($at = index $self->{buffer}, $delimiter) < 0;
    my $bytes = $self->_take($at);
    $self->_take(length $delimiter);
    return $bytes;
}

sub _take ($self, $length) {
    return substr $self->{buffer}, 0, $length, '';
}

sub _need ($self) {
    $self->_fill or die "the connection ended within an answer: '$self->{buffer}'\n";
}

# Read what is there. False at the end of the connection.
sub _fill ($self) {
    IO::Select->new($self->{socket})->can_read(DEADLINE) or die "no answer in time\n";
    my $count = $self->{socket}->sysread($self->{buffer}, 65536, length $self->{buffer});
    $self->{heard} ||= $count;
    return $count;
}

sub _has ($headers, $name) {
    return grep { !($_ & 1) && lc $headers->[$_] eq lc $name } keys @$headers;
}

sub _escape ($text) {
    return $text =~ s/([^A-Za-z0-9._~-])/sprintf '%%%02X', ord $1/ger;
}

sub _default ($headers, $name, $value) {
    push @$headers, $name => $value unless _has($headers, $name);
}

1;
