# Every wait for the database has an end, and their sum has one too.

use v5.36;
use IO::Socket::INET;
use POSIX  qw();
use Socket qw(IPPROTO_TCP);
use Time::HiRes qw(sleep);
use Users::Test::Fault;
use Users::Test::Session;

my $server = Users::Test::Fault->new;

subtest 'all statements of a request end within UsersRequestTimeout' => sub {
    $server->start_child(
        max => 1, acquire => 10, connect => 10, timeout => 10, vhost => 'UsersRequestTimeout 5s');
    $server->expect_trouble('late');
    my ($tokens, $account) = map { Users::Test::Session->new($server) } 1 .. 2;
    $tokens->sql('begin; lock table users.token in access exclusive mode');
    $account->sql('begin; select from users.account where id = 1 for update');
    my $before = now;
    my $patch  = $server->begin(PATCH);
    $server->wait_for_locks(1);
    sleep 3.5;    # of the 4 that a statement may wait for a lock
    $tokens->sql('commit');
    is_unavailable($patch->answer, 'a PATCH whose look-up waits, and then its change');
    cmp_ok now - $before, '<', 7, '... has its answer within that time';
    $account->sql('commit');
    is $server->request(PATCH)->{status}, 200, '... and its connection is free';

    $tokens->sql('begin; lock table users.token in access exclusive mode');
    $before = now;
    my @gets = map { $server->begin(GET) } 1 .. 10;
    my %status = count(map { $_->answer->{status} } @gets)->%*;
    cmp_ok now - $before, '<', 7, 'GETs that share a trip end within that time';
    is(($status{503} // 0) + ($status{504} // 0), 10, '... as 503 or 504');
    $tokens->sql('commit');
    is $server->request(GET)->{status}, 200, '... and the connection is free';
};

# What the module's next session has: application_name, and settings as PostgreSQL shows them.
sub settings (@names) {
    $server->request(PATCH);
    my $settings = $server->sql("select settings from public.seen order by at desc limit 1");
    return { map { split /=/, $_, 2 } split /,/, $settings };
}

subtest 'sessions have time-outs of their own' => sub {
    my @names = qw(application_name statement_timeout lock_timeout
        idle_in_transaction_session_timeout plan_cache_mode jit random_page_cost
        default_transaction_isolation client_encoding);
    my $list = join ',', map { "'$_=' || current_setting('$_')" } @names;
    $server->sql(<<~SQL);
        create table public.seen (at timestamptz default clock_timestamp(), settings text);
        create function public.see() returns trigger language plpgsql security definer as
          \$\$ begin
            insert into public.seen (settings) values (concat_ws(',', $list));
            return new;
          end \$\$;
        create trigger see before update on users.account
          for each row execute function public.see();
        SQL
    my %own = (
        application_name                    => 'mod_users',
        statement_timeout                   => '9s',
        lock_timeout                        => '8s',
        idle_in_transaction_session_timeout => '10s',
        plan_cache_mode                     => 'force_generic_plan',
        jit                                 => 'off',
        random_page_cost                    => '1.1',
        default_transaction_isolation       => 'read committed',
        client_encoding                     => 'UTF8',
    );
    my @long = (timeout => 10, vhost => 'UsersRequestTimeout 20s');
    $server->start_child(@long);
    is_deeply settings(), \%own, 'by default';
    my %other = (
        application_name                    => 'panel',
        statement_timeout                   => '7s',
        lock_timeout                        => '6s',
        idle_in_transaction_session_timeout => '5s',
        plan_cache_mode                     => 'auto',
        jit                                 => 'on',
        random_page_cost                    => '2',
        default_transaction_isolation       => 'serializable',
    );
    for my $name (sort keys %other) {
        my $option = $name eq 'application_name' ? 'application_name=panel'
            : "options='-c $name=$other{$name}'";
        $server->start_child(@long, conninfo => $server->conninfo . " $option");
        is_deeply settings(), { %own, $name => $other{$name} }, "$name may be another";
    }
    $server->start_child(@long, conninfo => $server->conninfo . ' client_encoding=LATIN1');
    is_deeply settings(), \%own, 'client_encoding may not';
};

# The seconds until a connection to this port sends a keepalive: proc(5), /proc/net/tcp.
sub keepalive ($port) {
    open my $file, '<', '/proc/net/tcp' or die "/proc/net/tcp: $!\n";
    my $remote = sprintf '0100007F:%04X 01', $port;    # established
    my ($when) = map { / $remote \S+ 02:([0-9A-F]+) / ? $1 : () } <$file>;
    return defined $when ? hex($when) / 100 : undef;
}

my $port = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1)->sockport;
$server->postgres->listen($port);
my $conninfo = "host=127.0.0.1 port=$port dbname=users user=mod_users";

subtest 'a silent end of an idle connection is noticed' => sub {
    plan skip_all => 'needs Linux' unless -r '/proc/net/tcp';
    for my $case (['', 1, 30], ['keepalives_idle=500', 400, 500], ['keepalives=0', undef, undef]) {
        my ($option, $least, $most) = @$case;
        $server->start_child(conninfo => "$conninfo $option");
        is $server->request(GET)->{status}, 200, $option || 'by default';
        my $seconds = keepalive($port);
        if (defined $least) {
            cmp_ok $seconds, '>', $least, '... a keepalive is due';
            cmp_ok $seconds, '<=', $most, '... in time';
        } else {
            is $seconds, undef, '... none is due';
        }
    }
};

# The module's socket of a connection to this port, borrowed from its process: pidfd_getfd(2). undef where
# the system does not lend it.
sub borrow ($port) {
    open my $file, '<', '/proc/net/tcp' or return;
    my $remote  = sprintf '0100007F:%04X 01', $port;
    my ($inode) = map { / $remote (?:\S+ +){5}(\d+) / ? $1 : () } <$file>;
    my ($pid)   = $server->single_process ? $server->pid : $server->children;
    my ($fd)    = map { m{/(\d+)$} } grep { (readlink // '') eq "socket:[$inode]" } glob "/proc/$pid/fd/*";
    my $process = syscall 434, $pid + 0, 0;    # pidfd_open
    return if $process < 0;
    my $borrowed = syscall 438, $process, $fd + 0, 0;
    POSIX::close($process);
    return if $borrowed < 0;
    open my $socket, '+<&=', $borrowed or die "descriptor $borrowed: $!\n";
    return $socket;
}

subtest 'a silent end is noticed in time' => sub {
    my %number = (keepalives_idle => 4, keepalives_interval => 5, keepalives_count => 6, tcp_user_timeout => 18);
    my %own    = (keepalives_idle => 30, keepalives_interval => 10, keepalives_count => 3, tcp_user_timeout => 4000);
    my %other  = (keepalives_idle => 500, keepalives_interval => 7, keepalives_count => 5, tcp_user_timeout => 12345);
  SKIP: for my $name ('', sort keys %other) {
        $server->start_child(timeout => 4, conninfo => $conninfo . ($name && " $name=$other{$name}"));
        is $server->request(GET)->{status}, 200, $name || 'by default';
        my $socket = borrow($port) // skip 'the system does not lend a socket', 1;
        my %options = map { $_ => unpack 'i', getsockopt $socket, IPPROTO_TCP, $number{$_} } keys %number;
        is_deeply \%options, { %own, $name ? ($name => $other{$name}) : () }, $name ? '... may be another' : '... as it is said';
    }
};

done_testing;
