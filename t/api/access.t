# Who may call, and what they are told: RFC 6750 (Bearer), RFC 7617 (Basic).

use v5.36;
use utf8;
use MIME::Base64 qw(encode_base64 encode_base64url);
use Users::Test;

use constant {
    BEARER      => 'Bearer realm="users"',
    BASIC       => 'Basic realm="users", charset="UTF-8"',
    INVALID     => 'Bearer realm="users", error="invalid_token"',
    NO_READ     => 'Bearer realm="users", error="insufficient_scope", scope="profile_read"',
    NO_UPDATE   => 'Bearer realm="users", error="insufficient_scope", scope="profile_update"',
    NO_REGISTER => 'Bearer realm="users", error="insufficient_scope", scope="register"',
};

my $server = Users::Test->new;
$server->sql(<<~'SQL');
    insert into users.account (id, fname, lname, email, country, currency, locale, suspended_at)
    values (1000, 'Sue', 'Spended', 'sue@example.com', 'US', 'USD', 'en', now());
    insert into users.application (name, client_id, secret_digest, revoked_at)
    values ('revoked', 'revoked', sha256('secret'), now());

    insert into users.token (digest, application_id, user_id, scopes, expires_at, revoked_at)
    select sha256(token::bytea), application.id, user_id, string_to_array(granted, ' '),
      expires_at, token.revoked_at
    from (values
      ('expired',   'test-client', 1, 'profile_read', now() - interval '1 s', null::timestamptz),
      ('expiring',  'test-client', 1, 'profile_read', now() + interval '1 h', null),
      ('revoked',   'test-client', 1, 'profile_read', null, now()),
      ('orphan',    'revoked',     1, 'profile_read', null, null),
      ('a-b._~+/9==', 'test-client', 1, 'profile_read', null, null),
      ('longer',    'test-client', 1, 'profile_readx xprofile_read profile_', null, null),
      ('upper',     'test-client', 1, 'PROFILE_READ PROFILE_UPDATE REGISTER', null, null),
      ('none',      'test-client', 1, '', null, null),
      ('every',     'test-client', 1, 'public profile_update register profile_read', null, null),
      ('userless',  'test-client', null, 'profile_read profile_update', null, null),
      ('suspended', 'test-client', 1000, 'profile_read profile_update register', null, null)
    ) as token (token, client_id, user_id, granted, expires_at, revoked_at)
    join users.application using (client_id);

    insert into users.credential (user_id, username, secret_digest, secret_hash, revoked_at)
    values
      (1, 'john',      sha256('secret'), null, null),
      (1, 'blank',     sha256(''), null, null),
      (1, 'colons',    sha256('a:b:c'), null, null),
      (1, 'jörg',      sha256(convert_to('pässwörd', 'UTF8')), null, null),
      (1, '???>>>~~~', sha256('???>>>~~~'), null, null),
      (1, 'bcrypt',    null, '$2y$05$abcdefghijklmnopqrstuu3JgwjVpvICm0WBx/KCD2Txrbr.XoE5m', null),
      (1, 'apr1',      null, '$apr1$saltsalt$VH8jJqgLVg25yWtcbwlzZ/', null),
      (1, 'broken',    null, '$2y$05$', null),
      (1, 'revoked',   sha256('secret'), null, now()),
      (1000, 'sue',    sha256('secret'), null, null);
    SQL
$server->start;

my %body = (
    PATCH => { user => { city => 'Utrecht' } },
    POST  => {
        user => {
            fname             => 'Jane',
            lname             => 'Roe',
            provider_server   => 'server.example',
            provider_username => 'jane',
        }
    },
);

sub ask ($method, %option) {
    $option{json} = $body{$method} if $body{$method};
    return $server->request($method, delete $option{path} // '/api/users', %option);
}

# With these Authorization header fields.
sub authorize ($method, @values) {
    return ask($method, headers => [map { (Authorization => $_) } @values]);
}

sub basic ($name, $secret) {
    return 'Basic ' . encode_base64("$name:$secret", '');
}

sub challenges ($answer) {
    my $value = $answer->{headers}{'www-authenticate'} // [];
    return ref $value ? $value : [$value];
}

# The bytes of an answer but for what tells the time.
sub bytes ($authorization) {
    my $bytes = $server->raw(Users::Test::Client::compose(GET => '/api/users',
        headers => [Connection => 'close', Authorization => $authorization]));
    return $bytes =~ s/^Date: .*?\r\n//mr;
}

subtest 'a bearer token that is valid is served' => sub {
    for (
        'Bearer ' . READ_TOKEN, 'bearer ' . READ_TOKEN, 'BEARER ' . READ_TOKEN,
        'bEaReR   ' . READ_TOKEN, 'Bearer expiring', 'Bearer a-b._~+/9==', 'Bearer every',
    ) {
        my $answer = authorize(GET => $_);
        is $answer->{status}, 200, $_;
        is $answer->{json}{user}{id}, 1, 'shows the account that the token belongs to';
    }
};

subtest 'any other is told only that it is invalid' => sub {
    my $expected = bytes('Bearer unknown');
    like $expected, qr{^HTTP/1\.1 401 }, 'an unknown token is a 401';
    for (
        'Bearer expired', 'Bearer revoked', 'Bearer orphan', 'Bearer ' . uc READ_TOKEN,
        'Bearer ' . READ_TOKEN . '=', 'Bearer', 'Bearer =', 'Bearer a b', 'Bearer a=b',
        'Bearer "quoted"', "Bearer ' or true --", "Bearer \xe2\x98\x83", "Bearer \xff",
        'Bearer ' . READ_TOKEN . ' ' . READ_TOKEN, 'Bearer ' . 'x' x 8000,
    ) {
        is bytes($_), $expected, substr($_, 0, 50) . ' is the same, byte for byte';
    }
    for my $method (qw(GET HEAD PATCH POST)) {
        my $answer = ask($method, token => 'unknown');
        is $answer->{status}, 401, "401 to $method";
        is_deeply challenges($answer), [INVALID, BASIC], 'with the challenges';
    }
};

subtest 'a Basic pair that is right is served' => sub {
    my $pair = '???>>>~~~:???>>>~~~';
    like encode_base64($pair), qr{\+.*/|/.*\+}, 'the pair has both letters that base64url replaces';
    for (
        basic('john', 'secret'),
        basic('john', 'secret') =~ s/^Basic/basic/r,
        basic('john', 'secret') =~ s/^Basic/BASIC /r,
        basic('blank', ''),
        basic('colons', 'a:b:c'),
        basic("j\xc3\xb6rg", "p\xc3\xa4ssw\xc3\xb6rd"),
        basic('bcrypt', 'an old password'),
        basic('apr1', 'an old password'),
        'Basic ' . encode_base64($pair, ''),
        'Basic ' . encode_base64($pair, '') =~ s/=+$//r,
        'Basic ' . encode_base64url($pair),
        'Basic ' . encode_base64($pair, '') =~ tr{+/}{-_}r,
    ) {
        my $answer = authorize(GET => $_);
        is $answer->{status}, 200, $_;
        is $answer->{json}{user}{id}, 1, 'shows the account that the pair belongs to';
    }
};

subtest 'any other is told only that it is wrong' => sub {
    my $expected = bytes(basic('unknown', 'secret'));
    like $expected, qr{^HTTP/1\.1 401 }, 'an unknown name is a 401';
    for (
        ['a wrong secret',                 basic('john', 'Secret')],
        ['no secret',                      basic('john', '')],
        ['a prefix of the secret',         basic('john', 'secre')],
        ['a name in another case',         basic('John', 'secret')],
        ['the secret of somebody else',    basic('jane', 'secret')],
        ['a revoked credential',           basic('revoked', 'secret')],
        ['a suspended account, wrong',     basic('sue', 'Secret')],
        ['a wrong password, hashed',       basic('bcrypt', 'another old password')],
        ['the hash itself',
            basic('bcrypt', '$2y$05$abcdefghijklmnopqrstuu3JgwjVpvICm0WBx/KCD2Txrbr.XoE5m')],
        ['a hash that is broken',          basic('broken', '$2y$05$')],
        ['no name',                        basic('', 'secret')],
        ['a name that is no UTF-8',        basic("j\xf6rg", 'secret')],
        ['a name with a lone surrogate',   basic("j\xed\xa0\x80", 'secret')],
        ['a secret that is no UTF-8',      basic('john', "secret\xff")],
        ['a name with a NUL',              basic("john\0", 'secret')],
        ['a secret with a NUL',            basic('john', "secret\0")],
        ['no colon',                       'Basic ' . encode_base64('john', '')],
        ['no base64',                      'Basic john:secret'],
        ['two words',                      basic('john', 'secret') . ' x'],
        ['nothing',                        'Basic'],
    ) {
        my ($what, $authorization) = @$_;
        is bytes($authorization), $expected, "$what is the same, byte for byte";
    }
    for my $method (qw(GET HEAD PATCH POST)) {
        my $answer = ask($method, basic => ['john', 'wrong']);
        is $answer->{status}, 401, "401 to $method";
        is_deeply challenges($answer), [BEARER, BASIC], 'with the challenges';
    }
};

subtest 'who brings no credential is asked for one, without an error' => sub {
    my $token = READ_TOKEN;
    for (
        ['no header field'],
        ['an empty one',       headers => [Authorization => '']],
        ['another scheme',     headers => [Authorization => 'Negotiate YWJj']],
        ['no scheme',          headers => [Authorization => $token]],
        ['a longer scheme',    headers => [Authorization => "Bearers $token"]],
        ['a tab behind it',    headers => [Authorization => "Bearer\t$token"]],
        ['access_token',       path => "/api/users?access_token=$token"],
        ['bearer_token',       path => "/api/users?bearer_token=$token"],
        ['a cookie',           headers => [Cookie => "access_token=$token"]],
        ['X-Access-Token',     headers => ['X-Access-Token' => $token]],
        ['Proxy-Authorization', headers => ['Proxy-Authorization' => "Bearer $token"]],
        ['a form',             headers => ['Content-Type' => 'application/x-www-form-urlencoded'],
                               body    => "access_token=$token"],
    ) {
        my ($what, %option) = @$_;
        my $answer = ask(GET => %option);
        is $answer->{status}, 401, "$what is a 401";
        is_deeply challenges($answer), [BEARER, BASIC], 'with the challenges';
    }
    is ask($_)->{status}, 401, "401 to $_" for qw(HEAD PATCH POST);
};

subtest 'a token needs the scope of the operation, in whole words' => sub {
    for (
        # method, token, status, challenge
        [GET   => 'every',        200],
        [PATCH => 'every',        200],
        [POST  => 'every',        201],
        [GET   => READ_TOKEN,     200],
        [HEAD  => READ_TOKEN,     200],
        [PATCH => READ_TOKEN,     403, NO_UPDATE],
        [POST  => READ_TOKEN,     403, NO_REGISTER],
        [GET   => UPDATE_TOKEN,   403, NO_READ],
        [HEAD  => UPDATE_TOKEN,   403, NO_READ],
        [PATCH => UPDATE_TOKEN,   200],
        [POST  => UPDATE_TOKEN,   403, NO_REGISTER],
        [POST  => FULL_TOKEN,     403, NO_REGISTER],
        [GET   => REGISTER_TOKEN, 403, NO_READ],
        [PATCH => REGISTER_TOKEN, 403, NO_UPDATE],
        [POST  => REGISTER_TOKEN, 201],
        [GET   => 'longer',       403, NO_READ],
        [PATCH => 'longer',       403, NO_UPDATE],
        [GET   => 'upper',        403, NO_READ],
        [POST  => 'upper',        403, NO_REGISTER],
        [GET   => 'none',         403, NO_READ],
    ) {
        my ($method, $token, $status, @challenge) = @$_;
        my $answer = ask($method, token => $token);
        is $answer->{status}, $status, "$method with $token is a $status";
        is_deeply challenges($answer), \@challenge, 'which says what is missing' if @challenge;
    }
    is_deeply ask(PATCH => token => UPDATE_TOKEN)->{json}, {},
        'who may change the account alone is not shown it';
    is ask(PATCH => token => FULL_TOKEN)->{json}{user}{id}, 1, 'who may read it too is';
};

subtest 'a Basic pair may do everything with its own account, and register none' => sub {
    my $accounts = $server->sql('select count(*) from users.account');
    is ask(GET   => basic => ['john', 'secret'])->{status}, 200, 'GET';
    is ask(HEAD  => basic => ['john', 'secret'])->{status}, 200, 'HEAD';
    is ask(PATCH => basic => ['john', 'secret'])->{json}{user}{id}, 1, 'PATCH, and see the account';
    is ask(POST  => basic => ['john', 'secret'])->{status}, 403, 'no POST';
    is $server->sql('select count(*) from users.account'), $accounts, 'no account was made';
};

subtest 'what was refused has changed nothing' => sub {
    my $state = sub { $server->sql('select * from users.account order by id') };
    my $before = $state->();
    for my $method (qw(PATCH POST)) {
        ask($method, %$_)
            for {}, { token => READ_TOKEN }, { token => 'unknown' }, { token => 'revoked' },
            { token => 'suspended' }, { token => 'userless' }, { basic => ['john', 'wrong'] },
            { basic => ['sue', 'secret'] };
    }
    is $state->(), $before, 'the accounts are the same';
};

subtest 'a token without a user has no account to show or to change' => sub {
    for my $method (qw(GET HEAD PATCH)) {
        is ask($method, token => 'userless')->{status}, 403, "$method is a 403";
    }
};

# Who brings views of his own may have tokens that outlive the accounts.
subtest 'nor has one whose account the view does not show' => sub {
    $server->sql(<<~'SQL');
        alter view users_api.account rename to whole_account;
        create view users_api.account as select * from users_api.whole_account where user_id <> 1;
        grant select on users_api.account to mod_users
        SQL
    my $answer = ask(GET => token => READ_TOKEN);
    is $answer->{status}, 403, 'GET is a 403';
    is_deeply $answer->{json}, { errors => ['the token belongs to no account'] }, 'which says why';
    is ask(HEAD => token => READ_TOKEN)->{status}, 403, 'HEAD is one';
    is ask(PATCH => token => FULL_TOKEN, headers => ['If-None-Match' => '"x"'])->{status}, 403,
        'PATCH that needs to see it is one';
    $server->sql('drop view users_api.account; alter view users_api.whole_account rename to account');
    is ask(GET => token => READ_TOKEN)->{status}, 200, 'it is served when it is back';
};

subtest 'a suspended account is refused, whatever the credential' => sub {
    for my $method (qw(GET HEAD PATCH POST)) {
        is ask($method, token => 'suspended')->{status},       403, "$method with a token is a 403";
        is ask($method, basic => ['sue', 'secret'])->{status}, 403, "$method with a pair is a 403";
    }
    my ($token, $pair) =
        map { ask(GET => @$_) } [token => 'suspended'], [basic => ['sue', 'secret']];
    is_deeply $token->{json}, { errors => ['the account is suspended'] }, 'which says why';
    is_deeply $pair->{json}, $token->{json}, 'to both';
};

# httpd joins repeated header fields with a comma (RFC 9110 section 5.3).
subtest 'more than one Authorization header field is malformed' => sub {
    my $valid = 'Bearer ' . READ_TOKEN;
    for (
        [$valid, $valid],
        [$valid, basic('john', 'secret')],
        [basic('john', 'secret'), $valid],
        [$valid, 'Bearer unknown'],
        [$valid, ''],
        ['', $valid],
        ["$valid, $valid"],
        ["$valid,"],
        [",$valid"],
        ["Bearer, $valid"],
    ) {
        my $answer = authorize(GET => @$_);
        is $answer->{status}, 400, join(' and ', map { "'$_'" } @$_) . ' is a 400';
        is_deeply challenges($answer), [], 'without a challenge';
    }
    for my $other ('Digest username="john", realm="users"', 'Signature a="b",c="d"', "Digest a=\"b\", $valid") {
        my $answer = authorize(GET => $other);
        is $answer->{status}, 401, "'$other' is of another scheme: 401";
        is_deeply challenges($answer), [BEARER, BASIC], 'with the challenges';
    }
};

subtest 'what was valid ends with the next request, on the same connection too' => sub {
    my $connection = $server->connect;
    my $status = sub (%option) {
        $connection->send(Users::Test::Client::compose(GET => '/api/users', %option));
        return $connection->answer->{status};
    };
    my %token = (token => 'expiring');
    my %pair  = (basic => ['john', 'secret']);
    for (
        # what it becomes, status, credential, where it is recorded
        ['a revoked token', 401, \%token, 'users.token', 'revoked_at', "digest = sha256('expiring')"],
        ['an expired token', 401, \%token, 'users.token', 'expires_at', "digest = sha256('expiring')"],
        ['the token of a revoked application', 401, \%token,
            'users.application', 'revoked_at', "client_id = 'test-client'"],
        ['the token of a suspended account', 403, \%token, 'users.account', 'suspended_at', 'id = 1'],
        ['a revoked pair', 401, \%pair, 'users.credential', 'revoked_at', "username = 'john'"],
        ['the pair of a suspended account', 403, \%pair, 'users.account', 'suspended_at', 'id = 1'],
    ) {
        my ($what, $refused, $credential, $table, $column, $row) = @$_;
        is $status->(%$credential), 200, "what will be $what is served";
        $server->sql("update $table set $column = now() where $row");
        is $status->(%$credential), $refused, "$what is a $refused";
        $server->sql("update $table set $column = null where $row");
    }
};

$server->stop;
$server->start(vhost => qq{UsersChallenge bearer\nUsersRealm "the panel's"});

subtest 'UsersChallenge bearer asks for no Basic, UsersRealm names the realm' => sub {
    my $bearer = q{Bearer realm="the panel's"};
    for (
        ['no credential', 401, $bearer],
        ['a wrong pair', 401, $bearer, basic => ['john', 'wrong']],
        ['a wrong token', 401, qq{$bearer, error="invalid_token"}, token => 'unknown'],
        ['a token without the scope', 403,
            qq{$bearer, error="insufficient_scope", scope="profile_read"}, token => UPDATE_TOKEN],
    ) {
        my ($what, $status, $challenge, %option) = @$_;
        my $answer = ask(GET => %option);
        is $answer->{status}, $status, "$what is a $status";
        is_deeply challenges($answer), [$challenge], 'has the one challenge';
    }
    is ask(GET => basic => ['john', 'secret'])->{status}, 200, 'Basic is served all the same';
};

$server->stop;
$server->start(conf => <<~'CONF');
    LogFormat "%>s %m %u id=%{USERS_ID}e app=%{USERS_APPLICATION}e scope=%{USERS_SCOPE}e" users
    CustomLog users_log users
    CONF

subtest 'the access log can say who called' => sub {
    my $app = $server->sql("select id from users.application where client_id = 'test-client'");
    my @expected;
    for (
        [GET     => { token => READ_TOKEN }, "200 GET 1 id=1 app=$app scope=profile_read"],
        [PATCH   => { token => UPDATE_TOKEN },
            "200 PATCH 1 id=1 app=$app scope=profile_update"],
        [GET     => { token => 'every' },
            "200 GET 1 id=1 app=$app scope=public profile_update register profile_read"],
        [GET     => { basic => ['john', 'secret'] },
            '200 GET 1 id=1 app=- scope=profile_read profile_update'],
        [POST    => { token => REGISTER_TOKEN },
            "201 POST app:$app id=- app=$app scope=register"],
        [OPTIONS => { token => READ_TOKEN }, '204 OPTIONS - id=- app=- scope=-'],
        [GET     => { token => 'unknown' },  '401 GET - id=- app=- scope=-'],
        [GET     => { basic => ['john', 'wrong'] }, '401 GET - id=- app=- scope=-'],
    ) {
        my ($method, $credential, $line) = @$_;
        ask($method, %$credential);
        push @expected, $line;
    }
    my $lines = sub {
        open my $log, '<', $server->dir . '/users_log' or die "users_log: $!\n";
        chomp(my @lines = <$log>);
        return \@lines;
    };
    wait_until(sub { $lines->()->@* == @expected }, 'the access log to be written');
    is_deeply [sort $lines->()->@*], [sort @expected], 'one line a request';
};

done_testing;
