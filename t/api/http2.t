# HTTP/2, in clear text (h2c) and over TLS (h2): what HTTP/1.1 is served too, by many streams of one
# connection.

use v5.36;
use JSON::PP ();
use Users::Test;
use Users::Test::Process qw(end reap run slurp spawn);
use Users::Test::Session;

plan skip_all => 'mod_http2 does not serve under prefork' if ($ENV{USERS_TEST_MPM} // '') eq 'prefork';

# The first of this name in PATH.
sub find ($name) {
    my ($path) = grep { -x } map { "$_/$name" } split /:/, $ENV{PATH};
    return $path // die "this needs $name: install nghttp2-client\n";
}

my ($NGHTTP, $H2LOAD) = map { find($_) } qw(nghttp h2load);

my $server = Users::Test->new;
my $dir    = $server->dir;
my $scheme = 'http';
my $PAGES  = 'https://panel.example';
my $vhost  = "UsersCORSOrigin $PAGES\nUsersMaxBody 1000000\nUsersDBTimeout 30s\nUsersDBAcquireTimeout 60s\nUsersRequestTimeout 60s\n";


# One child, and a place for one more: under worker, new children would otherwise have to wait in the old
# one's place until its streams have ended. No second one is started while a thread is idle: none is still
# being started when httpd is stopped, which can end such a one badly.
my $conf = <<~CONF;
    StartServers 1
    ServerLimit 2
    ThreadsPerChild 25
    MaxRequestWorkers 50
    MinSpareThreads 1
    MaxSpareThreads 25
    CONF
$server->start(modules => [qw(http2 headers)], conf => "Protocols h2c http/1.1\n$conf", vhost => $vhost,
    endpoint => 'Header always add X-Passed yes');

# The command for requests, one a stream of a connection, that differ in their paths alone.
# Options: token, headers => [name => value, ...], body => bytes (JSON).
sub command ($client, $method, $paths, %option) {
    my @headers = (':method' => $method, @{ $option{headers} // [] });
    push @headers, authorization => "Bearer $option{token}" if $option{token};
    my @body;
    if (defined $option{body}) {
        my $path = sprintf '%s/body-%d', $dir, length $option{body};
        open my $file, '>:raw', $path or die "$path: $!\n";
        print $file $option{body};
        close $file;
        @body = ('-d', $path);
        push @headers, 'content-type' => 'application/json';
    }
    my @options;
    while (my ($name, $value) = splice @headers, 0, 2) {
        push @options, '-H', "$name: $value";
    }
    return [@$client, @options, @body, map { "$scheme://127.0.0.1:" . $server->port . $_ } @$paths];
}

# The answers that nghttp shows, in the order of the requests: status, headers, body, ended (the stream
# was), and reset (the code where the server reset it).
sub parse ($output) {
    my %streams;
    for my $frame (split /^(?=[^\n]*\[ *\d+\.\d+\] )/m, $output) {
        my ($id) = $frame =~ /\bstream_id=([1-9]\d*)/ or next;
        next unless $frame =~ /\] recv /;
        my $answer = $streams{$id} //= { headers => {}, body => '' };
        $answer->{status} = $1 if $frame =~ /\) :status: (\d+)/;
        $answer->{headers}{$1} = $2 if $frame =~ /\) ([^:\s]+): (.*)/;
        $answer->{body} .= $1 if $frame =~ /^(.*)\[ *\d+\.\d+\] recv DATA/s;
        $answer->{reset} = $1 if $frame =~ /recv RST_STREAM .*error_code=(\w+)/s;
        $answer->{ended} = 1 if $frame =~ /; END_STREAM/;
    }
    my ($fault) = $output =~ /recv GOAWAY [^\n]*\n[^\n]*error_code=(\w+)/;
    die "the connection ended with $fault\n" if ($fault // 'NO_ERROR') ne 'NO_ERROR';    # which says farewell
    return map { $streams{$_} } sort { $a <=> $b } keys %streams;
}

sub requests ($method, $paths, %option) {
    my ($status, $output, $error) = run(command([$NGHTTP, '-v'], $method, $paths, %option), "$dir/nghttp");
    die "nghttp: $output$error" if $status;
    return parse($output);
}

sub request ($method, %option) {
    my ($answer) = requests($method, ['/api/users'], %option);
    $answer->{json} = eval { JSON::PP->new->utf8->decode($answer->{body}) };
    return $answer;
}

sub body ($user) {
    return JSON::PP->new->utf8->canonical->encode({ user => $user });
}

my %JANE = (fname => 'Jane', lname => 'Roe', provider_server => 'server.example', provider_username => 'jane');

sub statuses (@answers) {
    return join ' ', map { $_->{status} } @answers;
}

subtest 'the three operations' => sub {
    my $get  = request(GET => token => READ_TOKEN);
    my $same = $server->request(GET => '/api/users', token => READ_TOKEN);
    is $get->{status}, 200, 'GET';
    is $get->{body}, $same->{body}, 'it has the content of HTTP/1.1';
    delete $_->{headers}->@{qw(date connection upgrade)} for $get, $same;
    $same->{headers}{vary} =~ s/, /,/g;    # mod_http2 writes it without
    is_deeply $get->{headers}, $same->{headers}, '... and its header fields';

    my $patch = request(PATCH => token => FULL_TOKEN, body => body({ city => 'Utrecht' }));
    is $patch->{status}, 200, 'PATCH';
    is $patch->{json}{user}{city}, 'Utrecht', 'it changes';
    is request(GET => token => READ_TOKEN)->{headers}{etag}, $patch->{headers}{etag}, 'its tag is the next';

    my $post = request(POST => token => REGISTER_TOKEN, body => body(\%JANE));
    is $post->{status}, 201, 'POST';
    is $server->request(GET => '/api/users', basic => [$post->{json}{user}{api}->@{qw(username password)}])->{status},
        200, 'its credentials work';
};

subtest 'pages of another origin' => sub {
    my @origin = (origin => $PAGES);
    my $tag = request(GET => token => READ_TOKEN)->{headers}{etag};
    for my $case ([200, token => READ_TOKEN], [304, token => READ_TOKEN, headers => ['if-none-match' => $tag]], [401]) {
        my ($status, %option) = @$case;
        my $answer = request(GET => %option, headers => [@{ $option{headers} // [] }, @origin]);
        is $answer->{status}, $status, "GET is $status";
        is $answer->{headers}{'access-control-allow-origin'}, $PAGES, '... is theirs to read';
        like $answer->{headers}{vary}, qr/\bOrigin\b/, '... which a cache can tell';
        is request(GET => %option)->{headers}{'access-control-allow-origin'}, undef, '... but not that of none';
    }
    my $answer = request(OPTIONS => headers => [@origin, 'access-control-request-method' => 'PATCH']);
    is $answer->{status}, 204, 'their browser asks';
    like $answer->{headers}{'access-control-allow-methods'}, qr/\bPATCH\b/, '... and may';
};

subtest 'a refusal passes the filters' => sub {
    my $answer = request(GET => ());
    is $answer->{status}, 401, 'without credentials';
    is $answer->{headers}{'x-passed'}, 'yes', 'Header always add';
};

subtest 'answers without content' => sub {
    my $get  = request(GET => token => READ_TOKEN);
    my $head = request(HEAD => token => READ_TOKEN);
    is $head->{status}, 200, 'HEAD';
    is $head->{body}, '', 'it has no content';
    ok $head->{ended}, 'it ends';
    is $head->{headers}{'content-length'}, length $get->{body}, 'it tells the length of what GET has';
    is $head->{headers}{etag}, $get->{headers}{etag}, 'and its tag';
    my $unchanged = request(GET => token => READ_TOKEN, headers => ['if-none-match' => $get->{headers}{etag}]);
    is $unchanged->{status}, 304, 'If-None-Match';
    is $unchanged->{body}, '', 'has none either';
    ok $unchanged->{ended}, 'and ends';
    is request(OPTIONS => ())->{status}, 204, 'OPTIONS';
    is request(PATCH => token => FULL_TOKEN, headers => [prefer => 'return=minimal'], body => body({}))->{status},
        204, 'return=minimal';
};

subtest 'large bodies' => sub {
    my $large = request(PATCH => token => FULL_TOKEN, body => body({ city => 'Gouda', x => 'x' x 990_000 }));
    is $large->{status}, 200, 'many windows of flow control';
    is $large->{json}{user}{city}, 'Gouda', 'are read whole';
    $server->sql(<<~'SQL');
        alter view users_api.account rename to small_account;
        create view users_api.account as select user_id, suspended,
          json_build_object('user', repeat('x', 3000000)) as document from users_api.small_account;
        grant select on users_api.account to mod_users
        SQL
    my @answers = requests(GET => [map { "/api/users?$_" } 1 .. 3], token => READ_TOKEN);
    is_deeply [map { $_->{body} eq '{"user" : "' . 'x' x 3_000_000 . '"}' } @answers], [1, 1, 1],
        'and so are large answers, side by side';
    $server->sql('drop view users_api.account; alter view users_api.small_account rename to account');
};

subtest 'refused before the body is read' => sub {
    my $body = body({ city => 'Nowhere', x => 'x' x 900_000 });
    my @cases = (
        [401, 'PATCH', '/api/users', body => $body],
        [401, 'PATCH', '/api/users', body => $body, token => 'unknown'],
        [403, 'PATCH', '/api/users', body => $body, token => READ_TOKEN],
        [403, 'POST',  '/api/users', body => $body, token => FULL_TOKEN],
        [404, 'PATCH', '/api/users/1', body => $body, token => FULL_TOKEN],
        [405, 'PUT',   '/api/users', body => $body, token => FULL_TOKEN],
        [406, 'PATCH', '/api/users', body => $body, token => FULL_TOKEN, headers => [accept => 'text/html']],
        [413, 'PATCH', '/api/users', body => $body x 3, token => FULL_TOKEN],
        [415, 'PATCH', '/api/users', body => $body, token => FULL_TOKEN, headers => ['content-encoding' => 'gzip']],
    );
    for my $case (@cases) {
        my ($status, $method, $path, @options) = @$case;
        my @answers = requests($method, [map { "$path?$_" } 1 .. 5], @options);
        is statuses(@answers), join(' ', ($status) x 5), "$method $path: $status, and so the others on that connection";
        is grep({ length $_->{body} != $_->{headers}{'content-length'} } @answers), 0, '... all of the answer comes';
        is_deeply [grep { ($_->{reset} // 'NO_ERROR') ne 'NO_ERROR' } @answers], [], '... and no error after it';
    }
    is $server->sql(q(select count(*) from users.account where city = 'Nowhere')), 0, 'nothing was changed';
};

# Have one connection with so many streams at once send requests. Returns how many got which class of
# status, such as 2xx.
sub load ($count, $streams, $method, %option) {
    my ($status, $output, $error) = run(
        command([$H2LOAD, '-c1', "-n$count", "-m$streams"], $method, ['/api/users'], %option), "$dir/h2load");
    die "h2load: $output$error" if $status;
    like $output, qr/ $count done, .* 0 errored, 0 timeout/, "$method: $count requests have an answer";
    my ($classes) = $output =~ /^status codes: (.*)/m;
    return { map { /(\d+) (\dxx)/ && $1 ? ($2 => $1) : () } split /, /, $classes };
}

subtest 'many streams at once' => sub {
    is_deeply load(500, 100, GET => (token => READ_TOKEN)), { '2xx' => 500 }, 'reads';
    # Of one account, where no more wait than may though one of them takes long.
    is_deeply load(100, 5, PATCH => (token => FULL_TOKEN, body => body({ city => 'Leiden' }))),
        { '2xx' => 100 }, 'changes';
    my $accounts = sub { $server->sql('select count(*) from users.account') };
    my $before = $accounts->();
    is_deeply load(100, 100, POST => (token => REGISTER_TOKEN, body => body(\%JANE))),
        { '2xx' => 100 }, 'registrations';
    is $accounts->() - $before, 100, '... as many accounts';
    is_deeply load(300, 100, PATCH => (token => 'unknown', body => body({ x => 'x' x 100_000 }))),
        { '4xx' => 300 }, 'refusals of what is not read';
};

sub waiting () {
    return $server->sql(
        "select count(*) from pg_stat_activity where usename = 'mod_users' and wait_event_type = 'Lock'");
}

# A client whose changes wait for an account that a session has locked. Returns its process id.
sub spawn_waiting ($streams) {
    my $command = command([$NGHTTP, '-v'], 'PATCH', [map { "/api/users?$_" } 1 .. $streams],
        token => FULL_TOKEN, body => body({ city => 'Breda' }));
    unlink "$dir/waiting";
    my $pid = spawn($command, "$dir/waiting", "$dir/waiting.errors");
    wait_until(\&waiting, 'a change to wait');
    return $pid;
}

subtest 'a client that goes' => sub {
    my $session = Users::Test::Session->new($server);
    $server->allow_trouble('busy');    # on a slow machine some are refused before the client goes
    $session->sql('begin; select from users.account where id = 1 for update');
    end(spawn_waiting(50));
    $session->sql('commit');
    wait_until(sub { !waiting() }, 'what it began to end');
    is request(PATCH => token => FULL_TOKEN, body => body({}))->{status}, 200, 'leaves the way free for others';
};

sub test_restart {
    plan skip_all => 'a single process does not restart' if $server->single_process;
    my $session = Users::Test::Session->new($server);
    $session->sql('begin; select from users.account where id = 1 for update');
    my $pid = spawn_waiting(5);    # a quarter of the threads may wait for as long as it takes
    $server->graceful;
    is request(GET => token => READ_TOKEN)->{status}, 200, 'new children serve';
    $session->sql('commit');
    is reap($pid), 0, 'a connection of an old one lasts';
    is statuses(parse(slurp("$dir/waiting"))), join(' ', (200) x 5), '... until all its streams are served';
}

subtest 'a graceful restart' => \&test_restart;

# ---- TLS -------------------------------------------------------------------------------------

$server->stop;
$server->start(
    modules => [qw(http2 ssl)],
    conf    => "Protocols h2 http/1.1\n$conf",
    vhost   => $vhost . $server->tls
);
$server->allow_log(qr/\[ssl:warn\]/);    # it has much to say of certificates
$scheme = 'https';

# The protocol that the server picks of these.
sub negotiated ($protocols) {
    my (undef, $output) = run([qw(/usr/bin/env openssl s_client -connect), '127.0.0.1:' . $server->port,
        '-alpn', $protocols], "$dir/openssl");
    return $output =~ /^ALPN protocol: (.*)/m ? $1 : undef;
}

subtest 'TLS' => sub {
    is negotiated('h2,http/1.1'), 'h2',       'who speaks HTTP/2 is served by it';
    is negotiated('http/1.1'),    'http/1.1', 'who does not is not';

    my $get = request(GET => token => READ_TOKEN);
    is $get->{status}, 200, 'GET';
    is $get->{json}{user}{id}, 1, '... brings the account';
    my $patch = request(PATCH => token => FULL_TOKEN, body => body({ city => 'Enschede' }));
    is $patch->{status}, 200, 'PATCH';
    is $patch->{json}{user}{city}, 'Enschede', '... changes it';
    is request(PATCH => token => FULL_TOKEN, headers => ['if-match' => $get->{headers}{etag}], body => body({}))->{status},
        412, '... but not with an old tag';
    is request(POST => token => REGISTER_TOKEN, body => body(\%JANE))->{status}, 201, 'POST';
    is request(GET => token => 'unknown')->{status}, 401, 'who is unknown is refused';
    is_deeply load(500, 100, GET => (token => READ_TOKEN)), { '2xx' => 500 }, 'many streams at once';
};

subtest 'a graceful restart under TLS' => \&test_restart;

done_testing;
