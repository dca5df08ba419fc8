# All of PostgreSQL's connections are taken.

use v5.36;
use Users::Test::Fault;
use Users::Test::Session;

my $server = Users::Test::Fault->new;
my $LOST = qr/\[users:error\] .* the database \S+ has no connection left: .*(?:too many clients|reserved)/;

# Superusers have three more.
$server->postgres->configure("max_connections = 8\n");
$server->postgres->restart;

# Take all that are left to others.
sub fill () {
    my @sessions;
    while (my $session = eval { Users::Test::Session->new($server) }) {
        last unless eval {
            $session->sql('set role mod_users');
            1;
        };
        push @sessions, $session;
        my $left = $server->sql(<<~'SQL');
            select current_setting('max_connections')::int
              - current_setting('superuser_reserved_connections')::int - count(*) + 1
            from pg_stat_activity where backend_type = 'client backend'
            SQL
        last if $left <= 0;
    }
    return @sessions;
}

subtest 'none has been opened' => sub {
    $server->start_child(max => 4);
    $server->expect_log($LOST);
    my @sessions = fill();
    is_unavailable($server->request($_->@*), $_->[0]) for [GET], [PATCH], [POST];
    undef @sessions;
    cmp_ok $server->wait_for_answer(200, GET), '<', 1 + SLACK,
        'within a second of one being free GET succeeds';
    is $server->request(PATCH)->{status}, 200, '... and PATCH';
};

subtest 'some are open: these serve all requests' => sub {
    $server->start_child(max => 4);
    $server->allow_log($LOST);
    is $server->request(PATCH)->{status}, 200, 'one is open';
    is $server->backends, 1, '... only one';
    my @sessions = fill();
    my @answers = map { $server->parallel(map { [PATCH], [GET] } 1 .. 8) } 1 .. 3;
    is_deeply count(map { $_->{status} } @answers), { 200 => 48 }, 'none is refused';
    is $server->backends, 1, '... and there is still only one';
};

done_testing;
