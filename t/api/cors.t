# Pages of other origins (UsersCORSOrigin): what tells a browser whom an answer is for, on each answer, whoever
# makes it, and nothing of it where it is not asked for.

use v5.36;
use Users::Test;
use Users::Test::Client;

my ($PANEL, $OTHER) = qw(https://panel.example http://localhost:3000);
my $LISTED   = "UsersCORSOrigin $PANEL $OTHER";
my $METADATA = '/.well-known/oauth-authorization-server';
my %JANE     = (fname => 'Jane', lname => 'Roe', provider_server => 'server.example', provider_username => 'jane');

# What a page can read anyway (Fetch standard, "CORS-safelisted response-header name"), and what is not for it.
my %SAFELISTED = map { $_ => 1 } qw(cache-control content-language content-length content-type expires last-modified pragma);
my %NOT_FOR_IT = map { $_ => 1 } qw(accept-ranges connection date keep-alive server vary);

my $server = Users::Test->new;
$server->sql(<<~'SQL');
    insert into users.credential (user_id, username, secret_digest) values (1, 'john', sha256('secret'));
    SQL

sub start (%option) {
    $server->stop if $server->pid;
    $server->start(%option);
}

# A request with these values of Origin, some of which may be undefined.
sub ask ($origins, $method, $path, %option) {
    my @origins = map { (Origin => $_) } grep { defined } ref $origins ? @$origins : $origins;
    return $server->request($method, $path, %option, headers => [@{ $option{headers} // [] }, @origins]);
}

sub preflight ($origin, $wants = 'PATCH', %option) {
    my $path = delete $option{path} // '/api/users';
    return ask($origin, OPTIONS => $path,
        headers => ['Access-Control-Request-Method' => $wants, 'Access-Control-Request-Headers' => 'authorization,content-type,if-match',
            @{ $option{headers} // [] }]);
}

# The members of a list, in lower case.
sub members ($value) {
    return map { lc } split /\s*,\s*/, join ',', ref $value ? @$value : $value // ();
}

sub names ($answer) {
    return sort grep { /^access-control-/ } keys $answer->{headers}->%*;
}

# All but what tells of origins, and what differs with time.
sub ordinary ($answer) {
    my %headers = $answer->{headers}->%*;
    $headers{'retry-after'} =~ s/^\d+$/some seconds/ if defined $headers{'retry-after'};
    delete @headers{ names($answer), qw(date vary) };
    return [$answer->{status}, $answer->{body}, \%headers];
}

# Does the answer let a page of this origin read all of it?
sub test_open ($answer, $origin, $name) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $headers = $answer->{headers};
    is $headers->{'access-control-allow-origin'}, $origin, "$name is for $origin";
    is $headers->{'access-control-allow-credentials'}, undef, '... without cookies';
    my %exposed = map { $_ => 1 } members($headers->{'access-control-expose-headers'});
    is_deeply [grep { !/^access-control-/ && !$SAFELISTED{$_} && !$NOT_FOR_IT{$_} && !$exposed{$_} } sort keys %$headers],
        [], '... with all header fields';
    ok !$exposed{'*'}, '... by name' if %exposed;
}

sub test_closed ($answer, $name) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is_deeply [names($answer)], [], "$name is for no page";
}

sub varies ($answer) {
    return join ', ', sort(members($answer->{headers}{vary}));
}

# ---- Each status -----------------------------------------------------------------------------

my @RANGE  = ('UsersMaxFailures 1', 'UsersDuplicates conflict', OAUTH_ENDPOINTS, HEALTH_ENDPOINTS);
my $number = 0;

sub test_each_status () {
    my $tag   = $server->request(GET => '/api/users', token => READ_TOKEN)->{headers}{etag};
    my $patch = sub ($fields, @headers) {
        return (PATCH => '/api/users', token => FULL_TOKEN, json => { user => $fields }, headers => [@headers]);
    };
    $server->request(GET => '/api/users', basic => ['john', 'wrong']);    # the only one that may be
    for my $case (
        [200, GET   => '/api/users', token => READ_TOKEN],
        [200, HEAD  => '/api/users', token => READ_TOKEN],
        [200, $patch->({})],
        [200, GET => $METADATA],
        [204, $patch->({}, Prefer => 'return=minimal, handling=strict')],
        [204, OPTIONS => '/api/users'],
        [304, GET    => '/api/users', token => READ_TOKEN, headers => ['If-None-Match' => $tag]],
        [400, GET    => '/api/users', token => READ_TOKEN, headers => ['If-Match' => 'x']],
        [400, PATCH  => '/api/users', token => FULL_TOKEN, body => '{', headers => ['Content-Type' => 'application/json']],
        [401, GET    => '/api/users'],
        [401, PATCH  => '/api/users', token => 'unknown', json => {}],
        [403, PATCH  => '/api/users', token => READ_TOKEN, json => {}],
        [404, GET    => '/api/users/1'],
        [405, DELETE => '/api/users'],
        [406, GET    => '/api/users', token => READ_TOKEN, headers => [Accept => 'text/html']],
        [409, POST   => '/api/users', token => REGISTER_TOKEN, json => { user => \%JANE }],
        [412, $patch->({}, 'If-Match' => '"stale"')],
        [413, $patch->({ city => 'x' x 70_000 })],
        [415, $patch->({}, 'Content-Encoding' => 'gzip')],
        [415, $patch->({}, 'Content-Type' => 'text/plain')],
        [422, $patch->({ fname => '' })],
        [422, $patch->({}, Accept => 'application/json; api_version=1')],
        [429, GET  => '/api/users', basic => ['john', 'wrong']],
        [501, BREW => '/api/users'],
        )
    {
        my ($status, $method, $path, %option) = @$case;
        my $name   = "$method $path, $status,";
        my $asking = sub ($origin) { ask($origin, $method, $path, %option) };
        my $none   = $asking->(undef);
        is $none->{status}, $status, "$name without an origin";
        test_closed($none, $name);
        is varies($none), 'accept, authorization, origin', '... but varies';
        for my $origin ($PANEL, $OTHER) {
            my $answer = $asking->($origin);
            test_open($answer, $origin, $name);
            is varies($answer), 'accept, authorization, origin', '... and varies';
            is_deeply ordinary($answer), ordinary($none), '... else as without';
        }
        my $answer = $asking->('https://other.example');
        test_closed($answer, "$name for another origin");
        is varies($answer), 'accept, authorization, origin', '... but varies';
        is_deeply ordinary($answer), ordinary($none), '... and is as without an origin';
    }
}

subtest 'each status' => sub {
    start(vhost => join "\n", $LISTED, @RANGE);
    my $created = ask($PANEL, POST => '/api/users', token => REGISTER_TOKEN, json => { user => \%JANE });
    is $created->{status}, 201, 'POST';
    test_open($created, $PANEL, '201');
    test_each_status();
};

subtest 'other origins' => sub {
    for my $origin (
        'null', '*', '', 'x', 'panel.example', 'https://panel.example/', 'HTTPS://PANEL.EXAMPLE', 'https://panel.example:443',
        'http://panel.example', 'https://panel.example.evil.example', 'https://evil.example/https://panel.example',
        'https://panel.exampl', "$PANEL, $OTHER", "$PANEL $OTHER", [$PANEL, $PANEL], [$PANEL, $OTHER], [$PANEL, 'null'])
    {
        my $name   = join ' and ', map { "'$_'" } ref $origin ? @$origin : $origin;
        my $answer = ask($origin, GET => '/api/users', token => READ_TOKEN);
        is $answer->{status}, 200, "$name: an ordinary answer";
        test_closed($answer, '... which');
        test_closed(preflight($origin), '... and so OPTIONS');
    }
};

# ---- Preflights ------------------------------------------------------------------------------

subtest 'the question before a request' => sub {
    for my $method (qw(GET HEAD PATCH POST DELETE patch)) {
        my $answer = preflight($PANEL, $method);
        is $answer->{status}, 204, "for $method";
        is $answer->{body}, '', '... without content';
        test_open($answer, $PANEL, '... which');
        is_deeply [sort(members($answer->{headers}{'access-control-allow-methods'}))],
            [qw(get head options patch post)], '... names the methods that there are';
        is_deeply [members($answer->{headers}{'access-control-allow-headers'})],
            [qw(accept authorization content-type idempotency-key if-match if-none-match prefer traceparent tracestate)],
            '... and the header fields that are read';
        like $answer->{headers}{'access-control-max-age'}, qr/^[1-9]\d*$/, '... and for how long';
        is varies($answer), 'accept, authorization, origin', '... and varies';
    }
    my $metadata = preflight($PANEL, 'GET', path => $METADATA);
    is $metadata->{status}, 204, 'the metadata';
    is_deeply [sort(members($metadata->{headers}{'access-control-allow-methods'}))], [qw(get head options)], '... have others';
    is preflight($PANEL, 'GET', headers => [Authorization => 'Bearer unknown'])->{status}, 204, 'credentials are not looked at';
};

subtest 'what is no such question' => sub {
    my $ordinary = ask(undef, OPTIONS => '/api/users');
    my $without  = ask($PANEL, OPTIONS => '/api/users');
    is_deeply ordinary($without), ordinary($ordinary), 'OPTIONS that asks for no method';
    is_deeply [names($without)], [qw(access-control-allow-origin access-control-expose-headers)], '... can be read';
    is_deeply ordinary(preflight('https://other.example')), ordinary($ordinary), 'of another origin';
    is_deeply ordinary(preflight(undef)), ordinary($ordinary), 'without an origin';
    my $below = preflight($PANEL, 'PATCH', path => '/api/users/1');
    is $below->{status}, 404, 'where there is nothing';
    is $below->{headers}{'access-control-allow-methods'}, undef, '... nothing is allowed';
    test_open($below, $PANEL, '... which');
};

subtest 'endpoints that are not for pages' => sub {
    test_closed(ask($PANEL, GET => '/health/live'), 'a health check');
    for my $path (map { "/api/oauth/$_" } qw(token revoke introspect)) {
        for my $answer (
            ask($PANEL, POST => $path, form => [client_id => CLIENT_ID, client_secret => CLIENT_SECRET,
                grant_type => 'client_credentials', token => 'x']),
            ask($PANEL, POST => $path), preflight($PANEL, 'POST', path => $path))
        {
            test_closed($answer, "$path, $answer->{status},");
            is varies($answer), 'accept, authorization', '... as if there were no pages';
        }
    }
};

# ---- Answers of others -----------------------------------------------------------------------

subtest 'without a database' => sub {
    $server->postgres->stop;
    $server->expect_log(qr/users:(?:warn|error)/);
    my $answer = ask($PANEL, GET => '/api/users', token => READ_TOKEN);
    is $answer->{status}, 503, 'a 503';
    test_open($answer, $PANEL, '... which');
    is preflight($PANEL)->{status}, 204, 'it is not needed for a preflight';
    $server->stop;
    $server->postgres->start;
};

subtest 'what httpd refuses by itself' => sub {
    start(vhost => $LISTED, conf => 'LimitRequestFieldSize 1000', endpoint => 'LimitRequestBody 1000');
    my $raw = sub ($name, $status, $request) {
        my $connection = $server->connect;
        $connection->send($request =~ s/\n/\r\n/gr);
        my $answer = $connection->answer;
        is $answer->{status}, $status, $name;
        test_open($answer, $PANEL, '... which');
    };
    my $start = "PATCH /api/users HTTP/1.1\nOrigin: $PANEL\n";
    $raw->('a request without Host', 400, "$start\n");
    $raw->('a header field that is too long', 400, $start . "Host: localhost\nX: " . 'x' x 2000 . "\n\n");
    $raw->('an expectation that it does not know', 417, $start . "Host: localhost\nExpect: a-miracle\n\n");
    my $large = ask($PANEL, PATCH => '/api/users', token => FULL_TOKEN, json => { user => { city => 'x' x 2000 } });
    is $large->{status}, 413, 'LimitRequestBody';
    test_open($large, $PANEL, '... which');
};

subtest 'a body that comes too slowly' => sub {
    start(modules => ['reqtimeout'], vhost => $LISTED, conf => 'RequestReadTimeout body=1');
    my $connection = $server->connect;
    $connection->send(join "\r\n", 'PATCH /api/users HTTP/1.1', 'Host: localhost', "Origin: $PANEL",
        'Authorization: Bearer ' . FULL_TOKEN, 'Content-Type: application/json', 'Content-Length: 9', '', '{');
    my $answer = $connection->answer;
    is $answer->{status}, 408, 'is a 408';
    test_open($answer, $PANEL, '... which');
};

sub write_file ($name, $text) {
    my $path = $server->dir . "/$name";
    open my $file, '>', $path or die "$path: $!\n";
    print $file $text;
    close $file;
    return $path;
}

subtest 'another module that asks for credentials' => sub {
    my $users = write_file('users', "john:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n");    # secret
    write_file('htdocs/sorry.html', 'sorry');
    my $endpoint = <<~CONF;
        AuthType Basic
        AuthName elsewhere
        AuthUserFile $users
        Require valid-user
        ErrorDocument 401 /sorry.html
        CONF
    my %modules = (modules => [qw(auth_basic authn_file authz_user env)], endpoint => $endpoint);
    my $source  = "UsersTokenSource environment\nUsersTokenApplication " . CLIENT_ID;
    start(%modules, vhost => "$source\n$LISTED");
    my $answer = preflight($PANEL);
    is $answer->{status}, 204, 'a preflight needs none';
    is $answer->{headers}{'access-control-allow-methods'}, 'GET, HEAD, PATCH, POST, OPTIONS', '... and is answered';
    is preflight('https://other.example')->{status}, 401, 'OPTIONS of another origin does';
    my $refused = ask($PANEL, GET => '/api/users');
    is $refused->{status}, 401, 'its 401';
    is $refused->{body}, 'sorry', '... that of an ErrorDocument';
    test_open($refused, $PANEL, '... which');
    my $forbidden = ask($PANEL, GET => '/api/users', basic => ['john', 'secret']);
    is $forbidden->{status}, 401, 'what the module says after it';
    test_open($forbidden, $PANEL, '... which');
};

# ---- Configuration ---------------------------------------------------------------------------

my $DENIED = qr/AH01630: client denied by server configuration/;

subtest 'Require' => sub {
    start(modules => ['authz_user'], vhost => $LISTED, endpoint => "Require user 1");
    is preflight($PANEL)->{status}, 204, 'who calls is not asked before he calls';
    is ask($PANEL, GET => '/api/users', token => READ_TOKEN)->{status}, 200, '... but then';
    start(vhost => $LISTED, endpoint => 'Require ip 192.0.2.1');
    $server->expect_log($DENIED);
    my $answer = preflight($PANEL);
    is $answer->{status}, 403, 'where he calls from is';
    is $answer->{headers}{'access-control-allow-methods'}, undef, '... and nothing is allowed';
    start(modules => ['authz_user'], vhost => $LISTED, endpoint => "<RequireAll>\nRequire ip 192.0.2.1\nRequire user 1\n</RequireAll>");
    $server->expect_log($DENIED);
    is preflight($PANEL)->{status}, 403, 'both';
    start(modules => ['access_compat'], vhost => $LISTED, endpoint => "Satisfy Any\nRequire ip 192.0.2.1");
    $server->allow_log($DENIED);
    is preflight($PANEL)->{status}, 204, 'Satisfy Any: credentials may do';
};

subtest 'any origin' => sub {
    start(vhost => "UsersCORSOrigin *\n" . OAUTH_ENDPOINTS);
    for my $origin ($PANEL, 'null', 'x', undef, [$PANEL, $OTHER]) {
        my $name = defined $origin ? "Origin '$origin'" : 'no Origin';
        for my $answer (ask($origin, GET => '/api/users', token => READ_TOKEN), ask($origin, GET => '/api/users'),
            ask($origin, GET => $METADATA))
        {
            test_open($answer, '*', "$name, $answer->{status},");
            is varies($answer), 'accept, authorization', '... the same for all';
        }
    }
    is preflight('null')->{headers}{'access-control-allow-methods'}, 'GET, HEAD, PATCH, POST, OPTIONS', 'a preflight of any';
    is preflight(undef)->{headers}{'access-control-allow-methods'}, undef, '... is a preflight';
};

subtest 'virtual hosts' => sub {
    my $endpoint = "<Location /api/users>\nUsersEndpoint account\n</Location>";
    my $database = 'UsersDB "' . $server->conninfo . '"';
    my %hosts    = (
        inherits => '',
        own      => "UsersCORSOrigin https://replaced.example\nUsersCORSOrigin $OTHER",
        none     => 'UsersCORSOrigin none',
        any      => 'UsersCORSOrigin *',
    );
    start(conf => "UsersCORSOrigin $PANEL\n$database",
        site => join '', map { "<VirtualHost *:*>\nServerName $_\n$hosts{$_}\n$endpoint\n</VirtualHost>\n" } sort keys %hosts);
    my %wanted = (inherits => [$PANEL, undef], own => [undef, $OTHER], none => [undef, undef], any => ['*', '*']);
    for my $host (sort keys %wanted) {
        is_deeply [map { ask($_, GET => '/api/users', headers => [Host => $host])->{headers}{'access-control-allow-origin'} } $PANEL, $OTHER],
            $wanted{$host}, $host;
    }
    unlike varies(ask($PANEL, GET => '/api/users', headers => [Host => 'none'])), qr/origin/, 'none does not vary';
};

subtest 'with mod_headers' => sub {
    for my $header ('Header always set', 'Header set', 'Header onsuccess set', 'Header always add') {
        start(modules => ['headers'], vhost => $LISTED, endpoint => "$header Access-Control-Allow-Origin https://own.example");
        for my $answer (ask($PANEL, GET => '/api/users', token => READ_TOKEN), ask($PANEL, GET => '/api/users'), preflight($PANEL)) {
            is $answer->{headers}{'access-control-allow-origin'}, 'https://own.example',
                "$header, $answer->{status}: it stands in place of the module's";
            is varies($answer), 'accept, authorization, origin', '... beside its Vary';
        }
    }
    start(modules => ['headers'], vhost => $LISTED, endpoint => 'Header always merge Vary Origin');
    is varies(ask($PANEL, GET => '/api/users')), 'accept, authorization, origin', 'Vary has it once';
};

subtest 'off' => sub {
    for my $vhost ('', 'UsersCORSOrigin none') {
        start(vhost => $vhost);
        for my $request ([GET => '/api/users'], [GET => '/api/users', token => READ_TOKEN], [OPTIONS => '/api/users']) {
            my ($none, $some) = map { ask($_, @$request, headers => ['Access-Control-Request-Method' => 'PATCH']) } undef, $PANEL;
            delete $_->{headers}{date} for $none, $some;
            is_deeply $some, $none, "@$request[0, 1], $none->{status}: the same for all, " . ($vhost || 'by default');
            test_closed($some, '... which');
            is varies($some), 'accept, authorization', '... and does not vary';
        }
    }
};

subtest 'what the directive takes' => sub {
    my ($status, $output) = $server->configtest(vhost => "UsersCORSOrigin $PANEL http://[::1]:8080 http://127.0.0.1:1");
    is $status, 0, 'several origins' or diag($output);
    for my $case (
        ['',                    q('')],
        ["* $PANEL",            q('*')],
        ["$PANEL *",            q('*')],
        ["$PANEL none",         q('none')],
        ["$PANEL $PANEL/",      qq('$PANEL/')],
        ["$PANEL, $OTHER",      qq('$PANEL,')],
        [qq("$PANEL $OTHER"),   qq('$PANEL $OTHER')],
        )
    {
        my ($value, $named) = @$case;
        ($status, $output) = $server->configtest(vhost => "UsersCORSOrigin $value");
        isnt $status, 0, "'$value' is refused";
        like $output, qr/\bUsersCORSOrigin: invalid value \Q$named\E: it takes none, or \* for all, or origins/, '... and why';
    }
    ($status, $output) = $server->configtest(endpoint => "UsersCORSOrigin $PANEL");
    isnt $status, 0, 'it is not for a <Location>';
    like $output, qr/UsersCORSOrigin not allowed/, '... and why';
};

done_testing;
