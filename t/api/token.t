# From an application's secret to its first call: tokens are asked for, ended and described.

use v5.36;
use MIME::Base64 qw(encode_base64);
use Users::Test;

use constant {
    TOKEN      => '/api/oauth/token',
    REVOKE     => '/api/oauth/revoke',
    INTROSPECT => '/api/oauth/introspect',
};

my $server = Users::Test->new;
$server->sql(<<~'SQL');
    insert into users.application (name, client_id, secret_digest, scopes, default_scopes) values
      ('panel', 'panel', sha256('panel secret'), '{public,register,introspect}', '{public}'),
      ('own', 'own', sha256('own'), '{public,register}', '{register}'),
      ('robot', 'robot', sha256('robot'), '{register,introspect}', null),
      ('odd', U&'a:b &\00e9', sha256(convert_to(U&'s%c:r+t \00e9', 'UTF8')), '{public}', null),
      ('none', 'none', sha256('none'), '{}', null);
    insert into users.account (id, fname, lname, email, country, currency, locale, suspended_at)
    values (7, 'Sue', 'Spended', 'sue@example.com', 'NL', 'EUR', 'nl', now());
    insert into users.credential (user_id, username, secret_digest)
    values (1, 'john', sha256('johns password')), (7, 'sue', sha256('sues password'));
    SQL
$server->start(vhost => "UsersTokenRate 0\nUsersPasswordGrant on\n" . OAUTH_ENDPOINTS);

my @CLIENT = (client_id => CLIENT_ID, client_secret => CLIENT_SECRET);
my @PANEL  = (client_id => 'panel',   client_secret => 'panel secret');
my @GRANT  = (grant_type => 'client_credentials');
my @OWNER  = (grant_type => 'password', username => 'john', password => 'johns password');

sub form ($path, @parameters) {
    return $server->request(POST => $path, form => \@parameters);
}

sub ask (@parameters) {
    return form(TOKEN, @parameters);
}

sub status_of ($token, $method = 'GET', %option) {
    return $server->request($method => '/api/users', token => $token, %option)->{status};
}

# An answer is this error of RFC 6749 section 5.2, and nobody keeps it.
sub is_error ($answer, $status, $error, $name) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is $answer->{status}, $status, "$name: $status";
    is $answer->{json}{error}, $error, "$name: $error";
    is_deeply [sort keys $answer->{json}->%*], [qw(error error_description)], "$name: nothing else";
    like $answer->{json}{error_description}, qr/^[\x20-\x21\x23-\x5B\x5D-\x7E]+$/,
        "$name: with a description";
    is $answer->{headers}{'cache-control'}, 'no-store', "$name: not to be stored";
    is $answer->{headers}{pragma},          'no-cache', "$name: nor by HTTP/1.0";
}

subtest 'client credentials' => sub {
    my $answer = ask(@GRANT, @CLIENT);
    is $answer->{status}, 200, 'it succeeds';
    my %token = $answer->{json}->%*;
    is_deeply [sort keys %token], [qw(access_token created_at expires_in scope token_type)],
        'the members of an answer';
    like $token{access_token}, qr/^[\w-]{43}$/, '256 random bits';
    is $token{token_type}, 'Bearer',          'a bearer token';
    is $token{expires_in}, 7200,              'for two hours';
    is $token{scope},      'public', 'with the default scope';
    cmp_ok abs($token{created_at} - time), '<', 60, 'made now';
    like $answer->{headers}{'content-type'}, qr{^application/json\b}, 'JSON';
    is $answer->{headers}{'cache-control'}, 'no-store', 'not to be stored';
    is $answer->{headers}{pragma},          'no-cache', 'nor by HTTP/1.0';
    is $server->sql(<<~SQL), '7200|f', 'the database has its digest, and its end';
        select extract(epoch from expires_at - created_at)::int, encode(digest, 'escape') ~ '$token{access_token}'
        from users.token where digest = sha256('$token{access_token}')
        SQL
    is status_of($token{access_token}), 403, 'it belongs to no account';
    isnt ask(@GRANT, @CLIENT)->{json}{access_token}, $token{access_token}, 'the next is another';
};

subtest 'scopes' => sub {
    is ask(@GRANT, @CLIENT, scope => 'register')->{json}{scope}, 'register', 'what was asked for';
    is ask(@GRANT, @CLIENT, scope => 'register public')->{json}{scope}, 'register public',
        'in its order';
    is ask(@GRANT, @CLIENT, scope => '')->{json}{scope}, 'public', 'an empty one is none';
    is ask(@GRANT, client_id => 'own', client_secret => 'own')->{json}{scope}, 'register',
        'none: the default of an application';
    is ask(@GRANT, @CLIENT)->{json}{scope}, 'public', q(... without one, public where it holds that);
    is ask(@GRANT, client_id => 'robot', client_secret => 'robot')->{json}{scope}, 'register introspect', '... else all';
    is ask(@GRANT, @PANEL, scope => 'register')->{json}{scope}, 'register',
        'it may have more than its default';
    for my $scope ('profile_read', 'register profile_update', 'registers', 'Register', 'public,register') {
        is_error ask(@GRANT, @CLIENT, scope => $scope), 400, 'invalid_scope', "'$scope'";
    }
    for my $case (
        ['register register register', 'register'],
        [' register',                  'register'],
        ['register ',                  'register'],
        ['register  public',           'register public'],
        ['  public register public ',  'public register'],
        [join(' ', ('public') x 6500), 'public'],
        [' ',                          'public'],
        )
    {
        my ($scope, $set) = @$case;
        my $answer = ask(@GRANT, @CLIENT, scope => $scope);
        my $name   = "a set: '" . substr($scope, 0, 30) . "'";
        is $answer->{json}{scope}, $set, $name;
        is $server->sql("select scopes from users.token where digest = sha256('$answer->{json}{access_token}')"),
            '{' . $set =~ tr/ /,/r . '}', "$name is stored";
    }
    is ask(@OWNER, @CLIENT, scope => 'profile_read  profile_read')->{json}{scope}, 'profile_read', q(an owner's, too);
    is_error ask(@GRANT, @CLIENT, scope => 'register  ' . join ' ', 1 .. 6500), 400, 'invalid_scope', 'a set of others';
    for my $scope ("register\tpublic", '"register"', "caf\xC3\xA9") {
        is_error ask(@GRANT, @CLIENT, scope => $scope), 400, 'invalid_scope', "malformed: '$scope'";
    }
    is_error ask(@GRANT, client_id => 'none', client_secret => 'none'), 400, 'invalid_scope',
        'an application without scopes';
};

subtest 'the password grant' => sub {
    my $answer = ask(@OWNER, @CLIENT);
    is $answer->{status}, 200, 'it succeeds';
    is $answer->{json}{scope}, 'profile_read profile_update', 'the scopes of an owner';
    my $token = $answer->{json}{access_token};
    is status_of($token), 200, 'it reads';
    is status_of($token, PATCH => json => { user => { city => 'Utrecht' } }), 200, 'it changes';
    is status_of($token, POST => json => {}), 403, 'and does not register';
    is ask(@OWNER, @CLIENT, scope => 'profile_read')->{json}{scope}, 'profile_read', 'or one of them';
    is ask(@OWNER, @CLIENT, scope => 'public profile_read')->{json}{scope}, 'public profile_read',
        'or one that the application holds';
    for my $scope ('register', 'profile_read register', 'introspect', 'admin') {
        is_error ask(@OWNER, @PANEL, scope => $scope), 400, 'invalid_scope', "$scope is no owner's";
    }
    is_error ask(@OWNER, @CLIENT, password => ''), 400, 'invalid_request', 'a parameter twice';
    my %owner = @OWNER;
    for my $case (
        ['a wrong password',       password => 'wrong'],
        ['an unknown name',        username => 'nobody'],
        ['a name of nothing else', username => "\xF0\x9F\x92\xA9"],
        ['a suspended account',    username => 'sue', password => 'sues password'],
        )
    {
        my ($name, %other) = @$case;
        is_error ask(@CLIENT, %{ { %owner, %other } }), 400, 'invalid_grant', $name;
    }
    for my $missing (qw(username password)) {
        my %rest = %owner;
        delete $rest{$missing};
        is_error ask(@CLIENT, %rest), 400, 'invalid_request', "$missing is missing";
    }
    is_error ask(%owner, client_id => CLIENT_ID, client_secret => 'wrong'), 401, 'invalid_client',
        'a wrong client';
};

subtest 'client authentication' => sub {
    my $by = sub ($value, @parameters) {
        return $server->request(POST => TOKEN, form => [@GRANT, @parameters],
            headers => [Authorization => $value]);
    };
    my $basic = sub ($id, $secret) { 'Basic ' . encode_base64("$id:$secret", '') };

    is $by->($basic->(CLIENT_ID, CLIENT_SECRET))->{status}, 200, 'Basic';
    is $by->($basic->(CLIENT_ID, CLIENT_SECRET), client_id => CLIENT_ID)->{status}, 200,
        'and the same client_id in the body';
    is $by->($basic->('a%3Ab+%26%C3%A9', 's%25c%3Ar%2Bt%20%c3%a9'))->{status}, 200,
        'form-encoded before it is base64 (section 2.3.1)';
    my $url_safe = $basic->('a%3Ab+%26%C3%A9', 's%25c%3Ar%2Bt%20%c3%a9') =~ tr{+/=}{-_}dr;
    is $by->($url_safe)->{status}, 200, 'and in the URL-safe alphabet';
    is ask(@GRANT, client_id => "a:b &\xC3\xA9", client_secret => "s%c:r+t \xC3\xA9")->{status}, 200,
        'or in the body';

    for my $case (
        ['none'],
        ['a client_id alone', client_id => CLIENT_ID],
        ['a secret alone', client_secret => CLIENT_SECRET],
        ['a wrong secret', client_id => CLIENT_ID, client_secret => 'wrong'],
        ['an unknown client', client_id => 'nobody', client_secret => CLIENT_SECRET],
        ['a secret in other case', client_id => CLIENT_ID, client_secret => uc CLIENT_SECRET],
        )
    {
        my ($name, @parameters) = @$case;
        my $answer = ask(@GRANT, @parameters);
        is_error $answer, 401, 'invalid_client', $name;
        is $answer->{headers}{'www-authenticate'}, 'Basic realm="users", charset="UTF-8"',
            "$name: how to do it";
    }
    for my $value (
        $basic->(CLIENT_ID, 'wrong'), $basic->('nobody', CLIENT_SECRET), $basic->('%zz', 'x'),
        'Basic', 'Basic !', 'Basic ' . encode_base64(CLIENT_ID, ''), 'Bearer ' . REGISTER_TOKEN,
        'Digest x', CLIENT_SECRET
        )
    {
        my $answer = $by->($value);
        is_error $answer, 401, 'invalid_client', substr $value, 0, 20;
        ok $answer->{headers}{'www-authenticate'}, 'with a challenge';
    }
    for my $case (
        ['in the header and in the body', $basic->(CLIENT_ID, CLIENT_SECRET), @CLIENT],
        ['a second secret', $basic->(CLIENT_ID, CLIENT_SECRET), client_secret => 'x'],
        ['two client_ids', $basic->(CLIENT_ID, CLIENT_SECRET), client_id => 'panel'],
        ['two header fields', $basic->(CLIENT_ID, CLIENT_SECRET) . ', ' . $basic->('a', 'b')],
        )
    {
        my ($name, @arguments) = @$case;
        is_error $by->(@arguments), 400, 'invalid_request', $name;
    }
    $server->stop;
    $server->start(vhost => "UsersTokenRate 0\nUsersChallenge bearer\nUsersPasswordGrant on\n" . OAUTH_ENDPOINTS);
    my $answer = ask(@GRANT);
    is_error $answer, 400, 'invalid_client', 'no dialog for a browser';
    is $answer->{headers}{'www-authenticate'}, undef, 'nor a challenge';
    is $by->($basic->(CLIENT_ID, 'wrong'))->{status}, 401, 'but for a client that tried Basic';
};

subtest 'requests' => sub {
    my $json = $server->request(POST => TOKEN, json => { @GRANT, @CLIENT, scope => 'register', x => undef });
    is $json->{status}, 200, 'JSON';
    is $json->{json}{scope}, 'register', 'has the same parameters';
    is ask(@GRANT, @CLIENT, unknown => 'x')->{status}, 200, 'what is unknown is ignored';
    for my $unknown (
        { expires_in => 7200 }, { trusted => JSON::PP::true }, { resource => ['a'] }, { claims => { a => [1.5] } },
        { token => 1, assertion => '' },
        )
    {
        my ($name) = sort keys %$unknown;
        is $server->request(POST => TOKEN, json => { @GRANT, @CLIENT, %$unknown })->{status}, 200, "JSON with $name";
        is $server->request(POST => REVOKE, json => { @CLIENT, %$unknown, token => 'x' })->{status}, 200,
            "revocation with $name";
        is $server->request(POST => INTROSPECT, json => { @PANEL, %$unknown, token => 'x' })->{status}, 200,
            "introspection with $name";
    }
    for my $path (TOKEN, REVOKE, INTROSPECT) {
        my @needed = $path eq TOKEN ? (@GRANT, @PANEL) : (@PANEL, token => 'x');
        is form($path, resource => 'a', @needed, resource => 'b', resource => "\xFF")->{status}, 200,
            "$path with a repeated one that nobody knows";
        is_error form($path, @needed, $needed[0] => $needed[1]), 400, 'invalid_request', "$path with a known one twice";
    }
    is $server->request(POST => TOKEN . '?scope=register', form => [@GRANT, @PANEL])->{json}{scope},
        'public', 'so is the query';

    is_error ask(@CLIENT), 400, 'invalid_request', 'no grant_type';
    is_error ask(@CLIENT, grant_type => $_), 400, 'unsupported_grant_type', $_
        for qw(authorization_code refresh_token implicit Password);
    for my $case (
        ['a parameter twice',     'grant_type=client_credentials&grant_type=client_credentials'],
        ['a malformed escape',    'grant_type=%zz'],
        ['a NUL',                 'grant_type=%00'],
        ['octets that are not UTF-8', "grant_type=\xFF"],
        ['an empty body',         ''],
        )
    {
        my ($name, $body) = @$case;
        is_error $server->request(POST => TOKEN, body => $body,
            headers => ['Content-Type' => 'application/x-www-form-urlencoded']),
            400, 'invalid_request', $name;
    }
    for my $body ('', '{', '[]', '"a"', '{"grant_type":1}', '{"a":"b","a":"b"}', '{"grant_type":"\u0000"}',
        '{"grant_type":{"a":"b"}}', '{"grant_type":"client_credentials","scope":["a"]}')
    {
        is_error $server->request(POST => TOKEN, body => $body,
            headers => ['Content-Type' => 'application/json']),
            400, 'invalid_request', "JSON: $body";
    }
    my $other = $server->request(POST => TOKEN, body => 'x', headers => ['Content-Type' => 'text/plain']);
    is_error $other, 415, 'invalid_request', 'another type';
    is $other->{headers}{'accept-post'}, 'application/x-www-form-urlencoded, application/json',
        'and which would do';
    is_error $server->request(POST => TOKEN, form => [@GRANT, @CLIENT, x => 'y' x 65536]),
        413, 'invalid_request', 'a large body';
    is_error $server->request(POST => TOKEN, form => [@GRANT, @CLIENT],
        headers => ['Content-Encoding' => 'gzip']), 415, 'invalid_request', 'an encoded body';

    for my $path (TOKEN, REVOKE, INTROSPECT) {
        my $answer = $server->request(GET => $path);
        is $answer->{status}, 405, "GET $path is not allowed";
        is $answer->{headers}{allow}, 'POST, OPTIONS', 'and what is';
        $answer = $server->request(OPTIONS => $path);
        is $answer->{status}, 204, "OPTIONS $path";
        is $answer->{headers}{allow}, 'POST, OPTIONS', 'tells the methods';
        is $server->request(POST => "$path/")->{status}, 404, "nothing is below $path";
    }
};

subtest 'the lifetime of a token' => sub {
    $server->stop;
    $server->start(vhost => "UsersTokenLifetime 1s\nUsersPasswordGrant on\n" . OAUTH_ENDPOINTS);
    my $answer = ask(@OWNER, @CLIENT);
    is $answer->{json}{expires_in}, 1, 'as configured';
    my $token = $answer->{json}{access_token};
    wait_until(sub { status_of($token) == 401 }, 'the token to expire');
    is $server->sql("select expires_at <= now() from users.token where digest = sha256('$token')"),
        't', 'it is refused from its end on, and not before';
    is $server->request(GET => '/api/users', token => $token)->{body},
        $server->request(GET => '/api/users', token => 'unknown')->{body}, 'as an unknown one is';

    my $live = ask(@OWNER, @CLIENT)->{json}{access_token};
    $server->sql("update users.token set expires_at = now() + interval '1 h' where digest = sha256('$live')");
    is status_of($live), 200, 'an hour before its end';
    $server->sql("update users.token set expires_at = now() - interval '1 s' where digest = sha256('$live')");
    is status_of($live), 401, 'one second after';
    $server->stop;
    $server->start(vhost => OAUTH_ENDPOINTS);
    is_error ask(@OWNER, @CLIENT), 400, 'unsupported_grant_type', 'the password grant is off unless enabled';
};

subtest 'what a revocation ends' => sub {
    $server->stop;
    $server->start(vhost => "UsersPasswordGrant on\n" . OAUTH_ENDPOINTS);
    my $token  = ask(@OWNER, @CLIENT)->{json}{access_token};
    my $answer = form(REVOKE, @PANEL, token => $token);
    is_error $answer, 400, 'unauthorized_client', q(another client's token);
    is status_of($token), 200, 'is not revoked';

    $answer = form(REVOKE, @CLIENT, token => $token, token_type_hint => 'refresh_token');
    is $answer->{status}, 200, 'its own';
    is_deeply $answer->{json}, {}, 'says nothing';
    is status_of($token), 401, 'is, for the very next request';
    is form(REVOKE, @CLIENT, token => $token)->{status}, 200, 'once more does no harm';
    is form(REVOKE, @CLIENT, token => 'unknown')->{status}, 200, 'nor does an unknown one';
    is $server->request(POST => REVOKE, json => { @CLIENT, token => 'unknown' })->{status}, 200, 'or JSON';
    is_error form(REVOKE, @CLIENT), 400, 'invalid_request', 'no token';
    is_error form(REVOKE, token => $token), 401, 'invalid_client', 'no client';

    my $suspended = ask(@OWNER, @CLIENT)->{json}{access_token};
    $server->sql('update users.account set suspended_at = now() where id = 1');
    is status_of($suspended), 403, q(a suspended user's token);
    is_error ask(@OWNER, @CLIENT), 400, 'invalid_grant', 'he gets no other';
    $server->sql('update users.account set suspended_at = null where id = 1');
    is status_of($suspended), 200, 'it goes on when he does';

    my $own = ask(@GRANT, @CLIENT)->{json}{access_token};
    $server->sql("update users.application set revoked_at = now() where client_id = '${\CLIENT_ID}'");
    is status_of($suspended),       401, 'the tokens of a revoked application die with it';
    is status_of($own, POST => json => {}), 401, 'its own too';
    is_error ask(@GRANT, @CLIENT), 401, 'invalid_client', 'and it gets no other';
    $server->sql("update users.application set revoked_at = null where client_id = '${\CLIENT_ID}'");
};

subtest 'introspection' => sub {
    my $inspect = sub ($token) { form(INTROSPECT, @PANEL, token => $token) };
    my $owned   = ask(@OWNER, @CLIENT)->{json};
    my $answer  = $inspect->($owned->{access_token});
    is $answer->{status}, 200, 'it succeeds';
    is_deeply $answer->{json}, {
        active     => JSON::PP::true,
        scope      => 'profile_read profile_update',
        client_id  => CLIENT_ID,
        username   => 'john@example.com',
        sub        => '1',
        exp        => $owned->{created_at} + 7200,
        iat        => $owned->{created_at},
        token_type => 'Bearer',
    }, q(a user's token);
    $server->sql("update users.token set expires_at = 'infinity', created_at = '-infinity'
      where digest = sha256('$owned->{access_token}')");
    is_deeply [sort keys $inspect->($owned->{access_token})->{json}->%*],
        [qw(active client_id scope sub token_type username)], 'one that never ends has no end';
    is status_of($owned->{access_token}), 200, '... and is valid';
    $server->sql("update users.token set scopes = '{b,a,b,\"\",b}' where digest = sha256('$owned->{access_token}')");
    is $inspect->($owned->{access_token})->{json}{scope}, 'b a', 'what was stored as a list is told as a set';
    is $answer->{headers}{'cache-control'}, 'no-store', 'not to be stored';

    my $own = ask(@GRANT, @PANEL)->{json};
    my $id  = $server->sql("select id from users.application where client_id = 'panel'");
    is_deeply $inspect->($own->{access_token})->{json}, {
        active     => JSON::PP::true,
        scope      => 'public',
        client_id  => 'panel',
        sub        => "app:$id",
        exp        => $own->{created_at} + 7200,
        iat        => $own->{created_at},
        token_type => 'Bearer',
    }, q(an application's own);
    is exists $inspect->(READ_TOKEN)->{json}{exp}, '', 'one that never expires has no end';

    my %ended = map { $_ => ask(@OWNER, @CLIENT)->{json}{access_token} } qw(expired revoked suspended);
    $server->sql("update users.token set expires_at = now() where digest = sha256('$ended{expired}')");
    form(REVOKE, @CLIENT, token => $ended{revoked});
    is_deeply $inspect->($_)->{json}, { active => JSON::PP::false }, 'not active: ' . ($_ || 'empty')
        for 'unknown', @ended{qw(expired revoked)};
    $server->sql('update users.account set suspended_at = now() where id = 1');
    is_deeply $inspect->($ended{suspended})->{json}, { active => JSON::PP::false }, 'nor a suspended user';
    $server->sql('update users.account set suspended_at = null where id = 1');

    is_error form(INTROSPECT, @CLIENT, token => READ_TOKEN), 403, 'insufficient_scope',
        'an application that does not hold the scope';
    is_error form(INTROSPECT, token => READ_TOKEN), 401, 'invalid_client', 'nobody';
    is_error form(INTROSPECT, @PANEL), 400, 'invalid_request', 'no token';
    is_error $server->request(POST => INTROSPECT, form => [token => READ_TOKEN], token => FULL_TOKEN),
        401, 'invalid_client', 'a bearer token is no client';
};

subtest 'from the secret to the first calls' => sub {
    my $token = $server->request(POST => TOKEN,
        json => { @GRANT, @CLIENT, scope => 'public register' })->{json}{access_token};
    my $account = $server->request(POST => '/api/users', token => $token, json => {
        user => { fname => 'Jane', lname => 'Roe', provider_server => 's', provider_username => 'jane' }
    });
    is $account->{status}, 201, 'register';
    my @api = $account->{json}{user}{api}->@{qw(username password)};
    my $read = $server->request(GET => '/api/users', basic => \@api);
    is $read->{json}{user}{fname}, 'Jane', 'Basic GET';
    my $answer = ask(@CLIENT, grant_type => 'password', username => $api[0], password => $api[1]);
    my $owned  = $answer->{json}{access_token};
    is status_of($owned, PATCH => json => { user => { city => 'Delft' } }), 200, 'PATCH';
    is form(REVOKE, @CLIENT, token => $owned)->{status}, 200, 'revoke';
    is status_of($owned), 401, 'and it is over';
};

subtest 'metadata' => sub {
    my $base     = 'http://localhost:' . $server->port;
    my @host     = (headers => [Host => 'localhost:' . $server->port]);
    my $answer   = $server->request(GET => '/.well-known/oauth-authorization-server', @host);
    my $methods  = [qw(client_secret_basic client_secret_post)];
    my %endpoint = (token => TOKEN, revocation => REVOKE, introspection => INTROSPECT);
    is $answer->{status}, 200, 'of the server';
    is_deeply $answer->{json}, {
        issuer                   => $base,
        response_types_supported => [],
        grant_types_supported    => [qw(client_credentials password)],
        scopes_supported         => [qw(profile_read profile_update register introspect)],
        protected_resources      => ["$base/api/users"],
        map { ("${_}_endpoint" => $base . $endpoint{$_}, "${_}_endpoint_auth_methods_supported" => $methods) }
            keys %endpoint,
    }, 'RFC 8414';
    $answer = $server->request(GET => '/.well-known/oauth-protected-resource/api/users', @host);
    is_deeply $answer->{json}, {
        resource                 => "$base/api/users",
        authorization_servers    => [$base],
        bearer_methods_supported => ['header'],
        scopes_supported         => [qw(profile_read profile_update register)],
    }, 'RFC 9728';
    is $server->request(HEAD => '/.well-known/oauth-authorization-server')->{status}, 200, 'HEAD';
    $answer = $server->request(POST => '/.well-known/oauth-authorization-server', form => []);
    is $answer->{status}, 405, 'POST is not allowed';
    is $answer->{headers}{allow}, 'GET, HEAD, OPTIONS', 'and what is';

    my $challenge = $server->request(GET => '/api/users', @host)->{headers}{'www-authenticate'};
    is $challenge->[0], qq{Bearer realm="users", resource_metadata="$base/.well-known/oauth-protected-resource/api/users"},
        'a 401 names them';
    $answer = $server->request(GET => '/api/users', headers => [Host => 'a"b'], token => 'x');
    unlike "@{[ map { ref ? @$_ : $_ // '' } $answer->{headers}{'www-authenticate'} ]}", qr/a"b/,
        'and no Host breaks out of its quotes';

    $server->stop;
    $server->start(vhost => "UsersIssuer https://panel.example/v1\n" . OAUTH_ENDPOINTS);
    my $public = 'https://panel.example';
    $answer = $server->request(GET => '/.well-known/oauth-authorization-server');
    is $answer->{json}{issuer},         "$public/v1",        'behind a proxy';
    is $answer->{json}{token_endpoint}, "$public/v1" . TOKEN, 'endpoints are below the issuer';
    is_deeply $answer->{json}{grant_types_supported}, ['client_credentials'], 'what is off is not named';
    is $server->request(GET => '/api/users')->{headers}{'www-authenticate'}[0],
        qq{Bearer realm="users", resource_metadata="$public/.well-known/oauth-protected-resource/v1/api/users"},
        'metadata at the root of the site';
};

subtest 'a database that is away' => sub {
    $server->expect_log(qr/the database \S+ can't be reached/);
    $server->postgres->stop;
    my $answer = ask(@GRANT, @CLIENT);
    is_error $answer, 503, 'temporarily_unavailable', 'no token';
    ok $answer->{headers}{'retry-after'}, 'but a hint when to come back';
    is form(REVOKE, @CLIENT, token => 'x')->{status}, 503, 'no revocation is pretended';
    is $server->request(GET => '/.well-known/oauth-authorization-server')->{status}, 200,
        'metadata need no database';
};

done_testing;
