# What a request is aimed at: the path, the method, the form of every answer, and where the next
# request on the connection begins.

use v5.36;
use JSON::PP ();
use Users::Test;

# None of these may be seen in the document.
my $server = Users::Test->new;
$server->sql(<<~SQL);
    alter database users set timezone = 'Asia/Kolkata';
    alter database users set datestyle = 'SQL, DMY';
    alter database users set extra_float_digits = -15;
    SQL
$server->start(vhost => 'UsersDuplicates conflict');

sub ask ($method, %option) {
    return $server->request($method, delete $option{path} // '/api/users', %option);
}

# A PATCH by its owner, of this text.
sub patch ($body, %option) {
    $option{headers} = ['Content-Type' => 'application/json', @{ $option{headers} // [] }];
    return (PATCH => token => FULL_TOKEN, body => $body, %option);
}

sub registration ($username) {
    return {
        user => {
            fname             => 'Jane',
            lname             => 'Roe',
            provider_server   => 'server.example',
            provider_username => $username,
        }
    };
}

subtest 'the example account is answered with every key, in its order' => sub {
    is ask(GET => token => READ_TOKEN)->{body} =~ s/\s+//gr, <<~'JSON' =~ s/\s+//gr;
        {
          "user": {
            "id": 1,
            "fname": "John",
            "lname": "Doe",
            "email": "john@example.com",
            "phone": null,
            "address1": null,
            "address2": null,
            "city": null,
            "company_name": null,
            "country": "US",
            "timezone": "America/Los_Angeles",
            "currency": {"code": "USD", "symbol": "$"},
            "c_sftp_pass": false,
            "zip": null,
            "vat": null,
            "state": null,
            "locale": "en",
            "created_at": "2019-04-04T07:36:50.637Z",
            "updated_at": "2019-09-19T19:16:07.155Z",
            "billing_plan": {"id": 1, "name": "default"},
            "services": {
              "projects": 0,
              "containers": 0,
              "container_services": 0,
              "container_images": 1,
              "container_registries": 0,
              "dns_zones": 0
            },
            "quota": {
              "containers": {"current": 0, "quota": 250, "is_over": false, "available": 250},
              "cr": {"current": 0, "quota": 20, "is_over": false, "available": 20},
              "dns_zones": {"current": 0, "quota": 250, "is_over": false, "available": 250}
            },
            "unprocessed_usage": 0.0
          }
        }
        JSON
};

subtest 'a method does what it is for, or is refused' => sub {
    my $allow = 'GET, HEAD, PATCH, POST, OPTIONS';
    for (
        # method, status, Allow, options
        [GET         => 200, undef,  token => READ_TOKEN],
        [HEAD        => 200, undef,  token => READ_TOKEN],
        [PATCH       => 200, undef,  token => UPDATE_TOKEN, json => { user => {} }],
        [POST        => 201, undef,  token => REGISTER_TOKEN, json => registration('methods')],
        [OPTIONS     => 204, $allow],
        [PUT         => 405, $allow],
        [PUT         => 405, $allow, token => FULL_TOKEN, json => { user => {} }],
        [DELETE      => 405, $allow, token => FULL_TOKEN],
        [PROPFIND    => 405, $allow],
        [FROBNICATE  => 501, undef,  token => FULL_TOKEN],
        [get         => 501, undef,  token => READ_TOKEN],
    ) {
        my ($method, $status, $allow, %option) = @$_;
        my $answer = ask($method, %option);
        is $answer->{status}, $status, "$method is answered with $status";
        is $answer->{headers}{allow}, $allow, $allow ? 'and Allow' : 'and no Allow';
    }
    is ask('TRACE', token => READ_TOKEN)->{status}, 405, 'TRACE is refused by httpd itself';
};

subtest 'HEAD is GET without the body' => sub {
    my ($head, $get) = map { ask($_, token => READ_TOKEN) } qw(HEAD GET);
    delete $_->{headers}{date} for $head, $get;
    is_deeply $head->{headers}, $get->{headers}, 'the header fields are the same';

    my $bytes = Users::Test::Client::compose(HEAD => '/api/users',
        token => READ_TOKEN, headers => [Connection => 'close']);
    like $server->raw($bytes), qr/\r\n\r\n\z/, 'nothing follows them';
};

subtest 'OPTIONS tells what the resource takes, to anyone' => sub {
    for ([], [token => 'unknown'], [headers => [Accept => 'text/html']]) {
        my $answer = ask('OPTIONS', @$_);
        is $answer->{status}, 204, 'it needs no credential';
        is $answer->{headers}{allow}, 'GET, HEAD, PATCH, POST, OPTIONS', 'Allow';
        is $answer->{headers}{'accept-patch'}, 'application/json, application/merge-patch+json',
            'Accept-Patch (RFC 5789 section 3.1)';
        is $answer->{headers}{'accept-post'}, 'application/json', 'Accept-Post';
    }
};

subtest 'no header field or parameter stands in for the method' => sub {
    for my $name (qw(X-HTTP-Method-Override X-HTTP-Method X-Method-Override)) {
        is ask(GET => token => FULL_TOKEN, headers => [$name => 'DELETE'])->{status}, 200,
            "$name: DELETE on a GET is read as GET";
        is ask(POST => token => UPDATE_TOKEN, headers => [$name => 'PATCH'],
            json => { user => { city => 'Overridden' } })->{status}, 403,
            "$name: PATCH on a POST still needs the scope register";
    }
    is ask(POST => path => '/api/users?_method=PATCH', token => UPDATE_TOKEN,
        json => { user => { city => 'Overridden' } })->{status}, 403, 'nor does ?_method=PATCH';
    is $server->sql("select count(*) from users.account where city = 'Overridden'"), 0,
        'no account has changed';
};

subtest 'the resource is at one path' => sub {
    for (
        ['/api/users'                 => 200],
        ['/api/users?id=2'            => 200],
        ['/api/users?'                => 200],
        ['//api///users'              => 200],
        ['/api/./users'               => 200],
        ['/api/other/../users'        => 200],
        ['/%61pi/user%73'             => 200],
        ['http://localhost/api/users' => 200],
        ['/api/users/'                => 404],
        ['/api/users//'               => 404],
        ['/api/users/1'               => 404],
        ['/api/users/1/2?id=1'        => 404],
        ['/api/users/users'           => 404],
        ['/api/users/%2561'           => 404],
        ['/api/users/api/users'       => 404],
    ) {
        my ($path, $status) = @$_;
        my $answer = ask(GET => path => $path, token => READ_TOKEN);
        is $answer->{status}, $status, "$path is answered with $status";
        is_deeply [keys %{ $answer->{json} }], [$status == 200 ? 'user' : 'errors'],
            'by the module';
    }
    for my $path (qw(/api/usersx /api/users.json /api/users;id=1 /api /API/users /api/Users
        /api/users%2f /api/users%2f1)) {
        my $answer = ask(GET => path => $path, token => READ_TOKEN);
        is $answer->{status}, 404, "$path is answered with 404";
        like $answer->{headers}{'content-type'}, qr{^text/html}, 'by httpd';
        unlike $answer->{body}, qr/john/i, 'and nothing of the account';
    }
    for my $method (qw(HEAD PATCH POST OPTIONS PUT FROBNICATE)) {
        is ask($method, path => '/api/users/1')->{status}, 404,
            "$method below it is a 404 as well, without credentials";
    }
};

subtest 'every answer says who may keep it, and what it holds' => sub {
    my $tag = ask(GET => token => READ_TOKEN)->{headers}{etag};
    my $json    = 'application/json';
    my $problem = 'application/problem+json';
    my @accept_problem = (Accept => $problem);
    my $check = sub ($status, $type, $method, %option) {
        my $answer      = ask($method, %option);
        my $headers     = $answer->{headers};
        my $what        = "$status to $method" . ($type && $type eq $problem ? " as $type" : '');
        my $revalidates = $method =~ /^(?:GET|HEAD)$/ && ($status == 200 || $status == 304);
        is $answer->{status}, $status, $what;
        is_deeply [sort split /\s*,\s*/, $headers->{vary}], [qw(Accept Authorization)],
            "$what has Vary";
        is $headers->{'cache-control'}, $revalidates ? 'private, no-cache' : 'no-store',
            "$what has Cache-Control";
        is $headers->{'content-type'}, $type, "$what has " . ($type ? '' : 'no ') . 'Content-Type';
        is $headers->{'transfer-encoding'}, undef, "$what is not chunked";
        if ($type && $method ne 'HEAD') {
            is $headers->{'content-length'}, length $answer->{body}, "$what has Content-Length";
            ok $answer->{json}, "$what holds JSON";
        } elsif ($type) {
            cmp_ok $headers->{'content-length'}, '>', 0, "$what has GET's Content-Length";
        } else {
            is $answer->{body}, '', "$what is empty";
        }
    };
    for (
        [200, $json,    GET     => token => READ_TOKEN],
        [200, $json,    HEAD    => token => READ_TOKEN],
        [200, $json,    GET     => token => READ_TOKEN, headers => \@accept_problem],
        [304, undef,    GET     => token => READ_TOKEN, headers => ['If-None-Match' => $tag]],
        [304, undef,    HEAD    => token => READ_TOKEN, headers => ['If-None-Match' => $tag]],
        [200, $json,    patch('{"user":{}}')],
        [200, $json,    PATCH   => token => UPDATE_TOKEN, json => { user => {} }],
        [204, undef,    patch('{"user":{}}', headers => [Prefer => 'return=minimal'])],
        [201, $json,    POST    => token => REGISTER_TOKEN, json => registration('headers')],
        [204, undef,    'OPTIONS'],
        [400, $json,    GET     => token => READ_TOKEN, headers => ['If-None-Match' => 'x']],
        [400, $json,    patch('{')],
        [401, $json,    'GET'],
        [401, $json,    'HEAD'],
        [401, $problem, GET     => headers => \@accept_problem],
        [401, $json,    GET     => token => 'unknown'],
        [403, $json,    GET     => token => UPDATE_TOKEN],
        [404, $json,    GET     => path => '/api/users/1'],
        [404, $problem, GET     => path => '/api/users/1', headers => \@accept_problem],
        [405, $json,    'PUT'],
        [405, $problem, PUT     => headers => \@accept_problem],
        [406, $json,    GET     => token => READ_TOKEN, headers => [Accept => 'text/html']],
        [409, $json,    POST    => token => REGISTER_TOKEN, json => registration('headers')],
        [412, $json,    patch('{"user":{}}', headers => ['If-Match' => '"other"'])],
        [413, $json,    patch(' ' x 65537)],
        [415, $json,    PATCH   => token => FULL_TOKEN, body => '{"user":{}}'],
        [422, $json,    patch('{"user":{"fname":null}}')],
        [422, $problem, patch('{"user":{"fname":null}}', headers => \@accept_problem)],
        [501, $json,    'FROBNICATE'],
    ) {
        $check->(@$_);
    }

    $server->sql('revoke select on users_api.token from mod_users');
    $server->expect_log(qr/\[users:error\] .*\b42501\b/);
    $check->(500, $json, GET => token => READ_TOKEN);
    $server->sql('grant select on users_api.token to mod_users');

    $server->postgres->stop;
    $server->expect_log(qr/the database \S+ can't be reached/);
    $server->allow_log(qr/the database \S+ is back/);    # of the process that had found it gone
    $check->(503, $json, GET => token => READ_TOKEN);
    $server->postgres->start;
    $check->(200, $json, GET => token => READ_TOKEN);
};

subtest 'a decimal keeps its digits' => sub {
    for my $number (qw(0.0 0 -3.50 12.3456789012345678 1234567890123456789012345678.5
        0.00000000000000000001 100000000000000000000)) {
        $server->sql("update users.account set unprocessed_usage = $number where id = 1");
        my ($shown) = ask(GET => token => READ_TOKEN)->{body} =~ /"unprocessed_usage"\s*:\s*([^\s,}]+)/;
        is $shown, $number, "$number is shown as it is stored";
    }
};

subtest 'a time is in UTC with milliseconds, whatever the zone of the database' => sub {
    for (
        ['2019-04-04 09:36:50.6+02'   => '2019-04-04T07:36:50.600Z'],
        ['2020-02-29 23:59:59.999+00' => '2020-02-29T23:59:59.999Z'],
        ['1999-12-31 23:00:00-01'     => '2000-01-01T00:00:00.000Z'],
    ) {
        my ($stored, $shown) = @$_;
        $server->sql("update users.account set created_at = '$stored', updated_at = '$stored' where id = 1");
        is_deeply [ask(GET => token => READ_TOKEN)->{json}{user}->@{qw(created_at updated_at)}],
            [$shown, $shown], "$shown is shown for $stored";
    }
};

subtest 'text comes out as it was stored' => sub {
    my @fields = qw(fname lname phone address1 address2 city company_name zip vat state);
    my $text   = qq{"\\/\b\n\t\x{7f} <\x{e9}\x{2603}\x{1d11e}>};
    $server->sql('update users.account set ' . join(', ', map { "$_ = '$_ $text'" } @fields)
            . ' where id = 1');
    my $user = ask(GET => token => READ_TOKEN)->{json}{user};
    is $user->{$_}, "$_ $text", "$_ is" for @fields;
};

subtest 'services and quotas count what the account has' => sub {
    $server->sql(<<~'SQL');
        insert into users.group_quota (group_id, kind, quota, counter)
        values (1, 'volumes', 5, null), (1, 'a "b\c', 0, 'none'), (1, 'sftp', 9, 'containers');
        update users.account set usage = '{"projects": 1, "containers": 249,
          "container_services": 3, "container_images": 4, "container_registries": 20,
          "dns_zones": 251, "volumes": 9000000000}' where id = 1;
        SQL
    my $user = ask(GET => token => READ_TOKEN)->{json}{user};
    is_deeply $user->{services}, {
        projects             => 1,
        containers           => 249,
        container_services   => 3,
        container_images     => 4,
        container_registries => 20,
        dns_zones            => 251,
    }, 'each service has its own count';

    my $member = sub ($current, $quota, $is_over) {
        return {
            current   => $current,
            quota     => $quota,
            is_over   => $is_over ? JSON::PP::true : JSON::PP::false,
            available => $quota - $current,
        };
    };
    is_deeply $user->{quota}, {
        containers => $member->(249,        250, 0),
        cr         => $member->(20,         20,  1),
        dns_zones  => $member->(251,        250, 1),
        volumes    => $member->(9000000000, 5,   1),
        sftp       => $member->(249,        9,   1),
        'a "b\c'   => $member->(0,          0,   1),
    }, 'each kind, an added one too, is over where nothing is left';

    my $store = sub ($value) { eval { $server->sql(qq(update users.account set usage = usage || '{"projects": $value, "volumes": $value}')); 1 } };
    my %whole = ('3.0' => 3, '1e2' => 100, '0e5' => 0, '-0.0' => 0, '9223372036854775807.00' => '9223372036854775807');
    for my $written (sort keys %whole) {
        ok $store->($written), "the count $written is stored" or diag $@;
        my $body = ask(GET => token => READ_TOKEN)->{body};
        like $body, qr/"projects":$whole{$written},.*"volumes":\{"current":$whole{$written},/, "... and shown as $whole{$written}";
    }
    ok !$store->($_), "the count $_ is not stored" for qw(0.5 -1 1e-20 9223372036854775807.5 9223372036854775808 "1" null);
    $store->(9_000_000_000);

    $server->sql(<<~'SQL');
        insert into users.account_group (id, name) values (2, 'other'), (3, 'unlimited');
        insert into users.group_quota (group_id, kind, quota) values (2, 'volumes', 9000000001);
        update users.account set group_id = 2 where id = 1;
        SQL
    is_deeply ask(GET => token => READ_TOKEN)->{json}{user}{quota},
        { volumes => $member->(9000000000, 9000000001, 0) }, 'the kinds are those of the group';
    $server->sql('update users.account set group_id = 3 where id = 1');
    is_deeply ask(GET => token => READ_TOKEN)->{json}{user}{quota}, {}, 'which may have none';
};

# The bodies hold a request: where a body that nobody read is taken for what comes next on the
# connection, an answer more comes back (RFC 9112 section 9.3).
subtest 'the next request begins where the body ends, read or not' => sub {
    my $hidden = "GET /api/users/hidden HTTP/1.1\r\nHost: localhost\r\n\r\n";
    my $large  = $hidden x 2000;
    my $next   = Users::Test::Client::compose(GET => '/api/users',
        token => READ_TOKEN, headers => [Connection => 'close']);
    my $json  = ['Content-Type' => 'application/json'];
    my $html  = [@$json, Accept => 'text/html'];
    my $gzip  = [@$json, 'Content-Encoding' => 'gzip'];
    my @cases = (
        # status, method, path, options
        [200, GET        => '/api/users',   token => READ_TOKEN],
        [204, OPTIONS    => '/api/users'],
        [401, GET        => '/api/users'],
        [401, PATCH      => '/api/users',   headers => $json],
        [401, PATCH      => '/api/users',   headers => $json, token => 'unknown'],
        [401, POST       => '/api/users',   headers => $json, basic => ['unknown', 'unknown']],
        [403, PATCH      => '/api/users',   headers => $json, token => READ_TOKEN],
        [403, POST       => '/api/users',   headers => $json, token => FULL_TOKEN],
        [404, POST       => '/api/users/1', headers => $json, token => REGISTER_TOKEN],
        [405, PUT        => '/api/users',   headers => $json, token => FULL_TOKEN],
        [405, DELETE     => '/api/users',   headers => $json],
        [501, FROBNICATE => '/api/users',   headers => $json],
        [400, PATCH      => '/api/users',   headers => $json, token => FULL_TOKEN],
        [400, PATCH      => '/api/users',   headers => [@$json, 'If-Match' => '"'], token => FULL_TOKEN],
        [406, PATCH      => '/api/users',   headers => $html, token => FULL_TOKEN],
        [415, PATCH      => '/api/users',   token => FULL_TOKEN],
        [415, PATCH      => '/api/users',   headers => $gzip, token => FULL_TOKEN],
        [413, PATCH      => '/api/users',   headers => $json, token => FULL_TOKEN, body => $large],
        [413, POST       => '/api/users',   headers => $json, token => REGISTER_TOKEN, body => $large],
        [401, POST       => '/api/users',   headers => $json, body => $large],
    );
    for (@cases) {
        my ($status, $method, $path, %option) = @$_;
        my $body = delete $option{body} // $hidden;
        my $chunks = join '', map { sprintf "%x;extension=1\r\n%s\r\n", length, $_ }
            unpack('(A' . length($hidden) . ')*', $body);
        my %form = (
            'a body'         => { %option, body => $body },
            'a chunked body' => {
                %option,
                headers => [@{ $option{headers} // [] }, 'Transfer-Encoding' => 'chunked'],
                body    => "${chunks}0\r\nTrailer-Field: value\r\n\r\n",
            },
        );
        for my $form (sort keys %form) {
            my $what = "$status to $method $path with $form of " . length($body) . ' octets';
            my $bytes = $server->raw(
                Users::Test::Client::compose($method, $path, %{ $form{$form} }) . $next);
            my ($first, @rest) = split m{(?=HTTP/1\.1 \d{3} )}, $bytes;
            like $first, qr{^HTTP/1\.1 $status }, $what;
            my @statuses = map { m{^HTTP/1\.1 (\d+)} } @rest;
            is "@statuses", $first =~ /^Connection: close\r$/m ? '' : '200',
                'and then the next answer, or the end that it announced';
        }
    }
};

subtest 'a client that asks whether to send its body gets the refusal at once' => sub {
    my @json = ('Content-Type' => 'application/json');
    for (
        # status, method, path, header fields, credential
        [401, PATCH => '/api/users',   [@json]],
        [401, POST  => '/api/users',   [@json], token => 'unknown'],
        [401, PATCH => '/api/users',   [@json], basic => ['unknown', 'unknown']],
        [403, PATCH => '/api/users',   [@json], token => READ_TOKEN],
        [403, POST  => '/api/users',   [@json], token => FULL_TOKEN],
        [404, PATCH => '/api/users/1', [@json], token => FULL_TOKEN],
        [405, PUT   => '/api/users',   [@json], token => FULL_TOKEN],
        [406, PATCH => '/api/users',   [@json, Accept => 'text/html'], token => FULL_TOKEN],
        [415, PATCH => '/api/users',   [], token => FULL_TOKEN],
        [413, PATCH => '/api/users',   [@json], token => FULL_TOKEN],
    ) {
        my ($status, $method, $path, $headers, %credential) = @$_;
        my @forms = (['Content-Length' => $status == 413 ? 65537 : 20]);
        push @forms, ['Transfer-Encoding' => 'chunked'] if $status != 413;    # no length to judge by
        for my $form (@forms) {
            my $connection = $server->connect;
            $connection->send(Users::Test::Client::compose($method, $path, %credential,
                headers => [@$headers, @$form, Expect => '100-continue']));
            is $connection->answer->{status}, $status, "$status to $method ($form->[0]), no 100 before";
        }
    }

    my $body = '{"user":{"city":"Gouda"}}';
    my $connection = $server->connect;
    $connection->send(Users::Test::Client::compose(PATCH => '/api/users',
        token   => FULL_TOKEN,
        headers => [@json, 'Content-Length' => length $body, Expect => '100-continue']));
    is $connection->answer->{status}, 100, 'who has the right is told to go on';
    $connection->send($body);
    my $answer = $connection->answer;
    is $answer->{status}, 200, 'and is served';
    is $answer->{json}{user}{city}, 'Gouda', 'with what the body said';
};

done_testing;
