# PostgreSQL under Patroni: servers, hosts and networks fail under readers and writers, who keep a ledger of what
# they were told. What was acknowledged is on whoever is the primary then, once.
#
# USERS_CLUSTER_EVENTS: names of events, in their order; or a number of them, at random. Otherwise each happens once.
# USERS_CLUSTER_SEED: repeats what was at random.

use v5.36;
use Cwd        qw(abs_path);
use JSON::PP   ();
use List::Util qw(max);
use Test::More;
use Users::Test::Client;
use Users::Test::Cluster;
use Users::Test::Ledger;
use Users::Test::Process qw(now slurp);

use constant {
    STOP  => 7,       # seconds in which no read succeeds, at most: UsersRequestTimeout, and what a busy machine needs
    BACK  => 5,       # seconds after which writes are back, from a promotion on,
    SLACK => 2,       # ... or so many after the new primary has its standby, where a busy machine takes longer
    LAG   => 2,       # UsersReplicaLag
    PAUSE => 0.05,    # of a client between two requests
};

my %TOKENS = map { $_ => "$_-of-user-1" } qw(read_token update_token full_token register_token client_id client_secret);

my $cluster = Users::Test::Cluster->start(tokens => \%TOKENS);
my $lab     = $cluster->lab;
alarm 3600 * 3;

# ---- Clients ---------------------------------------------------------------------------------

# Who goes through the balancer, and who is at home on a host of httpd. Each writer has an account of its own.
my %AT      = (balanced1 => 'lb', balanced2 => 'lb', web1 => 'web1', web2 => 'web2');
my @WRITERS = sort keys %AT;
my @READERS = qw(balanced1 web1 web2);

$cluster->sql(<<~SQL);
    create table public.stored (number bigint generated always as identity, mark text, user_id bigint);
    create function public.see() returns trigger language plpgsql as
      'begin insert into public.stored (mark, user_id) values (new.city, new.id); return null; end';
    create trigger see after insert or update on users.account for each row
      when (new.email is distinct from 'quiet\@own.example') execute function public.see();
    with own as (
      insert into users.account (fname, lname, email, country, currency, locale)
      select 'John', 'Roe', name || '\@own.example', 'US', 'USD', 'en'
      from unnest('{@{[join ',', @WRITERS, 'quiet']}}'::text[]) name
      returning id, email
    )
    select users_api.issue_token(application.id, own.id,
      sha256(convert_to('own-' || split_part(own.email, '\@', 1), 'UTF8')), '{profile_read,profile_update}', null)
    from own, users.application;
    truncate public.stored;
    SQL

my %ledger = map { $_ => $lab->dir . "/$_.ledger" } @WRITERS;
my %reads  = map { $_ => $lab->dir . "/$_.reads" } @READERS;
my %states = map { $_ => $lab->dir . "/$_.states" } $cluster->nodes;

# Of a client, or of a file of its.
sub place ($name) { $AT{ $name =~ s/\..*//r } // 'lb' }

# Have another process run a class, on the host where the client of this file is at home.
sub perl ($name, $class, @arguments) {
    my $host = place($name);
    my @include = map { '-I' . abs_path($_) } grep { !ref && -d } @INC;
    my @command = ($^X, @include, "-M$class", '-e', "${class}::run(\@ARGV)", @arguments);
    return $host eq 'lb'
        ? Users::Test::Process::spawn(\@command, $lab->dir . "/$name", $lab->dir . "/$name.errors")
        : $lab->spawn($host, \@command, output => $lab->dir . "/$name", name => $name);
}

sub address ($client) { $AT{$client} eq 'lb' ? $lab->address('lb') : '127.0.0.1' }

sub start_writer ($name, $run) {
    return perl("$name.ledger", 'Users::Test::Writer', 80, "$name-$run", $TOKENS{full_token}, "own-$name",
        $TOKENS{register_token}, address($name), PAUSE);
}

# In turn an account that nobody changes, and one that all writers change.
my $requests = $lab->write('requests', join "\0",
    map { Users::Test::Client::compose(GET => '/api/users', token => $_) } 'own-quiet', $TOKENS{read_token});

sub start_reader ($name) {
    return perl("$name.reads", 'Users::Test::Load', 80, $requests, address($name), PAUSE);
}

# Its serial number counts from 0.
sub is_quiet ($read) { $read->{serial} =~ /[02468]$/ }

my %client;
my $runs = 0;

# All that are at a place.
sub start_clients ($host) {
    $runs++;
    $client{"$_.ledger"} = start_writer($_, $runs) for grep { $AT{$_} eq $host } @WRITERS;
    $client{"$_.reads"} = start_reader($_) for grep { $AT{$_} eq $host } @READERS;
}

start_clients($_) for qw(lb web1 web2);
perl("$_.states", 'Users::Test::Witness', $cluster->psql, $lab->dir . "/$_") for $cluster->nodes;

# In the order of time. start: by the file, how much of it is older.
sub answers ($files, $keys, $from, $to, $start = {}) {
    my @answers;
    for my $client (keys %$files) {
        open my $file, '<', $files->{$client} or next;
        seek $file, $start->{ $files->{$client} } // 0, 0;
        while (<$file>) {
            last unless /\n\z/;
            my %answer = (client => $client);
            @answer{@$keys} = split;
            push @answers, \%answer if $answer{at} >= $from && $answer{at} <= $to;
        }
    }
    return sort { $a->{at} <=> $b->{at} } @answers;
}

sub writes ($from, $to, $start = {}) { answers(\%ledger, Users::Test::Ledger::KEYS, $from, $to, $start) }
sub reads ($from, $to, $start = {}) { answers(\%reads, [qw(at seconds status method serial end)], $from, $to, $start) }

sub is_good ($answer) { $answer->{status} =~ /^20[01]$/ }

# Each writer is told of a success of each operation, each reader of one.
sub wait_for_successes () {
    my $from = now;
    my %start = map { $_ => -s } values %ledger, values %reads;
    $cluster->wait_for('every client to succeed', sub {
        my (%written, %read);
        $written{ $_->{client} }{ $_->{operation} } = 1 for grep { is_good($_) } writes($from, now, \%start);
        $read{ $_->{client} } = 1 for grep { is_good($_) } reads($from, now, \%start);
        return keys %read == @READERS && @WRITERS == grep { keys $written{$_}->%* == 4 } keys %written;
    });
}

# When a server became a primary in that time, and when it had a standby, without which it acknowledges nothing; nothing
# where none did.
sub promotion ($from, $to) {
    for my $node ($cluster->nodes) {
        my ($was, $promoted) = ('');
        for (split /\n/, slurp($states{$node})) {
            my ($at, $is) = split;
            $promoted //= $at if $at >= $from && $at <= $to && $is =~ /primary|ready/ && $was !~ /primary|ready/;
            return ($promoted, $at) if defined $promoted && $is eq 'ready';
            $was = $is;
        }
        return ($promoted, $to) if defined $promoted;
    }
    return;
}

# ---- Events ----------------------------------------------------------------------------------

# prepare comes before the time that is looked at. do makes it happen and waits for its effect; undo mends it. do may
# return what the reckoning has to know: promotes: a server has to become primary; apart: hosts of httpd that have no
# part in the recovery. All are called with the primary's node.
my %EVENTS = (
    switchover => {
        what => 'switchover',
        do   => sub { $cluster->switch_over; (promotes => 1) },
    },
    postmaster => {
        what => 'kill -9 of the primary',
        do   => sub ($leader) { $cluster->postgres($leader)->kill; (promotes => 1) },
    },
    primary => {
        what => 'kill -9 of the primary and its Patroni',
        do   => sub ($leader) { $cluster->kill_node($leader); (promotes => 1) },
        undo => sub ($leader, $) { $cluster->start_patroni($leader) },
    },
    patroni => {
        what => "kill -9 of the primary's Patroni alone",
        do   => sub ($leader) {
            $cluster->kill_patroni($leader);
            wait_for_another($leader);
            wait_until_well('web2');
            my $from = now;
            wait_for_answers('web1', 8);
            note 'meanwhile web1 answers changes by ', count(grep { $_->{client} eq 'web1' } writes($from, now)),
                is_primary($leader) ? ', and the old primary takes them' : ', and the old primary does not';
            return (promotes => 1, apart => [qw(lb web1)]);    # half of lb's go to web1, which stays with the old primary
        },
        undo => sub ($leader, $) { $cluster->start_patroni($leader) },
    },
    etcd => {
        what => "kill -9 of etcd's leader",
        do   => sub ($) {
            my $node = $cluster->etcd_leader;
            $cluster->kill_etcd($node);
            $cluster->wait_for('another leader of etcd', sub { ($cluster->etcd_leader // $node) ne $node });
            return (mend => $node);
        },
        undo => sub ($leader, $node) { $cluster->start_etcd($node) },
    },
    partition => {
        what => 'a partition: the primary and web1, and the others',
        do   => sub ($leader) {
            $cluster->cut_off($leader, 'web1');
            wait_for_another($leader);
            wait_until_well('web2');
            $cluster->wait_for('the old primary to step down', sub { !is_primary($leader) });
            return (promotes => 1, apart => ['web1']);
        },
        undo => sub ($leader, $) { $cluster->reconnect($leader, 'web1') },
    },
    lag => {
        what => 'a replica that falls behind',
        do   => \&fall_behind,
        undo => sub ($leader, $node) { $cluster->postgres($node)->sql('postgres', 'select pg_wal_replay_resume()') },
    },
    standby => {
        what => 'kill -9 of the synchronous standby and its Patroni',
        do   => sub ($) {
            my $node = $cluster->sync_standby;
            $cluster->kill_node($node);
            $cluster->wait_for('another synchronous standby', sub { ($cluster->sync_standby // $node) ne $node });
            return (mend => $node);
        },
        undo => sub ($leader, $node) { $cluster->start_patroni($node) },
    },
    rebuild => {
        what => 'a replica is rebuilt',
        do   => sub ($) { $cluster->rebuild($cluster->other_replica); () },
    },
    web => {
        what => 'a host of httpd dies',
        do   => sub ($) {
            $lab->power_off('web1');
            wait_until_well('balanced1', 'balanced2');
            return (apart => [qw(lb web1)]);    # HAProxy needs two of its checks to find out
        },
        undo => sub ($leader, $) {
            $lab->power_on('web1');
            $cluster->start_httpd('web1');
            start_clients('web1');
        },
    },
    pgbouncer => {
        what    => 'kill -9 of the primary, with PgBouncer on web2',
        prepare => sub { $cluster->start_pgbouncer('web2') },
        do      => sub ($leader) { $cluster->postgres($leader)->kill; (promotes => 1) },
        undo    => sub ($leader, $) { $cluster->wait_until_healthy; wait_for_successes(); $cluster->stop_pgbouncer('web2') },
    },
);

my @ALL = qw(switchover postmaster primary patroni etcd partition lag standby rebuild web pgbouncer);

# Wait until writers have been told of twenty successes from now on, and of nothing else lately.
sub wait_until_well (@clients) {
    my $from = now;
    $cluster->wait_for("the changes of @clients to succeed", sub {
        my @writes = writes($from, now);
        for my $client (@clients) {
            my @own = grep { $_->{client} eq $client } @writes;
            return 0 if @own < 20 || grep { !is_good($_) } @own[ -20 .. -1 ];
        }
        return 1;
    });
}

sub wait_for_answers ($client, $count) {
    my $from = now;
    $cluster->wait_for("answers to $client", sub { $count <= grep { $_->{client} eq $client } writes($from, now) });
}

sub is_primary ($node) {
    my ($last) = slurp($states{$node}) =~ /(\w+)\n\z/;
    return ($last // '') =~ /primary|ready/;
}

# A replica of web1's: GET does not show what is older than UsersReplicaLag.
sub fall_behind ($leader) {
    my $node = $leader eq 'pg2' ? $cluster->sync_standby : 'pg2';
    $cluster->postgres($node)->sql('postgres', 'select pg_wal_replay_pause()');
    for my $city (qw(Delft Gouda)) {
        my @change = ('-X', 'PATCH', '-H', 'Content-Type: application/json', '-d', qq({"user":{"city":"$city"}}));
        is curl('web2', 'own-quiet', @change)->{city}, $city, "a change to $city through web2";
        my $changed = now;
        $cluster->wait_for("$city on web1", sub { (curl('web1', 'own-quiet')->{city} // '') eq $city });
        cmp_ok now - $changed, '<', LAG + BACK, '... is seen on web1, one of whose replicas has not replayed it';
    }
    return (mend => $node);
}

# The account of an answer; nothing where there is none.
sub curl ($host, $token, @options) {
    my @command = ('curl', '-sS', '-m', 20, '-H', "Authorization: Bearer $token", @options);
    my ($status, $output) = $lab->run($host, [@command, 'http://127.0.0.1/api/users']);
    return eval { JSON::PP->new->decode($output)->{user} } // {};
}

sub wait_for_another ($leader) {
    $cluster->wait_for('another primary', sub { ($cluster->leader // $leader) ne $leader });
}

my @table;

sub happen ($name) {
    my $event = $EVENTS{$name};
    $cluster->wait_until_healthy;
    $event->{prepare}->() if $event->{prepare};
    wait_for_successes();
    my $leader = $cluster->leader;
    subtest "$event->{what} ($leader)" => sub {
        my $from  = now;
        my %notes = $event->{do}->($leader);
        wait_for_another($leader) if $notes{promotes};
        $event->{undo}->($leader, $notes{mend}) if $event->{undo};
        $cluster->wait_until_healthy;
        wait_for_successes();
        judge($event->{what}, $from, now, %notes);
    };
}

sub count (@answers) {
    my %count;
    $count{ $_->{status} }++ for @answers;
    return join ', ', map { "$count{$_} x $_" } sort keys %count;
}

# The longest time, in seconds, in which no answer is good.
sub longest_gap ($from, $to, @answers) {
    my @times = ($from, (map { $_->{at} } grep { is_good($_) } @answers), $to);
    return max map { $times[$_] - $times[ $_ - 1 ] } 1 .. $#times;
}

# For those behind the balancer, and at home on each host.
sub judge ($what, $from, $to, %notes) {
    my %apart     = map { $_ => 1 } ($notes{apart} // [])->@*;
    my @writes    = writes($from, $to);
    my @reads     = reads($from, $to);
    my ($promotion, $ready) = promotion($from, $to);
    my (%back, %stop);

    ok defined $promotion, 'a server is promoted' if $notes{promotes};
    for my $at (qw(lb web1 web2)) {
        my @own = grep { $AT{ $_->{client} } eq $at } @writes;
        my ($first) = grep { is_good($_) && $_->{at} > ($promotion // $from) } @own;
        $back{$at} = $promotion ? ($first ? $first->{at} : $to) - $promotion : longest_gap($from, $to, @own);
        $stop{$at} = longest_gap($from, $to, grep { $AT{ $_->{client} } eq $at && is_quiet($_) } @reads);
        next if $apart{$at};
        cmp_ok $back{$at}, '<', max(BACK, $ready - $promotion + SLACK), "$at: writes are back in time after the promotion"
            if $promotion;
        cmp_ok $stop{$at}, '<', STOP, "$at: reads do not stop";
    }
    Users::Test::Ledger->new($cluster)->judge(writes(0, now));
    push @table, [$what, count(@reads), count(@writes), $promotion ? sprintf('%.1f', $promotion - $from) : '-',
        $promotion ? sprintf('%.1f', $ready - $promotion) : '-',
        map { join ' / ', map { sprintf '%.1f', $_ } @$_{qw(lb web1 web2)} } \%back, \%stop];
    note join ' | ', $table[-1]->@*;
}

sub show_table () {
    my @rows = (['', 'reads', 'changes', 'promotion after', 'its standby', 'changes back (lb / web1 / web2)', 'no read for'], @table);
    my @width = map { my $column = $_; max map { length $_->[$column] } @rows } keys $rows[0]->@*;
    for my $row (@rows) {
        diag join('  ', map { sprintf "%-$width[$_]s", $row->[$_] } keys @width) =~ s/ +$//r;
    }
    diag 'Seconds: from the event to the promotion, from there until the new primary has a standby, and until a change is'
        . ' acknowledged (where nothing is promoted: the longest time without), the longest time without a read.';
}

# ---- All of it -------------------------------------------------------------------------------

sub chosen_events () {
    my $asked = $ENV{USERS_CLUSTER_EVENTS} // '';
    my @names = $asked =~ /\D/ ? split ' ', $asked : @ALL;
    if ($asked =~ /^\d+$/) {
        my $seed = srand($ENV{USERS_CLUSTER_SEED} // time);
        diag "USERS_CLUSTER_SEED=$seed";
        @names = map { $names[ rand @names ] } 1 .. $asked;
    }
    for my $name (grep { !$EVENTS{$_} } @names) {
        die "no event is called $name: there are @ALL\n";
    }
    return @names;
}

my $tls = "curl -sS --cacert @{[$lab->dir]}/ca.crt -H 'Authorization: Bearer $TOKENS{read_token}'"
    . ' https://api.cluster.example/api/users';
$cluster->wait_for('the API over TLS', sub { qx($tls 2>&1) =~ /^\{"user":\{"id":1,/ });
happen($_) for chosen_events();

# Each writer has its last answer, but those that died with their host.
for my $name (grep { /ledger/ } keys %client) {
    my $status = place($name) eq 'lb'
        ? Users::Test::Process::end($client{$name})
        : $lab->end(place($name), $client{$name});
    is $status, 0, "the writer of $name ends well";
}
subtest 'the whole ledger' => sub { Users::Test::Ledger->new($cluster)->judge_all(writes(0, now)) };
show_table();
done_testing;

END {
    if ($cluster) {
        $cluster->show_logs unless Test::More->builder->is_passing;
        system 'cp', '-r', $lab->dir, "/tmp/users-cluster-$^T" if $ENV{USERS_TEST_KEEP};
    }
}
