# Twenty times more clients than connections.

use v5.36;
use Time::HiRes qw(sleep);
use Users::Test::Fault;

my $server = Users::Test::Fault->new;

# Each change takes a tenth of a second.
$server->sql(<<~'SQL');
    create function public.dawdle() returns trigger language plpgsql as
      $$ begin perform pg_sleep(0.1); return new; end $$;
    create trigger dawdle before insert on users.account
      for each row execute function public.dawdle();
    SQL

$server->start_child(max => 4, acquire => 0.5, timeout => 5, threads => 64, vhost => 'UsersChangeLanes 0');
$server->expect_trouble('busy');
my $load = $server->load(40, [POST]);
sleep 3;
my @answers = $server->end_load($load);
my $count   = count(map { $_->{status} } @answers);

is_deeply [grep { $_ != 201 && $_ != 503 } keys %$count], [], 'each request is served or refused';
cmp_ok $count->{201}, '>', 30, 'the connections are busy all the time';
my @refused = grep { $_->{status} == 503 } @answers;
cmp_ok @refused, '>', 0, 'the excess is refused';
my @slow = grep { $_->{seconds} > 0.5 + SLACK } @answers;
is @slow, 0, '... within UsersDBAcquireTimeout';
is $server->sql("select count(*) > 0 from users.account where fname = 'Jane'"), 't', 'accounts are there';
cmp_ok $server->backends, '<=', 4, 'there are no more connections than UsersDBMax';
is $server->request(POST)->{status}, 201, 'afterwards a POST succeeds';
note join ', ', map { "$_: $count->{$_}" } sort keys %$count;

done_testing;
