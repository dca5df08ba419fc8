# What httpd's output filters do to answers: refusals pass them as the answers of the handler do.

use v5.36;
use Compress::Zlib ();
use Users::Test;
use Users::Test::Client;

my @FILTERED = (
    modules  => [qw(headers deflate ext_filter)],
    conf     => 'ExtFilterDefine shout mode=output cmd="/usr/bin/tr a-z A-Z"',
    vhost    => "UsersMaxFailures 1\n" . OAUTH_ENDPOINTS,
    endpoint => <<~CONF,
        Header always set Strict-Transport-Security max-age=63072000
        Header always add X-Passed always
        Header add X-Passed success
        SetOutputFilter DEFLATE
        CONF
);

my $server = Users::Test->new;
$server->sql(<<~'SQL');
    insert into users.credential (user_id, username, secret_digest) values (1, 'john', sha256('secret'));
    SQL
$server->start(@FILTERED);
my $tag = $server->request(GET => '/api/users', token => READ_TOKEN)->{headers}{etag};
$server->request(GET => '/api/users', basic => ['john', 'wrong']);

# Status, and a request that the access checker answers (the first ones) or the handler.
my @refusals = (
    [400, GET    => '/api/users', headers => ['If-Match' => 'x'], token => READ_TOKEN],
    [400, GET    => '/api/users', headers => [(Authorization => 'Bearer ' . READ_TOKEN) x 2]],
    [401, GET    => '/api/users'],
    [401, PATCH  => '/api/users', token => 'unknown', json => {}],
    [403, PATCH  => '/api/users', token => READ_TOKEN, json => {}],
    [404, GET    => '/api/users/1'],
    [405, DELETE => '/api/users'],
    [429, GET    => '/api/users', basic => ['john', 'wrong']],
    [501, BREW   => '/api/users'],
    [406, GET    => '/api/users', token => READ_TOKEN, headers => [Accept => 'text/html']],
    [422, PATCH  => '/api/users', token => FULL_TOKEN, json => { user => { fname => '' } }],
);

sub test_answer ($status, $method, $path, %option) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $name = "$method $path is $status";
    # mod_deflate leaves very short texts alone, so an error in its long form
    unshift @{ $option{headers} }, Accept => 'application/problem+json' unless $status == 406;
    my $answer = $server->request($method => $path, %option);
    is $answer->{status}, $status, $name;
    is $answer->{headers}{'strict-transport-security'}, 'max-age=63072000', "$name: Header always set, once";
    is_deeply [sort map { ref ? @$_ : $_ } $answer->{headers}{'x-passed'}], [qw(always success)],
        "$name: and each Header once";

    $option{headers} = ['Accept-Encoding' => 'gzip', @{ $option{headers} // [] }];
    my $small = $server->request($method => $path, %option);
    is $small->{headers}{'content-encoding'}, 'gzip', "$name: compressed";
    is Compress::Zlib::memGunzip($small->{body}), $answer->{body}, "$name: to the same";
    like $small->{headers}{vary}, qr/Accept-Encoding/, "$name: where the client takes it";
}

test_answer(@$_) for @refusals;

for my $case ([401], [200, token => READ_TOKEN]) {
    my ($status, %option) = @$case;
    my $answer = $server->request(HEAD => '/api/users', %option);
    is $answer->{status}, $status, "HEAD is $status";
    is $answer->{headers}{'strict-transport-security'}, 'max-age=63072000', '... with Header always set';
}

for my $case (
    [304, GET => '/api/users', token => READ_TOKEN, headers => ['If-None-Match' => $tag]],
    [204, OPTIONS => '/api/users'],
    [204, PATCH => '/api/users', token => FULL_TOKEN, headers => [Prefer => 'return=minimal'],
        json => { user => { city => 'Delft' } }],
    )
{
    my ($status, $method, $path, %option) = @$case;
    push @{ $option{headers} }, 'Accept-Encoding' => 'gzip', Connection => 'keep-alive';
    my $connection = $server->connect;
    my $request    = Users::Test::Client::compose($method, $path, %option);
    for my $time (1 .. 2) {
        $connection->send($request);
        my $answer = $connection->answer($method);
        is $answer->{status}, $status, "$method is $status without content, and the connection goes on";
        is $answer->{headers}{'strict-transport-security'}, 'max-age=63072000', '... with Header always set';
        is $answer->{headers}{'content-encoding'}, undef, '... nothing of it is compressed';
    }
}

subtest 'a body that nobody read' => sub {
    my $connection = $server->connect;
    for my $time (1 .. 2) {
        $connection->send(Users::Test::Client::compose(
            PATCH => '/api/users', token => 'unknown', json => { user => { city => 'Delft' } }));
        is $connection->answer('PATCH')->{status}, 401, 'leaves the connection as it was';
    }
};

subtest 'without a database' => sub {
    $server->postgres->stop;
    $server->expect_log(qr/users:(?:warn|error)/);
    test_answer(503, GET => '/api/users', token => READ_TOKEN);
    $server->postgres->start;
};

subtest 'an external filter' => sub {
    $server->stop;
    $server->start(@FILTERED, endpoint => 'SetOutputFilter shout');
    my $answer = $server->request(GET => '/api/users');
    is $answer->{status}, 401, 'sees a refusal';
    is $answer->{body}, '{"ERRORS":["CREDENTIALS ARE REQUIRED"]}', '... and changes it';
};

done_testing;
