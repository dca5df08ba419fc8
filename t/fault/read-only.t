# A server that takes no changes: a read-only primary, a standby.

use v5.36;
use Users::Test::Fault;

my $server = Users::Test::Fault->new;

# The health: status, reads, writes.
sub health () {
    my $answer = $server->request(GET => '/health/ready');
    return join ' ', $answer->{status}, map { $_->{status} } $answer->{json}{checks}->@*;
}

sub read_only ($on) {
    $server->sql("alter system set default_transaction_read_only = $on");
    $server->sql("select pg_reload_conf()");
    wait_until(sub { $server->sql('show default_transaction_read_only') eq $on }, "read-only $on");
}

subtest 'a primary on which an administrator lets nothing be changed' => sub {
    $server->start_child;
    $server->expect_trouble('standby');
    is $server->request($_->@*)->{status}, 200, "it takes a $_->[0] before" for [GET], [PATCH];
    read_only('on');
    for my $round (1, 2) {
        is $server->request(GET)->{status}, 200, 'it is read';
        is_unavailable($server->request($_->@*), $_->[0]) for [PATCH], [POST];
    }
    is $server->request(GET)->{status}, 200, 'then it is still read';
    read_only('off');
    is $server->request(PATCH)->{status}, 200, 'it takes a PATCH again, at once';
    is $server->request(POST)->{status},  201, '... and a POST';
};

subtest 'a standby' => sub {
    my $dir     = $server->dir . '/standby';
    my $standby = $server->postgres->standby($dir);
    my $primary = $server->postgres->dir;

    $server->start_child(conninfo => "host=$dir,$primary dbname=users user=mod_users", vhost => HEALTH_ENDPOINTS);
    is health(), '200 UP UP', 'before the primary, a health check finds that';

    $server->start_child(conninfo => "host=$dir dbname=users user=mod_users", vhost => HEALTH_ENDPOINTS);
    $server->expect_trouble('standby');
    is health(), '200 UP DOWN', 'alone it does not take changes';
    is $server->request(GET)->{status}, 200, 'alone it is read';
    is_unavailable($server->request(PATCH), '... and a PATCH');

    $server->start_child(conninfo => "host=$dir,$primary dbname=users user=mod_users");
    $server->parallel(map { [GET] } 1 .. 10);
    is $server->request(PATCH)->{status}, 200, 'before the primary, a PATCH finds that';
    is $server->request(POST)->{status},  201, '... so does a POST';

    my %where = (
        'read-write'     => [200, $primary],
        'primary'        => [200, $primary],
        'standby'        => [503, $dir],
        'read-only'      => [503, $dir],
        'prefer-standby' => [200, $dir],
        'any'            => [200, $primary],    # the first
    );
    for my $attributes (sort keys %where) {
        my ($status, $host) = $where{$attributes}->@*;
        $server->start_child(conninfo => "host=$primary,$dir dbname=users user=mod_users"
                . " target_session_attrs=$attributes");
        $server->expect_trouble('standby') if $status == 503;
        is $server->request(GET)->{status}, 200, "target_session_attrs=$attributes: GET";
        my $cluster = $host eq $dir ? $standby : $server->postgres;
        is $cluster->sql('users', <<~SQL), 1, '... has the connection that it asks for';
            select count(*) from pg_stat_activity where usename = 'mod_users'
            SQL
        is $server->request(PATCH)->{status}, $status, "... PATCH: $status";
    }

    $standby->stop;
    $server->start_child(conninfo => "host=$dir,$primary dbname=users user=mod_users"
            . ' target_session_attrs=prefer-standby');
    is $server->request(GET)->{status}, 200, 'prefer-standby does with a primary';
};

done_testing;
