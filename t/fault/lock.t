# Someone else holds a lock; a change is broken off in its midst.

use v5.36;
use Users::Test::Fault;
use Users::Test::Session;

my $server = Users::Test::Fault->new;
my $session = Users::Test::Session->new($server);

# timeout: longer than it takes to see that a statement waits.
sub start ($timeout) {
    $server->start_child(max => 3, timeout => $timeout, vhost => 'UsersRequestTimeout 3s');
    $server->expect_trouble('late');
}

subtest 'a lock held' => sub {
    start(0.6);
    my %cases = (
        'GET'   => [504, [GET],   'lock table users.token in access exclusive mode'],
        'PATCH' => [503, [PATCH], 'select from users.account where id = 1 for update'],
        'POST'  => [503, [POST],  'lock table users.credential in share mode'],
    );
    for my $name (sort keys %cases) {
        my ($status, $request, $lock) = $cases{$name}->@*;
        $session->sql("begin; $lock");
        my ($answer, $seconds) = $server->timed(@$request);
        is $answer->{status}, $status, "$name: $status";
        cmp_ok $seconds, '<', 0.6 + SLACK, '... within UsersDBTimeout';
        $session->sql('rollback');
        is $server->request(@$request)->{status}, $name eq 'POST' ? 201 : 200,
            '... and when it is given back the next one succeeds';
    }
};

subtest 'a lock on one account does not hold up the others' => sub {
    start(2);
    $session->sql('begin; select from users.account where id = 1 for update');
    my $patch = $server->begin(PATCH);
    $server->wait_for_locks(1);
    is $server->request(GET)->{status}, 200, 'a GET is served';
    is $server->request(POST)->{status}, 201, '... and a POST';
    is_unavailable($patch->answer, 'who waits');
    $session->sql('rollback');
};

subtest 'a change whose connection is terminated' => sub {
    $session->sql('begin; select from users.account where id = 1 for update');
    my $patch = $server->begin(PATCH);
    $server->wait_for_locks(1);
    $server->sql("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'mod_users'");
    my $answer = $patch->answer;
    is_unavailable($answer, 'PATCH');
    like $answer->{body}, qr/the outcome is not known/, '... for who holds the lock keeps it from being found out';
    $session->sql('rollback');
    is $server->request(GET)->{status}, 200, 'the next GET succeeds';
    is $server->request(PATCH)->{status}, 200, '... and the next PATCH';
};

done_testing;
