# How request bodies are read: what is JSON, of which type, how large, how fast.

use v5.36;
use Encode qw(encode);
use Users::Test;
use Users::Test::Client;

*compose = \&Users::Test::Client::compose;

my $server = Users::Test->start;

my %token = (PATCH => UPDATE_TOKEN, POST => REGISTER_TOKEN);
my %done  = (PATCH => 200, POST => 201);

my $registration = '"fname":"Jane","lname":"Roe",'
    . '"provider_server":"server.example","provider_username":"jane"';

# A body that both methods take, with more members of "user".
sub body ($members = '"city":"Utrecht"') {
    return qq({"user":{$registration,$members}});
}

sub chunked ($bytes, $size = length $bytes) {
    my @chunks = unpack "(a$size)*", $bytes;
    return join('', map { sprintf "%x\r\n%s\r\n", length $_, $_ } @chunks) . "0\r\n\r\n";
}

my @json    = ('Content-Type' => 'application/json');
my @chunked = ('Transfer-Encoding' => 'chunked');

sub submit ($method, $body, %option) {
    return $server->request($method, '/api/users',
        token => $token{$method}, headers => \@json, body => $body, %option);
}

# Everything that a request could have changed.
sub stored {
    return $server->sql('select count(*), max(id), max(updated_at) from users.account');
}

sub short ($text) {
    $text =~ s/([^ -~])/sprintf '\\x%02x', ord $1/ge;
    return length $text > 50 ? substr($text, 0, 47) . '...' : $text;
}

# ---- JSON ------------------------------------------------------------------------------------

# A body of so many levels of arrays and objects.
sub levels ($count) {
    my $inner = $count - 3;
    return body('"merge_labels":{"deep":' . '[' x $inner . '1' . ']' x $inner . '}');
}

my %malformed = (
    'nothing'     => [''],
    'white space' => ["  \n"],
    'text'        => ['nonsense', 'user=1', '<user/>'],
    'faulty JSON' => [
        '{', '}', '{"user":', '{"user":{}', '{"user":{},}', '{"user":{"a":1,}}', "{'user':{}}",
        '{user:{}}', '{"user" {}}', '// {"user":{}}', '{"user":{/**/}}', body('"a":01'),
        body('"a":+1'), body('"a":.5'), body('"a":1.'), body('"a":0x10'), body('"a":NaN'),
        body('"a":Infinity'), body('"a":TRUE'), body('"a":undefined'), body('"a":"\x"'),
        body('"a":"\u12"'), body(qq("a":"\t")), body(qq("a":"line\nline"))
    ],
    'another value' => ['[]', '[{"user":{}}]', '"user"', '1', 'true', 'null'],
    'no user'       => ['{}', '{"User":{}}', '{"users":{}}', qq({$registration})],
    'a user that is no object' => [
        '{"user":null}', '{"user":[]}', '{"user":[{}]}', '{"user":"1"}', '{"user":1}',
        '{"user":true}'
    ],
    'a byte order mark' => ["\xEF\xBB\xBF" . body()],
    'UTF-16'            => [map { encode($_, body()) } qw(UTF-16 UTF-16BE UTF-16LE)],
    'more than one text' =>
        [body() . 'x', body() . '{}', body() . body(), body() . "\0", body() . ','],
    'a member twice' => [
        '{"user":{},"user":{}}',
        body('"city":"a","city":"a"'),
        body('"city":"a","c\u0069ty":"b"'),
        body('"merge_labels":{"a":1,"a":1}'),
        body('"merge_labels":{"a":[{"b":1,"b":2}]}'),
        body('"ignored":{"a":1,"a":1}'),
    ],
    'more than 16 levels' => [
        levels(17), levels(1000), body('"ignored":' . '[' x 15 . ']' x 15), '[' x 60_000,
        '{"user":' . '{"a":' x 10_000
    ],
    'a number out of range' => [
        map { (body(qq("merge_labels":{"n":$_})), body(qq("ignored":$_))) }
            qw(1e400 -1e400 1e309 1e-20000 9223372036854775808 -9223372036854775809),
            qw(1e-324 -2e-324 0.000002E-0318 1e-99999999999), '1.' . '0' x 16_384, '1' . '0' x 16_384 . 'e-16384', '1' . '0' x 400
    ],
    'a NUL character' => [
        body('"city":"\u0000"'), body('"city":"a\u0000b"'), body('"merge_labels":{"a\u0000":1}'),
        body('"merge_labels":{"a":"\u0000"}'), body('"ignored":"\u0000"'),
        body(qq("city":"a\0b")), body(qq("city":null\0)), '{"user\u0000":{}}'
    ],
    'half a surrogate pair' => [
        body('"city":"\ud800"'), body('"city":"\udc00"'), body('"city":"\ud83dx"'),
        body('"city":"\ud83d\ud83d"'), body('"city":"\ude00\ud83d"'),
        body('"merge_labels":{"\ud800":1}'), body('"ignored":"\udfff"')
    ],
    'invalid UTF-8' => [
        map { (body(qq("city":"$_")), body(qq("merge_labels":{"$_":1})), body(qq("$_":1))) }
            "\xFF", "\x80", "\xC3", "\xC0\xAF", "\xE0\x80\xAF", "\xED\xA0\x80",
        "\xF4\x90\x80\x80", "\xE2\x82"
    ],
);
my $before = stored();
for my $method (qw(PATCH POST)) {
    for my $what (sort keys %malformed) {
        for my $body ($malformed{$what}->@*) {
            my $answer = submit($method, $body);
            is $answer->{status}, 400, "$method with $what: " . short($body);
            ok $answer->{json}{errors}[0], '... says why';
        }
    }
}
is stored(), $before, 'what is not the JSON that it should be stores nothing';

is submit(PATCH => body('"country":null,"merge_labels":{"n":1e-20000}'))->{status}, 400,
    'a number out of range outweighs a faulty field';

my @well_formed = (
    ['white space around it',  " \t\r\n" . body() . "\r\n\r\n"],
    ['white space within',     '{ "user" : { ' . $registration . ' , "city" : "Utrecht" } }'],
    ['16 levels',              levels(16)],
    ['members beside "user"',  qq({"a":[1],"user":{$registration},"z":null})],
    ['the largest integer',    body('"merge_labels":{"n":9223372036854775807}')],
    ['the smallest integer',   body('"merge_labels":{"n":-9223372036854775808}')],
    ['a large number',         body('"merge_labels":{"n":1.7e308}')],
    ['a small number',         body('"merge_labels":{"n":1e-300}')],
    ['zeros',                  body('"merge_labels":{"n":[0,-0,0.0,0e0,0E+400,0e-324]}')],
    ['zeros however written',  body('"merge_labels":{"n":[-0.0E-16383,0e-99999999999,0e99999999999,0.' . '0' x 20_000 . ']}')],
    ['the least numbers',      body('"merge_labels":{"n":[3e-324,-2.5E-0324,0.000003e-318]}')],
    ['one key in two objects', body('"merge_labels":{"a":{"x":1},"b":{"x":1},"city":1}')],
    ['an empty key',           body('"merge_labels":{"":1}')],
);
for my $method (qw(PATCH POST)) {
    for my $row (@well_formed) {
        my ($what, $body) = @$row;
        is submit($method, $body)->{status}, $done{$method}, "$method with $what";
    }
}

my $sql   = q('; drop table users.account; --);
my %texts = (
    'a surrogate pair'     => ['\ud83d\ude00', "\x{1F600}"],
    'four octets of UTF-8' => ["\xF0\x9F\x98\x80", "\x{1F600}"],
    'two octets of UTF-8'  => ["\xC3\xA9", "\xE9"],
    'the last character'   => ["\xF4\x8F\xBF\xBF", "\x{10FFFF}"],
    'escapes'              => ['\u00e9\"\\\\\/\u00a0', "\xE9\"\\/\xA0"],
    'SQL'                  => [$sql, $sql],
);
for my $what (sort keys %texts) {
    my ($sent, $shown) = $texts{$what}->@*;
    my $answer = submit(PATCH => body(qq("city":"$sent")), token => FULL_TOKEN);
    is $answer->{json}{user}{city}, $shown, "$what can be in a text";
}

# ---- Types -----------------------------------------------------------------------------------

my @types = (
    'application/json',
    'Application/JSON',
    'application/json; charset=utf-8',
    'application/json;charset=UTF-8',
    'application/json ; charset="utf-8"',
    'application/json;',
);
my @merge_types = ('application/merge-patch+json', 'APPLICATION/Merge-Patch+JSON; charset=utf-8');
my @other_types = (
    undef,
    '',
    'text/plain',
    'text/json',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=application/json',
    'application/json-patch+json',
    'application/vnd.api+json',
    'application/jsonp',
    'application/jso',
    'application',
    'text/plain; application/json',
    'application/json, text/plain',
    '*/*',
);
for my $case (
    (map { [PATCH => $_, 200] } @types, @merge_types),
    (map { [PATCH => $_, 415] } @other_types),
    (map { [POST  => $_, 201] } @types),
    (map { [POST  => $_, 415] } @merge_types, @other_types),
    )
{
    my ($method, $type, $status) = @$case;
    my $answer = submit($method, body(), headers => [defined $type ? ('Content-Type' => $type) : ()]);
    is $answer->{status}, $status, "$method of the type " . ($type // '(none)');
}
is submit(PATCH => body(), headers => [])->{headers}{'accept-patch'},
    'application/json, application/merge-patch+json', 'a 415 names the types of PATCH';
is submit(POST => body(), headers => [])->{headers}{'accept-post'}, 'application/json',
    '... and of POST';

for my $method (qw(PATCH POST)) {
    for my $coding (qw(gzip x-gzip deflate br GZIP unheard-of), 'gzip, br') {
        my $answer = submit($method, body(), headers => [@json, 'Content-Encoding' => $coding]);
        is $answer->{status}, 415, "$method with the content coding $coding";
        # RFC 9110 section 12.5.3
        is $answer->{headers}{'accept-encoding'}, 'identity', '... is told that there is none';
    }
}

# ---- Sizes -----------------------------------------------------------------------------------

# A body of so many octets.
sub sized ($size, $body = body()) {
    return $body . ' ' x ($size - length $body);
}

# The same octets in several ways.
sub ways ($body) {
    return (
        'with a Content-Length'    => [body => $body,          headers => \@json],
        'in one chunk'             => [body => chunked($body), headers => [@json, @chunked]],
        'in chunks of 7 octets'    => [body => chunked($body, 7), headers => [@json, @chunked]],
    );
}

sub test_sizes ($limit) {
    for my $method (qw(PATCH POST)) {
        for my $size ($limit, $limit + 1, $limit * 2) {
            my %ways = ways(sized($size));
            for my $way (sort keys %ways) {
                my $answer = $server->request($method, '/api/users',
                    token => $token{$method}, $ways{$way}->@*);
                my $expected = $size > $limit ? 413 : $done{$method};
                is $answer->{status}, $expected, "$method of $size octets $way, of $limit";
            }
        }
        my $connection = $server->connect;
        $connection->send(compose($method, '/api/users',
            token => $token{$method}, headers => [@json, 'Content-Length' => $limit + 1]));
        is $connection->answer->{status}, 413,
            "$method is told that it is too large before it sends its body";
    }
}
test_sizes(65_536);

# ---- Connections -----------------------------------------------------------------------------

# A body that isn't read holds what looks like a request. The next one is answered as such, or
# the connection ends; what isn't a request is never taken for one.
my $hidden = "\r\nGET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n";
my $next   = compose(GET => '/api/users',
    token => READ_TOKEN, headers => [Connection => 'close']);
my %update = (headers => \@json, token => UPDATE_TOKEN);
my %unread = (
    'no credentials'      => [401, PATCH   => '/api/users',   headers => \@json],
    'a missing scope'     => [403, PATCH   => '/api/users',   %update, token => READ_TOKEN],
    'another path'        => [404, PATCH   => '/api/users/1', %update],
    'another method'      => [405, PUT     => '/api/users',   %update],
    'an unknown method'   => [501, BREW    => '/api/users',   %update],
    'a bad Accept'        => [406, PATCH   => '/api/users',   %update,
        headers => [@json, Accept => 'text/html']],
    'a bad type'          => [415, PATCH   => '/api/users',   %update,
        headers => ['Content-Type' => 'text/plain']],
    'a large body'        => [413, PATCH   => '/api/users',   %update],
    'GET with a body'     => [200, GET     => '/api/users',   %update, token => READ_TOKEN],
    'OPTIONS with a body' => [204, OPTIONS => '/api/users',   headers => \@json],
);
for my $what (sort keys %unread) {
    my ($status, $method, $path, %option) = $unread{$what}->@*;
    my $body = $hidden . 'x' x ($status == 413 ? 70_000 : 100);
    my @in_chunks = (body => chunked($body), headers => [$option{headers}->@*, @chunked]);
    for my $way ([body => $body], \@in_chunks) {
        my $bytes = $server->raw(compose($method, $path, %option, @$way) . $next);
        my ($first, @rest) = $bytes =~ /^HTTP\/1\.1 (\d+)/mg;
        is $first, $status, "a body is not read because of $what";
        is join(' ', grep { $_ != 200 } @rest), '', '... and does not harm the next request';
    }
}
ok !grep({ /hidden/ } $server->access_log), 'nothing within a body is taken for a request';

my $connection = $server->connect;
for my $case ([200, body()], [422, body('"email":"x"')], [200, body()]) {
    my ($status, $body) = @$case;
    $connection->send(compose(PATCH => '/api/users',
        token => UPDATE_TOKEN, headers => \@json, body => $body));
    is $connection->answer->{status}, $status, "a $status on a connection that goes on";
}

# ---- Expect: 100-continue --------------------------------------------------------------------

my @expect = (Expect => '100-continue', 'Content-Length' => length body());
my %expected = (
    100 => [headers => [@json, @expect], token => UPDATE_TOKEN],
    401 => [headers => [@json, @expect]],
    403 => [headers => [@json, @expect], token => READ_TOKEN],
    406 => [headers => [@json, @expect, Accept => 'text/html'], token => UPDATE_TOKEN],
    413 => [headers => [@json, @expect[0, 1], 'Content-Length' => 65_537], token => UPDATE_TOKEN],
    415 => [headers => ['Content-Type' => 'text/plain', @expect], token => UPDATE_TOKEN],
);
for my $status (sort keys %expected) {
    my $connection = $server->connect;
    $connection->send(compose(PATCH => '/api/users', $expected{$status}->@*));
    is $connection->answer->{status}, $status, "Expect: 100-continue is answered by $status";
    if ($status == 100) {
        $connection->send(body());
        is $connection->answer->{status}, 200, '... and the body by 200';
    }
}

# ---- Lengths that are wrong ------------------------------------------------------------------

$before = stored();
my $whole = body('"city":"Nowhere"');
my $length = length $whole;
my $endless = chunked($whole) =~ s/0\r\n\r\n$//r;
my %cut = (
    'a Content-Length that is too large' => [$whole, 'Content-Length' => $length + 1],
    'a Content-Length that is too small' => [$whole, 'Content-Length' => $length - 1],
    'no number as its Content-Length'    => [$whole, 'Content-Length' => 'many'],
    'a negative Content-Length'          => [$whole, 'Content-Length' => -1],
    'two different Content-Lengths' => [$whole, 'Content-Length' => $length, 'Content-Length' => 5],
    'chunks without an end'         => [$endless, @chunked],
    'a chunk that is cut'           => [substr(chunked($whole), 0, 30), @chunked],
    'a chunk without a size'        => ["x\r\n$whole\r\n0\r\n\r\n", @chunked],
);
for my $method (qw(PATCH POST)) {
    for my $what (sort keys %cut) {
        my ($body, @headers) = $cut{$what}->@*;
        my $bytes = $server->raw(compose($method, '/api/users',
            token => $token{$method}, headers => [@json, @headers], body => $body));
        like $bytes, qr{^HTTP/1\.1 400 }, "$method with $what";
    }
}
is stored(), $before, 'a body whose end is unsure stores nothing';

for my $method (qw(PATCH POST)) {
    my $connection = $server->connect;
    $connection->send(compose($method, "/api/users?gone-$method",
        token   => $token{$method},
        headers => [@json, 'Content-Length' => $length],
        body    => substr($whole, 0, 20)));
    undef $connection;
    wait_until(sub { grep { /gone-$method/ } $server->access_log }, "the end of $method");
}
is stored(), $before, 'a client that goes away within its body stores nothing';
is submit(PATCH => body())->{status}, 200, 'the next client is served';

my $many = body() . ' ' x 20_000;
is $server->request(PATCH => '/api/users', token => $token{PATCH}, headers => [@json, @chunked],
    body => join('', map { "1\r\n$_\r\n" } split //, $many) . "0\r\n\r\n")->{status},
    200, 'a body of many small chunks is read';
$server->stop;

# ---- Settings --------------------------------------------------------------------------------

$server->start(vhost => 'UsersMaxBody 200');
test_sizes(200);
$server->stop;

$server->start(endpoint => 'LimitRequestBody 200');
my %ways = ways(sized(201));
for my $way (sort keys %ways) {
    my $answer = $server->request(PATCH => '/api/users', token => UPDATE_TOKEN, $ways{$way}->@*);
    is $answer->{status}, 413, "LimitRequestBody counts as well, $way";
    like $answer->{headers}{'content-type'}, $way =~ /chunk/ ? qr{^text/html} : qr{^application/json}, '... in words of whoever counts';
}
is submit(PATCH => sized(200))->{status}, 200, '... for what is larger';
$server->stop;

$server->start(modules => ['reqtimeout'], conf => 'RequestReadTimeout body=1');
$before = stored();
my %slow = (
    'PATCH with a Content-Length' => [PATCH => '{',        'Content-Length' => 20],
    'PATCH in chunks'             => [PATCH => "5\r\n{",   @chunked],
    'PATCH without a last chunk'  => [PATCH => $endless,   @chunked],
    'POST that sends nothing'     => [POST  => '',         'Content-Length' => 20],
);
my %waiting;
for my $what (sort keys %slow) {
    my ($method, $body, @headers) = $slow{$what}->@*;
    $waiting{$what} = $server->connect;
    $waiting{$what}->send(compose($method, '/api/users',
        token => $token{$method}, headers => [@json, @headers], body => $body));
}
for my $what (sort keys %waiting) {
    my $answer = $waiting{$what}->answer;
    is $answer->{status}, 408, "$what is too slow";
    ok $answer->{json}{errors}[0], '... and told so';
}
is stored(), $before, '... and stores nothing';
is submit(PATCH => body())->{status}, 200, 'what comes in time is served';

done_testing;
