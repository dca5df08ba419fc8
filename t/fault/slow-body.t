# A client that sends slowly, or reads slowly, holds no connection to the database.

use v5.36;
use IO::Select;
use Time::HiRes qw(sleep);
use Users::Test::Fault;

my $server = Users::Test::Fault->new;
$server->start_child(max => 1, timeout => 5, vhost => 'UsersRequestTimeout 1s');

subtest 'a slow body' => sub {
    my $body = '{"user": {"city": "Gouda"}}';
    my @slow = map { $server->connect } 1 .. 5;
    for my $connection (@slow) {
        $connection->send(Users::Test::Client::compose(PATCH => '/api/users',
            token => FULL_TOKEN, body => '', headers => [
                'Content-Type' => 'application/json', 'Content-Length' => length $body,
                'Expect' => '100-continue', 'Connection' => 'close'
            ]));
        is $connection->answer->{status}, 100, 'a client that has the rights may send';
        $connection->send(substr $body, 0, 10);
    }
    my $before = now;
    do {
        is $server->request(GET)->{status}, 200, 'the only connection serves others';
        is $server->request(PATCH)->{status}, 200, '... for changes too';
        sleep 0.3;
    } while now - $before < 1.5;
    $_->send(substr $body, 10) for @slow;
    is_deeply count(map { $_->answer->{status} } @slow), { 200 => 5 },
        'the time that the body takes is not counted by UsersRequestTimeout';
};

subtest 'a slow reader' => sub {
    $server->start_child(max => 1, acquire => 20, timeout => 20, vhost => 'UsersRequestTimeout 60s');
    $server->sql(<<~'SQL');    # more than the sockets' buffers take
        alter view users_api.account rename to small_account;
        create view users_api.account as select user_id, suspended,
          json_build_object('user', repeat('x', 16000000)) as document
          from users_api.small_account;
        grant select on users_api.account to mod_users
        SQL
    my @slow = map { $server->begin(GET) } 1 .. 3;
    wait_until(sub { 3 == grep { IO::Select->new($_->{socket})->can_read(0) } @slow },
        'the answers to begin');
    is $server->request(POST)->{status}, 201, 'the only connection serves others' for 1 .. 5;
    is grep({ length $_->rest > 16_000_000 } @slow), 3, 'who reads late gets it all';
};

done_testing;
