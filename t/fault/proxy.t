# The connection to the database breaks, at every message of every operation and in either
# direction: what a client was told has happened once, what it was not told at most once; and with UsersAudit and
# UsersEvents each change of an account has written a row of either, and nothing else has.

use v5.36;
use Users::Test;
use Users::Test::Proxy;
use Users::Test::Session;

my $SLACK = $ENV{USERS_TEST_VALGRIND} ? 10 : 3;    # seconds that a busy machine may take on top

my $server  = Users::Test->new;
my $proxy   = Users::Test::Proxy->new($server);
my $session = Users::Test::Session->new($server);
my $marks   = 0;
my $deadline;    # seconds that a request may take
my $host = 'localhost';    # or noted, where UsersAudit and UsersEvents are on: requests take turns

# Each request that stores something brings a mark, which is the city of its account or the scope
# of its token. This is how often each was stored; a token's end is stored too.
$server->sql(<<~SQL);
    create table public.stored (mark text, user_id bigint);
    create function public.see() returns trigger language plpgsql as
      'begin insert into public.stored values (new.city, new.id); return null; end';
    create trigger see after insert or update on users.account
      for each row execute function public.see();
    create function public.see_token() returns trigger language plpgsql as
      'begin insert into public.stored values (new.scopes[1], 0); return null; end';
    create trigger see after insert on users.token
      for each row when (new.scopes[2] is null) execute function public.see_token();
    create trigger see_end after update on users.token
      for each row when (new.revoked_at is not null) execute function public.see_token();
    update users.application
      set scopes = (select array_agg('m' || number) from generate_series(1, 5000) as number);
    insert into users.credential (user_id, username, secret_digest)
      values (1, 'john', sha256('secret of john'));
    SQL

# Options: timeout (UsersDBTimeout) and request (UsersRequestTimeout), in seconds. One child with
# one connection.
sub start (%option) {
    $server->stop if $server->pid;
    $deadline = $option{request};
    my $workers = ($ENV{USERS_TEST_MPM} // '') eq 'prefork' ? 1 : 25;
    $server->start(conf => <<~CONF, site => <<~SITE);
        StartServers 1
        ServerLimit 1
        MaxRequestWorkers $workers
        <IfModule !mpm_prefork_module>
          ThreadsPerChild $workers
          MinSpareThreads 1
          MaxSpareThreads $workers
        </IfModule>
        CONF
        UsersDB "@{[$proxy->conninfo]}"
        UsersDBMax 1
        UsersDBConnectTimeout 3s
        UsersDBTimeout @{[1000 * $option{timeout}]}ms
        UsersRequestTimeout @{[1000 * $option{request}]}ms
        UsersTokenRate 0
        @{[OAUTH_ENDPOINTS]}
        <Location /api/users>
          UsersEndpoint account
        </Location>
        <VirtualHost *:*>
          ServerName localhost
        </VirtualHost>
        <VirtualHost *:*>
          ServerName noted
          UsersAudit on
          UsersEvents on
        </VirtualHost>
        SITE
    $server->allow_log(qr/server reached MaxRequestWorkers setting/);
    $server->allow_log(qr/the database \S+ (?:can't be reached|is back|is away)/);
    $server->allow_trouble(qw(late busy));
}

sub registration ($mark, $user = {}, @headers) {
    my %user = (
        fname             => 'Jane',
        lname             => 'Roe',
        city              => $mark,
        provider_server   => 'server.example',
        provider_username => $mark,
        %$user,
    );
    return (
        POST    => '/api/users',
        token   => REGISTER_TOKEN,
        headers => [Host => $host, @headers],
        json    => { user => \%user }
    );
}

sub patch ($mark, @headers) {
    return (
        PATCH   => '/api/users',
        token   => FULL_TOKEN,
        headers => [Host => $host, @headers],
        json    => { user => { city => $mark } });
}

sub oauth ($endpoint, @form) {
    return (POST => "/api/oauth/$endpoint", basic => [CLIENT_ID, CLIENT_SECRET], form => \@form);
}

# That of a token which is there, and is the mark.
sub revocation ($mark) {
    $session->sql(<<~SQL);
        insert into users.token (digest, application_id, scopes)
        select sha256('$mark'), id, array['$mark', 'to be ended'] from users.application
        SQL
    return oauth('revoke', token => $mark);
}

# Makes the request with a mark.
my %operations = (
    'GET by token'       => sub ($mark) { (GET => '/api/users', token => READ_TOKEN) },
    'GET by credentials' =>
        sub ($mark) { (GET => '/api/users', basic => ['john', 'secret of john']) },
    'PATCH'               => sub ($mark) { patch($mark) },
    'PATCH with If-Match' => sub ($mark) { patch($mark, 'If-Match' => get()->{headers}{etag}) },
    'POST'                => sub ($mark) { registration($mark) },
    'POST of an external_id' => sub ($mark) {
        registration($mark, { external_id => $mark, email => "$mark\@roe.example" });
    },
    'POST with Idempotency-Key' =>
        sub ($mark) { registration($mark, {}, 'Idempotency-Key' => $mark) },
    'ISSUE a token' =>
        sub ($mark) { oauth('token', grant_type => 'client_credentials', scope => $mark) },
    'REVOKE a token' => \&revocation,
);
my %CHANGE = (    # as the proxy sees them
    PATCH  => 'update_account',
    POST   => 'register_account',
    ISSUE  => 'issue_token',
    REVOKE => 'revoke_token',
);
my @changes = grep { !/^GET/ } sort keys %operations;

sub get () {
    return $server->request(GET => '/api/users', token => READ_TOKEN);
}

# How often a mark was stored, once nobody is storing any more.
sub stored ($mark) {
    wait_until(
        sub {
            !$session->sql(<<~SQL);
                select count(*) from pg_stat_activity
                where usename = 'mod_users' and state <> 'idle'
                SQL
        },
        'every statement to end'
    );
    return split /\n/, $session->sql("select user_id from public.stored where mark = '$mark'");
}

# How many rows users.audit and users.event have.
sub notes () {
    return $session->sql('select (select count(*) from users.audit), (select count(*) from users.event)');
}

# What is wrong with an answer, in words. told: only a success will do.
sub faults_of ($answer, $mark, $seconds, $told) {
    my @stored = stored($mark);
    my $status = $answer->{status};
    my @faults;
    push @faults, "$status" if $status !~ /^(?:20[01]|503)$/ || $told && $status == 503;
    push @faults, "$status after $seconds s" if $seconds > $deadline + $SLACK;
    push @faults, 'stored ' . @stored . ' times' if @stored > 1;
    my $noted = $host eq 'noted' && $answer->{kind} =~ /^(?:PATCH|POST)$/ ? @stored : 0;
    push @faults, 'notes: ' . notes() . " of $noted" if notes() ne "$noted|$noted";
    push @faults, 'without Retry-After' if $status == 503 && !$answer->{headers}{'retry-after'};
    return @faults if $status == 503;

    my $user = $answer->{json}{user};
    if ($answer->{kind} eq 'GET') {
        push @faults, 'another account' if $user->{id} != 1;
    } elsif ($answer->{kind} =~ /ISSUE|REVOKE/) {
        push @faults, "a $status for what is stored " . @stored . ' times' if @stored != 1;
        push @faults, 'a token that is no good' unless is_as_told($answer->{json}, $mark);
    } elsif (@stored != 1 || $stored[0] != $user->{id}) {
        push @faults, "a $status for what is stored " . @stored . ' times';
    } elsif ($answer->{kind} eq 'PATCH') {
        push @faults, "city $user->{city}" if $user->{city} ne $mark;
        push @faults, 'an old tag' if $answer->{headers}{etag} ne get()->{headers}{etag};
    } else {
        my $pair  = [$user->{api}->@{qw(username password)}];
        my $owner = $server->request(GET => '/api/users', basic => $pair);
        push @faults, 'credentials that are no good'
            unless $owner->{status} == 200 && $owner->{json}{user}{id} == $user->{id};
    }
    return @faults;
}

# Is there the token that was issued, from when on and until when its answer says? None was where
# one was revoked: then that is dead.
sub is_as_told ($told, $mark) {
    my $live = "select count(*) from users_api.token where digest = sha256('%s')";
    return !$session->sql(sprintf $live, $mark) unless $told->{access_token};
    return $session->sql(sprintf("$live and scopes = '{$mark}'", $told->{access_token})) && $session->sql(<<~SQL);
        select count(*) from users.token
        where digest = sha256('$told->{access_token}')
          and floor(extract(epoch from created_at)) = $told->{created_at}
          and expires_at - created_at = interval '$told->{expires_in} seconds'
        SQL
}

# The request of an operation, ready to be sent; its connection is new (cold), or has its
# statements prepared (warm).
sub prepare ($operation, $temperature) {
    $proxy->tell('pass');
    $server->request($operations{$operation}->('m' . ++$marks)) if $temperature eq 'warm';
    my $mark    = 'm' . ++$marks;
    my @request = $operations{$operation}->($mark);
    $proxy->tell('drop') if $temperature eq 'cold';
    return ($mark, @request);
}

# Make a request with a fault. Returns its answer and what is wrong with it and with the
# next request, which must have its answer at once.
sub break ($operation, $temperature, $told, @fault) {
    $host = $host eq 'noted' ? 'localhost' : 'noted';
    my ($mark, @request) = prepare($operation, $temperature);
    $session->sql('delete from users.audit; delete from users.event');
    $proxy->tell('fault', @fault);
    my $before = now;
    my $answer = $server->request(@request);
    my $took   = now - $before;
    $proxy->tell('pass');
    ($answer->{kind}) = split ' ', $operation;

    $before = now;
    my $next   = get();
    my $waited = now - $before;
    if ($temperature eq 'cold' && $next->{status} == 503) {    # one could not be opened just now
        wait_until(sub { get()->{status} == 200 }, 'the next attempt to connect');
        $next->{status} = 200;
    }
    $proxy->tell('thaw');
    my @faults = faults_of($answer, $mark, $took, $told);
    push @faults, "the next request gets a $next->{status}" if $next->{status} != 200;
    push @faults, 'the next request has to wait' if $waited > $deadline;
    return ($answer, map { "$temperature, @fault: $_" } @faults);
}

# After how many messages of each side an operation is cut, from and to. A connection begins alike
# for all of them, so that one is enough for that.
sub places_of ($operation, $temperature) {
    my ($mark, @request) = prepare($operation, $temperature);
    $proxy->tell('pass');
    $server->request(@request);
    my @trace = split ' ', $proxy->tell('trace');
    my ($start) = grep { $trace[$_] eq 'sZ' } keys @trace;
    $start = -1 if $temperature eq 'warm' || $operation eq 'PATCH';
    my @start = grep { /^s/ } @trace[0 .. $start];
    return (
        client => [@start ? 1 : 0, scalar grep { /^c/ } @trace],
        server => [scalar @start,  scalar grep { /^s/ } @trace],
    );
}

start(timeout => 3, request => 5);

for my $operation (sort keys %operations) {
    for my $temperature (qw(cold warm)) {
        subtest "$operation, $temperature: cut at every message" => sub {
            my %places = places_of($operation, $temperature);
            my @bytes  = $temperature eq 'warm' ? (0, 3, 7) : 0;    # of the next message
            my $cuts   = 0;
            my (@faults, %statuses);
            for my $side (sort keys %places) {
                for my $messages ($places{$side}[0] .. $places{$side}[1]) {
                    for my $bytes (@bytes) {
                        my $how = $cuts++ % 2 ? 'reset' : 'close';
                        my ($answer, @found) =
                            break($operation, $temperature, 0, $side, $messages, $bytes, $how);
                        push @faults, @found;
                        $statuses{ $answer->{status} }++;
                    }
                }
            }
            is_deeply \@faults, [], "each of $cuts cuts does what it may";
            ok((grep { $_ < 300 } keys %statuses), 'some are not noticed');
        };
    }
}

for my $operation (@changes) {
    my ($kind) = split ' ', $operation;
    subtest "$operation: a cut under the change is not noticed" => sub {
        my @faults;
        for my $temperature (qw(cold warm)) {
            for my $place (map({ [client => $_] } 0 .. 5), map { [server => $_] } 0 .. 6) {
                for my $bytes (0, 3) {
                    my $how = $bytes ? 'reset' : 'close';
                    my ($answer, @found) = break($operation, $temperature, 1, @$place, $bytes, $how,
                        'once', $CHANGE{$kind});
                    push @faults, @found;
                }
            }
        }
        is_deeply \@faults, [], 'the client hears what became of it';
    };
}

# Of a prepared statement: Bind Describe Execute Sync; BindComplete RowDescription DataRow
# CommandComplete ReadyForQuery.
my %places = (
    'before it is sent'       => [client => 0, 0],
    'within its parameters'   => [client => 0, 9],
    'before Sync'             => [client => 3, 0],
    'within Sync'             => [client => 3, 2],
    'before the answer'       => [server => 0, 0],
    'within the row'          => [server => 2, 9],
    'before CommandComplete'  => [server => 3, 0],
    'before ReadyForQuery'    => [server => 4, 0],
    'within ReadyForQuery'    => [server => 4, 5],
);

start(timeout => 1.5, request => 20);
for my $operation ('PATCH with If-Match', 'POST of an external_id', 'ISSUE a token') {
    my ($kind) = split ' ', $operation;
    subtest "$operation: the connection falls silent" => sub {
        # Without Sync the first try ends with its connection only, and till then it has the row.
        for my $place (grep { !/Sync/ } sort keys %places) {
            my ($answer, @faults) = break($operation, 'warm', 1, $places{$place}->@*, 'freeze',
                'once', $CHANGE{$kind});
            is_deeply \@faults, [], $place;
        }
    };
}

for my $operation (@changes) {
    my ($kind) = split ' ', $operation;
    subtest "$operation: the first try comes after its repeat" => sub {
        my ($mark, @request) = prepare($operation, 'warm');
        $proxy->tell(qw(fault client 0 0), 3, 'once', $CHANGE{$kind});
        my $answer = $server->request(@request);
        like $answer->{status}, qr/^20[01]$/, 'the repeat is made';
        is stored($mark), 1, 'it is there';
        wait_until(sub { () = $proxy->tell('trace') =~ /cE/g; }, 'the first try to be sent');
        wait_until(
            sub {
                1 == $session->sql(
                    "select count(*) from pg_stat_activity where usename = 'mod_users'");
            },
            'the connection of the first try to end'
        );
        is stored($mark), 1, 'the first try adds nothing';
    };
}

start(timeout => 2, request => 3);
for my $operation ('PATCH', 'POST', 'ISSUE a token') {
    my ($kind) = split ' ', $operation;
    subtest "$operation: every connection breaks" => sub {
        my %break = (
            close  => ['before Sync', 'before the answer'],
            freeze => ['before Sync', 'before ReadyForQuery'],
        );
        for my $how (sort keys %break) {
            for my $place ($break{$how}->@*) {
                my ($answer, @faults) = break($operation, 'warm', 0, $places{$place}->@*, $how,
                    'always', $CHANGE{$kind});
                is_deeply \@faults, [], "$place: $how";
                is $answer->{status}, 503, "$place: 503";
                like $answer->{body}, qr/outcome is not known/,
                    "$place: it says what that means";
            }
        }
    };
}

start(timeout => 3, request => 5);
subtest 'connections are refused' => sub {
    for my $operation (sort keys %operations) {
        my ($mark, @request) = prepare($operation, 'cold');
        $proxy->tell($_) for qw(drop refuse);
        my $answer = $server->request(@request);
        is $answer->{status}, 503, "$operation: 503";
        $proxy->tell('pass');
        is stored($mark), 0, "$operation: nothing is stored";
        wait_until(sub { get()->{status} == 200 }, 'requests to be served');
    }
};

subtest 'an answer that is late is awaited' => sub {
    for my $operation (@changes) {
        my ($kind) = split ' ', $operation;
        my ($mark, @request) = prepare($operation, 'warm');
        $proxy->tell(qw(fault server 4 0 0.2 once), $CHANGE{$kind});
        my $before = now;
        like $server->request(@request)->{status}, qr/^20[01]$/, $operation;
        cmp_ok now - $before, '>', 0.2, "$operation: it was late";
        is stored($mark), 1, "$operation: stored";
        unlike $proxy->tell('trace'), qr/c-/, "$operation: on the same connection";
    }
};

done_testing;
