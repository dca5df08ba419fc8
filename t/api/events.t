# Events of the outbox reach their receiver: each at least once, in order for each account, signed, and a repeat is
# what was sent before; whoever refuses, dies or comes back in between.

use v5.36;
use utf8;
use Digest::SHA  qw(hmac_sha256_base64);
use IO::Socket::INET;
use JSON::PP     ();
use MIME::Base64 qw(decode_base64);
use Users::Test::Fault;
use Users::Test::Process qw(now slurp);
use Users::Test::Proxy;
use Users::Test::Receiver;
use Users::Test::Session;
use Users::Test::Usersctl;

my $SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
my $OTHER  = 'whsec_' . 'AbCd' x 16;
my @FIELDS = qw(city zip);

my $server   = Users::Test::Fault->new;
my $usersctl = Users::Test::Usersctl->new($server);
my $receiver = Users::Test::Receiver->new($server->dir);

# ---- What all do -----------------------------------------------------------------------------

my $files = 0;

# Write a file for --endpoint. Returns its path.
sub endpoint (@lines) {
    my $path = $server->dir . '/endpoint-' . ++$files;
    open my $file, '>:raw', $path or die "$path: $!\n";
    chmod 0600, $path;
    print $file map { "$_\n" } @lines;
    close $file;
    return $path;
}

my @ALLOW  = ('allow http', 'allow private');
my $usual  = endpoint('# where to', 'url ' . $receiver->url, '', "secret  $SECRET ", @ALLOW);
my @DELIVER = (qw(event deliver --timeout 20s --endpoint), $usual);

# Put events of accounts into the outbox, in that order. Returns their ids.
sub add (@users) {
    return split /\n/, $server->sql(<<~"SQL");
        insert into users.event (type, user_id, fields)
        select 'user.updated', user_id, '{@{[join ',', @FIELDS]}}'
        from unnest('{@{[join ',', @users]}}'::bigint[]) with ordinality as event (user_id, number) order by number
        returning id
        SQL
}

# Deliver what is due. Returns "delivered failed dead".
sub deliver (@options) {
    my ($status, $output, $error) = $usersctl->run('--json', @DELIVER, '--once', @options);
    is $status, 0, 'it ends well' or diag $error;
    my $counts = JSON::PP->new->decode($output);
    return join ' ', @$counts{qw(delivered failed dead)};
}

# The time comes at which all are tried again.
sub let_time_pass () {
    $server->sql(q(update users.event set due_at = now() where dead_at is null));
}

sub begin () {
    $server->sql('truncate users.event');
    $receiver->forget;
    $receiver->behave(200);
}

sub left () {
    return value('count(*)');
}

sub rows ($columns, $where = 'true') {
    return $server->sql("select $columns from users.event where $where order by id");
}

sub value ($aggregate, $where = 'true') {
    return $server->sql("select $aggregate from users.event where $where");
}

# What Standard Webhooks says of a signature.
sub signature ($secret, $id, $timestamp, $body) {
    my $digest = hmac_sha256_base64("$id.$timestamp.$body", decode_base64($secret =~ s/^whsec_//r));
    return 'v1,' . $digest . '=' x (-length($digest) % 4);
}

# Accounts 1 to 20.
$server->sql(<<~'SQL');
    insert into users.account (id, fname, lname, email, country, currency, locale)
    select n, 'Jane', 'Röe', 'jane' || n || '@example.com', 'NL', 'EUR', 'nl'
    from generate_series(2, 20) as n;
    select setval(pg_get_serial_sequence('users.account', 'id'), 20)
    SQL

# ---- One event -------------------------------------------------------------------------------

subtest 'an event is sent as Standard Webhooks says' => sub {
    is signature($SECRET, 'msg_p5jXN8AQM9LWM0D4loKWxJek', 1614265330, '{"test": 2432232314}'),
        'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=', 'the signature that others test theirs with';
    add(1);
    my ($message_id, $created_at) = split /\|/, rows(q(message_id, to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')));
    my $before = time;
    is deliver(), '1 0 0', 'it is delivered';
    is left(), 0, '... and gone';
    my ($request, @others) = $receiver->requests;
    is scalar @others, 0, 'it was sent once';
    is "$request->{method} $request->{target}", 'POST /events', 'to the URL';
    my %header = $request->{headers}->%*;
    is $header{'content-type'}, 'application/json', 'as JSON';
    like $header{'user-agent'}, qr{^mod_users/\d}, 'by us';
    is $header{'webhook-id'}, $message_id, 'with its id';
    like $header{'webhook-timestamp'}, qr/^\d+$/, 'the time';
    ok $header{'webhook-timestamp'} >= $before - 1 && $header{'webhook-timestamp'} <= time + 1, '... now';
    is $header{'webhook-signature'}, signature($SECRET, $message_id, $header{'webhook-timestamp'}, $request->{body}), 'and a signature';
    my $json = JSON::PP->new->decode($request->{body});
    is_deeply [sort keys %$json], [qw(data timestamp type)], 'the members of the body';
    is $json->{type}, 'user.updated', 'its type';
    is $json->{timestamp}, $created_at, 'its time';
    is_deeply [sort keys $json->{data}->%*], [qw(fields user user_id)], 'its data';
    is $json->{data}{user_id}, 1, 'the id of the account';
    is_deeply $json->{data}{fields}, \@FIELDS, 'the names of what changed';
    $server->start;
    my $answer = $server->request(GET => '/api/users', token => READ_TOKEN);
    is_deeply $json->{data}{user}, $answer->{json}{user}, 'the account, as GET shows it';
    $server->stop;
};

subtest 'two secrets make two signatures' => sub {
    begin();
    add(1);
    my $path = endpoint('url ' . $receiver->url, "secret $OTHER", "secret $SECRET", @ALLOW);
    my ($status) = $usersctl->run(qw(event deliver --once --endpoint), $path);
    is $status, 0, 'it is delivered';
    my ($request) = $receiver->requests;
    my %header = $request->{headers}->%*;
    is $header{'webhook-signature'},
        join(' ', map { signature($_, @header{qw(webhook-id webhook-timestamp)}, $request->{body}) } $OTHER, $SECRET),
        'in the order of the file, with a blank between them';
};

subtest 'one of an account that has gone' => sub {
    begin();
    add(999);
    is deliver(), '1 0 0', 'it is delivered';
    my $data = JSON::PP->new->decode([$receiver->requests]->[0]{body})->{data};
    is_deeply $data, { user_id => 999, fields => \@FIELDS, user => undef }, 'without the account';
};

# ---- Failures --------------------------------------------------------------------------------

subtest 'what is no 2xx is a failure, and a repeat is identical' => sub {
    begin();
    add(1);
    my @behaviours = (
        [qr/^status 500$/,                       500],
        [qr/^status 301, and redirects are not/, 301, 'Location: ' . $receiver->url],
        [qr/empty reply/i,                       'close'],
        [qr/timed out/i,                         'hang'],
        [qr/(?:connect|refused)/i],
    );
    my $sent = 0;
    for (@behaviours) {
        my ($failure, @behaviour) = @$_;
        @behaviour ? $receiver->behave(@behaviour) : $receiver->stop;
        $sent++ if @behaviour;
        let_time_pass();
        my @timeout = "@behaviour" eq 'hang' ? qw(--timeout 1s) : ();
        my ($status, $output, $error) = $usersctl->run(@DELIVER[0, 1, 4, 5], '--once', @timeout);
        is $output, "delivered         0\nfailed            1\ndead              0\n", "$failure";
        like rows('failure'), $failure, '... is told';
        like $error, qr/^usersctl: event \d+ of user 1 was not delivered: /, '... once';
        is $receiver->arrived, $sent, '... and it was sent once';
        $server->sql("update users.account set city = 'City $sent' where id = 1");
    }
    is deliver(), '0 0 0', 'it is not tried again at once';
    $receiver->start;
    $receiver->behave(204);
    let_time_pass();
    is deliver(), '1 0 0', 'a 204 is good';
    is left(), 0, '... and the event gone';
    my @requests = $receiver->requests;
    is scalar(keys { map { $_->{headers}{'webhook-id'} => 1 } @requests }->%*), 1, 'all had one id';
    is scalar(keys { map { $_->{body} => 1 } @requests }->%*), 1, '... and one body';
};

subtest 'an answer without an end' => sub {
    begin();
    $receiver->behave('endless');
    add(1);
    is deliver(), '1 0 0', 'its status says all';
    add(1);
    $receiver->behave('cut 200');
    is deliver(), '1 0 0', '... of one that is cut off, too';
    add(1);
    $receiver->behave('cut 500');
    is deliver(), '0 1 0', '... be it good or bad';
    is rows('failure'), 'status 500', '... and is told';
};

subtest 'attempts are further and further apart, and end' => sub {
    begin();
    my ($id) = add(1);
    add(1);
    $receiver->behave(500);
    my %wanted = (1 => 5, 4 => 135, 14 => 43200);
    for my $attempt (sort { $a <=> $b } keys %wanted) {
        $server->sql("update users.event set attempts = $attempt - 1, due_at = now() where id = $id");
        my $before = now;
        is deliver(), '0 1 0', "attempt $attempt";
        my $delay = rows('extract(epoch from due_at - now())', "id = $id");
        my ($least, $most) = map { $wanted{$attempt} * $_ } 0.8, 1.2;
        ok $least - (now - $before) <= $delay && $delay <= $most, "... another one in $least to $most seconds" or diag $delay;
    }
    let_time_pass();
    my ($status, undef, $error) = $usersctl->run(@DELIVER, '--once');
    like $error, qr/event $id of user 1 is given up after 15 attempts: status 500$/m, 'the last one is told';
    is rows('dead_at is not null'), "t\nf", 'it is dead, and the next of its account is not';
    is rows('attempts', 'dead_at is null'), 1, '... which has been tried';
    $receiver->forget;
    $receiver->behave(200);
    let_time_pass();
    is deliver(), '1 0 0', 'the next one is delivered';

    my $listed = $usersctl->told(qw(event list --state dead));
    is_deeply [map { "$_->{id} $_->{state} $_->{attempts} $_->{failure}" } @$listed], ["$id dead 15 status 500"], 'event list shows it';
    is deliver(), '0 0 0', 'a dead one is not tried again';
    is_deeply $usersctl->told(qw(event retry), $id), { retried => 1 }, 'event retry revives it';
    is rows('attempts, dead_at'), '0|', '... as if it were new';
    is deliver(), '1 0 0', '... and it is delivered';
};

subtest 'what comes back after an hour gets all, and in order' => sub {
    begin();
    $receiver->stop;
    my @events = add(1, 2, 1, 1);
    my ($rounds, $passed) = (0, 0);
    while ($passed < 3600) {
        my $wait = value('coalesce(max(extract(epoch from due_at - now())), 0)', 'attempts > 0');
        $passed += $wait;
        $server->sql("update users.event set due_at = due_at - $wait * interval '1 second'");
        is deliver(), '0 2 0', 'both accounts are tried' or last;
        $rounds++;
    }
    cmp_ok $rounds, '<', 10, 'in an hour there are a few attempts';
    is rows('attempts > 0'), "t\nt\nf\nf", '... with the oldest of each account';
    $receiver->start;
    my $count = 0;
    for (1 .. 2) {
        $server->sql("update users.event set due_at = due_at - interval '3 hours'");
        $count += (split / /, deliver())[0];
    }
    is $count, 4, 'all are delivered';
    my @users = map { JSON::PP->new->decode($_->{body})->{data}{user_id} } $receiver->requests;
    is join(' ', sort @users), '1 1 1 2', 'each once';
};

subtest 'one that asks for time' => sub {
    begin();
    add(1 .. 5);
    $receiver->behave(429, 'Retry-After: 1000');
    is deliver(qw(--parallel 1)), '0 1 0', 'after a 429 nothing else is sent';
    cmp_ok value('max(extract(epoch from due_at - now()))', 'attempts > 0'), '>', 900, '... and the event is spared for as long';
    $receiver->behave(503, 'Retry-After: 100000000');
    is deliver(qw(--parallel 1)), '0 1 0', 'nor after a 503';
    cmp_ok value('max(extract(epoch from due_at - now()))'), '<=', 86400, '... but for no longer than a day';
    $receiver->behave(500);
    is deliver(), '0 3 0', 'after a 500 others are';
};

subtest 'one that wants no more' => sub {
    begin();
    add(1 .. 3);
    $receiver->behave(410);
    my $started = $usersctl->start('', @DELIVER, qw(--parallel 1));
    my ($status, $output, $error) = $usersctl->end($started);
    is $status, 1, 'a 410 ends it';
    like $error, qr/the receiver wants no more events \(status 410\)/, '... it says';
    is left(), 3, '... and nothing is lost';
    is $receiver->arrived, 1, '... and nothing else was sent';
};

# ---- Several, and their ends -----------------------------------------------------------------

# What is wrong with the order in which an account's events came first: nothing, or a sentence.
sub disorder (%users) {
    my (%first, %busy, %body, @wrong);
    for my $request (sort { $a->{began} <=> $b->{began} } $receiver->requests) {
        my $id   = $request->{headers}{'webhook-id'};
        my $user = $users{$id}{user};
        push @wrong, "$id has two bodies" if ($body{$id} //= $request->{body}) ne $request->{body};
        push @wrong, "$id was sent while another one of $user was" if ($busy{$user} // 0) > $request->{began};
        $busy{$user} = $request->{ended};
        next if $first{$id}++;
        push @wrong, "$id came too late" if $users{$id}{number} < ($users{last}{$user} // 0);
        $users{last}{$user} = $users{$id}{number};
    }
    push @wrong, "$_ was not sent" for grep { $_ ne 'last' && !$first{$_} } keys %users;
    return join "\n", @wrong;
}

# The events that there are, for "disorder".
sub all_of () {
    return map { my ($id, $number, $user) = split /\|/; ($id => { number => $number, user => $user }) }
        split /\n/, rows('message_id, id, user_id');
}

sub start (@options) {
    return $usersctl->start('', '--json', @DELIVER, @options);
}

subtest 'several deliverers share the work, and one is killed' => sub {
    begin();
    $receiver->behave('slow 0.01 200');
    add((1 .. 12) x 5);
    my %events = all_of();
    my @started = map { start(qw(--parallel 4)) } 1 .. 3;
    wait_until(sub { $receiver->arrived >= 15 }, 'events');
    my $killed = shift @started;
    kill KILL => $killed->{pid};
    $usersctl->end($killed);
    wait_until(sub { $receiver->arrived == $receiver->requests }, 'what it had sent to be answered');
    wait_until(sub { value('count(*)', 'due_at <= now()') == 0 }, 'all but what the killed one had');
    my $sum = 0;
    for (@started) {
        kill TERM => $_->{pid};
        my ($status, $output, $error) = $usersctl->end($_);
        is $status, 0, 'SIGTERM ends one well';
        is $error, '', '... without a word';
        $sum += JSON::PP->new->decode($output)->{delivered};
    }
    let_time_pass();
    my ($rest) = deliver() =~ /^(\d+) 0 0$/;
    is left(), 0, 'all are delivered';
    is disorder(%events), '', '... in order, one at a time of each account';
    cmp_ok scalar($receiver->requests), '<=', 60 + 4, '... again only what the killed one had';
    cmp_ok $sum + $rest, '<=', 60, '... and counted once';
};

subtest 'one that is killed while it sends' => sub {
    begin();
    add(1);
    $receiver->behave('hang');
    my $started = start();
    wait_until(sub { $receiver->arrived }, 'the event to be sent');
    my ($body) = rows('body');
    kill KILL => $started->{pid};
    $usersctl->end($started);
    $receiver->behave(200);
    is deliver(), '0 0 0', 'the lease keeps others from it';
    $server->sql(q(update users.account set city = 'Elsewhere' where id = 1));
    let_time_pass();
    is deliver(), '1 0 0', 'when that is over it is sent again';
    is [$receiver->requests]->[0]{body}, $body, '... as it was before';
};

subtest 'one whose lease was over' => sub {
    begin();
    add(1);
    $receiver->behave('hold');
    my $slow = start('--once');
    wait_until(sub { $receiver->arrived }, 'the event to be sent');
    let_time_pass();
    my $other = start('--once');
    wait_until(sub { $receiver->arrived == 2 }, 'the event to be sent again');
    $receiver->behave(200);
    my @ends = map { JSON::PP->new->decode(($usersctl->end($_))[1])->{delivered} } $slow, $other;
    is "@ends", '0 1', 'leaves the event to who has it then';
};

# In German style it would write IST, which it reads as Israel's.
subtest 'a session with settings of its own' => sub {
    begin();
    add(1, 2);
    local @ENV{qw(PGDATESTYLE PGTZ PGOPTIONS)} = ('German', 'Asia/Kolkata', '-c default_transaction_isolation=serializable');
    is deliver(), '2 0 0', 'delivers events';
    is left(), 0, '... and records it';
};

subtest 'PostgreSQL dies while an event is sent' => sub {
    begin();
    add(1);
    $receiver->behave('hold');
    my $started = start();
    wait_until(sub { $receiver->arrived }, 'the event to be sent');
    $server->postgres->kill;
    $receiver->behave(200);
    wait_until(sub { $receiver->requests }, 'the answer');
    $server->postgres->start;
    wait_until(sub { left() == 0 }, 'the event to go');
    add(1, 2);
    wait_until(sub { left() == 0 }, 'others to follow');
    kill TERM => $started->{pid};
    my ($status, undef, $error) = $usersctl->end($started);
    is $status, 0, 'it ends well';
    like $error, qr/^usersctl: the database answers again$/m, 'it says that it was away';
    is scalar($receiver->requests), 3, 'no event was sent twice';
};

# Until the kernel asks whether the other side of a connection to a port of loopback is still there, in seconds.
sub keepalive ($port) {
    my $address = sprintf '0100007F:%04X', $port;    # proc(5): timer 2 is the one of keepalives
    return slurp('/proc/net/tcp') =~ /^ *\d+: \S+ $address 01 \S+ 02:(\w+) /m ? hex($1) / 100 : undef;
}

subtest 'a host of PostgreSQL that goes without a word' => sub {
    begin();
    my $other = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die "no free port: $@\n";
    my $mine  = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $other->sockport) or die "no connection: $@\n";
    $mine->sockopt(SO_KEEPALIVE, 1);
    plan skip_all => 'this system does not tell timers of connections' unless -r '/proc/net/tcp' && keepalive($other->sockport);
    my $proxy   = Users::Test::Proxy->new($server);
    my $started = start('--db', $proxy->conninfo =~ s/user=\w+/user=postgres/r);
    my $seconds;
    wait_until(sub { $seconds = keepalive($proxy->port) }, 'an idle connection');
    cmp_ok $seconds, '<=', 30, 'it is soon asked whether it is there';
    kill KILL => $started->{pid};
    $usersctl->end($started);
};

# A second table has what the first was given, and a third what was changed.
subtest 'httpd, PostgreSQL and a deliverer are killed while accounts are changed' => sub {
    begin();
    $server->sql(<<~'SQL');
        create table told as select id, message_id, type, user_id from users.event limit 0;
        create table changed (user_id bigint, city text);
        create function tell() returns trigger language plpgsql security definer as
          'begin insert into public.told values (new.id, new.message_id, new.type, new.user_id); return null; end';
        create function note() returns trigger language plpgsql security definer as
          'begin insert into public.changed values (new.id, new.city); return null; end';
        create trigger tell after insert on users.event for each row execute function tell();
        create trigger note after insert or update on users.account for each row execute function note()
        SQL
    $server->start(vhost => 'UsersEvents on');
    $server->allow_log(qr/\[users:(?:error|warn)\] .* the database \S+ (?!refused)/);    # goes, is back
    $server->allow_trouble(qw(late busy));
    my @started = map { start() } 1, 2;
    # who finds no PostgreSQL when he begins ends
    wait_until(sub { $server->sql(q(select count(*) from pg_stat_activity where application_name = 'usersctl')) == 2 }, 'deliverers to connect');
    my $load = $server->load(3,
        [PATCH => '/api/users', token => FULL_TOKEN, json => { user => { city => SERIAL } }],
        [POST => '/api/users', token => REGISTER_TOKEN,
            json => { user => { fname => 'Jane', lname => 'Roe', city => SERIAL, provider_server => 'https://s.example', provider_username => SERIAL } }]);
    my @kills = (
        sub { kill KILL => ($server->children)[0] },
        sub { $server->postgres->kill; $server->postgres->start },
        sub { my $killed = shift @started; kill KILL => $killed->{pid}; $usersctl->end($killed); push @started, start() },
        sub { kill KILL => ($server->children)[0] },
    );
    for my $kill (@kills) {
        my $before = $receiver->arrived;
        wait_until(sub { $receiver->arrived > $before + 10 }, 'events');
        $kill->();
    }
    my $before = $receiver->arrived;
    wait_until(sub { $receiver->arrived > $before + 10 }, 'events');
    my %acknowledged = map { $_->{serial} => 1 } grep { $_->{status} =~ /^20[01]$/ } $server->end_load($load);
    for (@started) {
        kill TERM => $_->{pid};
        is +($usersctl->end($_))[0], 0, 'a deliverer ends well';
    }
    $server->stop;
    wait_until(sub { let_time_pass(); deliver(); left() == 0 }, 'all to be delivered');

    my %events = map { my ($id, $number, $user) = split /\|/; ($id => { number => $number, user => $user }) }
        split /\n/, $server->sql('select message_id, id, user_id from told order by id');
    is disorder(%events), '', 'every event came, in order, and a repeat was identical';
    is $server->sql('select count(*) from told'), $server->sql('select count(*) from changed'), 'each change has an event';
    my %made = map { $_ => 1 } split /\n/, $server->sql('select city from changed');
    is_deeply [grep { !$made{$_} } keys %acknowledged], [], '... each that was acknowledged, too';
    my %created = map { $_->{user}{city} => 1 } map { $_->{data} } grep { $_->{type} eq 'user.created' }
        map { JSON::PP->new->decode($_->{body}) } $receiver->requests;
    is_deeply [grep { !$created{$_} } split /\n/, $server->sql('select city from changed where user_id <> 1')], [], 'the receiver knows every account';
    cmp_ok scalar(keys %acknowledged), '>', 30, 'there were many';
    $server->sql('drop table told, changed; drop function tell() cascade; drop function note() cascade');
};

subtest 'SIGTERM while an event is sent' => sub {
    begin();
    add(1, 1);
    $receiver->behave('hold');
    my $started = start();
    wait_until(sub { $receiver->arrived }, 'the event to be sent');
    kill TERM => $started->{pid};
    $receiver->behave(200);
    my ($status, $output, $error) = $usersctl->end($started);
    is $status, 0, 'it ends well';
    is $output, qq({"delivered":1,"failed":0,"dead":0}\n), 'with what it had begun';
    is $error, '', '... without a word';
    is left(), 1, '... and nothing else';
};

# A signal cancels what usersctl has the database do.
subtest 'SIGTERM while a delivery is recorded' => sub {
    begin();
    $server->sql(<<~'SQL');
        create function held() returns trigger language plpgsql as
          'begin perform pg_advisory_xact_lock(1); return old; end';
        create trigger held before delete on users.event for each row execute function held()
        SQL
    my $session = Users::Test::Session->new($server);
    $session->sql('begin; select pg_advisory_xact_lock(1)');
    add(1);
    my $started = start();
    $usersctl->wait_for_lock;
    my $since = "select query_start from pg_stat_activity where application_name = 'usersctl'";
    my $first = $server->sql($since);
    kill TERM => $started->{pid};
    wait_until(sub { $server->sql($since) ne $first }, 'it to be recorded again');
    $session->sql('commit');
    my ($status, $output, $error) = $usersctl->end($started);
    is $status, 0, 'it ends well';
    is $output, qq({"delivered":1,"failed":0,"dead":0}\n), 'the event counts as delivered';
    is $error, '', '... without a word';
    is left(), 0, '... and is gone';
    is $receiver->arrived, 1, '... and was sent once';
    $server->sql('drop function held() cascade');
};

# Longer than a test should take, so it is made shorter here.
subtest 'a lock that somebody keeps' => sub {
    begin();
    is $server->sql(q(select proname from pg_proc where proconfig @> '{lock_timeout=5s}' order by 1)), "claim_events\nfinish_event", 'is waited for five seconds';
    $server->sql(q(alter function users_admin.claim_events set lock_timeout = '50ms'; alter function users_admin.finish_event set lock_timeout = '50ms'));
    my $session = Users::Test::Session->new($server);
    my ($id) = add(1);
    $session->sql('begin; lock table users.event in share mode');
    my ($status, $output, $error) = $usersctl->run(@DELIVER, '--once');
    is $status, 3, 'claims fail';
    is $error, "usersctl: canceling statement due to lock timeout\n", '... and it says why';
    $session->sql('commit');
    $receiver->behave('hold');
    my $started = start();
    wait_until(sub { $receiver->arrived }, 'the event to be sent');
    $session->sql("begin; select from users.event where id = $id for update");
    $receiver->behave(200);
    wait_until(sub { slurp("$started->{scratch}.err") =~ /lock timeout/ }, 'it to be given up');
    $session->sql('commit');
    wait_until(sub { left() == 0 }, 'the event to go');
    kill TERM => $started->{pid};
    is +($usersctl->end($started))[0], 0, 'it is recorded later';
    is $receiver->arrived, 1, '... and was sent once';
    $server->sql(q(alter function users_admin.claim_events set lock_timeout = '5s'; alter function users_admin.finish_event set lock_timeout = '5s'));
};

subtest 'many that wait for one' => sub {
    begin();
    $receiver->behave(500);
    add((1) x 60, 2);
    is deliver(), '0 2 0', 'others go on beside an account whose event fails';
    is value('count(*)', 'due_at <= now()'), 0, '... and those that wait for it are not looked at again and again';
    $receiver->behave(200);
    $server->sql('update users.event set due_at = now() where attempts > 0');
    is deliver(qw(--parallel 64)), '61 0 0', 'once it is delivered they follow at once';
    is scalar(my @all = $receiver->requests), 63, '... each once';
};

# ---- What an administrator does --------------------------------------------------------------

subtest 'lists and retries' => sub {
    begin();
    my @ids = add(1 .. 5);
    $server->sql(<<~"SQL");
        update users.event set attempts = 15, failure = 'status 500', dead_at = now() - interval '2 days' where id = any ('{$ids[0],$ids[1]}');
        update users.event set attempts = 2, failure = E'timed\\033out', due_at = now() + interval '1 hour' where id = $ids[2]
        SQL
    my ($status, $output, $error) = $usersctl->run(qw(event list --limit 2));
    like $output, qr/\Aid +state +type +user_id +fields +attempts +created_at +due_at +dead_at +failure +message_id\n$ids[0] .*\n$ids[1] .*\n\z/, 'a table';
    is $error, "usersctl: there are more: --after $ids[1] goes on\n", '... says where it goes on';
    (undef, $output, $error) = $usersctl->run(qw(--json event list --limit 2 --after), $ids[0]);
    is_deeply [map { $_->{id} } JSON::PP->new->decode($output)->@*], [@ids[1, 2]], '... from there, in JSON';
    is $error, "usersctl: there are more: --after $ids[2] goes on\n", '... too';
    my %states = (waiting => [@ids[3, 4]], failing => [$ids[2]], dead => [@ids[0, 1]]);
    is_deeply [map { $_->{id} } $usersctl->told(qw(event list --state), $_)->@*], $states{$_}, $_ for sort keys %states;
    like +($usersctl->run(qw(event list --state failing)))[1], qr/timed\\x1bout/, 'what a receiver says does nothing to a terminal';

    is_deeply $usersctl->told(qw(event retry --failing)), { retried => 1 }, 'retry what fails';
    is rows('attempts', "due_at <= now() and failure is not null and dead_at is null"), 2, '... goes on counting';
    is_deeply $usersctl->told(qw(event retry), join ',', @ids[0, 3]), { retried => 1 }, 'of those that are named who has failed';
    is_deeply $usersctl->told(qw(event retry --dead)), { retried => 1 }, 'all that are dead';
    is value('count(*)', 'dead_at is null and due_at <= now()'), 5, '... are due';
    for (
        [1, qr/there is no event 99: it may have been delivered/, qw(event retry 99)],
        [2, qr/ID,\.\.\. "1,,2" must be ids of events/,            'event', 'retry', '1,,2'],
        [2, qr/event retry of what/,                              qw(event retry)],
        [2, qr/--state STATE "old" must be waiting, failing or dead/, qw(event list --state old)],
        [2, qr/event deliver needs --endpoint/,                   qw(event deliver)],
        [2, qr/--timeout DURATION "6m" must be .* at most 5m/,    @DELIVER[0, 1, 4, 5], qw(--timeout 6m)],
        [2, qr/--parallel COUNT "0" must be a number from 1/,     @DELIVER, qw(--parallel 0)],
        [2, qr/--parallel COUNT "257" must be/,                   @DELIVER, qw(--parallel 257)],
        [2, qr/--attempts COUNT "0" must be/,                     @DELIVER, qw(--attempts 0)],
        [2, qr/--once is of no use here/,                         qw(event list --once)],
        [3, qr/database "nowhere" does not exist/,                @DELIVER, qw(--db nowhere)],
    ) {
        my ($is, $message, @arguments) = @$_;
        ($status, undef, $error) = $usersctl->run(@arguments);
        is $status, $is, "@arguments";
        like $error, $message, '... is told';
    }
};

subtest 'purge and check' => sub {
    begin();
    my ($status, $output) = $usersctl->run('check');
    like $output, qr/^  ok +events +0 events wait/m, 'check finds nothing';
    add(1 .. 3);
    $server->sql(<<~'SQL');
        update users.event set dead_at = now() - interval '31 days' where user_id = 1;
        update users.event set dead_at = now() - interval '29 days' where user_id = 2;
        update users.event set created_at = now() - interval '2 hours' where user_id = 3
        SQL
    ($status, $output) = $usersctl->run('check');
    like $output, qr/^  warning +events +1 events wait to be delivered, the oldest of them since/m, 'check tells of what waits too long';
    like $output, qr/^  warning +events +2 events were given up/m, '... and of what is dead';
    is $usersctl->told('purge')->{events}, 1, 'purge deletes what is dead for 30 days';
    is $usersctl->told(qw(purge --events-older-than 28d))->{events}, 1, '... or another time';
    is rows('user_id'), 3, '... and nothing that waits';
};

# ---- Whom it may reach -----------------------------------------------------------------------

subtest 'addresses that are not public are refused' => sub {
    begin();
    add(1);
    my $port = $receiver->port;
    for my $host (qw(127.0.0.1 localhost [::1] [::ffff:127.0.0.1] 0x7f.1 169.254.169.254)) {
        let_time_pass();
        my ($status, $output, $error) =
            $usersctl->run(qw(event deliver --once --endpoint), endpoint("url http://$host:$port/", "secret $SECRET", 'allow http'));
        like $error, qr/was not delivered: [0-9a-f.:]+ is not a public address, and no line says allow private$/m, $host;
    }
    is $receiver->arrived, 0, 'nothing came';
};

subtest 'no proxy of the environment is used' => sub {
    begin();
    add(1);
    local %ENV = (%ENV, map { $_ => 'http://127.0.0.1:9' } qw(http_proxy https_proxy HTTPS_PROXY all_proxy ALL_PROXY));
    is deliver(), '1 0 0', 'it is delivered';
};

subtest 'TLS is verified' => sub {
    begin();
    add(1);
    $server->start(modules => ['ssl'], vhost => $server->tls);
    $server->allow_log(qr/\[ssl:warn\]/);
    my @lines = ('url https://localhost:' . $server->port . '/nowhere', "secret $SECRET", 'allow private');
    for (['ca-file ' . $server->dir . '/server.crt', qr/^status 404$/], ['', qr/certificate/i]) {
        my ($line, $failure) = @$_;
        let_time_pass();
        is +($usersctl->run(qw(event deliver --once --endpoint), endpoint(@lines, $line)))[0], 0, $line || 'without its certificate';
        like rows('failure'), $failure, '... is told';
    }
    $server->stop;
};

subtest 'bad files' => sub {
    begin();
    my ($url, $secret) = ('url https://panel.example/events', "secret $SECRET");
    my $wanted = qr/secret must be whsec_ and the base64 of 24 to 64 random octets/;
    my @cases  = (
        [qr/ has no url$/],
        [qr/ has no secret$/,                                   $url],
        [qr/:2: a line must begin with url, secret, ca-file/,   $url, 'sekret x'],
        [qr/:1: a value is missing$/,                           'url  '],
        [qr/:1: url must be an absolute URL of the scheme/,     'url ftp://panel.example/', $secret],
        [qr/:1: url must be an absolute URL of the scheme/,     'url panel.example', $secret],
        [qr/:1: url must be an absolute URL of the scheme/,     'url file:///etc/passwd', $secret],
        [qr/:3: url must begin with https/,                     '# a comment', $secret, 'url http://panel.example/'],
        [qr/:2: there is a url already$/,                       $url, $url],
        [qr/:1: $wanted/,                                       'secret ' . $SECRET =~ s/whsec_//r],
        [qr/:1: $wanted/,                                       'secret whsec_AbCd'],
        [qr/:1: $wanted/,                                       'secret whsec_' . 'AbCd' x 22],
        [qr/:1: $wanted/,                                       'secret whsec_' . 'Ab*d' x 8],
        [qr/:3: there are two secrets already$/,                ($secret) x 3],
        [qr/:1: allow must be http or private$/,                'allow all'],
        [qr/:1: ca-file \/nowhere can't be read$/,              'ca-file /nowhere'],
        [qr/ is not a text$/,                                   "$url\0"],
    );
    for (@cases) {
        my ($message, @lines) = @$_;
        my $path = endpoint(@lines);
        my ($status, undef, $error) = $usersctl->run(qw(event deliver --once --endpoint), $path);
        is $status, 2, "$message";
        like $error, qr/^usersctl: \Q$path\E$message/m, '... is told';
    }
    my $path = endpoint($url, $secret);
    for my $mode (0604, 0640, 0660, 0620) {
        chmod $mode, $path;
        my ($status, undef, $error) = $usersctl->run(qw(event deliver --once --endpoint), $path);
        my $good = $mode == 0640 && $> == 0;    # root's, which a group may read
        is $status, 2, sprintf '%o', $mode unless $good;
        like $error, qr/\Q$path\E has secrets that others may read: chmod 0600/, '... is told' unless $good;
    }
    for (['/nowhere', 3, qr/cannot read \/nowhere: /], ['/dev/null', 2, qr/is not a file/], [$server->dir, 2, qr/is not a file/]) {
        my ($file, $wants, $message) = @$_;
        my ($status, undef, $error) = $usersctl->run(qw(event deliver --endpoint), $file);
        is $status, $wants, $file;
        like $error, $message, '... is told';
    }
    SKIP: {
        skip 'only root gives files away', 2 unless $> == 0;
        chmod 0600, $path;
        chown 65534, -1, $path;
        my ($status, undef, $error) = $usersctl->run(qw(event deliver --once --endpoint), $path);
        is $status, 2, "another user's file";
        like $error, qr/must belong to root or to the user who runs this/, '... is told';
    }
};

done_testing;
