# Require beside an endpoint: who may not come from where he comes learns nothing of credentials.

use v5.36;
use Users::Test;

my $REQUIRE = 'Require ip 192.0.2.1';

# Clients come from where X-Client says.
my @ADDRESSES = (
    modules => ['remoteip'],
    conf    => "RemoteIPHeader X-Client\nRemoteIPInternalProxy 127.0.0.1",
);

my @OAUTH = (
    ['POST', '/api/oauth/token',      form => [grant_type => 'client_credentials']],
    ['POST', '/api/oauth/revoke',     form => [token => READ_TOKEN]],
    ['POST', '/api/oauth/introspect', form => [token => READ_TOKEN]],
    ['GET',  '/.well-known/oauth-authorization-server'],
);

my $server = Users::Test->new;
$server->sql(<<~'SQL');
    insert into users.credential (user_id, username, secret_digest) values (1, 'john', sha256('secret'));
    SQL

sub start (%option) {
    $server->stop if $server->pid;
    $server->start(@ADDRESSES, endpoint => $REQUIRE, vhost => OAUTH_ENDPOINTS =~ s/^UsersEndpoint/$REQUIRE\n$&/gmr,
        %option);
    $server->allow_log(qr/AH01630: client denied by server configuration/);
}

sub ask ($from, $method, $path, %option) {
    push @{ $option{headers} }, 'X-Client' => $from;
    return $server->request($method => $path, %option);
}

# All that tells one answer from another.
sub shown ($answer) {
    my %headers = $answer->{headers}->%*;
    delete $headers{date};
    return [$answer->{status}, $answer->{body}, \%headers];
}

sub denied (@request) {
    return ask('192.0.2.2', @request);
}

sub permitted (@request) {
    return ask('192.0.2.1', @request);
}

my @credentials = (
    [token => READ_TOKEN], [token => 'unknown'], [], [basic => ['john', 'secret']], [basic => ['john', 'wrong']],
    [headers => [(Authorization => 'Bearer x') x 2]],
);

subtest 'a forbidden address' => sub {
    start();
    my $refused = denied(GET => '/api/users', token => READ_TOKEN);
    is $refused->{status}, 403, 'is refused';
    is_deeply $refused->{json}, { errors => ['the configuration of the server does not permit this'] }, 'in our words';
    is $refused->{headers}{'www-authenticate'}, undef, 'no credentials help';
    is $refused->{headers}{'cache-control'}, 'no-store', 'not to be stored';
    is_deeply shown(denied(GET => '/api/users', map { ref ? [@$_] : $_ } @$_)), shown($refused),
        'the same with ' . ($_->[0] // 'nothing')
        for @credentials;
    my $problem = denied(GET => '/api/users', token => READ_TOKEN, headers => [Accept => 'application/problem+json']);
    is $problem->{json}{status}, 403, 'as problem details';

    my $body = { user => { city => 'Delft' } };
    is denied(PATCH => '/api/users', token => FULL_TOKEN, json => $body)->{status}, 403, 'PATCH';
    is denied(POST => '/api/users', token => REGISTER_TOKEN, json => {})->{status}, 403, 'POST';
    is denied(OPTIONS => '/api/users')->{status}, 403, 'OPTIONS';
    for (@OAUTH) {
        my $answer = denied(@$_);
        is $answer->{status}, 403, "@$_[0, 1]";
        is ref $answer->{json}{errors}, 'ARRAY', '... in JSON';
    }
    is denied(GET => '/api/users/1')->{status}, 404, 'what is not there is not there';
    is denied(DELETE => '/api/users')->{status}, 405, 'nor is a method';
    is denied(GET => '/api/users', headers => ['If-Match' => 'x'])->{status}, 400, 'a malformed field is seen before';
    ok !(grep { /the credential is / } $server->error_log), 'no credential was looked at';
};

subtest 'an address that may' => sub {
    is permitted(GET => '/api/users', token => READ_TOKEN)->{status}, 200, 'reads';
    is permitted(PATCH => '/api/users', token => FULL_TOKEN, json => { user => {} })->{status}, 200, 'changes';
    is permitted(GET => '/api/users')->{status}, 401, 'with credentials';
    is permitted(OPTIONS => '/api/users')->{status}, 204, 'OPTIONS';
    is permitted(@{ $OAUTH[0] })->{json}{error}, 'invalid_client', 'reaches the endpoints';
    is permitted(@{ $OAUTH[3] })->{status}, 200, 'of OAuth';
};

subtest 'who may call' => sub {
    start(modules => [qw(remoteip authz_user)], endpoint => 'Require user 2 app:1');
    my $answer = permitted(GET => '/api/users', token => READ_TOKEN);
    is $answer->{status}, 403, 'another user is refused';
    is ref $answer->{json}{errors}, 'ARRAY', '... in JSON';
    is permitted(GET => '/api/users', token => 'unknown')->{status}, 401, 'which needs a credential first';
    start(modules => [qw(remoteip authz_user)], endpoint => 'Require user 1');
    is permitted(GET => '/api/users', token => READ_TOKEN)->{status}, 200, 'the user is not';
};

subtest 'Satisfy Any' => sub {
    start(modules => [qw(remoteip access_compat)], endpoint => "Satisfy Any\n$REQUIRE");
    is denied(GET => '/api/users', token => READ_TOKEN)->{status}, 200, 'a good token from anywhere';
    isnt denied(GET => '/api/users', token => 'unknown')->{status}, 200, 'a bad one from nowhere';
    is permitted(GET => '/api/users', token => READ_TOKEN)->{status}, 200, 'or from the right address';
    is permitted(GET => '/api/users', token => 'unknown')->{status}, 401, '... which alone shows no account';
};

subtest 'a database that is away' => sub {
    start();
    $server->postgres->stop;
    is denied(GET => '/api/users', @$_)->{status}, 403, 'is not asked' for @credentials[0, 3];
    $server->stop;    # without a line about the database
    $server->postgres->start;
};

done_testing;
