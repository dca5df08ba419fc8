# What an error looks like: the list of sentences, and problem details (RFC 9457) for who
# accepts them.

use v5.36;
use JSON::PP ();
use Users::Test;
use Users::Test::Process qw(slurp);

my $server = Users::Test->start;

my @types  = ('application/json', 'application/problem+json');
my @json   = ('Content-Type' => 'application/json');
my %update = (token => FULL_TOKEN, headers => \@json);

# Status, code, what is wrong, and a request with that.
my @errors = (
    [400, malformed_body => 'a body that is no JSON',      PATCH => '/api/users', %update, body => '{'],
    [400, malformed_header => 'a malformed field',           PATCH => '/api/users', %update, headers => ['If-Match' => '=']],
    [400, malformed_header => 'a malformed key',             PATCH => '/api/users', %update,
        headers => ['Idempotency-Key' => '"']],
    [400, repeated_authorization => 'two credentials',             GET => '/api/users',
        headers => [(Authorization => 'Bearer ' . READ_TOKEN) x 2]],
    [401, credentials_required => 'no credentials',              GET => '/api/users'],
    [401, invalid_token => 'an unknown token',            GET => '/api/users', token => 'unknown'],
    [401, wrong_credentials => 'a wrong password',            GET => '/api/users', basic => ['name', 'password']],
    [403, insufficient_scope => 'a missing scope',             PATCH => '/api/users', token => READ_TOKEN, json => {}],
    [403, no_account => 'a token without an account',  GET => '/api/users', token => 'of-nobody'],
    [404, not_found => 'another path',                GET => '/api/users/1', token => READ_TOKEN],
    [405, method_not_allowed => 'another method',              DELETE => '/api/users', token => FULL_TOKEN],
    [412, stale => 'a stale tag',                 PATCH => '/api/users', %update,
        headers => [@json, 'If-Match' => '"stale"'], body => '{"user":{}}'],
    [413, body_too_large => 'a large body',                PATCH => '/api/users', %update, body => ' ' x 70_000],
    [415, unsupported_type => 'a body of another type',      PATCH => '/api/users', %update,
        headers => ['Content-Type' => 'text/plain'], body => '{}'],
    [422, wrong_type => 'a faulty field',              PATCH => '/api/users', %update,
        body => '{"user":{"fname":[]}}'],
    [415, unsupported_encoding => 'an encoded body', PATCH => '/api/users', %update,
        headers => [@json, 'Content-Encoding' => 'gzip'], body => '{}'],
    [501, method_not_known => 'an unknown method',           BREW => '/api/users', token => FULL_TOKEN],
);
$server->sql(<<~'SQL');
    insert into users.token (digest, application_id, scopes)
    select sha256('of-nobody'), id, '{profile_read}' from users.application
    SQL

sub ask ($accept, $method, $path, %option) {
    my @headers = (@{ $option{headers} // [] }, defined $accept ? (Accept => $accept) : ());
    return $server->request($method, $path, %option, headers => \@headers);
}

# What every error has, in either form.
sub test_headers ($answer, $type) {
    my $headers = $answer->{headers};
    is $headers->{'content-type'}, $type, "... it is $type";
    is $headers->{'content-length'}, length $answer->{body}, '... of a known length';
    is $headers->{'cache-control'}, 'no-store', '... not to be stored';
    is $headers->{vary} =~ s/ //gr, 'Authorization,Accept',
        '... and varies by who asks, and for what';
    is $headers->{etag}, undef, '... without a tag';
}

sub is_sentence ($text, $what) {
    like $text, qr/^[A-Za-z][ -~]+[^.\s]$/, $what;
}

# ---- Two forms -------------------------------------------------------------------------------

for my $error (@errors) {
    my ($status, $code, $what, @request) = @$error;
    my $plain = ask('application/json', @request);
    is $plain->{status}, $status, "$what is $status";
    test_headers($plain, 'application/json');
    is_deeply [keys $plain->{json}->%*], ['errors'], '... with errors alone';
    is_sentence($_, "... which are sentences: $_") for $plain->{json}{errors}->@*;

    my $problem = ask('application/problem+json', @request);
    is $problem->{status}, $status, "$what is $status as a problem too";
    test_headers($problem, 'application/problem+json');
    my $details = $problem->{json};
    is_deeply [sort keys %$details], [qw(detail errors status title type)],
        '... with the members of one';
    is $details->{type}, 'about:blank', '... of no type but its status';
    is $details->{title}, $problem->{reason}, '... which is its title';
    is $details->{status}, $status, '... and its number';
    is_sentence($details->{detail}, '... with a detail');
    is_deeply [map { $_->{detail} } $details->{errors}->@*], $plain->{json}{errors},
        '... and the same sentences';
    is_deeply [map { $_->{code} } $details->{errors}->@*], [$code], "... with the code $code";
}

for my $case ([401, '/api/users'], [404, '/api/users/1']) {
    my ($status, $path) = @$case;
    my $answer = $server->request(HEAD => $path);
    is $answer->{status}, $status, "HEAD can be $status too";
    is $answer->{headers}{'content-type'}, 'application/json', '... without its content';
}

# ---- Which form ------------------------------------------------------------------------------

my @plain = (
    undef, '', '*/*', 'application/*', 'application/json', 'Application/JSON', 'text/html, */*',
    'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8',
    'application/json, application/problem+json;q=0.5', 'application/problem+json;q=0, */*',
    'application/json; api_version=52;', 'text/html, application/json;q=0.1', '*/*;q=0.001',
);
my @problem = (
    'application/problem+json', 'Application/Problem+JSON', 'application/problem+json; q=0.1',
    'application/problem+json, application/json;q=0.9', 'text/html, application/problem+json',
    'application/problem+json; charset=utf-8', 'application/problem+json, */*;q=0.1',
);
for my $case (
    (map { [$_, 'application/json'] } @plain),
    (map { [$_, 'application/problem+json'] } @problem),
    )
{
    my ($accept, $type) = @$case;
    my $name = defined $accept ? "Accept: $accept" : 'no Accept';
    my $answer = ask($accept, PATCH => '/api/users', %update, body => '{"user":{"fname":""}}');
    is $answer->{status}, 422, "$name is served";
    is $answer->{headers}{'content-type'}, $type, "... errors as $type";
    $answer = ask($accept, GET => '/api/users', token => READ_TOKEN);
    is $answer->{status}, 200, '... an account as well';
    is $answer->{headers}{'content-type'}, 'application/json', '... as application/json';
}

my @unacceptable = (
    'text/html', 'text/*', 'application/xml', 'application/jsonp', 'application/vnd.api+json',
    'application/json;q=0', 'application/json;q=0.000', '*/*;q=0', 'application/*; q=0.0',
    'text/html, application/json;q=0', 'image/png, text/plain;q=0.5', '*/*, application/*;q=0',
    'application/json;q=0, application/problem+json;q=0, */*',
);
my $registration = {
    fname             => 'Jane',
    lname             => 'Roe',
    provider_server   => 'server.example',
    provider_username => 'jane'
};
my $accounts = sub { $server->sql('select count(*), max(updated_at) from users.account') };
my $before = $accounts->();
for my $accept (@unacceptable) {
    for my $request (
        [GET   => '/api/users', token => READ_TOKEN],
        [PATCH => '/api/users', token => FULL_TOKEN, json => { user => { city => 'Utrecht' } }],
        [POST  => '/api/users', token => REGISTER_TOKEN, json => { user => $registration }],
        )
    {
        my $answer = ask($accept, @$request);
        is $answer->{status}, 406, "$request->[0] with Accept: $accept is 406";
        test_headers($answer, 'application/json');
        is_sentence($answer->{json}{errors}[0], '... and says what there is');
    }
}
is $accounts->(), $before, 'what has no answer that is accepted stores nothing';
is ask('text/html', OPTIONS => '/api/users')->{status}, 204, 'OPTIONS has no content to accept';
my @accepts = (Accept => 'text/html', Accept => 'application/json');
is $server->request(GET => '/api/users', token => READ_TOKEN, headers => \@accepts)->{status}, 200,
    'Accept can be repeated';

# ---- Faults of fields ------------------------------------------------------------------------

# A request, and the fields and pointers of its faults.
my @faulty = (
    [
        PATCH => { user => { fname => undef, zip => [], country => 'ZZ', merge_labels => 1 } },
        [qw(fname zip country merge_labels)],
        [qw(/user/fname /user/zip /user/country /user/merge_labels)],
    ],
    [PATCH => { user => { currency => { code => 'ZZZ' } } }, ['currency'], ['/user/currency']],
    [
        PATCH => { user => { id => 1, is_admin => 1, 'a/b~c' => 1, '' => 1, 'a b"é' => 1 } },
        ['id', 'is_admin', 'a/b~c', '', 'a b"é'],
        ['/user/id', '/user/is_admin', '/user/a~1b~0c', '/user/', '/user/a b"é'],
    ],
    [
        POST => { user => {} },
        [qw(fname lname provider_server provider_username)],
        [qw(/user/fname /user/lname /user/provider_server /user/provider_username)],
    ],
    [
        POST => { user => { %$registration, provider_server => 'other' }, provider_server => 'one' },
        ['provider_server'], ['/user/provider_server'],
    ],
    [
        POST => {
            user            => { fname => 'Jane', lname => 'Roe', provider_username => 'jane' },
            provider_server => '',
            labels          => 1,
        },
        [qw(provider_server labels)], [qw(/provider_server /labels)],
    ],
);
for my $case (@faulty) {
    my ($method, $body, $fields, $pointers) = @$case;
    my %request = (
        token   => $method eq 'POST' ? REGISTER_TOKEN : FULL_TOKEN,
        headers => [Prefer => 'handling=strict'],
        json    => $body,
    );
    my $name = "$method with faulty " . join ', ', map { s/[^ -~]/?/gr } @$fields;
    my $answer = ask(undef, $method => '/api/users', %request);
    is $answer->{status}, 422, $name;
    my @unnamed = $answer->{json}{errors}->@*;
    for my $field (@$fields) {
        @unnamed = grep { index($_, "$field ") != 0 } @unnamed;
    }
    is_deeply \@unnamed, [], '... has sentences that each begin with the field';
    $answer = ask('application/problem+json', $method => '/api/users', %request);
    is_deeply [sort map { $_->{pointer} } $answer->{json}{errors}->@*], [sort @$pointers],
        '... and pointers to what is meant (RFC 6901)';
}

# What each kind of fault is to a program, whatever the field, and whether C or SQL finds it.
$server->sql(q{insert into users.account (fname, lname, email, country, currency, locale)
    values ('J', 'R', 'taken@example.com', 'US', 'USD', 'en')});
my %codes = (
    fname        => [blank => ' ', control_characters => "a\x07b", too_long => 'x' x 256],
    email        => [taken => 'taken@example.com', invalid => 'no address', too_long => 'x' x 255],
    country      => [not_known => 'XX', not_known => 'United States', wrong_type => []],
    currency     => [not_known => 'XXY', blank => undef],
    locale       => [not_known => 'foo'],
    c_sftp_pass  => [wrong_type => 'yes'],
    merge_labels => [wrong_type => 1, too_large => { a => 'x' x 17_000 }],
    vat          => [read_only => 'DE1'],
    is_admin     => [unknown_field => 1],
);
for my $field (sort keys %codes) {
    my @cases = $codes{$field}->@*;
    while (my ($code, $value) = splice @cases, 0, 2) {
        my $answer = ask('application/problem+json', PATCH => '/api/users', token => FULL_TOKEN,
            headers => [Prefer => 'handling=strict'], json => { user => { $field => $value } });
        is_deeply [map { "$_->{pointer} $_->{code}" } $answer->{json}{errors}->@*], ["/user/$field $code"],
            "$field can be $code";
    }
}
is_deeply [map { $_->{code} } ask('application/problem+json', POST => '/api/users', token => REGISTER_TOKEN,
    json => { user => { %$registration, provider_server => 'other' }, provider_server => 'one' })->{json}{errors}->@*],
    ['ambiguous'], 'provider_server can be ambiguous';

my $answer = ask('application/problem+json; api_version=99', PATCH => '/api/users', %update,
    body => '{"user":{"fname":""}}');
is_deeply [map { $_->{pointer} } $answer->{json}{errors}->@*], ['/user/fname', undef],
    'a version that is not served is in no place of the body';
is $answer->{json}{errors}[1]{code}, 'not_supported', '... and has a code';
$answer = ask('application/problem+json', GET => '/api/users');
is_deeply [sort keys $answer->{json}{errors}[0]->%*], [qw(code detail)], 'nor are missing credentials';

# The most that a child has had in memory, in KiB.
sub peak {
    my @children = split ' ', slurp("/proc/@{[ $server->pid ]}/task/@{[ $server->pid ]}/children");
    my ($most) = sort { $b <=> $a } map { slurp("/proc/$_/status") =~ /VmHWM:\s*(\d+)/ } @children;
    return $most;
}

my $strangers = join ',', map { sprintf '"%x":0', $_ } 1 .. 6000;
for my $accept (@types) {
    $answer = ask($accept, PATCH => '/api/users', token => FULL_TOKEN,
        headers => [@json, Prefer => 'handling=strict'], body => qq({"user":{$strangers}}));
    is 0 + $answer->{json}{errors}->@*, 6000, "thousands of faults are all told, as $accept";
    SKIP: {
        skip 'memcheck needs memory of its own', 1 if $server->single_process;
        cmp_ok peak(), '<', 100 * 1024, '... in little memory';
    }
}

# ---- What nobody should see ------------------------------------------------------------------

my $inside = qr{
    select | insert | update\s | relation | column | function | constraint | sqlstate | users\. |
    users_api | psql | postgres | pg_ | dbname | host= | socket | localhost | 127\.0 | /tmp |
    \.c\b | line\s\d | 0x | apache | httpd | mod_users
}xi;

sub test_discretion ($answer, $status, $what) {
    is $answer->{status}, $status, "$what is $status";
    unlike $answer->{body}, $inside, '... and shows nothing of the inside';
    my %fields = $answer->{headers}->%*;
    delete $fields{server};    # is httpd's
    unlike join("\n", map { ref ? @$_ : $_ } values %fields), $inside, '... nor do its header fields';
}

for my $error (@errors) {
    my ($status, $code, $what, @request) = @$error;
    test_discretion(ask($_, @request), $status, $what) for @types;
}
$answer = ask(undef, PATCH => '/api/users', %update,
    body => '{"user":{"merge_labels":{"n":1e-20000}}}');
test_discretion($answer, 400, 'what only the database refuses');

my @requests = (
    [GET   => '/api/users', token => READ_TOKEN],
    [PATCH => '/api/users', token => FULL_TOKEN, json => { user => { city => 'Utrecht' } }],
    [POST  => '/api/users', token => REGISTER_TOKEN, json => { user => $registration }],
);
$server->sql(<<~'SQL');
    create function users.break() returns trigger language plpgsql as
        $$ begin raise 'relation users.account, column email, function break()'; end $$;
    create trigger break before insert or update on users.account execute function users.break()
    SQL
$server->expect_log(qr/relation users\.account/);
for my $request (@requests[1, 2]) {
    test_discretion(ask($_, @$request), 500, "$request->[0] that the database fails")
        for @types;
}

$server->postgres->stop;
$server->expect_log(qr/users:(?:warn|error)/);
for my $request (@requests) {
    for my $accept (@types) {
        $answer = ask($accept, @$request);
        test_discretion($answer, 503, "$request->[0] without a database");
        test_headers($answer, $accept);
    }
}

done_testing;
