# Every call of the module's that can fail fails once, in turn: of libpq, jansson, utf8proc, libcrypto,
# libc, APR and httpd (torture.c lists them). The answer is then the usual one or a 5xx, the next request
# finds nothing amiss, a change is made once or not at all, and nothing is left behind.
# torture-start.t does the same to httpd's start and to usersctl.
#
# USERS_TORTURE_LONG=1 (make torture): also each time that libpq and jansson want memory, in all of
# the operations.

use v5.36;
use JSON::PP    ();
use Time::HiRes qw(sleep);
use Users::Test::Fault;
use Users::Test::Session;
use Users::Test::Torture;

use constant {
    ACCOUNT    => '/api/users',
    TOKEN      => '/api/oauth/token',
    REVOKE     => '/api/oauth/revoke',
    INTROSPECT => '/api/oauth/introspect',
    CLIENT     => [client_id => CLIENT_ID, client_secret => CLIENT_SECRET],
    OWNER      => [username => 'john', password => 'johns secret'],
    RESOURCE   => [client_id => 'resource', client_secret => 'secret of resource'],
    PROBLEM    => [Accept => 'application/problem+json'],
};

my $LONG = $ENV{USERS_TORTURE_LONG};
my $JSON = JSON::PP->new->canonical;

my $server  = Users::Test::Fault->new;
my $session = Users::Test::Session->new($server);
my $torture = Users::Test::Torture->new($server->dir);
%ENV = (%ENV, $torture->environment);

# The table "updates" counts what was done to accounts.
$session->sql(<<~'SQL');
    insert into users.credential (user_id, username, secret_digest, secret_hash) values
      (1, 'john', sha256('johns secret'), null),
      (1, 'hashed', null, '$2y$04$abcdefghijklmnopqrstuuFkqCYl1sZhFcdBXBznR1I2LdekaY3XO');
    insert into users.application (name, client_id, secret_digest, scopes)
    values ('resource', 'resource', sha256('secret of resource'), '{introspect}');
    update users.account set phone = E'1\t2' where id = 1;
    create table updates (at timestamptz);
    create function note_update() returns trigger language plpgsql security definer as
      'begin insert into public.updates values (now()); return null; end';
    create trigger note_update after update on users.account
      for each row execute function note_update()
    SQL

my %COUNT = (
    accounts => 'select count(*) from users.account',
    revoked  => 'select count(*) from users.token where revoked_at is not null',
    tokens   => 'select count(*) from users.token',
    updates  => 'select count(*) from updates',
);

# ---- Answers ---------------------------------------------------------------------------------

# What two usual answers to a request have in common.
sub shape ($answer, $without = '') {
    my %headers = $answer->{headers}->%*;
    delete @headers{ 'date', 'content-length', $without };
    $headers{etag} &&= 'a tag';
    my $body = $answer->{body}
        =~ s/"(access_token|username|password|email|updated_at|city)":"[^"]*"/"$1":"…"/gr
        =~ s/"(id|created_at|iat|exp)":\d+/"$1":0/gr;
    return $JSON->encode(["$answer->{status}", \%headers, $body]);
}

# Is it a 5xx that says so in our words?
sub is_refusal ($answer) {
    my $json = $answer->{json};
    return $answer->{status} =~ /^5/ && ref $json eq 'HASH' && ($json->{error} || $json->{errors}[0]);
}

# Without memory for a string jansson takes it for bad JSON, and where the buffer that it reads into
# can't grow, it loses a character; here, as far as that goes, once or twice in the answer.
sub is_jansson ($answer, $usual) {
    my $lost = length($usual->{body}) - length $answer->{body};
    return $answer->{body} =~ /the request body is not valid JSON/
        || ($answer->{status} eq $usual->{status} && ($lost == 1 || $lost == 2));
}

sub told ($answer) {
    return "$answer->{status} $answer->{body}";
}

# What is wrong with an answer while calls failed, and with how much was changed; or nothing.
sub fault_of ($operation, $victims, $answer, $made) {
    my $usual  = $operation->{usual};
    my %failed = map { $_ => 1 } @$victims;
    # a change that was made is told without its tag, too
    my $without = $failed{EVP_Digest} && $made ? 'etag' : '';
    if (shape($answer, $without) eq shape($usual->{answer}, $without)) {
        return $made == $usual->{made} ? () : "$answer->{status}, but $made made";
    }
    # who does not get the answer does not know what was made; of a token nobody does
    my $may_be = $failed{ap_pass_brigade} || $operation->{unheard};
    return "$answer->{status}, but $made made" if $made && !($may_be && $made == $usual->{made});
    return if is_refusal($answer);
    return if $failed{ap_pass_brigade} && $answer->{status} == 500;    # httpd's own words
    return if $failed{ap_get_brigade}  && $answer->{status} == 400;    # the client's fault
    return if $operation->{library} && is_jansson($answer, $usual->{answer});
    return told($answer);
}

# ---- Rounds ----------------------------------------------------------------------------------

my %idle;        # what the child has between two requests
my $library;     # pieces of memory that libpq and jansson have then
my $child;

sub start ($vhost = '') {
    $server->start_child(
        preload => $torture->library,
        max     => 1,                   # so that one that is stuck shows
        acquire => 5,
        connect => 5,
        timeout => 5,
        vhost   => "UsersMaxFailures 1000000\nUsersTokenRate 0\nUsersPasswordGrant on\n" . OAUTH_ENDPOINTS . OPENAPI_ENDPOINT . $vhost,
    );
    # what the log may tell about a call that failed
    $server->allow_log(qr/\[users:(?:error|warn)\] .*$_/) for (
        qr/the (?:database|replica) \S+ (?:can't be reached|is back after)/,
        qr/the replica \S+ (?:is too far|has caught up)/,
        qr/UsersCache (?:keeps nothing|works again)/,
        qr/cannot read the (?:faults of users_api\.\w+|document of user 1)$/,
    );
    $server->allow_trouble(qw(late busy hashes));
    %idle = map { $_ => 0 } qw(result options memory lock semaphore);
    # a replica that has just failed has none
    $idle{connection} = 1 unless $vhost =~ /UsersDBReplica/;
    $child = join ' ', $server->children;
}

# What the child has and should not have, once what it does behind an answer is done.
sub leftovers () {
    my $end = now + 5;
    while (1) {
        my $live  = $torture->live;
        my @wrong = grep { $live->{$_} != $idle{$_} } keys %idle;
        push @wrong, 'library' if defined $library && $live->{library} != $library;
        return unless @wrong;
        if (now > $end) {
            @idle{ keys %idle } = $live->@{ keys %idle };    # it is told once
            $library = $live->{library};
            return join ', ', map { "$live->{$_} $_" } @wrong;
        }
        sleep 0.002;
    }
}

sub stop () {
    $server->stop;
    my $live = $torture->live;
    is_deeply $live, { map { $_ => 0 } keys %$live }, 'in the end everything has been given back';
}

sub forget_connections () {
    $session->sql("select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = 'mod_users'");
}

sub measure ($operation) {
    return $operation->{counts} ? $session->sql($COUNT{ $operation->{counts} }) : 0;
}

# Send a request. Returns the answer and how much was changed.
sub run ($operation, $request) {
    my $before = measure($operation);
    my $answer = eval { $server->request(@$request) } // { status => 0, headers => {}, body => $@ };
    return ($answer, measure($operation) - $before);
}

# The same until the answer isn't that there is no connection, which lasts for a moment.
sub run_undisturbed ($operation, $request) {
    my $end = now + 10;
    my ($answer, $made);
    do {
        sleep 0.01 if $answer;
        ($answer, $made) = run($operation, $request);
    } while $answer->{status} == 503 && now < $end;
    return ($answer, $made);
}

# Were a disturbed request and the same again to change so much? One that is given up while the
# database has it may be counted late.
sub is_right ($operation, $made, $more) {
    my $usual = $operation->{usual}{made};
    return $made + $more == $usual                               if $operation->{once};
    return $made + $more >= $usual && $made + $more <= 2 * $usual if $operation->{unheard};
    return $more == $usual;
}

# Have a call fail, and the next where it is to. Returns what is wrong with what came of it, and the
# functions that have failed.
sub disturb ($operation, $call) {
    my $request = $operation->{request}->();
    forget_connections() if $operation->{fresh};
    $torture->fail($call, $operation->{twice} // 0);
    my ($answer, $made) = run($operation, $request);
    my @victims = $torture->victims;
    $torture->fail(0);
    my @wrong = fault_of($operation, \@victims, $answer, $made);
    my $usual = $operation->{usual};
    my ($again, $more) = run_undisturbed($operation, $request);
    push @wrong, 'then ' . told($again) if shape($again) ne shape($usual->{answer});
    push @wrong, "$made and then $more made" unless is_right($operation, $made, $more);
    push @wrong, map { "it leaves $_" } leftovers();
    push @wrong, 'the child has ended' if $child ne join ' ', $server->children;
    return (\@wrong, @victims);
}

# Disturb an operation: until it makes no further call.
#   request => sub, makes a request; status => that of its usual answer, 200 by default
#   counts  => what it changes; once => not again where the request is repeated; unheard => nobody
#   knows of a change whose answer gets lost; fresh => on a new connection; twice => the next call
#   fails, too; library => memory of libpq and jansson runs out, too
sub torture ($name, %operation) {
    my ($answer, $made);
    $library = undef;
    ($answer, $made) = run_undisturbed(\%operation, $operation{request}->()) for 1 .. 2;
    is $answer->{status}, $operation{status} // 200, "$name: $answer->{status}"
        or return diag(told($answer));
    $operation{usual} = { answer => $answer, made => $made };
    my @wrong = map { "before: it leaves $_" } leftovers();
    if ($idle{connection}) {
        sleep 0.05;    # for what jansson has
        $library = $torture->live->{library};
    }
    $torture->library_too($operation{library});
    my $calls = 0;
    while (1) {
        my ($faults, @victims) = disturb(\%operation, ++$calls);
        push @wrong, map { "$calls, @victims: $_" } @$faults;
        last unless @victims;
    }
    $torture->library_too(0);
    cmp_ok --$calls, '>', 0, '... it can fail' or return;
    is join("\n", @wrong), '', "... $calls times" or $server->_show_log;
}

# ---- Operations ------------------------------------------------------------------------------

my $serial = 0;

sub get ($path = ACCOUNT, %option) {
    return request => sub { [GET => $path, %option] };
}

sub patch (%option) {
    my ($headers, $user) = delete @option{qw(headers user)};
    return (
        counts  => 'updates',
        request => sub {
            [PATCH => ACCOUNT, token => FULL_TOKEN, json => { user => { city => 'City ' . ++$serial, %{ $user // {} } } },
                headers => $headers];
        },
        %option
    );
}

sub bad_patch ($headers = []) {
    my %user = (email => 'nonsense', locale => 1, country => 'XX', currency => 'QQQ');
    return (
        status  => 422,
        request => sub { [PATCH => ACCOUNT, token => FULL_TOKEN, json => { user => \%user }, headers => $headers] },
    );
}

sub register (%option) {
    my $headers = delete $option{headers} // sub { [] };
    my %user = ((POST)[5]{user}->%*, email => 'jane@example.com', merge_labels => { tier => 1 });
    return (
        status  => 201,
        counts  => 'accounts',
        request => sub { [POST => ACCOUNT, token => REGISTER_TOKEN, json => { user => \%user }, headers => $headers->()] },
        %option
    );
}

sub ask ($path, @parameters) {
    return request => sub { [POST => $path, form => \@parameters] };
}

my @GRANT = (CLIENT->@*, grant_type => 'client_credentials');
my @ISSUES = (counts => 'tokens', unheard => 1);
my $BASIC  = [OWNER->@[1, 3]];
my $HASHED = ['hashed', 'old password'];

# A token that can be revoked.
sub revocable () {
    my $token = 'token ' . ++$serial;
    $session->sql(<<~SQL);
        insert into users.token (digest, application_id, scopes)
        select sha256('$token'), id, '{public}' from users.application where client_id = '${\CLIENT_ID}'
        SQL
    return $token;
}

my @READS = (
    ['GET'                 => get(ACCOUNT, token => READ_TOKEN)],
    ['GET, name, password' => get(ACCOUNT, basic => $BASIC)],
    ['GET, hashed'         => get(ACCOUNT, basic => $HASHED)],
);
my @CHANGES = (
    ['PATCH'               => patch()],
    ['POST'                => register()],
    ['POST, key'           => register(once => 1, headers => sub { ['Idempotency-Key' => ++$serial] })],
    ['a token'             => ask(TOKEN, @GRANT), @ISSUES],
    ['a token of an owner' => ask(TOKEN, CLIENT->@*, grant_type => 'password', OWNER->@*), @ISSUES],
    ['a token is revoked'  => counts => 'revoked', once => 1,
        request => sub { [POST => REVOKE, form => [CLIENT->@*, token => revocable()]] }],
);
my @OTHERS = (
    ['304'                  => status => 304, get(ACCOUNT, token => READ_TOKEN, headers => ['If-None-Match' => '*'])],
    ['GET, a list of tags'  => get(ACCOUNT, token => READ_TOKEN, headers => ['If-None-Match' => '"a", "b"'])],
    ['412'                  => status => 412, get(ACCOUNT, token => READ_TOKEN, headers => ['If-Match' => '"a"'])],
    ['406'                  => status => 406, get(ACCOUNT, token => READ_TOKEN, headers => [Accept => 'text/html'])],
    ['401'                  => status => 401, get()],
    ['401, a token'         => status => 401, get(ACCOUNT, token => 'unknown')],
    ['401, a password'      => status => 401, get(ACCOUNT, basic => ['john', 'wrong'])],
    ['401, no such name'    => status => 401, get(ACCOUNT, basic => ['nobody', 'wrong'])],
    ['401, problem details' => status => 401, get(ACCOUNT, headers => PROBLEM)],
    ['403'                  => status => 403, get(ACCOUNT, token => UPDATE_TOKEN)],
    ['404'                  => status => 404, get('/api/users/1')],
    ['OPTIONS'              => status => 204, request => sub { [OPTIONS => ACCOUNT] }],
    ['PATCH, tags'          => patch(headers => ['If-None-Match' => '"a"', Prefer => 'return=minimal'], status => 204)],
    ['PATCH, as it was'     => patch(user => { phone => "1\t2" })],    # by earlier rules
    ['PATCH, stale'         => status => 412, request => sub { [PATCH => ACCOUNT, token => FULL_TOKEN, json => { user => {} }, headers => ['If-Match' => '"a"']] }],
    ['422'                  => bad_patch()],
    ['422, problem details' => bad_patch(PROBLEM)],
    ['POST, 422'            => status => 422, request => sub { [POST => ACCOUNT, token => REGISTER_TOKEN, json => { user => { fname => ' ', locale => 'pt-br', email => 3 } }] }],
    ['a token, in JSON'     => request => sub { [POST => TOKEN, json => {@GRANT}] }, @ISSUES],
    ['a token, 400'         => ask(TOKEN, @GRANT, scope => 'profile_read'), status => 400],
    ['introspection'        => ask(INTROSPECT, RESOURCE->@*, token => READ_TOKEN)],
    ['metadata'             => get('/.well-known/oauth-authorization-server')],
    ['metadata of accounts' => get('/.well-known/oauth-protected-resource/api/users')],
    ['description'          => get('/api/openapi.json')],
);

subtest 'on a connection that is open' => sub {
    start();
    torture(@$_) for @READS, @CHANGES, @OTHERS;
    torture(@$_, twice => 1) for $LONG ? (@READS, @CHANGES, @OTHERS) : ();
};

subtest 'on a new connection' => sub {
    start('UsersDBExptime 1ms');    # none lies idle for so long
    torture($READS[0]->@*, twice => 1);
    start();
    torture(@$_, fresh => 1) for $READS[0], $LONG ? @CHANGES : ();
};

subtest 'where memory of libpq and jansson runs out' => sub {
    my @bodies = ($CHANGES[1], grep { $_->[0] =~ /^(?:422|metadata)$/ } @OTHERS);
    torture(@$_, library => 1) for $LONG ? (@READS, @CHANGES, @OTHERS) : @bodies;
    torture(@$_, library => 1, fresh => 1) for $LONG ? (@READS, @CHANGES) : ();
    stop();
};

subtest 'alone, unprepared, with no password remembered' => sub {
    start("UsersReadLanes 0\nUsersDBPrepare off\nUsersCredentialCache 0\nUsersTraceParent generate");
    torture(@$_) for @READS, @CHANGES[0 .. 1];
    torture(@$_, fresh => 1) for $LONG ? (@READS, @CHANGES) : ();
    stop();
};

subtest 'with a replica' => sub {
    start(sprintf "UsersDBReplica \"%s\"\nUsersReplicaLag 100ms", $server->conninfo);
    torture(@$_) for @READS, $CHANGES[0];
    torture(@$_, fresh => 1) for $LONG ? @READS : ();
    stop();
};

# The first request's trip waits for a lock, and the second one in the queue for that trip.
sub run_in_company ($call) {
    $session->sql('begin; lock table users.account');
    my @connections = $server->begin(GET);
    wait_until(sub { $session->sql(<<~'SQL') }, 'the first to wait');
        select count(*) from pg_stat_activity where usename = 'mod_users' and wait_event_type = 'Lock'
        SQL
    $torture->fail($call, 1);
    push @connections, $server->begin(GET);
    wait_until(sub { $torture->victims || $torture->live->{semaphore} }, 'the second to wait');
    $session->sql('rollback');
    my @answers = map { eval { $_->answer } // { status => 0, headers => {}, body => $@ } } @connections;
    my @victims = $torture->victims;
    $torture->fail(0);
    return (\@victims, @answers);
}

subtest 'in company' => sub {
    start();
    $library = undef;
    my ($usual) = run_undisturbed({}, [GET]);
    my %operation = (usual => { answer => $usual, made => 0 });
    my @wrong;
    my $calls = 0;
    while (1) {
        my ($victims, @answers) = run_in_company(++$calls);
        push @wrong, map { "$calls, @$victims: $_" } map { fault_of(\%operation, $victims, $_, 0) } @answers;
        my ($again) = run_undisturbed({}, [GET]);
        push @wrong, "$calls, @$victims: then " . told($again) if shape($again) ne shape($usual);
        push @wrong, map { "$calls, @$victims: it leaves $_" } leftovers();
        last unless @$victims;
    }
    is join("\n", @wrong), '', "$calls times";
    stop();
};

is join(' ', $torture->strangers), '', 'every function that the module calls is known';


# Those of the start and of usersctl, which are torture-start.t's; sem_wait: for one who was taken
# along in the moment in which his time ended (t/unit/batch_test.c);
# apr_thread_cond_timedwait: in the queue for a connection (overload.t); pthread_create and
# sched_setscheduler: for a child's first hash (t/unit/workers_test.c); open:
# where a descriptor of usersctl is closed (t/api/usersctl.t); PQsetvalue: in a list that is read in stretches
# (t/api/administer.t); apr_proc_mutex_timedlock: where all
# lanes are taken (t/unit/lanes_test.c).
my @elsewhere = qw(PQconninfoParse PQconnectdbParams PQexec PQexecParams PQgetCancel PQconninfo
    PQputCopyData PQputCopyEnd PQsetvalue
    ap_global_mutex_create ap_mpm_query ap_mutex_register apr_dir_open apr_dir_read apr_dynamic_fn_retrieve apr_file_info_get
    apr_file_open apr_file_open_stdout apr_file_pipe_timeout_set apr_file_puts apr_file_read apr_file_read_full apr_global_mutex_child_init
    apr_initialize apr_pool_create_ex apr_pool_create_unmanaged_ex apr_proc_create
    apr_proc_mutex_child_init apr_proc_mutex_create apr_proc_mutex_timedlock apr_proc_wait
    apr_procattr_child_in_set apr_procattr_create apr_procattr_io_set apr_shm_create
    apr_thread_cond_create apr_thread_cond_timedwait apr_thread_mutex_create
    curl_easy_init curl_global_init curl_multi_add_handle curl_multi_init curl_slist_append curl_url curl_url_get curl_url_set
    ferror fflush fopen open pthread_create sched_setscheduler sem_wait setenv socket);
push @elsewhere, "a library's calloc", "a library's realloc", "a library's strdup" unless $LONG;
is join(' ', sort $torture->untouched), join(' ', sort @elsewhere), 'every function has failed';
done_testing;
