# PostgreSQL restarts, in every way, under load.

use v5.36;
use Time::HiRes qw(sleep);
use Users::Test::Fault;

my $server   = Users::Test::Fault->new;
my $postgres = $server->postgres;

$server->start_child(max => 4);
$server->allow_log(qr/the database \S+ (?:can't be reached|is back)/);

# The server is back when psql gets in: at most this long before the module does.
sub accepting () {
    wait_until(sub { eval { $server->sql('select 1') } }, 'PostgreSQL to accept connections');
    return now;
}

sub test_recovery ($name, $break) {
    my $load = $server->load(4, [GET], [PATCH]);
    sleep 0.3;
    $break->();
    my $back = accepting();
    my $seconds = $server->wait_for_answer(200, GET);
    $server->wait_for_answer(200, PATCH);
    sleep 0.3;
    my @answers = $server->end_load($load);
    my @bad     = grep { $_->{status} != 200 } @answers;
    is_deeply [grep { $_->{status} !~ /^50[34]$/ } @bad], [], "$name: what fails is 503 or 504";
    cmp_ok $seconds, '<', 1 + SLACK, '... within a second of its return it is read and changed again';
    my $late = @bad ? $bad[-1]{at} - $back : 0;
    cmp_ok $late, '<', 1 + SLACK, '... and all requests succeed';
    note sprintf '%d answers, %d failed; the last %.3f s after the return', scalar @answers,
        scalar @bad, $late;
}

test_recovery('restart -m fast',      sub { $postgres->restart });
test_recovery('restart -m immediate', sub { $postgres->restart('immediate') });
test_recovery('kill -9 of a backend', sub { kill KILL => ($server->backends)[0] });
test_recovery('kill -9 of all', sub { $postgres->kill; $postgres->start });
test_recovery('reload', sub { $server->sql('select pg_reload_conf()') });

my @lost = grep { /the database \S+ can't be reached/ } $server->error_log;
my @back = grep { /the database \S+ is back/ } $server->error_log;
cmp_ok @lost, '<=', 4, 'the log has no more than a line for each';
is @back, @lost, '... and one for each return';

done_testing;
