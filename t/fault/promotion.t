# Failover: the primary dies under load, its standby is promoted.

use v5.36;
use Time::HiRes qw(sleep);
use Users::Test::Fault;

my $server  = Users::Test::Fault->new;
my $dir     = $server->dir . '/standby';
my $primary = $server->postgres;
my $standby = $primary->standby($dir);

$server->start_child(
    max      => 4,
    conninfo => 'host=' . $primary->dir . ",$dir dbname=users user=mod_users"
        . ' target_session_attrs=read-write');
$server->expect_log(qr/\[users:error\] .* the database \S+ can't be reached: /);
$server->expect_log(qr/\[users:warn\] .* the database \S+ is back after /);

my $load = $server->load(4, [GET], [PATCH]);
sleep 1;
my $killed = now;
$primary->kill;
wait_until(sub { $server->request(GET)->{status} == 503 }, 'the loss to be noticed');
$standby->promote;
my $promoted = now;
$server->wait_for_answer(200, GET);
$server->wait_for_answer(200, PATCH);
sleep 0.5;
my @answers = $server->end_load($load);

my %count = count(map { $_->{status} } @answers)->%*;
is_deeply [grep { $_ != 200 && $_ != 503 } keys %count], [], 'all that fails is a 503';
my @before = grep { $_->{at} < $killed && $_->{status} != 200 } @answers;
is @before, 0, 'nothing fails before the primary has died';
my ($good) = grep { $_->{at} > $promoted && $_->{status} == 200 } @answers;
cmp_ok $good->{at} - $promoted, '<', 5 + SLACK, 'within five seconds of the promotion requests succeed';
my ($last) = grep { $_->{status} != 200 } reverse @answers;
cmp_ok $last->{at} - $promoted, '<', 5 + SLACK, '... and all of them do';
note sprintf 'good again %.3f s after the promotion', $good->{at} - $promoted;
is $standby->sql('users', "select count(*) > 0 from pg_stat_activity where usename = 'mod_users'"),
    't', 'they go to the new primary';
is $standby->sql('users', 'select city from users.account where id = 1'), 'Delft',
    'which has the change';

subtest 'without target_session_attrs, connections to a standby find the primary' => sub {
    plan skip_all => 'a single process does not restart' if $server->single_process;
    my $second = $standby->standby($server->dir . '/second');
    $server->allow_log(qr/long lost child came home/);    # httpd's word on the restart
    $server->start_child(
        max => 4,
        conninfo => 'host=' . $second->dir . ",$dir dbname=users user=mod_users");
    for my $round (1 .. 5) {
        $server->graceful;
        $server->parallel(map { [GET] } 1 .. 10);
        my @answers = $server->parallel(map { [PATCH] } 1 .. 20);
        is_deeply count(map { $_->{status} } @answers), { 200 => 20 },
            "every PATCH succeeds, round $round";
    }
};

done_testing;
