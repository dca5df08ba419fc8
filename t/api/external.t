# Tokens that another module verifies: here mod_oauth2, and JWTs that the test signs.

use v5.36;
use Digest::SHA qw(hmac_sha256);
use JSON::PP    ();
use MIME::Base64 qw(encode_base64url);
use Users::Test;

my $MODULES = $ENV{USERS_TEST_HTTPD_MODULES} // '/usr/lib/apache2/modules';
-e "$MODULES/mod_oauth2.so" or die "mod_oauth2 is missing: install libapache2-mod-oauth2\n";

my $KEY = 'a key of thirty-two octets or so';

# A signed token (RFC 7519) with these claims.
sub jwt (%claims) {
    my %header = (alg => 'HS256', typ => 'JWT');
    %claims = (iss => 'https://id.example', iat => time, exp => time + 3600, %claims);
    my $signed = join '.', map { encode_base64url(JSON::PP->new->utf8->canonical->encode($_)) }
        \%header, \%claims;
    return "$signed." . encode_base64url(hmac_sha256($signed, $KEY));
}

my $server = Users::Test->new;
$server->sql(<<~'SQL');
    insert into users.application (name, client_id, secret_digest)
    values ('panel', 'panel', sha256('panel')), ('other', 'other', sha256('other'));
    insert into users.account (id, application_id, external_id, fname, lname, email, country, currency, locale,
      suspended_at)
    select n, application.id, external_id, 'Jane', 'No. ' || n, n || '@example.com', 'NL', 'EUR', 'nl',
      case external_id when 'suspended' then now() end
    from (values (21, 'panel', 'jane'), (22, 'other', 'jane'), (23, 'other', 'joe'), (24, 'panel', 'suspended'),
      (25, 'panel', '22')) as accounts (n, client_id, external_id)
    join users.application using (client_id);
    SQL

my $AUTHENTICATION = <<~CONF;
    AuthType oauth2
    OAuth2TokenVerify plain "$KEY"
    Require valid-user
    CONF

sub start (%option) {
    $server->stop if $server->pid;
    $server->start(
        modules  => [qw(authn_file authz_user oauth2 env), $option{modules} // ()],
        vhost    => "UsersTokenSource environment\nUsersTokenApplication panel\n" . ($option{vhost} // ''),
        endpoint => $option{endpoint} // $AUTHENTICATION,
    );
    $server->allow_log(qr/\[oauth2:/);    # what it thinks of bad tokens
}

sub get ($token, %option) {
    return $server->request(GET => '/api/users', token => $token, %option);
}

subtest 'the user is an external_id' => sub {
    start();
    my $answer = get(jwt(sub => 'jane', scope => 'profile_read profile_update'));
    is $answer->{status}, 200, 'GET';
    is $answer->{json}{user}{id}, 21, q(of the application's account);
    wait_until(sub { grep { / 21 \[/ } $server->access_log }, 'the id in the access log');
    $answer = $server->request(PATCH => '/api/users',
        token => jwt(sub => 'jane', scope => 'profile_read profile_update'),
        json => { user => { city => 'Delft' } });
    is $answer->{status}, 200, 'PATCH';
    is $answer->{json}{user}{city}, 'Delft', 'it shows the change';
    for my $scope (['profile_read', 'register'], 'register,profile_read', ' profile_read ') {
        is get(jwt(sub => 'jane', scope => $scope))->{status}, 200, 'scopes as ' . (ref $scope || "'$scope'");
    }
};

subtest 'what a token does not permit' => sub {
    my $denied = get(jwt(sub => 'jane', scope => 'profile_readx profile_update'));
    is $denied->{status}, 403, 'a scope that it does not have';
    like $denied->{headers}{'www-authenticate'}, qr/error="insufficient_scope", scope="profile_read"/,
        'which one';
    is_deeply $denied->{json}{errors}, ['this needs the scope profile_read'], 'in our words';
    is get(jwt(sub => 'jane'))->{status}, 403, 'no scope at all';
    is get(jwt(sub => $_, scope => 'profile_read'))->{status}, 403, "user $_"
        for 'joe', 'nobody', '21', 'suspended', 'JANE', "j\x{e9}";
    is get(jwt(scope => 'profile_read'))->{status}, 401, 'no user at all: mod_oauth2 wants one';
};

subtest 'registration is the application\'s' => sub {
    my %account = (fname => 'New', lname => 'One', provider_server => 's', provider_username => 'new');
    my $answer = $server->request(POST => '/api/users', token => jwt(sub => 'robot', scope => 'register'),
        json => { user => { %account, external_id => 'new' } });
    is $answer->{status}, 201, 'POST';
    is get(jwt(sub => 'new', scope => 'profile_read'))->{json}{user}{id}, $answer->{json}{user}{id},
        'the new account is one of its own';
};

subtest 'a token that nobody has verified' => sub {
    my $good = jwt(sub => 'jane', scope => 'profile_read');
    for my $case (
        ['none'],
        ['the database\'s own', token => READ_TOKEN],
        ['a forged one', token => $good =~ s/.$//r . ($good =~ /A$/ ? 'B' : 'A') x 3],
        ['an expired one', token => jwt(sub => 'jane', scope => 'profile_read', exp => time - 60)],
        ['one of no algorithm', token => encode_base64url('{"alg":"none"}') . '.'
            . encode_base64url('{"sub":"jane","scope":"profile_read"}') . '.'],
        ['API credentials', basic => ['john', 'right']],
        )
    {
        my ($name, %option) = @$case;
        my $answer = $server->request(GET => '/api/users', %option);
        is $answer->{status}, 401, $name;
        unlike $answer->{body}, qr/jane/i, "$name: shows no account";
    }
    my $answer = $server->request(GET => '/api/users',
        headers => ['OAUTH2_CLAIM_sub' => 'jane', 'OAUTH2_CLAIM_scope' => 'profile_read']);
    is $answer->{status}, 401, 'a header field is no claim';
    is $server->request(OPTIONS => '/api/users/')->{status}, 404, 'what is not there needs no token';
};

subtest 'without the other module nobody gets in' => sub {
    start(modules => 'headers', endpoint => "Require all granted\nHeader always add X-Passed yes");
    for my $token (READ_TOKEN, jwt(sub => 'jane', scope => 'profile_read')) {
        my $answer = get($token);
        is $answer->{status}, 401, 'no claims';
        is $answer->{headers}{'www-authenticate'}, 'Bearer realm="users"', 'a bearer token is asked for';
        is_deeply $answer->{json}{errors}, ['credentials are required'], 'in our words';
        is $answer->{headers}{'x-passed'}, 'yes', 'through the filters';
    }
    is $server->request(POST => '/api/users', json => {})->{status}, 401, 'nor registers';
    start(modules => 'access_compat', endpoint => "Satisfy Any\nRequire all granted");
    is get(READ_TOKEN)->{status}, 401, 'nor by Satisfy Any';
};

subtest 'the user is an id, and variables have other names' => sub {
    start(vhost => "UsersTokenUser id\nUsersTokenUserVariable WHO\nUsersTokenScopeVariable MAY",
        endpoint => "SetEnv MAY profile_read\nSetEnv WHO 22");
    is $server->request(GET => '/api/users')->{json}{user}{id}, 22, 'an id';
    for my $id ('', '0', '-1', '01', '+1', '1x', ' 1', '99999999999999999999', '0x1', 'jane') {
        start(vhost => "UsersTokenUser id\nUsersTokenUserVariable WHO\nUsersTokenScopeVariable MAY",
            endpoint => qq(SetEnv MAY profile_read\nSetEnv WHO "$id"));
        is $server->request(GET => '/api/users')->{status}, 403, "'$id' is none";
    }
};

subtest 'Require beside it' => sub {
    my $good = jwt(sub => 'jane', scope => 'profile_read');
    my $conf = sub ($address) { $AUTHENTICATION =~ s{Require.*}{<RequireAll>\n$&\nRequire ip $address\n</RequireAll>}r };
    start(endpoint => $conf->('127.0.0.1'));
    is get($good)->{status}, 200, 'an address that may';
    is get("x$good")->{status}, 401, '... with a bad token';
    start(endpoint => $conf->('192.0.2.1'));
    $server->expect_log(qr/AH01630: client denied by server configuration/);
    for my $token ($good, "x$good") {
        my $answer = get($token);
        is $answer->{status}, 403, 'another address';
        is ref $answer->{json}{errors}, 'ARRAY', '... in JSON';
    }
    ok !(grep { /\[oauth2:/ } $server->error_log), '... whose tokens nobody tests';
};

subtest 'an application that is not there' => sub {
    start(vhost => 'UsersTokenApplication unknown');
    $server->expect_log(qr/UsersTokenApplication 'unknown': there is no such application/);
    is get(jwt(sub => 'jane', scope => 'profile_read'))->{status}, 500, 'is a fault of the configuration';
};

done_testing;
