# What is no loss closes no connection but its own, if that: to connect costs PostgreSQL a process, which it
# can't spare when it suffers.

use v5.36;
use Time::HiRes qw(sleep);
use Users::Test::Fault;
use Users::Test::Session;

plan skip_all => 'a child of prefork serves one request at a time' if ($ENV{USERS_TEST_MPM} // '') eq 'prefork';

use constant MAX => 4;

my $server  = Users::Test::Fault->new;
my $session = Users::Test::Session->new($server);
$server->sql(q(insert into users.credential (user_id, username, secret_digest) values (1, 'john', sha256('johns secret'))));

# A child with all of its connections idle. Look-ups by API credentials have a statement each.
sub start (%option) {
    $server->stop if $server->pid;
    $server->start_child(max => MAX, acquire => 10, timeout => 10, vhost => 'UsersRequestTimeout 20s', %option);
    $session->sql('begin; lock table users.account');
    my @gets = map { $server->begin(GET => '/api/users', basic => ['john', 'johns secret']) } 1 .. MAX;
    $server->wait_for_locks(MAX);
    $session->sql('rollback');
    $_->answer for @gets;
    return map { $_ => 1 } $server->backends;
}

# How many of those are still there. Each is looked at first, by as many requests at once.
sub left (%before) {
    $session->sql('begin; lock table users.account');
    my @gets = map { $server->begin(GET => '/api/users', basic => ['john', 'johns secret']) } 1 .. MAX;
    $server->wait_for_locks(MAX);
    $session->sql('rollback');
    is_deeply count(map { $_->answer->{status} } @gets), { 200 => MAX }, 'all are good';
    return scalar grep { $before{$_} } $server->backends;
}

subtest 'a server that takes no changes' => sub {
    my %before = start();
    $server->expect_trouble('standby');
    $server->sql('alter system set default_transaction_read_only = on');
    $server->sql('select pg_reload_conf()');
    wait_until(sub { $server->sql('show default_transaction_read_only') eq 'on' }, 'read-only');
    is_unavailable($server->request(PATCH), 'PATCH') for 1 .. 5;
    is left(%before), MAX - 1, '... and only the connection of the changes is another one';
    $server->sql('set default_transaction_read_only = off; alter system reset default_transaction_read_only');
    $server->sql('select pg_reload_conf()');
    wait_until(sub { $server->sql('show default_transaction_read_only') eq 'off' }, 'read-write');
    is $server->request(PATCH)->{status}, 200, '... which takes a PATCH again';
};

subtest 'a request with little time left' => sub {
    my %before = start(timeout => 3, vhost => 'UsersRequestTimeout 3s');
    my $tokens = Users::Test::Session->new($server);
    $tokens->sql('begin; lock table users.token in access exclusive mode');
    $session->sql('begin; select from users.account where id = 1 for update');
    my $patch = $server->begin(PATCH, json => { user => { email => 'other@example.com' } });
    $server->wait_for_locks(1);
    sleep 1.5;    # of its three
    $tokens->sql('rollback');
    is_unavailable($patch->answer, 'PATCH');
    $session->sql('rollback');
    is left(%before), MAX - 1, '... and only its own connection is another one';
    $server->allow_trouble('late');
};

subtest 'a statement that is refused' => sub {
    my %before = start();
    $server->sql(<<~'SQL');
        create function public.refuse() returns trigger language plpgsql as
          $$ begin raise sqlstate 'P0001' using message = 'no'; end $$;
        create trigger refuse before update on users.account for each row execute function public.refuse();
        SQL
    $server->expect_log(qr/refused update_account.*: P0001 no/);
    is $server->request(PATCH)->{status}, 500, 'PATCH' for 1 .. 5;
    $server->sql('drop function public.refuse() cascade');
    is left(%before), MAX, '... and all connections are as they were';
};

subtest 'a session that has lost what was prepared' => sub {
    my %before = start();
    $server->sql(<<~'SQL');
        create function public.forget() returns trigger language plpgsql as
          $$ begin execute 'deallocate all'; return new; end $$;
        create trigger forget after update on users.account for each row execute function public.forget();
        SQL
    is $server->request(PATCH)->{status}, 200, 'PATCH';
    $server->sql('drop function public.forget() cascade');
    is $server->request(GET)->{status}, 200, 'GET';
    is left(%before), MAX - 1, '... and only its connection is another one';
};

subtest 'an idle connection that is closed' => sub {
    my %before = start();
    my ($one) = keys %before;
    $server->sql("select pg_terminate_backend($one, 10000)");
    is left(%before), MAX - 1, 'only that is another one';
};

subtest 'a connection that is lost' => sub {
    my %before = start();
    $session->sql('begin; select from users.account where id = 1 for update');
    my $patch = $server->begin(PATCH);
    $server->wait_for_locks(1);
    $server->sql(q(select pg_terminate_backend(pid, 10000) from pg_stat_activity where wait_event_type = 'Lock'));
    $session->sql('rollback');
    is $patch->answer->{status}, 200, 'its change is made';
    is left(%before), 0, '... and its siblings are taken for lost, too';
};

$server->stop;
done_testing;
