# While the database is away nobody waits for it: one request at a time looks for it.

use v5.36;
use IO::Select;
use IO::Socket::INET;
use Users::Test::Fault;

my $LOST = qr/\[users:error\] .* the database \S+ can't be reached: /;
my $BACK = qr/\[users:warn\] .* the database \S+ is back after ([\d.]+) s, in which (\d+) requests were refused/;

my $server = Users::Test::Fault->new;

subtest 'one line when it goes, one when it is back' => sub {
    $server->start_child;
    $server->expect_log($_) for $LOST, $BACK;
    is $server->request(GET)->{status}, 200, 'it is there';
    my $before = now;
    $server->postgres->stop;
    my @answers = map { $server->parallel(map { $_ % 2 ? [GET] : [PATCH] } 1 .. 10) } 1 .. 10;
    is_deeply count(map { $_->{status} } @answers), { 503 => 100 }, 'without it all are 503';
    is_unavailable($answers[$_], "request $_") for 0, 99;

    $server->postgres->start;
    cmp_ok $server->wait_for_answer(200, GET), '<', 1 + SLACK, 'within a second it is back';
    is $server->request(PATCH)->{status}, 200, '... for changes too';
    is $server->count_log($LOST), 1, 'the log has one line of its loss';
    my @back = map { [/$BACK/] } grep { $_ =~ $BACK } $server->error_log;
    is @back, 1, '... and one of its return';
    my ($seconds, $refused) = $back[0]->@*;
    cmp_ok $seconds, '<=', sprintf('%.1f', now - $before), '... with how long that was';
    my $refusals = sub { scalar grep { / 503 / } $server->access_log };
    wait_until(sub { $refusals->() >= $refused }, 'the access log');
    is $refused, $refusals->(), '... and how many requests were refused';
};

# A listener that takes no part in the protocol: who connects gets no answer.
sub mute () {
    return IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1000) // die $@;
}

# Those that have connected since: hung up when forgotten.
sub attempts ($listener) {
    my @taken;
    while (IO::Select->new($listener)->can_read(0)) {
        push @taken, scalar $listener->accept;
    }
    return @taken;
}

subtest 'few requests look for it' => sub {
    my $mute = mute();
    $server->start_child(
        acquire  => 1,
        connect  => 0.3,
        conninfo => 'host=127.0.0.1 dbname=users user=mod_users port=' . $mute->sockport);
    my $answer = $server->request(GET);
    is_unavailable($answer, 'the first');
    attempts($mute);
    my $before  = now;
    my $load    = $server->load(10, [GET], [PATCH]);
    wait_until(sub { now - $before > 3 }, 'three seconds to pass');
    my @answers = $server->end_load($load);
    my $seconds = now - $before;
    my $attempts = attempts($mute);
    is_deeply [keys count(map { $_->{status} } @answers)->%*], [503], 'all are 503';
    cmp_ok @answers, '>', 100, 'a hundred requests and more are answered';
    # each takes UsersDBConnectTimeout, and 50 ms at least lie between
    cmp_ok $attempts, '<=', $seconds / 0.35 + 1, '... for each few that reach the listener';
    cmp_ok $attempts, '>=', 1, '... but some do';
    my @slow = grep { $_->{seconds} > 0.3 } @answers;
    cmp_ok @slow, '<=', $attempts + 0.1 * @answers, '... and who does not look does not wait';
    my @order = sort { $a <=> $b } map { $_->{seconds} } @answers;
    note sprintf '%d answers, %d attempts, median %.1f ms, 95 %% %.1f ms', scalar @answers,
        $attempts, 1000 * $order[@order / 2], 1000 * $order[0.95 * @order];
    $server->expect_log($LOST);
};

subtest 'with one connection too' => sub {
    my $mute = mute();
    $server->start_child(
        max      => 1,
        connect  => 5,
        acquire  => 5,
        conninfo => 'host=127.0.0.1 dbname=users user=mod_users port=' . $mute->sockport);
    $server->expect_log($LOST);
    is $server->request(GET)->{status}, 503, 'the first waits in vain';
    attempts($mute);
    my (@waiting, @attempts);
    wait_until(
        sub {
            push @waiting, $server->begin(GET);
            return @attempts = attempts($mute);
        },
        'one to look for it'
    );
    my ($answer, $seconds) = $server->timed(PATCH);
    is_unavailable($answer, 'who comes meanwhile');
    my @unanswered;
    wait_until(
        sub {
            @unanswered = grep { !IO::Select->new($_->{socket})->can_read(0) } @waiting;
            return @unanswered <= 1;
        },
        'the others to be answered'
    );
    is @unanswered, 1, '... is answered before the one who looks';
    $_->answer for @waiting;
};

subtest 'a host that there was no time to ask is not away' => sub {
    my $mute = mute();
    my $dir  = $server->postgres->dir;
    $server->start_child(
        acquire  => 0.3,
        connect  => 0.3,
        conninfo => "host=127.0.0.1,$dir port=@{[$mute->sockport]},5432 dbname=users user=mod_users");
    is_unavailable($server->request(GET), 'who asks the one before it in vain');
    is $server->request(GET)->{status}, 200, 'the next one asks this one';
    is $server->count_log($LOST), 0, 'and the database was not taken to be lost';
};

subtest 'hosts of a service file are tried one by one' => sub {
    my $mute = mute();
    my $path = $server->dir . '/services';
    open my $file, '>', $path or die "$path: $!\n";
    print $file "[own]\nhost=127.0.0.1,@{[$server->postgres->dir]}\nport=@{[$mute->sockport]},5432\ndbname=users\nuser=mod_users\n";
    close $file;
    local $ENV{PGSERVICEFILE} = $path;
    $server->start_child(conninfo => 'service=own', connect => 0.3, acquire => 10);
    is $server->request(GET)->{status}, 200, 'one that is silent leaves time for the next';
    cmp_ok attempts($mute), '>=', 1, '... after which that was asked';
};

done_testing;
