# After a failover a standby of the old primary is on another timeline: it may be far ahead in its log, and
# knows nothing of what the new primary writes. A standby that follows the new primary is as good as before.

use v5.36;
use Users::Test::Fault;

my $server  = Users::Test::Fault->new;
my $old     = $server->postgres;
my $new     = $old->standby($server->dir . '/new');
my $replica = $old->standby($server->dir . '/replica');

sub start ($replica) {
    $server->start_child(
        max      => 2,
        conninfo => 'host=' . $old->dir . ',' . $new->dir . ' dbname=users user=mod_users target_session_attrs=read-write',
        vhost    => 'UsersDBReplica "' . $replica->conninfo('users') . "\"\nUsersReplicaLag 1s",
    );
    $server->allow_log(qr/the database \S+ (?:can't be reached|is back after)|the replica \S+ (?:is too far behind|has caught up)/);
}

sub city () {
    my $answer = $server->request(GET);
    return $answer->{status} == 200 ? $answer->{json}{user}{city} : $answer->{status};
}

# Is the account of a GET looked up there?
sub asks ($postgres) {
    my $before = $postgres->sql('users', 'select clock_timestamp()');
    $server->request(GET);
    return 0 < $postgres->sql('users', <<~SQL);
        select count(*) from pg_stat_activity
        where usename = 'mod_users' and query like '%document%' and query_start > '$before'
        SQL
}

# Write, and wait until a standby has read that.
sub write_to ($primary, $standby, $sql) {
    $primary->sql('users', $sql);
    $primary->sql('users', "select pg_logical_emit_message(true, 'test', 'complete')");
    my $position = $primary->sql('users', 'select pg_current_wal_flush_lsn()');
    wait_until(
        sub { $standby->sql('users', "select coalesce(pg_last_wal_replay_lsn() >= '$position', false)") eq 't' },
        'the standby to catch up'
    );
}

write_to($old, $new, "update users.account set city = 'Delft'");
write_to($old, $replica, 'select');
start($replica);
wait_until(sub { asks($replica) }, 'a look-up at the replica');
is city(), 'Delft', 'GET reads from the replica';

# The one that is promoted has missed what the other one has: three files of the log.
$new->stop;
write_to($old, $replica, 'select pg_switch_wal()') for 1 .. 3;
$old->kill;
$new->start;
$new->promote;
my $ahead = $replica->sql('users', 'select pg_last_wal_replay_lsn()');
$new->sql('users', "update users.account set city = 'Gouda'");
is $new->sql('users', "select pg_current_wal_flush_lsn() < '$ahead'"), 't', 'the new primary is far behind in the log';
is $replica->sql('users', 'select city from users.account where id = 1'), 'Delft', '... and the replica does not follow it';

wait_until(sub { city() eq 'Gouda' }, 'what the new primary knows');
wait_until(sub { city() && $server->count_log(qr/the replica \S+ is on timeline 1, the database on 2: no GET reads from it/) }, 'the log');
my %seen = count(map { city() } 1 .. 500)->%*;
is_deeply \%seen, { Gouda => 500 }, 'GET reads from it, and no more from the replica';
ok !asks($replica), '... which is not asked';
$server->expect_log(qr/\[users:warn\] .* the replica \S+ is on timeline 1, the database on 2/);

subtest 'a standby that follows the new primary' => sub {
    my $follower = $new->standby($server->dir . '/follower');
    start($follower);
    wait_until(sub { asks($follower) }, 'a look-up at it');
    write_to($new, $follower, "update users.account set city = 'Breda'");
    is city(), 'Breda', 'GET reads from it';

    # A second failover, which it lives through: PostgreSQL notes the timeline on disk at a restart point.
    my $third = $new->standby($server->dir . '/third');
    write_to($new, $_, 'select') for $follower, $third;
    $new->kill;
    $third->promote;
    $follower->sql('postgres', "alter system set primary_conninfo = 'host=@{[$third->dir]} user=postgres'");
    $follower->sql('postgres', 'select pg_reload_conf()');
    write_to($third, $follower, "update users.account set city = 'Leiden'");
    $server->start_child(
        max      => 2,
        conninfo => $third->conninfo('users'),
        vhost    => 'UsersDBReplica "' . $follower->conninfo('users') . "\"\nUsersReplicaLag 1s",
    );
    $server->allow_log(qr/the replica \S+ (?:is on timeline 2, the database on 3|is too far behind|has caught up)/);
    $_->sql('postgres', 'checkpoint') for $third, $follower;
    wait_until(sub { asks($follower) }, 'a look-up at it');
    is city(), 'Leiden', 'GET reads from it again';
};

done_testing;
