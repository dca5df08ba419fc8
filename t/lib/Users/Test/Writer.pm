package Users::Test::Writer;

# A client that changes and registers accounts until it is told to end, and keeps a ledger of what
# it was told.

use v5.36;
use IO::Handle;
use POSIX       qw(SIGTERM SIG_BLOCK);
use Time::HiRes qw(sleep);
use Users::Test::Client;
use Users::Test::Process qw(now);

# Each request has a mark of its own, which is the city of its account. A line of the ledger is
#
#   operation mark status at seconds unknown [id username password]
#
# and is on the disk before the next request begins. at: when the answer came, seconds: how long it took;
# unknown: 1 where a 503 said that it is not known what came of the request, or there is no answer of the module's.
# Operations:
#
#   shared     PATCH of an account that other writers change too
#   own        PATCH of one that nobody else changes, with If-Match
#   post       POST
#   key        POST with an Idempotency-Key, repeated until it succeeds
#
# host: another one than this may die, or be a balancer's, which answers by itself. pause: seconds between two requests.
sub run ($port, $name, $shared_token, $own_token, $register_token, $host = '127.0.0.1', $pause = 0) {
    my $self = bless { port => $port, name => $name, shared => $shared_token, own => $own_token,
        register => $register_token, host => $host, pause => $pause };
    my $term = POSIX::SigSet->new(SIGTERM);
    POSIX::sigprocmask(SIG_BLOCK, $term);    # it would interrupt a request
    STDOUT->autoflush(1);
    for (my $i = 1; !pending(SIGTERM); $i++) {
        $self->shared("$name-$i-shared");
        $self->own("$name-$i-own");
        $self->post("$name-$i-post");
        $self->key("$name-$i-key");
    }
}

sub pending ($signal) {
    my $pending = POSIX::SigSet->new;
    POSIX::sigpending($pending);
    return $pending->ismember($signal);
}

sub shared ($self, $mark) {
    $self->request('shared', $mark, PATCH => $self->{shared}, [], { city => $mark });
}

sub own ($self, $mark) {
    $self->learn_tag unless $self->{tag};
    my $answer = $self->request('own', $mark, PATCH => $self->{own}, ['If-Match' => $self->{tag}],
        { city => $mark });
    $self->{tag} = $answer->{headers}{etag};
}

sub post ($self, $mark) {
    $self->request('post', $mark, POST => $self->{register}, [], registration($mark));
}

sub key ($self, $mark) {
    1 until $self->request('key', $mark, POST => $self->{register}, ['Idempotency-Key' => $mark],
        registration($mark))->{status} == 201;
}

sub registration ($mark) {
    return {
        fname             => 'Jane',
        lname             => 'Roe',
        city              => $mark,
        external_id       => $mark,
        email             => "$mark\@roe.example",
        provider_server   => 'server.example',
        provider_username => $mark,
    };
}

# The tag is that of the last change, but where its outcome isn't known.
sub learn_tag ($self) {
    until ($self->{tag}) {
        my $answer = $self->exchange(GET => '/api/users', token => $self->{own});
        my $expected = $self->{host} eq '127.0.0.1' ? qr/^(?:200|50[34])$/ : qr/^(?:0|200|50[234])$/;
        $answer->{status} =~ $expected or die "GET: $answer->{status}\n";
        $self->{tag} = $answer->{headers}{etag} if $answer->{status} == 200;
    }
}

sub request ($self, $operation, $mark, $method, $token, $headers, $user) {
    my $before = now;
    my $answer = $self->exchange($method => '/api/users', token => $token, headers => $headers,
        json => { user => $user });
    my $after   = now;
    my $unknown = !$answer->{json} || $answer->{body} =~ /outcome is not known/ ? 1 : 0;
    my $told    = $answer->{json}{user};
    say join ' ', $operation, $mark, $answer->{status}, sprintf('%.3f %.3f', $after, $after - $before), $unknown,
        $told ? ($told->{id}, $told->{api} ? $told->{api}->@{qw(username password)} : ()) : ();
    STDOUT->sync;
    sleep $self->{pause};
    return $answer;
}

# Status 0: the connection ended without an answer.
sub exchange ($self, @request) {
    my $answer = eval {
        $self->{connection} //= Users::Test::Client->new($self->@{qw(port host)});
        $self->{connection}->send(Users::Test::Client::compose(@request));
        $self->{connection}->answer;
    } // { status => 0 };
    undef $self->{connection}
        if !$answer->{status} || ($answer->{headers}{connection} // '') eq 'close';
    sleep 0.01 if $answer->{status} !~ /^2/;    # else refusals would be all that the machine does
    return $answer;
}

1;
