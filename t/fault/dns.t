# Names of hosts: whatever the resolver does, a request waits for it no longer than for a connection,
# and where a name points to is followed.

use v5.36;
use IO::Socket::INET;
use Users::Test::Fault;
use Users::Test::Process qw(run slurp);
use Users::Test::Resolver;
use Users::Test::Torture;

use constant {
    SHORT    => 1,     # UsersDBConnectTimeout in seconds, where it is waited for
    LONG     => 10,    # ... and where not
    THREADED => ($ENV{USERS_TEST_MPM} // '') ne 'prefork',
};

my $LOST = qr/\[users:error\] .* the database \S+ can't be reached: /;
my $BACK = qr/\[users:warn\] .* the database \S+ is back after /;

# Two servers, each at an address of its own: the first at 127.0.0.1, and one that has its data.
my $server   = Users::Test::Fault->new;
my $dir      = $server->dir;
my $first    = $server->postgres;
my $second   = $first->standby("$dir/second");
my $resolver = Users::Test::Resolver->new($dir);
my $torture  = Users::Test::Torture->new($dir);
my $port     = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1)->sockport;
$second->promote;
$first->listen($port);
$second->listen($port, '127.0.0.2');
$_->[0]->sql('users', "update users.account set city = '$_->[1]'") for [$first, 'First'], [$second, 'Second'];
%ENV = (%ENV, $resolver->environment, $torture->environment, HOME => "$dir/home");    # which httpd's children have, too

# A child, the only one, with a virtual host for each database: name => conninfo. time: UsersDBConnectTimeout.
sub start ($time, $options, %databases) {
    $server->stop if $server->pid;
    $server->start(
        preload => $resolver->library . ':' . $torture->library,
        conf    => <<~CONF,
            StartServers 1
            ServerLimit 1
            <IfModule mpm_prefork_module>
              MaxRequestWorkers 1
            </IfModule>
            <IfModule !mpm_prefork_module>
              ThreadsPerChild 16
              MaxRequestWorkers 16
              MinSpareThreads 1
              MaxSpareThreads 16
            </IfModule>
            UsersDBConnectTimeout ${time}s
            $options
            CONF
        site => join '', map { <<~SITE } sort keys %databases);
            <VirtualHost *:*>
              ServerName $_.example
              UsersDB "$databases{$_}"
              <Location /api/users>
                UsersEndpoint account
              </Location>
            </VirtualHost>
            SITE
    $server->allow_log($_) for qr/server reached MaxRequestWorkers/, qr/whoever sits between can pass for/;
}

sub conninfo ($host, $more = '') {
    return "host=$host port=$port dbname=users user=mod_users $more";
}

sub get ($name) {
    return (GET, headers => [Host => "$name.example"]);
}

sub city ($name = 'db') {
    my $answer = $server->request(get($name));
    return $answer->{status} == 200 ? $answer->{json}{user}{city} : $answer->{status};
}

# Another half a minute, and a moment: for the module.
sub let_time_pass () {
    $torture->set_clock($torture->clock + 31);
}

# A look-up that hangs does so for as long as a test wants: there is time.
sub is_soon ($seconds, $most, $name) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    cmp_ok $seconds, '<', $most + 2 * SLACK, $name;
}

subtest 'a resolver that does not answer' => sub {
    plan skip_all => 'memcheck takes too long for its deadlines' if $server->single_process;
    open my $file, '>', "$dir/services" or die "services: $!\n";
    print $file "[own]\nhost=service.test\nport=$port\ndbname=users\nuser=mod_users\n";
    close $file;
    open $file, '>', "$dir/htdocs/file" or die "file: $!\n";
    local @ENV{qw(PGSERVICEFILE PGHOST)} = ("$dir/services", 'environment.test');
    my @names = qw(db service environment);
    $resolver->set(map { ("$_.test" => 'hangs') } @names);
    start(
        SHORT, '',
        db          => conninfo('db.test'),
        service     => 'service=own',
        environment => "port=$port dbname=users user=mod_users",
    );
    $server->expect_log(qr/$LOST.*the host name $_\.test can't be resolved: the resolver has not answered in time/) for @names;
    $server->expect_log($BACK);
    my $before  = now;
    my @waiting = map { $server->begin(get('db')) } 1 .. (THREADED ? 5 : 1);
    if (THREADED) {
        wait_until(sub { $resolver->asked('db.test') }, 'a look-up');
        my ($other, $seconds) = $server->timed(GET => '/file');
        is $other->{status}, 200, 'meanwhile the child serves others';
        is_soon($seconds, 0, '... at once');
    }
    is_unavailable($_->answer, 'GET') for @waiting;
    is_soon(now - $before, SHORT, '... within UsersDBConnectTimeout');
    is $resolver->asked('db.test'), 1, '... and all have waited for the same look-up';
    for my $name (qw(service environment)) {
        my ($answer, $seconds) = $server->timed(get($name));
        is_unavailable($answer, "the same with a host of libpq's $name");
        is_soon($seconds, SHORT, '... within UsersDBConnectTimeout');
    }
    $resolver->set(map { ("$_.test" => '127.0.0.1') } @names);
    for my $name (@names) {
        is_soon($server->wait_for_answer(200, get($name)), 1, "when it answers late, requests succeed soon: $name");
        is $resolver->asked("$name.test"), 1, '... by that answer';
    }
    $resolver->set('db.test' => 'hangs');
    let_time_pass();
    is city(), 'First', 'on a connection that is open GET succeeds meanwhile';
    is $resolver->asked('db.test'), 1, '... without a look-up';
};

subtest 'a name that moves' => sub {
    $resolver->set('db.test' => '127.0.0.1');
    start(LONG, "UsersDBAcquireTimeout ${\LONG}s\nUsersDBExptime 1ms", db => conninfo('db.test'));    # no connection lies idle for so long
    my $asked = $resolver->asked('db.test');
    is_deeply count(map { city() } 1 .. 5), { First => 5 }, 'requests reach the first server';
    is $resolver->asked('db.test') - $asked, 1, '... by one look-up';
    $resolver->set('db.test' => '127.0.0.2');
    is city(), 'First', 'an address is good for a while';
    let_time_pass();
    wait_until(sub { city() eq 'Second' }, 'the name to be followed');
    $resolver->set('db.test' => '127.0.0.1');
    $torture->set_clock($torture->clock + 20);
    is city(), 'Second', 'one that is not old is used';
    wait_until(sub { city() eq 'First' }, 'it to be looked up behind that');
    $server->allow_log($_) for $LOST, $BACK;
    $resolver->set('db.test' => '127.0.0.2');
    $torture->set_clock($torture->clock + 2);
    $first->stop;
    my $before = now;
    wait_until(sub { city() eq 'Second' }, 'it to be followed as the old address has no server any more');
    is_soon(now - $before, 1, '... which is not put off');
    $first->start;
};

subtest 'a resolver that fails after it has answered' => sub {
    my $failing = qr/\[users:warn\] .* the host name db\.test of the database \S+ can't be resolved: .*: its addresses of \d+ s ago are used/;
    my $over    = qr/\[users:warn\] .* the host name db\.test of the database \S+ is resolved again after .* \d+ times/;
    $server->expect_log($_) for $failing, $over;
    my ($failed, $ended) = map { $server->count_log($_) } $failing, $over;
    $resolver->set('db.test' => 'fails');
    let_time_pass();
    is city(), 'Second', "where it fails the old address is used, request $_" for 1 .. 3;
    is $server->count_log($failing) - $failed, 1, '... and the log says so once';
    $resolver->set('db.test' => 'hangs');
    let_time_pass();
    my $before = now;
    is city(), 'Second', "... and where it is silent, request $_" for 1 .. 3;
    is_soon(now - $before, 0.5, '... which waits for that half a second');
    $resolver->set('db.test' => '127.0.0.1');
    wait_until(sub { city() eq 'First' }, 'it to answer again');
    is $server->count_log($failing) - $failed, 1, 'the log had no more of it';
    is $server->count_log($over) - $ended, 1, '... and has that it is over';
};

# One that the first server has a certificate of.
sub make_certificate ($name) {
    my ($status, undef, $error) = run([qw(/usr/bin/env openssl req -x509 -newkey ec -nodes -days 1 -subj), "/CN=$name",
        qw(-pkeyopt ec_paramgen_curve:P-256 -keyout), "$dir/db.key", '-out', "$dir/db.crt"], "$dir/openssl");
    die "openssl makes no certificate: $error" if $status;
    my ($uid, $gid) = (stat $first->dir)[4, 5];
    chown $uid, $gid, "$dir/db.key";
    $first->configure("ssl = on\nssl_cert_file = '$dir/db.crt'\nssl_key_file = '$dir/db.key'\n");
    $first->restart;
}

subtest 'names, addresses and certificates' => sub {
    plan skip_all => 'memcheck takes too long for its deadlines' if $server->single_process;
    my $mute = IO::Socket::INET->new(LocalAddr => '127.0.0.4', LocalPort => $port, Listen => 100) // die $@;
    make_certificate('right.test');
    my $tls   = "sslmode=verify-full sslrootcert=$dir/db.crt";
    my %names = (
        'refused.test' => '127.0.0.3,127.0.0.1',
        'silent.test'  => '127.0.0.4,127.0.0.1',
        'nobody.test'  => '127.0.0.3',
        'hung.test'    => 'hangs',
        map { ($_ => '127.0.0.1') } qw(db.test right.test wrong.test)
    );
    $resolver->set(%names);
    start(
        2, "UsersDBAcquireTimeout ${\LONG}s",
        (map { ($_ => conninfo("$_.test")) } qw(refused silent nobody absent)),
        list     => conninfo('hung.test,db.test', 'target_session_attrs=read-write'),
        hostaddr => conninfo('hung.test,db.test', 'hostaddr=127.0.0.2,127.0.0.1'),
        right    => conninfo('right.test', $tls),
        wrong    => conninfo('wrong.test', $tls),
    );
    is city('refused'), 'First', 'where no server listens at one address, the next is tried';
    my ($answer, $seconds) = $server->timed(get('silent'));
    is $answer->{status}, 200, 'where one is silent, too';
    is_soon($seconds, 2, '... within UsersDBConnectTimeout');
    is_unavailable($server->request(get('nobody')), 'where none listens at any');
    $server->expect_log(qr/$LOST.*nobody\.test: .*"127\.0\.0\.3"/);

    ($answer, $seconds) = $server->timed(get('list'));
    is $answer->{status}, 200, 'of several names one that is not resolved leaves time for the next';
    is_soon($seconds, 2, '... which has its turn after UsersDBConnectTimeout');
    is city('hostaddr'), 'Second', 'hostaddr= is used as it is';

    is city('right'), 'First', 'the certificate has the name that was looked up';
    is_unavailable($server->request(get('wrong')), 'one that has another name');
    $server->expect_log(qr/$LOST.*"right\.test".*"wrong\.test"/);

    is_unavailable($server->request(get('absent')), 'a name that does not exist');
    $server->expect_log($_) for qr/$LOST.*the host name absent\.test can't be resolved: \w/, $BACK;
    $resolver->set(%names, 'absent.test' => '127.0.0.1');
    is_soon($server->wait_for_answer(200, get('absent')), 1, '... and requests succeed soon when it does');
};

subtest 'httpd ends while a look-up hangs' => sub {
    plan skip_all => 'memcheck takes too long for its deadlines' if $server->single_process;
    $resolver->set('db.test' => 'hangs');
    start(SHORT, '', db => conninfo('db.test'));
    $server->expect_log($LOST);
    is_unavailable($server->request(get('db')), 'GET');
    my $before = now;
    my ($child) = $server->children;
    $server->graceful;
    wait_until(sub { !grep { $_ == $child } $server->children }, 'the child to end');
    is_soon(now - $before, 1, 'a child ends gracefully at once');
    is_unavailable($server->request(get('db')), 'GET by the next one');
    $before = now;
    $server->stop;
    is_soon(now - $before, 1, 'httpd ends at once');
};

done_testing;
