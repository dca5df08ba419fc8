# Conditional requests (RFC 9110 section 13), preferences (RFC 7240), versions; and which of
# several faults a request is told of.

use v5.36;
use IO::Uncompress::Gunzip qw(gunzip);
use JSON::PP ();
use Users::Test;
use Users::Test::Process qw(slurp);

my $server = Users::Test->start;

sub get (%option) {
    return $server->request(GET => '/api/users', token => READ_TOKEN, %option);
}

sub patch ($user, %option) {
    return $server->request(PATCH => '/api/users',
        token => FULL_TOKEN, json => { user => $user }, %option);
}

sub etag {
    return get()->{headers}{etag};
}

sub opaque ($tag) {
    return $tag =~ s/^"(.*)"$/$1/r;
}

sub varies_by ($answer) {
    return sort map { lc } split /[ ,]+/, $answer->{headers}{vary};
}

sub city {
    return get()->{json}{user}{city};
}

# ---- Entity tags -----------------------------------------------------------------------------

my $tag = etag();
like $tag, qr/^"[!#-~]+"$/, 'GET has a strong entity tag';
is etag(), $tag, 'it is the same the next time';
is get(token => FULL_TOKEN)->{headers}{etag}, $tag, '... for another token';
is $server->request(HEAD => '/api/users', token => READ_TOKEN)->{headers}{etag}, $tag, '... for HEAD';
is get(headers => [Accept => 'application/*'])->{headers}{etag}, $tag, '... for another Accept';

for my $change (
    ['field'  => q{update users.account set vat = 'NL1' where id = 1}],
    ['use'    => q{update users.account set usage = '{"projects": 2}' where id = 1}],
    ['quota'  => q{update users.group_quota set quota = 251 where kind = 'containers'}],
    ['kind'   => q{delete from users.group_quota where kind = 'cr'}],
    ['plan'   => q{update users.billing_plan set name = 'standard'}],
    ['number' => q{update users.account set unprocessed_usage = 0.00 where id = 1}],
    )
{
    my ($what, $sql) = @$change;
    $server->sql($sql);
    isnt etag(), $tag, "the tag changes with a $what";
    $tag = etag();
}

# ---- Range -----------------------------------------------------------------------------------

# It may be ignored (RFC 9110 section 14.2), and a change has no parts.
for my $range ('bytes=0-10', 'bytes=99999-') {
    for my $request ([GET => '/api/users', token => READ_TOKEN],
        [PATCH => '/api/users', token => FULL_TOKEN, json => { user => {} }])
    {
        my $answer = $server->request(@$request, headers => [Range => $range]);
        is $answer->{status}, 200, "$request->[0] with Range: $range";
        ok $answer->{json}{user}, '... is answered as a whole';
    }
}
$tag = etag();

# ---- GET, If-None-Match ----------------------------------------------------------------------

my $opaque = opaque($tag);
my @matching = (
    $tag, "W/$tag", '*', ' * ', qq("other", $tag), qq($tag,"other"), qq(W/"other",W/$tag , "x"),
    qq(, ,$tag,), qq("a,b", $tag), qq("", $tag), qq("$opaque-gzip"), qq(W/"$opaque-gzip"),
    qq("$opaque-br"), qq("other-gzip", "$opaque-br"),
);
my @different = (
    '"other"', '""', 'W/"other"', '"other", "another"', '"*"', '"-gzip"', qq("other,$opaque"),
    map { qq("$_") } "$opaque-", "x$opaque", "$opaque-deflate", "gzip-$opaque", uc $opaque,
    substr($opaque, 1)
);
for my $field (@matching) {
    my $answer = get(headers => ['If-None-Match' => $field]);
    is $answer->{status}, 304, "If-None-Match: $field is 304";
    is_deeply [$answer->{headers}->@{qw(etag cache-control content-type)}],
        [$tag, 'private, no-cache', undef], '... with what a cache needs';
    is_deeply [varies_by($answer)], [qw(accept authorization)], '... of what it varies by too';
}
for my $field (@different) {
    my $answer = get(headers => ['If-None-Match' => $field]);
    is $answer->{status}, 200, "If-None-Match: $field is 200";
    is $answer->{headers}{etag}, $tag, '... with the tag';
}
is get(headers => ['If-None-Match' => '"other"', 'If-None-Match' => $tag])->{status}, 304,
    'If-None-Match can be repeated';

my @fresh = (token => READ_TOKEN, headers => ['If-None-Match' => $tag]);
my @last  = (token => READ_TOKEN, headers => [Connection => 'close']);
my $connection = $server->connect;
$connection->send(Users::Test::Client::compose(@$_))
    for [HEAD => '/api/users', @fresh], [GET => '/api/users', @fresh], [GET => '/api/users', @last];
my ($head, $get, $next) = map { $connection->answer } 1 .. 3;
is_deeply [map { $_->{status} } $head, $get, $next], [304, 304, 200],
    'a 304 has no body that the next answer would follow';
is $head->{headers}{etag}, $tag, 'HEAD is conditional too';

is get(headers => ['If-Match' => $_])->{status}, 200, "GET with If-Match: $_ is 200"
    for $tag, '*', qq("other", $tag), qq("$opaque-gzip");
is get(headers => ['If-Match' => $_])->{status}, 412, "GET with If-Match: $_ is 412"
    for '"other"', "W/$tag", '""';
is get(headers => ['If-Match' => $tag, 'If-None-Match' => $tag])->{status}, 304,
    'If-None-Match is judged after an If-Match that holds';
is get(headers => ['If-Match' => '"other"', 'If-None-Match' => $tag])->{status}, 412,
    '... not after one that fails';

# An account has no Last-Modified: RFC 9110 sections 13.1.3 and 13.1.4.
for my $name ('If-Modified-Since', 'If-Unmodified-Since') {
    for my $date ('Sun, 06 Nov 1994 08:49:37 GMT', 'Fri, 01 Jan 2100 00:00:00 GMT', 'yesterday') {
        is get(headers => [$name => $date])->{status}, 200, "$name: $date is passed over by GET";
        is patch({}, headers => [$name => $date])->{status}, 200, '... and by PATCH';
    }
}

# ---- PATCH, If-Match -------------------------------------------------------------------------

my $count = 0;
for my $form ('"TAG"', '*', '"other", "TAG"', '"TAG","other"', 'W/"other", "TAG"', ',"TAG",',
    '"TAG-gzip"', '"TAG-br"')
{
    my $current = etag();
    my $field = $form =~ s/TAG/opaque($current)/er;
    my $city = 'City ' . ++$count;
    my $answer = patch({ city => $city }, headers => ['If-Match' => $field]);
    is $answer->{status}, 200, "PATCH with If-Match: $field, which holds";
    is city(), $city, '... is stored';
    is $answer->{headers}{etag}, etag(), '... and has the tag that the next GET has';
    isnt $answer->{headers}{etag}, $current, '... another one than before';
}

my $stale = $tag;
my $current = etag();
my $before = city();
for my $field (
    $stale, "W/$current", qq($stale, "other", W/$current),
    '"other"', '""', '"{}"', q("'"), '"\\"', '"a,{b}"', '"' . 'x' x 4000 . '"'
    )
{
    for my $token (FULL_TOKEN, UPDATE_TOKEN) {
        my $answer = patch({ city => 'Stale' }, token => $token, headers => ['If-Match' => $field]);
        is $answer->{status}, 412, 'PATCH with If-Match: ' . substr($field, 0, 80) . ', which fails';
    }
}
is city(), $before, '... is not stored';
is etag(), $current, '... in any way';
my $list = join ', ', (map { qq("$_") } 1 .. 1000), $current;
is patch({ city => 'Listed' }, headers => ['If-Match' => $list])->{status}, 200,
    'a tag is found at the end of a long list';

$current = etag();
for my $field ('*', $current, "W/$current", qq("other", $current)) {
    is patch({ city => 'Stale' }, headers => ['If-None-Match' => $field])->{status}, 412,
        "PATCH with If-None-Match: $field, which fails";
}
is city(), 'Listed', '... is not stored';
is patch({ city => 'Changed' }, headers => ['If-None-Match' => $stale])->{status}, 200,
    'PATCH with If-None-Match that holds';

my @tagged = (headers => ['If-Match' => etag()]);
is patch({ city => 'Unseen' }, token => UPDATE_TOKEN, @tagged)->{status}, 200,
    'who may not read can have a tag all the same';
is city(), 'Unseen', '... and change by it';
is patch({}, token => UPDATE_TOKEN)->{headers}{etag}, undef, '{} is not what the tag is of';
is patch({})->{headers}{etag}, etag(), 'a PATCH that changes nothing has the tag too';

# PATCHes at once, each with the present tag. Returns those that succeeded.
sub race ($token, @cities) {
    my @tagged  = (headers => ['If-Match' => etag()]);
    my @answers = $server->parallel(
        map { [PATCH => '/api/users', token => $token, @tagged, json => { user => { city => $_ } }] }
            @cities
    );
    is_deeply [sort map { $_->{status} } @answers], [200, (412) x (@cities - 1)],
        'of ' . @cities . ' PATCHes at once with one tag one succeeds, the others are stale';
    return grep { $answers[$_]{status} == 200 } keys @answers;
}

for my $count (2, 20) {
    for my $token (FULL_TOKEN, UPDATE_TOKEN) {
        my @cities = map { "$_ of $count with $token" } 1 .. $count;
        my ($winner) = race($token, @cities);
        is city(), $cities[$winner], '... and is what is stored';
    }
}
race(FULL_TOKEN, ('Same') x 10);

# ---- Malformed fields ------------------------------------------------------------------------

my %requests = (
    GET   => [token => READ_TOKEN],
    PATCH => [token => FULL_TOKEN, json => { user => { city => 'Malformed' } }],
    POST  => [token => REGISTER_TOKEN, json => { user => {} }],
);
my %malformed = (
    (
        map {
            $_ => [
                'abc',     '"abc',   'abc"',  'W/abc', 'w/"abc"', 'W/ "abc"', 'W/', '"a" "b"', '"a"b',
                '*, "a"',  '"a", *', '"a",b', '**',    '"a b"',   "'a'", '"a";"b"', '"a""b"'
            ]
        } qw(If-Match If-None-Match)
    ),
);
$before = city();
for my $method (sort keys %requests) {
    for my $name (sort keys %malformed) {
        for my $value ($malformed{$name}->@*) {
            my $answer = $server->request($method, '/api/users', $requests{$method}->@*,
                headers => [$name => $value]);
            is $answer->{status}, 400, "$method with $name: $value";
            like $answer->{json}{errors}[0], qr/\b$name\b/, '... is told which field is malformed';
        }
    }
}
is city(), $before, 'a malformed field stores nothing';

# ---- Prefer ----------------------------------------------------------------------------------

$count = 0;
for my $prefer (
    'return=minimal', 'Return=minimal', 'return = minimal', 'return="minimal"',
    'return=minimal; foo=bar', 'respond-async, wait=10, return=minimal', 'return=minimal,',
    'x="a, return=none", return=minimal', 'return=minimal, return=representation',
    'return=minimal, @', 'timezone=America/New_York, return=minimal', 'return=a/b, return=minimal',
    )
{
    for my $token (FULL_TOKEN, UPDATE_TOKEN) {
        my $city = 'Minimal ' . ++$count;
        my $answer = patch({ city => $city }, token => $token, headers => [Prefer => $prefer]);
        is $answer->{status}, 204, "PATCH with Prefer: $prefer is 204";
        is $answer->{headers}{'preference-applied'}, 'return=minimal', '... which is acknowledged';
        is_deeply [$answer->{headers}->@{qw(content-type content-length)}], [undef, undef],
            '... without content';
        is city(), $city, '... and stored';
        is $answer->{headers}{etag}, $token eq FULL_TOKEN ? etag() : undef,
            '... and who may read has the tag that the next GET has';
    }
}
for my $prefer (
    'return=representation', 'return', 'return=other', 'return=representation, return=minimal',
    'returns=minimal', 'x="return=minimal"', 'wait=10', '',
    # RFC 7240 section 2: what can't be read is ignored
    '=minimal', 'return=', 'return==minimal', 'return="minimal', 'return=min"imal', 'return minimal',
    'return=minimal x', '"return"=minimal', 'return=minimal; =x', 'return=(minimal)', 'wait=1, ret/urn',
    'timezone=America/New_York', '"', '=',
    )
{
    my $answer = patch({ city => 'Full' }, headers => [Prefer => $prefer]);
    is $answer->{status}, 200, "PATCH with Prefer: $prefer is 200";
    is $answer->{json}{user}{city}, 'Full', '... with the account';
    unlike $answer->{headers}{'preference-applied'} // '', qr/minimal/,
        '... since it asked for nothing less';
}
is patch({}, headers => [Prefer => 'wait=1', Prefer => 'return=minimal'])->{status}, 204,
    'Prefer can be repeated';
my $answer = patch({}, headers => [Prefer => 'return=minimal, handling=strict']);
is_deeply [sort split /, */, $answer->{headers}{'preference-applied'}],
    ['handling=strict', 'return=minimal'], 'two preferences are acknowledged';
is patch({ fname => '' }, headers => [Prefer => 'return=minimal'])->{status}, 422,
    'return=minimal does not hide a fault';
is get(headers => [Prefer => 'return=minimal'])->{status}, 200,
    'return=minimal means nothing to GET';

# ---- Versions --------------------------------------------------------------------------------

for my $accept (
    (map { "application/json; api_version=$_" } 51, 52, 65, 80),
    'application/json; api_version=52;',
    'application/json;api_version=52',
    'application/json ; api_version = 52',
    'application/json; api_version="52"',
    'application/json; API_Version=52',
    'application/json; api_version=52; q=0.5',
    'application/json; q=1; api_version=52;',
    'application/json; q=0.001; api_version=52',
    'application/json; charset=utf-8; api_version=52',
    'text/html, application/json; api_version=52;, */*; q=0.1',
    'application/json;',
    'application/json;;',
    )
{
    $answer = get(headers => [Accept => $accept]);
    is $answer->{status}, 200, "Accept: $accept is served";
    is $answer->{headers}{'content-type'}, 'application/json', '... as JSON';
    is $answer->{headers}{etag}, etag(), '... and alike';
}
$before = $server->sql('select count(*), max(updated_at) from users.account');
my @unserved = (qw(50 81 0 1 5 510 abc 52a 52.0 -52 +52 0x34 99999999999999999999), q(), q(""), q("5 2"));
for my $version (@unserved) {
    for my $method (sort keys %requests) {
        $answer = $server->request($method, '/api/users', $requests{$method}->@*,
            headers => [Accept => "application/json; api_version=$version"]);
        is $answer->{status}, 422, "$method with the version '$version'";
        is $answer->{headers}{'api-version-supported'}, 'false', '... is told that there is none';
        like join("\n", $answer->{json}{errors}->@*), qr/^api_version /m, '... in words too';
    }
}
is $server->sql('select count(*), max(updated_at) from users.account'), $before,
    '... and stores nothing';

# ---- Several faults --------------------------------------------------------------------------

# In the order in which they count, those of one place together. Each changes a request that
# would succeed.
my @faults = (
    [
        [404, 'a path that there is not', sub ($r) { $r->{path} = '/api/users/1' }],
        [405, 'a method that is not allowed', sub ($r) { $r->{method} = 'DELETE' }],
        [501, 'a method that nobody knows', sub ($r) { $r->{method} = 'BREW' }],
    ],
    [
        [400, 'a malformed If-Match', sub ($r) { push $r->{headers}->@*, 'If-Match' => '=' }],
        [400, 'a malformed If-None-Match', sub ($r) { push $r->{headers}->@*, 'If-None-Match', 'x' }],
    ],
    [
        [401, 'no credentials', sub ($r) { $r->{token} = undef }],
        [401, 'an unknown token', sub ($r) { $r->{token} = 'unknown' }],
        [403, 'a missing scope', sub ($r) { $r->{token} = READ_TOKEN }],
    ],
    [[406, 'an Accept of another type', sub ($r) { $r->{accept} = 'text/html' }]],
    [
        [415, 'a body of another type', sub ($r) { $r->{type} = 'text/plain' }],
        [415, 'a content coding', sub ($r) { push $r->{headers}->@*, 'Content-Encoding' => 'gzip' }],
    ],
    [[413, 'a large body', sub ($r) { $r->{end} = ' ' x 70_000 }]],
    [
        [400, 'a body that is no JSON', sub ($r) { $r->{start} = '{' }],
        [400, 'a body with a number out of range', sub ($r) { $r->{members} .= ',"n":1e-20000' }],
        [400, 'a body with a NUL character', sub ($r) { $r->{members} .= ',"n":"\u0000"' }],
    ],
    [
        [412, 'a stale If-Match', sub ($r) { push $r->{headers}->@*, 'If-Match' => '"stale"' }],
        [412, 'a weak If-Match', sub ($r) { push $r->{headers}->@*, 'If-Match' => "W/$r->{tag}" }],
    ],
    [
        [422, 'a faulty field', sub ($r) { $r->{members} .= ',"fname":null' }],
        [422, 'a country that nobody knows', sub ($r) { $r->{members} .= ',"country":"ZZ"' }],
        [422, 'a version that is not served', sub ($r) { $r->{accept} .= '; api_version=50' }],
    ],
);

sub with_faults (@changes) {
    my %r = (
        method  => 'PATCH',
        path    => '/api/users',
        token   => UPDATE_TOKEN,
        type    => 'application/json',
        accept  => 'application/json',
        headers => [],
        start   => '',
        members => '"city":"Ordered"',
        end     => '',
        tag     => etag(),
    );
    $_->(\%r) for @changes;
    return $server->request(
        $r{method}, $r{path},
        token   => $r{token},
        headers => ['Content-Type' => $r{type}, Accept => $r{accept}, $r{headers}->@*],
        body    => "$r{start}\{\"user\":{$r{members}}}$r{end}"
    );
}

is with_faults()->{status}, 200, 'without a fault there is success';
$before = etag();
for my $i (keys @faults) {
    for my $fault ($faults[$i]->@*) {
        my ($status, $what, $change) = @$fault;
        is with_faults($change)->{status}, $status, "$what is $status";
        for my $later (map { @$_ } @faults[$i + 1 .. $#faults]) {
            is with_faults($change, $later->[2])->{status}, $status, "... and outweighs $later->[1]";
        }
    }
}
is etag(), $before, 'nothing that has a fault is stored';
$server->stop;

# ---- Compressed ------------------------------------------------------------------------------

$server->start(
    modules => [qw(filter deflate brotli)],
    conf    => <<~'CONF',
        AddOutputFilterByType BROTLI_COMPRESS;DEFLATE application/json application/problem+json
        CONF
);
for my $coding (qw(gzip br)) {
    my @coded = ('Accept-Encoding' => $coding);
    my $plain = etag();
    $answer = get(headers => \@coded);
    is $answer->{headers}{'content-encoding'}, $coding, "GET can be compressed by $coding";
    isnt $answer->{headers}{etag}, $plain, '... and has another tag';
    is_deeply [varies_by($answer)], [qw(accept accept-encoding authorization)],
        '... and varies by the coding';
    my $coded_tag = $answer->{headers}{etag};

    for my $tag ($coded_tag, $plain) {
        is get(headers => [@coded, 'If-None-Match' => $tag])->{status}, 304,
            "$tag is fresh, compressed";
        is get(headers => ['If-None-Match' => $tag])->{status}, 304, '... and plain';
    }
    $answer = patch({ zip => $coding }, headers => [@coded, 'If-Match' => $coded_tag]);
    is $answer->{status}, 200, "PATCH with If-Match: $coded_tag";
    is $answer->{headers}{etag}, get(headers => \@coded)->{headers}{etag},
        '... has the tag that the next GET has';
    is patch({ zip => 'stale' }, headers => [@coded, 'If-Match' => $coded_tag])->{status}, 412,
        '... which is stale from then on';
    is get(headers => [@coded, 'If-None-Match' => $coded_tag])->{status}, 200, '... for GET too';
}
$answer = get(headers => ['Accept-Encoding' => 'gzip']);
gunzip(\$answer->{body}, \my $document);
is $document, get()->{body}, 'what is compressed is the account';
$answer = patch({ fname => '' }, headers => ['Accept-Encoding' => 'gzip']);
gunzip(\$answer->{body}, \my $errors);
is_deeply JSON::PP::decode_json($errors), { errors => ["fname can't be blank"] }, '... or the errors';

# ---- Many tags -------------------------------------------------------------------------------

$server->stop;
$server->start(conf => "LimitRequestFieldSize 1000000\nStartServers 1\n");

# The most that the children have had in memory, in KiB.
sub peak {
    my ($most) = sort { $b <=> $a } map { slurp("/proc/$_/status") =~ /VmHWM:\s*(\d+)/ } $server->children;
    return $most;
}

my @many = map { sprintf '"%032x"', $_ } 1 .. 6000;
for my $case ([412, @many], [200, @many, etag()]) {
    my ($status, @tags) = @$case;
    is patch({ city => 'Many' }, headers => ['If-Match' => join ', ', @tags])->{status}, $status,
        'thousands of tags in If-Match';
}
SKIP: {
    skip 'memcheck needs memory of its own', 1 if $server->single_process;
    cmp_ok peak(), '<', 100 * 1024, '... take little memory';
}

done_testing;
