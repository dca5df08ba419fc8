# Passwords that have to be hashed come from one address in floods, under names at random. Nobody else
# is told to come again.

use v5.36;
use IO::Select;
use Users::Test;

plan skip_all => 'a child of prefork serves one request at a time' if ($ENV{USERS_TEST_MPM} // '') eq 'prefork';

use constant OTHERS => 30;

# Clients come from where X-Client says. No password is remembered, and waiting is not what is tested.
my $server = Users::Test->new;
$server->sql(sprintf <<~'SQL', OTHERS);
    insert into users.credential (user_id, username, secret_hash)
    select 1, 'other' || n, '$2y$05$abcdefghijklmnopqrstuuGW0Hyo9Kutwab1irCpEelJozXqOfxUe'
    from generate_series(1, %d) n
    SQL
my $PASSWORD = 'canary-of-a-hashed-password';

sub start ($vhost = '', $conf = '') {
    $server->start(
        modules => ['remoteip'],
        conf    => <<~CONF,
            RemoteIPHeader X-Client
            RemoteIPInternalProxy 127.0.0.1
            StartServers 1
            ServerLimit 1
            ThreadsPerChild 32
            ThreadLimit 32
            MaxRequestWorkers 32
            MinSpareThreads 1
            MaxSpareThreads 32
            $conf
            CONF
        vhost => <<~VHOST,
            UsersCredentialCache 0
            UsersDBAcquireTimeout 60s
            UsersRequestTimeout 60s
            $vhost
            VHOST
    );
    $server->allow_log(qr/server reached MaxRequestWorkers/);
    $server->expect_trouble('hashes');
    $server->allow_log(qr/AH03490: scoreboard is full/);    # while children end
}

# A request that a client sends, and the connection that it waits on for the answer.
sub send_from ($connection, $address, @pair) {
    $connection->send(Users::Test::Client::compose(GET => '/api/users', basic => \@pair,
        headers => ['X-Client' => $address]));
    return $connection;
}

my $guesses = 0;

# A wrong password, on a connection of its own: httpd closes one by a 503.
sub guess ($flooder) {
    return send_from($server->connect, $flooder->(), 'nobody' . $guesses++, 'wrong');
}

# The flood goes on until this connection has an answer.
sub answer_under_flood ($flood, $count, $flooder, $connection) {
    until (IO::Select->new($connection->{socket})->can_read(0.01)) {
        for my $one (@$flood) {
            next unless IO::Select->new($one->{socket})->can_read(0);
            $count->{ $one->answer->{status} }++;
            $one = guess($flooder);
        }
    }
    return $connection->answer;
}

sub test_flood ($name, $flooder, $other) {
    subtest $name => sub {
        start();
        my @flood = map { guess($flooder) } 1 .. 16;    # of 32 threads, eight may hash or wait
        my (%flooder, %others);
        for my $n (1 .. OTHERS) {
            my $connection = send_from($server->connect, $other->($n), "other$n", $PASSWORD);
            $others{ answer_under_flood(\@flood, \%flooder, $flooder, $connection)->{status} }++;
        }
        my @few = map { send_from($server->connect, $other->($_), "other$_", $PASSWORD) } 1 .. 4;
        $others{ answer_under_flood(\@flood, \%flooder, $flooder, $_)->{status} }++ for @few;
        is_deeply \%others, { 200 => OTHERS + 4 }, 'all others are let in';
        $flooder{ $_->answer->{status} }++ for @flood;
        cmp_ok $flooder{503} // 0, '>', 0, 'the flooder is told to come again';
        is_deeply [grep { !/^(?:401|503)$/ } keys %flooder], [], '... or that it was wrong';
        $server->stop;
    };
}

test_flood('one IPv4 address', sub { '198.51.100.1' }, sub ($n) { "192.0.2.$n" });
test_flood('one IPv6 network',
    sub { sprintf '2001:db8:0:1:%x:%x::%x', map { int rand 65536 } 1 .. 3 },
    sub ($n) { "2001:db8:0:2$n\::1" });

# Hashes whose requests have given up, and others that are waited for, when children have to end.
for my $slots (1, 2) {
    subtest "httpd goes on meanwhile, with UsersHashSlots $slots" => sub {
        start("UsersDBAcquireTimeout 500ms", "UsersHashSlots $slots");
        for (1 .. 3) {
            my @children = $server->children;
            my @flood    = map { guess(sub { '198.51.100.1' }) } 1 .. 12;
            $server->graceful;
            wait_until(sub { !grep { kill 0 => $_ } @children }, 'children to end under a flood');
            my %count;
            $count{ $_->answer->{status} }++ for @flood;
            is_deeply [grep { !/^(?:401|503)$/ } keys %count], [], 'each is answered';
        }
        my $other = sub { send_from($server->connect, '192.0.2.1', other1 => $PASSWORD)->answer->{status} };
        ok wait_until(sub { $other->() == 200 }, undef), 'others are let in';    # half a second may be too short for one
        guess(sub { '198.51.100.1' }) for 1 .. 12;
        $server->stop;    # which fails where httpd does not end
    };
}

done_testing;
