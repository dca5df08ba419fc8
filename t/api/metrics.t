# The figures of the module: what "UsersEndpoint metrics" tells agrees with what clients have counted,
# whichever children have served them and however those have ended.

use v5.36;
use Cwd            qw(abs_path);
use File::Basename qw(dirname);
use IO::Socket::INET;
use JSON::PP ();
use Users::Test;
use Users::Test::Client;
use Users::Test::Process qw(end ended reap run slurp spawn);
use Users::Test::Session;

# The first of this name in PATH.
sub find ($name, $package) {
    my ($path) = grep { -x } map { "$_/$name" } split /:/, $ENV{PATH};
    return $path // die "this needs $name: install $package\n";
}

my $SOURCE = $ENV{USERS_SRCDIR}   // abs_path(dirname(__FILE__) . '/../..');
my $MPM    = $ENV{USERS_TEST_MPM} // 'event';
my $H2LOAD = find('h2load', 'nghttp2-client');
my ($PROMETHEUS, $PROMTOOL) = map { find($_, 'prometheus') } qw(prometheus promtool);

my $server = Users::Test->new;
my $dir    = $server->dir;
$server->sql(<<~'SQL');
    insert into users.credential (user_id, username, secret_digest, secret_hash) values
      (1, 'john',   sha256('right'), null),
      (1, 'hashed', null, '$2y$05$abcdefghijklmnopqrstuuGW0Hyo9Kutwab1irCpEelJozXqOfxUe');
    SQL
my $HASHED = 'canary-of-a-hashed-password';    # the password of that hash

# Several children, and places for those of the next generation.
my $conf = $MPM eq 'prefork' ? <<~PREFORK : <<~THREADED;
    MaxKeepAliveRequests 0
    StartServers 4
    MinSpareServers 1
    PREFORK
    MaxKeepAliveRequests 0
    StartServers 2
    ServerLimit 4
    ThreadsPerChild 16
    ThreadLimit 16
    MaxRequestWorkers 64
    MinSpareThreads 1
    MaxSpareThreads 64
    THREADED
my $vhost = OAUTH_ENDPOINTS . METRICS_ENDPOINT . <<~VHOST;
    UsersDBAcquireTimeout 30s
    UsersDBTimeout 30s
    UsersRequestTimeout 60s
    UsersMaxFailures 2
    UsersTokenRate 1
    UsersProbeLimit 1
    <Location /openapi>
      UsersEndpoint openapi
    </Location>
    <Location /redirected>
      ErrorDocument 404 /api/users
    </Location>
    <Location /closed/metrics>
      UsersEndpoint metrics
      Require all denied
    </Location>
    VHOST
$server->start(conf => $conf, vhost => $vhost);
$server->allow_trouble(qw(lockout limit));

sub scrape (%option) {
    return $server->request(GET => '/metrics', %option);
}

# By how much these series have grown since: name => growth, 0 where there was none.
sub growth ($before, @names) {
    my $now = $server->figures;
    return { map { $_ => ($now->{$_} // 0) - ($before->{$_} // 0) } @names };
}

# A request is counted when it has been logged, which is after its client has the answer.
sub grows ($before, $expected, $name) {
    my $seen;
    wait_until(sub { $seen = growth($before, keys %$expected); eq_hash($seen, $expected) }, undef);
    is_deeply $seen, $expected, $name;
}

my $READS     = 'users_requests_total{operation="read",status="200"}';
my $DURATIONS = 'http_server_request_duration_seconds_count{operation="read",status="2xx"}';
my $BUCKETS   = 'http_server_request_duration_seconds_bucket{operation="read",status="2xx",le="+Inf"}';

sub reads ($count) {
    return { map { $_ => $count } $READS, $DURATIONS, $BUCKETS };
}

sub load_command ($count, $clients) {
    return [$H2LOAD, '--h1', "-n$count", "-c$clients", '-H', 'Authorization: Bearer ' . READ_TOKEN,
        'http://127.0.0.1:' . $server->port . '/api/users'];
}

# Have clients read. Returns how many reads went well, as they have counted.
sub load ($count, $clients = 4) {
    my ($status, $output, $error) = run(load_command($count, $clients), "$dir/h2load");
    die "h2load: $output$error" if $status;
    return $output =~ /^status codes: (\d+) 2xx/m ? $1 : die "h2load: $output";
}

subtest 'requests' => sub {
    my $before = $server->figures;
    is load(400), 400, 'reads';
    grows($before, reads(400), '... are as many as their clients have counted');
    my $sum = growth($before, $DURATIONS =~ s/_count/_sum/r);
    cmp_ok((values %$sum)[0], '>', 0, '... which took some time');
    my @buckets = map { $server->figures->{ $BUCKETS =~ s/\+Inf/$_/r } } qw(0.00025 0.001 0.01 1 10 +Inf);
    is_deeply [sort { $a <=> $b } @buckets], \@buckets, '... no bucket has fewer than the one below it';
};

# Statements of the module's that wait for a lock.
sub waiting () {
    return $server->sql("select count(*) from pg_stat_activity where usename = 'mod_users' and wait_event_type = 'Lock'");
}

sub test_reload {
    plan skip_all => 'a single process does not reload' if $server->single_process;
    my $before  = $server->figures;
    my $session = Users::Test::Session->new($server);
    $session->sql('begin; lock table users.account');
    my $pid = spawn(load_command(6, 6), "$dir/waiting", "$dir/waiting.errors");
    wait_until(\&waiting, 'reads to wait');
    $server->graceful;
    is $server->request(GET => '/metrics')->{status}, 200, 'new children serve';
    $session->sql('rollback');
    is reap($pid), 0, 'old ones serve what they have accepted';
    like slurp("$dir/waiting"), qr/^status codes: 6 2xx/m, '... well';
    is load(200), 200, 'more reads';
    grows($before, reads(206), 'old and new children count together');
}
subtest 'a graceful reload' => \&test_reload;

# As PostgreSQL counts them.
sub connections () {
    return $server->sql("select count(*) from pg_stat_activity where usename = 'mod_users'");
}

sub is_open ($name) {
    my ($open, $told);
    wait_until(sub { $told = $server->figures->{'users_db_pool_open{role="primary"}'}; $told == ($open = connections()) }, undef);
    is $told, $open, $name;
    my $figures = $server->figures;
    cmp_ok $figures->{'users_db_pool_idle{role="primary"}'}, '<=', $open, '... of which some are idle';
    cmp_ok $figures->{'users_db_pool_max{role="primary"}'}, '>=', $open, '... of those that may be';
}

sub test_kill {
    plan skip_all => 'a single process is not killed' if $server->single_process;
    my $loaded = $server->figures;
    load(100, 8);
    grows($loaded, reads(100), 'reads by all children');
    is_open('the connections of all children');
    my $before = $server->figures;
    my @old    = $server->children;
    kill KILL => @old;
    wait_until(sub { my %now = map { $_ => 1 } $server->children; %now && !grep { $now{$_} } @old }, 'other children');
    is load(300), 300, 'reads of their successors';
    grows($before, reads(300), 'what killed children counted is kept');
    is_open('what they had open is not');
    my $children;
    wait_until(sub { ($children = $server->figures->{users_children}) == (() = $server->children) }, undef);
    is $children, scalar(() = $server->children), 'nor are they';
}
subtest 'killed children' => \&test_kill;

# ---- Other figures ---------------------------------------------------------------------------

sub patch (%user) {
    return (PATCH => '/api/users', token => FULL_TOKEN, json => { user => \%user });
}

sub token ($secret = CLIENT_SECRET) {
    return (POST => '/api/oauth/token',
        form => [grant_type => 'client_credentials', client_id => CLIENT_ID, client_secret => $secret]);
}

sub requests ($operation, $status, $count = 1) {
    return (qq(users_requests_total{operation="$operation",status="$status"}) => $count);
}

sub failures ($kind, $count = 1) {
    return (qq(users_auth_failures_total{kind="$kind"}) => $count);
}

# name, the requests, what grows by them
my @CASES = (
    ['no credentials', [[GET => '/api/users']], requests('read', 401), failures('missing')],
    ['an unknown token', [[GET => '/api/users', token => 'unknown']], requests('read', 401), failures('token')],
    ['a token for something else', [[GET => '/api/users', token => UPDATE_TOKEN]], requests('read', 403), failures('scope')],
    ['a change', [[patch(city => 'Delft')]], requests('update', 200),
        'users_db_batch_size_count{kind="changes"}' => 1, 'users_db_batch_size_sum{kind="changes"}' => 1],
    ['a change of nonsense', [[patch(country => 'XX')]], requests('update', 422)],
    ['wrong passwords, until the name is locked out', [([GET => '/api/users', basic => ['nobody', 'wrong']]) x 4],
        requests('read', 401, 2), requests('read', 429, 2), failures('password', 2),
        users_lockouts_total => 1, 'users_limited_total{limit="wrong_secrets"}' => 2],
    ['a hashed password', [[GET => '/api/users', basic => ['hashed', $HASHED]]], requests('read', 200),
        'users_hashes_total{result="computed"}' => 1, 'users_credential_cache_lookups_total{result="miss"}' => 1],
    ['the same again', [[GET => '/api/users', basic => ['hashed', $HASHED]]], requests('read', 200),
        'users_hashes_total{result="computed"}' => 0, 'users_credential_cache_lookups_total{result="hit"}' => 1],
    ['a wrong client secret', [[token('wrong')]], requests('token', 401), failures('client_secret')],
    ['an address of another', [[patch(email => 'jane@example.com')]], requests('update', 422)],
    ['a second one', [[patch(email => 'jane@example.com')]], requests('update', 429),
        'users_limited_total{limit="probes"}' => 1],
    ['OPTIONS', [[OPTIONS => '/api/users']], requests('options', 204)],
    ['a page that is answered by an endpoint', [[GET => '/redirected', token => READ_TOKEN]], requests('read', 200)],
    ['a path below', [[GET => '/api/users/1']], requests('other', 404)],
    ['a method that is not served', [[PUT => '/api/users']], requests('other', 405)],
    ['metadata', [[GET => '/.well-known/oauth-authorization-server']], requests('metadata', 200)],
    ['the description of the API', [[GET => '/openapi']], requests('metadata', 200)],
    ['revocation', [[POST => '/api/oauth/revoke']], requests('revoke', 415)],
    ['introspection', [[POST => '/api/oauth/introspect']], requests('introspect', 415)],
);
$server->sql(<<~'SQL');
    insert into users.account (id, application_id, fname, lname, email, country, currency, locale)
    select 2, id, 'Jane', 'Roe', 'jane@example.com', 'NL', 'EUR', 'nl' from users.application limit 1
    SQL
for my $case (@CASES) {
    my ($name, $requests, %expected) = @$case;
    my $before = $server->figures;
    $server->request(@$_) for @$requests;
    grows($before, \%expected, $name);
}

subtest 'tokens' => sub {
    my $before = $server->figures;
    my %status;
    $status{ $server->request(token())->{status} }++ until ($status{429} // 0) || ($status{200} // 0) > 1000;
    grows($before, { 'users_limited_total{limit="token_rate"}' => 1, requests('token', 200, $status{200}) }, 'too many in a second');
};

subtest 'a suspended account' => sub {
    $server->sql("update users.account set suspended_at = now() where id = 1");
    my $before = $server->figures;
    is $server->request(GET => '/api/users', token => READ_TOKEN)->{status}, 403, 'is refused';
    grows($before, { requests('read', 403), failures('suspended') }, '... and counted');
    $server->sql("update users.account set suspended_at = null where id = 1");
};

# All requests that were counted, but for scrapes.
sub all_requests () {
    my $figures = $server->figures;
    my $sum     = 0;
    $sum += $figures->{$_} for grep { /^users_requests_total/ && !/"metrics"/ } keys %$figures;
    return $sum;
}

subtest 'requests for something else' => sub {
    my $before = all_requests();
    is $server->request(GET => '/nothing')->{status}, 404, 'are served by httpd';
    $server->request(OPTIONS => '/api/users');
    my $counted;
    wait_until(sub { ($counted = all_requests() - $before) > 0 }, undef);
    is $counted, 1, '... and not counted';
};

my $WAITING  = 'users_db_pool_waiting{role="primary"}';
my @BY_NAME  = ([GET => '/api/users', basic => ['john', 'right']]) x 16;    # each has a statement of its own

sub test_waiting {
    plan skip_all => 'a child of prefork has a connection' if $MPM eq 'prefork';
    my $session = Users::Test::Session->new($server);
    $session->sql('begin; lock table users.account');
    my @connections = map { $server->connect } @BY_NAME;
    $connections[$_]->send(Users::Test::Client::compose($BY_NAME[$_]->@*)) for keys @BY_NAME;
    my $most = 4 * ($server->single_process ? 1 : 2);
    ok wait_until(sub { $server->figures->{$WAITING} >= @BY_NAME - $most }, undef), 'those beyond UsersDBMax of each child';
    $session->sql('rollback');
    is_deeply [map { $_->answer->{status} } @connections], [(200) x @BY_NAME], 'get one in the end';
    is $server->figures->{$WAITING}, 0, '... and wait no more';
}
subtest 'requests that wait for a connection' => \&test_waiting;

# Have a change lose its connection while it waits for the account. Returns the status of its answer.
sub lose_change ($waits_on) {
    my $session = Users::Test::Session->new($server);
    $session->sql('begin; select from users.account where id = 1 for update');
    my $connection = $server->connect;
    $connection->send(Users::Test::Client::compose(patch(city => 'Breda')));
    wait_until(\&waiting, 'the change to wait');
    $server->sql("select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = 'mod_users' and wait_event_type = 'Lock'");
    $session->sql('rollback') unless $waits_on;
    return $connection->answer->{status};
}

sub unheard ($result) {
    return (qq(users_db_unheard_changes_total{result="$result"}) => 1);
}

subtest 'a change that loses its connection' => sub {
    my $before = $server->figures;
    is lose_change(0), 200, 'is made';
    grows($before, { requests('update', 200), unheard('settled') }, '... and counted');
};

my $AWAY = 'users_db_outage_children{role="primary"}';

subtest 'an outage' => sub {
    my $before = $server->figures;
    $server->expect_log(qr/the database \S+ can't be reached/);
    $server->allow_log(qr/the database \S+ is back after/);
    $server->postgres->stop('immediate');
    wait_until(sub { $server->request(GET => '/api/users', token => READ_TOKEN)->{status} == 503 }, 'a refusal');
    cmp_ok $server->figures->{$AWAY}, '>', 0, 'lasts';
    cmp_ok growth($before, 'users_db_outages_total{role="primary"}')->{'users_db_outages_total{role="primary"}'}, '>', 0, 'has begun';
    my $failed = 'users_db_connects_total{result="failed",role="primary"}';
    cmp_ok growth($before, $failed)->{$failed}, '>', 0, 'connections were refused';
    is scrape()->{status}, 200, 'figures need no database';
    $server->postgres->start;
    wait_until(sub {
        $server->parallel(([GET => '/api/users', token => READ_TOKEN]) x 8);    # to every child, at last
        $server->figures->{$AWAY} == 0;
    }, 'its end');
    my $connected = 'users_db_connects_total{result="connected",role="primary"}';
    cmp_ok growth($before, $connected)->{$connected}, '>', 0, 'connections were opened';
};

# ---- The endpoint ----------------------------------------------------------------------------

subtest 'the answer' => sub {
    my $answer = scrape();
    is $answer->{headers}{'content-type'}, 'text/plain; version=0.0.4; charset=utf-8', 'its type';
    unlike $answer->{body}, qr/127\.0\.0|::1|john|nobody|hashed\b|example|token-of|@{[CLIENT_ID]}/, 'names nobody';
    my $head = $server->request(HEAD => '/metrics');
    is $head->{status}, 200, 'HEAD';
    cmp_ok $head->{headers}{'content-length'}, '>', 1000, '... tells a length';
    my $options = $server->request(OPTIONS => '/metrics');
    is $options->{status}, 204, 'OPTIONS';
    is $options->{headers}{allow}, 'GET, HEAD, OPTIONS', '... tells the methods';
    my $prometheus = 'application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,'
        . 'text/plain;version=0.0.4;q=0.5,*/*;q=0.1';
    is scrape(headers => [Accept => $_])->{status}, 200, "Accept: $_"
        for $prometheus, 'text/plain', 'text/*;q=0.1', 'text/html, */*', 'nonsense';
};

sub is_refusal ($answer, $status, $name) {
    is $answer->{status}, $status, $name;
    is $answer->{headers}{'content-type'}, 'application/json', '... in JSON';
    is scalar $answer->{json}{errors}->@*, 1, '... with a sentence';
}

subtest 'refusals' => sub {
    for my $method (qw(POST PUT DELETE PATCH)) {
        my $answer = $server->request($method => '/metrics', headers => ['Content-Length' => 0]);
        is_refusal($answer, 405, $method);
        is $answer->{headers}{allow}, 'GET, HEAD, OPTIONS', '... and the methods';
    }
    is_refusal($server->request(BREW => '/metrics'), 501, 'a method that nobody knows');
    is_refusal($server->request(GET => '/metrics/1'), 404, 'a path below');
    $server->expect_log(qr/AH01630: client denied by server configuration/);
    is_refusal($server->request(GET => '/closed/metrics'), 403, 'Require');
    is_refusal(scrape(headers => [Accept => $_]), 406, "Accept: $_")
        for 'text/html', 'application/json', 'text/plain;q=0, */*', 'text/*;q=0';
    my $problem = scrape(headers => [Accept => 'application/problem+json']);
    is $problem->{headers}{'content-type'}, 'application/problem+json', 'problem details';
    is $problem->{json}{status}, 406, '... of a 406';
};

# ---- server-status ---------------------------------------------------------------------------

$server->stop;

# What stands in the endpoint's location besides, and the status then.
my %IN = (
    'here'       => [200, "Satisfy Any\nRequire local"],
    'granted'    => [200, "Satisfy Any\nRequire all granted"],
    'denied'     => [403, "Satisfy Any\nRequire all denied"],
    'elsewhere'  => [403, "Satisfy Any\nRequire ip 192.0.2.1"],
    'somebody'   => [500, "Satisfy Any\nRequire valid-user"],
    'deny'       => [403, "Order allow,deny\nDeny from all"],
    'satisfied'  => [403, "Satisfy Any\nOrder allow,deny\nDeny from all\nRequire all denied"],
);
$server->start(modules => [qw(status authz_user access_compat)], conf => $conf, vhost => join "\n", $vhost, <<~STATUS,
    <Location /server-status>
      SetHandler server-status
    </Location>
    <Location /in/live>
      UsersEndpoint health
      Satisfy Any
      Require all denied
    </Location>
    <Location /detour>
      SetHandler users-metrics
    </Location>
    STATUS
    map { "<Location /in/$_>\nUsersEndpoint metrics\n$IN{$_}[1]\n</Location>" } sort keys %IN);
$server->expect_log(qr/reached users-metrics without its access checker: refused/);
$server->allow_log(qr/\[(?:authz_core|access_compat):error\]|AH00028: No authentication done/);

subtest 'who may read them' => sub {
    is $server->request(GET => "/in/$_")->{status}, $IN{$_}[0], "$_: $IN{$_}[0]" for sort keys %IN;
    is $server->request(GET => '/in/live')->{status}, 403, 'the same of a health check';
    is $server->request(GET => '/detour')->{status}, 403, 'nobody by another way';
};

subtest 'server-status' => sub {
    load(50);
    my $before = {};
    grows($before, reads(50), 'what was before httpd was started is not counted');
    my $auto = $server->request(GET => '/server-status?auto')->{body};
    my %told = map { /^((?:users|http)_\S+): (\S+)$/ ? ($1 => $2) : () } split /\n/, $auto;
    my $figures = $server->figures;
    delete @$_{ grep { /_bucket\{|"metrics"/ } keys %$_ } for $figures, \%told;    # of scrapes there is one more
    is_deeply [sort keys %told], [sort(keys %$figures)], '?auto has the same figures';
    my @kept = grep { !/^users_children|^users_db_pool/ } keys %$figures;    # between the two answers
    is_deeply { map { $_ => $told{$_} } @kept }, { map { $_ => $figures->{$_} } @kept }, '... of the same values';
    ok exists $told{'users_db_pool_open{role="primary"}'}, '... and connections';
    my $page = $server->request(GET => '/server-status')->{body};
    like $page, qr{<h2>mod_users</h2>}, 'the page has a section';
    like $page, qr{Requests to endpoints [^<]+</td><td>read, 200</td><td align="right">50</td>}, '... with requests';
};

# ---- Prometheus ------------------------------------------------------------------------------

# Run promtool. Returns its exit status and what it says.
sub promtool ($input, @arguments) {
    my ($status, $output, $error) = run(['/bin/sh', '-c', 'input=$1; shift; exec "$@" <"$input"', 'sh', $input,
        $PROMTOOL, @arguments], "$dir/promtool");
    return ($status, $output . $error);
}

sub write_file ($name, $text) {
    my $path = "$dir/$name";
    open my $file, '>', $path or die "$path: $!\n";
    print $file $text;
    close $file;
    return $path;
}

subtest 'promtool' => sub {
    is_deeply [promtool(write_file('figures', scrape()->{body}), qw(check metrics))], [0, ''], 'check metrics has no complaint';
    my ($status, $output) = promtool('/dev/null', qw(check rules), "$SOURCE/doc/manual/alerts.yml");
    is $status, 0, 'check rules' or diag($output);
    ($status, $output) = promtool('/dev/null', qw(test rules), "$SOURCE/t/build/alerts.yml");
    is $status, 0, 'test rules' or diag($output);
};

# Names of figures: as the endpoint tells them, with their labels.
my $text  = scrape()->{body};
my %label = map { $_ => '' } $text =~ /^# HELP (\S+)/mg;
$text =~ s/(?<=\W)le="[^"]*"//g;
for my $name (keys %label) {
    my ($labels) = $text =~ /^${name}(?:_count)?\{([^}]*)\}/m or next;
    $label{$name} = join ', ', $labels =~ /(\w+)=/g;
}

subtest 'the manual' => sub {
    my %described = slurp("$SOURCE/doc/manual/metrics.md") =~ /^\| `(\w+)` \| ([^|]*?) ?\| /mg;
    cmp_ok scalar keys %label, '>', 20, 'there are figures';
    is_deeply \%described, \%label, '... each of which it describes, with its labels';
};

subtest 'alerts' => sub {
    my ($rules, $tests) = map { slurp("$SOURCE/$_") } qw(doc/manual/alerts.yml t/build/alerts.yml);
    my @alerts = sort $rules =~ /- alert: (\w+)/g;
    my @used   = map { s/_(?:bucket|sum|count)$//r } $rules =~ /\b((?:users|http)_\w+)[{\[]/g;
    is_deeply [grep { !exists $label{$_} } @used], [], 'are about figures that there are';
    my %quiet = map { $_ => 1 } $tests =~ /\{eval_time: 50m, alertname: (\w+), exp_alerts: \[\]\}/g;
    my %fires = map { $_ => 1 } $tests =~ /alertname: (\w+)\n +exp_alerts:\n +- exp_labels/g;
    is_deeply [sort keys %quiet], \@alerts, 'each has a test of when it is quiet';
    is_deeply [sort keys %fires], \@alerts, '... and of when it fires';
};

sub free_port () {
    my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die "no free port: $@\n";
    return $socket->sockport;
}

# What Prometheus at this port answers; nothing where it does not.
sub ask ($port, $path) {
    return eval {
        my $connection = Users::Test::Client->new($port);
        $connection->send(Users::Test::Client::compose(GET => $path, headers => [Connection => 'close']));
        $connection->answer;
    };
}

# Start it, with its data in the directory of the test. Returns its process id and its port.
sub start_prometheus () {
    my $conf = write_file('prometheus.yml', <<~YAML);
        global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
        rule_files: ['$SOURCE/doc/manual/alerts.yml']
        scrape_configs:
          - job_name: mod_users
            static_configs: [{targets: ['127.0.0.1:@{[$server->port]}']}]
        YAML
    for my $try (1 .. 5) {
        my $port = free_port();    # which another process may take first
        my $pid  = spawn([$PROMETHEUS, "--config.file=$conf", "--storage.tsdb.path=$dir/prometheus-$try",
            "--web.listen-address=127.0.0.1:$port"], "$dir/prometheus.log", "$dir/prometheus.log");
        my $state = wait_until(
            sub { defined ended($pid) ? 'ended' : (ask($port, '/-/ready') // { status => 0 })->{status} == 200 ? 'ready' : undef },
            'Prometheus to start'
        );
        return ($pid, $port) if $state eq 'ready';
    }
    die "Prometheus does not start:\n" . slurp("$dir/prometheus.log");
}

subtest 'Prometheus' => sub {
    my ($pid, $port) = start_prometheus();
    my $result = wait_until(
        sub {
            my $answer = ask($port, '/api/v1/query?query=users_requests_total%7Boperation%3D%22read%22%7D') or return;
            my $json   = JSON::PP->new->utf8->decode($answer->{body});
            return $json->{status} eq 'success' && $json->{data}{result}[0];
        },
        'a scrape'
    );
    is_deeply $result->{metric},
        { __name__ => 'users_requests_total', operation => 'read', status => 200, job => 'mod_users',
            instance => '127.0.0.1:' . $server->port }, 'has scraped it';
    is $result->{value}[1], $server->figures->{$READS}, '... and answers a query with the figure';
    is end($pid), 0, 'it ends';
};

# ---- In vain ---------------------------------------------------------------------------------

done_testing, exit if $server->single_process;    # memcheck takes longer
$server->stop;
$server->start(conf => $conf, vhost => "$vhost\nUsersDBAcquireTimeout 300ms\nUsersRequestTimeout 3s");
$server->allow_trouble(qw(busy late));

sub test_timeouts {
    plan skip_all => 'a child of prefork has a connection' if $MPM eq 'prefork';
    my $before  = $server->figures;
    my $session = Users::Test::Session->new($server);
    $session->sql('begin; lock table users.account');
    my $refused = grep { $_->{status} == 503 } $server->parallel(@BY_NAME);
    $session->sql('rollback');
    cmp_ok $refused, '>', 0, 'some get none in time';
    grows($before, { 'users_db_acquire_timeouts_total{role="primary"}' => $refused }, '... which is counted');
}
subtest 'requests that wait for a connection in vain' => \&test_timeouts;

subtest 'a change whose outcome is not found out' => sub {
    my $before = $server->figures;
    is lose_change(1), 503, 'is told so';
    grows($before, { requests('update', 503), unheard('unknown') }, '... and counted');
};

done_testing;
