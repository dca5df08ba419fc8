# Processes of PostgreSQL are stopped (SIGSTOP): they hold their sockets and say nothing.

use v5.36;
use Users::Test::Fault;

my $server = Users::Test::Fault->new;
$server->start_child(max => 2, acquire => 1, connect => 1, timeout => 1);
$server->allow_log(qr/the database \S+ (?:can't be reached|is back)/);
$server->expect_trouble('late');

subtest 'a backend' => sub {
    for my $case ([504, GET], [504, PATCH]) {
        my ($status, @request) = @$case;
        is $server->request(@request)->{status}, 200, "$request[0]: there is a connection";
        my @frozen = $server->backends;
        kill STOP => @frozen;
        my ($answer, $seconds) = $server->timed(@request);
        is $answer->{status}, $status, "... when it is frozen: $status";
        cmp_ok $seconds, '<', 1 + SLACK, '... within UsersDBTimeout';
        is $server->request(@request)->{status}, 200, '... the next one has another connection'
            for @frozen;
        kill CONT => @frozen;
        wait_until(sub { !grep { kill 0 => $_ } @frozen }, 'the frozen processes to end');
    }
};

subtest 'all of it' => sub {
    $server->request(GET);
    my @all = ($server->postgres->pid, $server->backends);
    kill STOP => @all;
    my $before = now;
    my @answers = $server->parallel(map { ([GET], [PATCH]) } 1 .. 10);
    my $seconds = now - $before;
    is_deeply [grep { $_->{status} !~ /^50[34]$/ } @answers], [], 'every request is 503 or 504';
    cmp_ok $seconds, '<', 1 + 1 + SLACK, '... within UsersDBAcquireTimeout and UsersDBTimeout';
    my $load = $server->load(4, [GET], [PATCH]);
    wait_until(sub { now - $before > 3 }, 'it to be known as away');
    @answers = $server->end_load($load);
    cmp_ok @answers, '>', 50, 'then requests are refused at once';
    kill CONT => @all;
    cmp_ok $server->wait_for_answer(200, GET), '<', 1 + SLACK, 'within a second of its return GET succeeds';
    cmp_ok $server->wait_for_answer(200, PATCH), '<', 1 + SLACK, '... and PATCH';
};

done_testing;
