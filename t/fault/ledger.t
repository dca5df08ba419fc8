# Writers keep a ledger of what they were told while the database is killed again and again:
# what was acknowledged is there, once, and what is there besides was answered by a 503.
#
# USERS_LEDGER_CYCLES and USERS_LEDGER_SECONDS: it is killed so often at least, and for so long.

use v5.36;
use Cwd         qw(abs_path);
use Digest::SHA qw(sha256_hex);
use List::Util  qw(max);
use Users::Test;
use Users::Test::Process qw(end slurp spawn);

my $CYCLES  = $ENV{USERS_LEDGER_CYCLES} // 20;
my $SECONDS = $ENV{USERS_LEDGER_SECONDS} // 0;
my $WRITERS = 8;
my $TIMEOUT = 2;    # seconds, UsersRequestTimeout: some outages are longer
my $SLACK   = 5;    # seconds that a busy machine may take on top

alarm 3600 + $SECONDS;

my $server = Users::Test->new;
my %ledger;         # of a writer: the file

# How often, and for whom, each mark was stored.
$server->sql(<<~SQL);
    alter system set fsync = on;
    create table public.stored (
      number bigint generated always as identity, mark text, user_id bigint);
    create function public.see() returns trigger language plpgsql as
      'begin insert into public.stored (mark, user_id) values (new.city, new.id); return null; end';
    create trigger see after insert or update on users.account
      for each row execute function public.see();
    with own as (
      insert into users.account (fname, lname, email, country, currency, locale)
      select 'John', 'Roe', n || '\@own.example', 'US', 'USD', 'en'
      from generate_series(1, $WRITERS) n
      returning id, email
    )
    select users_api.issue_token(application.id, own.id,
      sha256(convert_to('own-' || split_part(own.email, '\@', 1), 'UTF8')),
      '{profile_read,profile_update}', null)
    from own, users.application;
    truncate public.stored;
    SQL
$server->postgres->restart;
my $accounts = $server->sql('select count(*) from users.account');

$server->start(vhost => "UsersRequestTimeout ${TIMEOUT}s");
$server->allow_log(qr/\[users:(?:error|warn)\] .* the database \S+ (?!refused)/);    # goes, is back

# A writer is a process; its standard output is its ledger.
my %writer = map {
    my $file = $server->dir . "/ledger-$_";
    my @command = ($^X, (map { '-I' . abs_path($_) } grep { -d } @INC), '-MUsers::Test::Writer', '-e',
        'Users::Test::Writer::run(@ARGV)', $server->port, "w$_", FULL_TOKEN, "own-$_",
        REGISTER_TOKEN);
    $ledger{$_} = $file;
    (spawn(\@command, $file, "$file.errors") => $_);
} 1 .. $WRITERS;

# Wait until each writer has been told of so many more successes.
sub wait_for_successes ($more) {
    my %start = map { $_ => -s $ledger{$_} // 0 } keys %ledger;
    wait_until(
        sub {
            !grep { $more > (() = slurp_from($ledger{$_}, $start{$_}) =~ /^\w+ \S+ 20[01] .*\n/mg) }
                keys %ledger;
        },
        'every writer to succeed'
    );
}

sub slurp_from ($path, $start) {
    open my $file, '<', $path or return '';    # its writer has not begun
    seek $file, $start, 0;
    local $/;
    return <$file> // '';
}

# Ways to kill it; each returns when it is up again or coming up.
my @kills = (
    ['restart -m immediate' => sub { $server->postgres->restart('immediate') }],
    ['kill -9 of a backend' => sub { kill KILL => backend() // return }],
    ['a backend terminated' => sub { kill TERM => backend() // return }],
    ['kill -9 of the postmaster' => sub { $server->postgres->kill; $server->postgres->start }],
);

# One of the module's. What it was told last may have come before the death of the one before took
# effect, and PostgreSQL be recovering from that.
sub backend () {
    my $pid;
    wait_until(
        sub {
            eval {
                $pid = $server->sql(<<~'SQL');
                    select pid from pg_stat_activity where usename = 'mod_users' order by random() limit 1
                    SQL
                1;
            };
        },
        'PostgreSQL to accept connections'
    );
    return $pid || undef;
}

my $cycle = 0;
my $began = now;
until ($cycle >= $CYCLES && now - $began >= $SECONDS) {
    $cycle++;
    my ($name, $kill) = $kills[$cycle % @kills]->@*;
    wait_for_successes(1 + $cycle % 3);
    $kill->();
    diag sprintf '%d times, %d s', $cycle, now - $began if $cycle % 50 == 0;
}
wait_for_successes(4);    # each operation
for my $pid (keys %writer) {
    is end($pid), 0, "writer $writer{$pid} ends well";
}

# ---- The reckoning ---------------------------------------------------------------------------

my @lines;
for my $writer (sort keys %ledger) {
    for (split /\n/, slurp($ledger{$writer})) {
        my %line = (writer => $writer);
        @line{qw(operation mark status at seconds unknown id username password)} = split;
        push @lines, \%line;
    }
    is slurp("$ledger{$writer}.errors"), '', "writer $writer has nothing to complain of";
}
my @acknowledged = grep { $_->{status} =~ /^20[01]$/ } @lines;
my %asked        = map { $_->{mark} => $_ } @lines;
my %told         = map { $_->{mark} => $_ } @acknowledged;

my %stored;    # by mark: for which accounts
my @order;     # marks, in the order in which they were stored
for (split /\n/, $server->sql('select mark, user_id from public.stored order by number')) {
    my ($mark, $user) = split /\|/;
    push $stored{$mark}->@*, $user;
    push @order, $mark;
}

my %count;
$count{ $_->{status} }++ for @lines;
diag sprintf '%d times killed: %s; %d outcomes were settled; %d of the 503s tell of an unknown one, '
    . '%d of which were stored', $cycle,
    join(', ', map { "$count{$_} x $_" } sort keys %count),
    scalar(grep { /is settled/ } $server->error_log), scalar(grep { $_->{unknown} } @lines),
    scalar(grep { !$told{$_} } keys %stored);

sub none ($faulty, $name) {
    my @shown = map { join ' ', map { $_ // '' } @$_{qw(operation mark status id)} } @$faulty;
    is_deeply \@shown, [], $name;
}

subtest 'what was acknowledged is there once' => sub {
    cmp_ok scalar(@acknowledged), '>', $cycle * $WRITERS, 'much was';
    none([grep { !$stored{ $_->{mark} } } @acknowledged], 'nothing is lost');
    none([grep { $stored{ $_->{mark} } && $stored{ $_->{mark} }->@* > 1 } @acknowledged],
        'nothing is doubled');
    none([grep { $stored{ $_->{mark} } && $stored{ $_->{mark} }[0] != $_->{id} } @acknowledged],
        'each has the account that was told');
};

subtest 'what is there besides was not acknowledged, and is there once' => sub {
    is_deeply [grep { !$asked{$_} } keys %stored], [], 'somebody asked for it';
    is_deeply [grep { $stored{$_}->@* > 1 } keys %stored], [], 'it is there once';
    is_deeply [grep { $asked{$_}{status} != 503 } grep { !$told{$_} } keys %stored], [],
        'the answer was a 503';
    is_deeply [grep { !$asked{$_}{unknown} } grep { !$told{$_} } keys %stored], [],
        'which said that the outcome is not known';
    is $server->sql('select count(*) from users.account') - $accounts,
        scalar(grep { $asked{$_}{operation} =~ /post|key/ } keys %stored),
        'there is no other account';
};

subtest 'the credentials that were told are good' => sub {
    my %good = map { /^(\S+?)\|(.*)/ } split /\n/, $server->sql(<<~SQL);
        select username, user_id || ' ' || encode(secret_digest, 'hex') from users_api.credential
        SQL
    my @told = values %{ { map { $_->{mark} => $_ } grep { $_->{password} } @acknowledged } };
    my $is_good = sub ($line) {
        ($good{ $line->{username} } // '') eq "$line->{id} " . sha256_hex($line->{password});
    };
    none([grep { !$is_good->($_) } @told], 'each pair');
    is keys %good, (grep { $asked{$_}{operation} =~ /post|key/ } keys %stored), 'one an account';
};

subtest 'no change is undone by an earlier one' => sub {
    for my $writer (sort keys %ledger) {
        my @own = map { /^w$writer-(\d+)-own$/ ? $1 : () } @order;
        is_deeply \@own, [sort { $a <=> $b } @own], "writer $writer: they are in order";
    }
};

subtest 'every request was answered as it should be' => sub {
    none([grep { $_->{status} !~ /^(?:200|201|503|412)$/ } @lines], 'by a success or a 503');
    my %uncertain;    # writers who do not know their own account's state
    my @stale;
    for (grep { $_->{operation} eq 'own' } @lines) {
        push @stale, $_ if $_->{status} == 412 && !$uncertain{ $_->{writer} };
        $uncertain{ $_->{writer} } = $_->{unknown} if $_->{status} != 412;
    }
    none(\@stale, 'a 412 comes only where a 503 went before');
    none([grep { $_->{operation} ne 'own' && $_->{status} == 412 } @lines], 'no other is a 412');
    cmp_ok max(map { $_->{seconds} } @lines), '<', $TIMEOUT + $SLACK, 'in time';
};

done_testing;
