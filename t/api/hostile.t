# What no honest client sends, byte for byte: each request gets one answer or none, the next one on
# the connection is served or the connection ends, and the database is as it was.

use v5.36;
use utf8;
use Time::HiRes qw(sleep);
use Users::Test;
use Users::Test::Client;

my $server = Users::Test->new;
$server->sql(<<~'SQL');
    insert into users.account_group (id, name) values (2, 'other');
    insert into users.billing_plan (id, name) values (2, 'other');
    insert into users.credential (user_id, username, secret_digest)
    select 1, 'john' || n, sha256('secret') from generate_series(1, 100) as n;
    SQL
$server->start;

my $reader  = 'Authorization: Bearer ' . READ_TOKEN . "\r\n";
my $updater = 'Authorization: Bearer ' . UPDATE_TOKEN . "\r\n";
my $host    = "Host: localhost\r\n";
my $get     = "GET /api/users HTTP/1.1\r\n";
my $hidden  = "GET /hidden HTTP/1.1\r\n$host\r\n";
my $next    = "GET /api/users?next HTTP/1.1\r\n$host${reader}Connection: close\r\n\r\n";

# Every row that a request could have changed.
sub rows {
    return join "\n", map { $server->sql("select * from users.$_ as row order by row") }
        qw(account application credential idempotency provider_account token);
}
my $rows = rows();

# One answer of this status, by the module or by httpd, and then the next request's or the end of
# the connection. status 0: no answer.
sub test_bytes ($what, $status, $by, $bytes) {
    my $connection = $server->connect;
    $connection->send($bytes . $next);
    if (!$status) {
        unlike $connection->rest, qr{^HTTP/1\.1 [1-4]|user}m, "$what is not answered";
        return;
    }
    my $answer = $connection->answer;
    is $answer->{status}, $status, "$what: $status";
    is $answer->{headers}{'content-type'} =~ s/;.*//r,
        $by eq 'httpd' ? 'text/html' : 'application/json', "... by $by";
    my $closes = ($answer->{headers}{connection} // '') eq 'close';
    like $connection->rest, $closes ? qr/\A\z/ : qr{\A(?:HTTP/1\.1 200 .*\n\{"user":\{"id":1,[^\r\n]*)?\z}s,
        '... and the next request is served, or the connection ends';
}

sub test_all (@cases) {
    test_bytes(@$_) for @cases;
    is rows(), $rows, 'the database is as it was';
    is $server->request(GET => '/api/users', token => READ_TOKEN)->{status}, 200,
        'the server serves';
    ok !grep({ /hidden/ } $server->access_log), 'nothing hidden was taken for a request';
}

subtest 'header fields that are too many, too long or malformed' => sub {
    my $long = 'x' x 9000;
    test_all(
        ['a field of 9 KB', 400, httpd => "$get$host${reader}X-Long: $long\r\n\r\n"],
        ['a token of 9 KB', 400, httpd => "$get${host}Authorization: Bearer $long\r\n\r\n"],
        ['101 fields', 400, httpd => "$get$host$reader" . "X: 1\r\n" x 101 . "\r\n"],
        ['a target of 9 KB', 414, httpd => "GET /api/users?$long HTTP/1.1\r\n$host$reader\r\n"],
        ['lines that end in LF', 400, httpd => "$get$host$reader\r\n" =~ s/\r//gr],
        ['a line that ends in CR', 400, httpd => "$get${host}X: y\r$reader\r\n"],
        ['CR in a value', 400, httpd => "$get$host${reader}X: a\rb\r\n\r\n"],
        ['CR behind a token', 400, httpd => "$get$host" . $reader =~ s/\r\n/\r\r\n/r . "\r\n"],
        ['NUL in a value', 400, httpd => "$get$host${reader}X: a\0b\r\n\r\n"],
        ['NUL behind a token', 400, httpd => "$get$host" . $reader =~ s/\r\n/\0\r\n/r . "\r\n"],
        ['a blank before the colon', 400, httpd => "$get$host" . $reader =~ s/:/ :/r . "\r\n"],
        ['a blank before the first field', 400, httpd => "$get $host$reader\r\n"],
        ['a line without a colon', 400, httpd => "$get$host${reader}nonsense\r\n\r\n"],
        ['a field without a name', 400, httpd => "$get$host$reader: x\r\n\r\n"],
        ['empty lines before a request', 200, module => "\r\n\r\n$get$host$reader\r\n"],
        ['a folded field', 200, module => "$get$host" . $reader =~ s/Bearer/$&\r\n/r . "\r\n"],
        ['two blanks', 400, httpd => "GET  /api/users HTTP/1.1\r\n$host$reader\r\n"],
        ['tabs', 400, httpd => "GET\t/api/users\tHTTP/1.1\r\n$host$reader\r\n"],
        ['a blank in the target', 400, httpd => "GET /api/users x HTTP/1.1\r\n$host$reader\r\n"],
        ['a version in lower case', 400, httpd => "GET /api/users http/1.1\r\n$host$reader\r\n"],
        ['no version', 0, undef, "GET /api/users\r\n$host$reader\r\n"],
        ['HTTP/1.0 without Host', 200, module => "GET /api/users HTTP/1.0\r\n$reader\r\n"],
        ['the preface of HTTP/2', 400, httpd => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
        ['the beginning of TLS', 400, httpd => "\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03"],
        ['an upgrade', 200, module =>
                "$get$host${reader}Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"],
        ['Authorization as a field of one hop', 200, module =>
                "$get$host${reader}Connection: Authorization\r\n\r\n"],
        ['another expectation', 417, httpd => "$get$host${reader}Expect: more\r\n\r\n"],
    );
};

subtest 'Host' => sub {
    my $with = sub ($what, $status, @hosts) {
        my $fields = join '', map { "Host: $_\r\n" } @hosts;
        return [$what, $status, $status == 200 ? 'module' : 'httpd', "$get$fields$reader\r\n"];
    };
    test_all(
        $with->('no Host', 400),
        $with->('an empty Host', 400, ''),
        $with->('two Hosts', 400, 'localhost', 'other.example'),
        $with->('one Host twice', 400, 'localhost', 'localhost'),
        (map { $with->("Host: " . s/[^ -~]/?/gr, 400, $_) } 'a b', 'a,b', 'localhost:x',
            'localhost:99999', 'user@localhost', '[::1', '../../etc', 'localhost/api',
            '%6cocalhost', "' or true --", "localhost\0", "\xC3\xA9"),
        (map { $with->('Host: ' . substr($_, 0, 20), 200, $_) } 'localhost:80', 'localhost.',
            '[::1]', '-', 'other.example', 'x' x 8000),
    );
};

subtest 'targets' => sub {
    $server->expect_log(qr/AH10244: invalid URI path/);
    my $to = sub ($status, $by, @targets) {
        return map { ["to $_" =~ s/[^ -~]/?/gr, $status, $by, "GET $_ HTTP/1.1\r\n$host$reader\r\n"] }
            @targets;
    };
    test_all(
        $to->(200, module => qw(/%2e/api/users /api/%2e%2e/api/users /api/users/../users
            /api/users/%2e%2e/users /./api/.//users /api/users?%00 /api/users?a=%zz
            HTTP://LOCALHOST/api/users http:///api/users http://other.example/api/users
            http://localhost:1/api/users)),
        $to->(404, module => qw(/api/users/. /api/users/./ /api/users/%2e
            http://localhost/api/users/)),
        $to->(404, httpd => qw(/api/users%00 /api/users/%00 /api/users%00.json /api%2fusers /api;x/users
            /api/users%3bx /api/users%20 /api/users%2520 /api/users%3fx /api/users%2e
            /api/users/.. /api/users//.. /api\\users //localhost/api/users
            http://localhost http://localhost?x),
            "/api/users\xC3\xA9"),
        $to->(400, httpd => qw(api/users * localhost:80 /../api/users /%2e%2e/api/users
            /api/users%zz /api/users% /api/users%u0041 http://a@b/api/users ftp://localhost/api/users),
            '/api/users#x', "/api/users\x01"),
        ['CONNECT', 405, httpd => "CONNECT localhost:80 HTTP/1.1\r\n$host$reader\r\n"],
    );
};

# ---- Bodies ----------------------------------------------------------------------------------

# Were one of them stored, its city would be seen.
my $json   = '{"user":{"city":"Hostile"}}';
my $length = length $json;
my $hex    = sprintf '%x', $length;
my $chunks = "$hex\r\n$json\r\n0\r\n\r\n";

# A PATCH with these header fields and this body; good or not, it comes with a tag that is stale.
sub patch_bytes ($fields, $body, $version = '1.1') {
    return "PATCH /api/users HTTP/$version\r\n$host${updater}If-Match: \"stale\"\r\n"
        . "Content-Type: application/json\r\n$fields\r\n$body";
}

sub in_chunks ($what, $status, $by, $body) {
    return [$what, $status, $by, patch_bytes("Transfer-Encoding: chunked\r\n", $body)];
}

subtest 'where a body ends' => sub {
    my $te = "Transfer-Encoding: chunked\r\n";
    my $cl = "Content-Length: $length\r\n";
    my $lengths = sub ($status, $by, @values) {
        return map { ["the length '$_'", $status, $by, patch_bytes("Content-Length: $_\r\n", $json)] }
            @values;
    };
    my $codings = sub ($status, $by, @values) {
        return map { ["the coding '$_'" =~ s/[^ -~]/?/gr, $status, $by,
            patch_bytes("Transfer-Encoding: $_\r\n", $chunks)] } @values;
    };
    test_all(
        ['a length beside chunks', 412, module => patch_bytes("Content-Length: 4\r\n$te", $chunks)],
        ['chunks beside a length', 412, module => patch_bytes("${te}Content-Length: 999\r\n", $chunks)],
        ['a length that hides a request', 400, module => patch_bytes(
            $te . 'Content-Length: ' . (5 + length $hidden) . "\r\n", "0\r\n\r\n$hidden")],
        ['chunks that hide a request', 400, httpd => patch_bytes("$te$cl", $hidden)],
        ['two lengths', 400, httpd => patch_bytes("${cl}Content-Length: 5\r\n", $json)],
        ['one length twice', 400, httpd => patch_bytes($cl x 2, $json)],
        $lengths->(400, httpd => '', "+$length", '-0', '0x1b', '1b', "$length, $length",
            "$length;", '99999999999999999999'),
        $lengths->(413, module => '9223372036854775807'),
        $lengths->(412, module => "0$length", "  $length "),
        ['no length', 400, module => patch_bytes('', '')],
        $codings->(400, httpd => '', 'identity', 'xchunked', 'chunked, identity', '"chunked"',
            'chunked;q=1', "\x0Bchunked"),
        $codings->(412, module => 'Chunked', 'identity, chunked'),
        ['a coding and a blank before the colon', 400, httpd =>
                patch_bytes("Transfer-Encoding : chunked\r\n", $chunks)],
        ['two codings', 400, httpd => patch_bytes("${te}Transfer-Encoding: identity\r\n", $chunks)],
        ['chunks in HTTP/1.0', 412, module => patch_bytes($te, $chunks, '1.0')],
    );
};

subtest 'chunks' => sub {
    my $rest = "\r\n$json\r\n0\r\n\r\n";
    test_all(
        in_chunks('an extension', 412, module => "$hex;name=value$rest"),
        in_chunks('a quoted extension', 412, module => qq($hex;name="0\\r\\n"$rest)),
        in_chunks('a blank before an extension', 412, module => "$hex ;x$rest"),
        in_chunks('an extension of the last chunk', 412, module => "$hex\r\n$json\r\n0;x\r\n\r\n"),
        in_chunks('a size in capitals', 412, module => uc($hex) . $rest),
        in_chunks('a size with zeros before it', 412, module => '0' x 40 . $hex . $rest),
        in_chunks('an extension of 9 KB', 413, httpd => "$hex;" . 'x' x 9000 . $rest),
        (map { in_chunks("the size '$_'", 413, httpd => "$_$rest") } 'F' x 16, 'F' x 17),
        in_chunks('the size of 8 EiB', 413, module => '7' . 'F' x 15 . $rest . ' ' x 70_000),
        (map { in_chunks("the size '$_'", 400, httpd => "$_$rest") } '', "0x$hex", "-$hex",
            "+$hex", " $hex", "$hex x", 'g'),
        in_chunks('an extension that ends in LF', 400, httpd => "$hex;x\n$json\r\n0\r\n\r\n"),
        in_chunks('an extension with CR', 400, httpd => "$hex;x\ry$rest"),
        in_chunks('sizes that end in LF', 400, httpd => "$hex\n$json\n0\n\n"),
        in_chunks('a chunk without its end', 400, httpd => "$hex\r\n${json}0\r\n\r\n"),
        in_chunks('a chunk beyond its size', 400, httpd => "$hex\r\n${json}x\r\n0\r\n\r\n"),
        in_chunks('a credential in the trailer', 412, module =>
                "$hex\r\n$json\r\n0\r\n${reader}If-Match: *\r\n\r\n"),
        in_chunks('a trailer that is none', 400, module => "$hex\r\n$json\r\n0\r\nnonsense\r\n\r\n"),
        in_chunks('a trailer of 9 KB', 400, module =>
                "$hex\r\n$json\r\n0\r\nX: @{['x' x 9000]}\r\n\r\n"),
        in_chunks('a trailer of 200 fields', 400, module =>
                "$hex\r\n$json\r\n0\r\n" . "X: 1\r\n" x 200 . "\r\n"),
    );
};

sub submit ($method, $body, @headers) {
    return $server->request($method, '/api/users', body => $body,
        token   => $method eq 'POST' ? REGISTER_TOKEN : UPDATE_TOKEN,
        headers => ['Content-Type' => 'application/json', @headers]);
}

subtest 'JSON that is large for its size' => sub {
    my $names = '"fname":"Jane","lname":"Roe","provider_server":"s","provider_username":"jane"';
    my @wide  = (
        # what, status, members of "user"
        ['many unknown members', 422, '"fname":[],' . join ',', map { qq("$_":0) } 1 .. 6000],
        ['a long unknown name', 422, '"fname":[],"' . 'x' x 60_000 . '":0'],
        ['a long list', 422, '"fname":[' . join(',', (0) x 30_000) . ']'],
        ['many lists', 422, '"fname":[' . join(',', ('[]') x 20_000) . ']'],
        ['a long text', 422, '"fname":"' . 'x' x 60_000 . '"'],
        ['a long text of escapes', 422, '"fname":"' . '\u00e9' x 10_000 . '"'],
        ['a long blank', 422, '"fname":"' . ' ' x 60_000 . '"'],
        ['a long address', 422, '"email":"a@' . 'b.' x 30_000 . 'c"'],
        ['many labels', 422, '"merge_labels":{' . join(',', map { qq("$_":[]) } 1 .. 5000) . '}'],
        ['many labels to remove, and one', 422, '"merge_labels":{"x":"' . 'x' x 17_000 . '",'
                . join(',', map { qq("$_":null) } 1 .. 3000) . '}'],
        ['a list where an object is due', 422, '"merge_labels":[' . join(',', ('{}') x 9000) . ']'],
        ['a number of 60,000 digits', 400, '"merge_labels":{"n":' . '9' x 60_000 . '}'],
        ['a number of 60,000 decimals', 400, '"merge_labels":{"n":0.' . '9' x 60_000 . '}'],
        ['a NUL behind a literal', 400, qq("city":null\0)],
    );
    for my $case (@wide) {
        my ($what, $status, $members) = @$case;
        is submit(PATCH => qq({"user":{$members}}))->{status}, $status, "PATCH with $what";
        is submit(POST => qq({"user":{@{[ $names =~ s/"fname":"Jane",//r ]},$members}}))->{status},
            $status, "POST with $what";
    }
    is_deeply submit(PATCH => qq({"user":{"city":null\0}}))->{json}{errors},
        ['the request body holds a NUL character'], 'a NUL is found behind a literal, too';
    is rows(), $rows, 'the database is as it was';
};

# ---- What is stored --------------------------------------------------------------------------

# Texts that would mean something to SQL, C, JSON, a shell, a template or a browser.
my @texts = (
    q('; drop table users.account; --), q(' or '1'='1), q("; select pg_sleep(60); --), q(\\'; --),
    q($$; $1 :name), '%s%n%99999d', '{}[]",:', '"}}', '\\u0041\\', '${7*7}{{7*7}}', '`id`; $(id)',
    '<script>alert(1)</script>', "\x{202E}x\x{200B}\x{FEFF}", '../../etc/passwd', 'NULL', 'null',
);
my %texts = map { $_ => 1 }
    qw(fname lname city state zip address1 address2 company_name phone);

subtest 'SQL and the like in a text is a text' => sub {
    for my $text (@texts) {
        my $name   = $text =~ s/[^ -~]/?/gr;
        my %user   = map { $_ => $text } keys %texts;
        my $answer = $server->request(PATCH => '/api/users', token => FULL_TOKEN,
            json => { user => { %user, merge_labels => { $text => $text } } });
        is_deeply [@{ $answer->{json}{user} }{ sort keys %user }], [($text) x keys %user],
            "every text can be $name";
        my %wrong = (email => $text, country => $text, currency => $text, locale => $text,
            c_sftp_pass => $text, merge_labels => $text);
        $answer = $server->request(PATCH => '/api/users', token => FULL_TOKEN,
            json => { user => \%wrong });
        is $answer->{status}, 422, '... and nothing else can';
        is_deeply [sort map { /^(\w+)/ } $answer->{json}{errors}->@*], [sort keys %wrong],
            '... as is told of each';

        my %registration = (%user, map { $_ => $text }
                qw(provider provider_server provider_username external_id));
        $answer = $server->request(POST => '/api/users', token => REGISTER_TOKEN,
            json => { user => { %registration, labels => { $text => $text } } });
        is $answer->{status}, 201, '... nor is it more in a registration';
        is $answer->{json}{user}{external_id}, $text, '... which shows it';
        my $stored = $text =~ s/'/''/gr;
        is $server->sql(<<~SQL), 1, '... and has stored it';
            select count(*) from users.provider_account
            where provider_server = '$stored' and provider_username = '$stored'
            SQL
    }
    is $server->sql(q(select count(*) from users.account where labels <> '{}')), 1 + @texts,
        'each is an account with its labels';
    $server->sql('delete from users.account where id <> 1');
};

subtest 'SQL and the like in a header field' => sub {
    my %registration = (fname => 'Jane', lname => 'Roe', provider_server => 's',
        provider_username => 'jane');
    my $john = 'john1';    # another one each time: after some failures he would be locked out
    for my $text (grep { /^[ -~]+$/ } @texts) {
        my $quoted = '"' . $text =~ s/["\\]/\\$&/gr . '"';
        my $answer = $server->request(POST => '/api/users', token => REGISTER_TOKEN,
            headers => ['Idempotency-Key' => $quoted], json => { user => \%registration });
        is $answer->{status}, 201, "the key $quoted";
        my $stored = $text =~ s/'/''/gr;
        is $server->sql("delete from users.idempotency where key = '$stored' returning 1"), 1,
            '... is stored as it is';
        is $server->request(GET => '/api/users', basic => [$text, 'secret'])->{status}, 401,
            '... is nobody\'s name';
        is $server->request(GET => '/api/users', basic => [$john++, $text])->{status}, 401,
            '... nor his password';
        $text =~ tr/" //d;
        is $server->request(PATCH => '/api/users', token => UPDATE_TOKEN, json => { user => {} },
            headers => ['If-Match' => qq("$text")])->{status}, 412, '... nor a tag';
    }
    $server->sql('delete from users.account where id <> 1');
};

subtest 'a registration sets what is its own' => sub {
    my %own = map { $_ => 1 } keys %texts,
        qw(email country currency locale c_sftp_pass labels external_id);
    my %registration = (fname => 'Jane', lname => 'Roe', provider_server => 's',
        provider_username => 'jane');
    my %value = (
        id                => 1,
        group_id          => 2,
        billing_plan_id   => 2,
        timezone          => 'Asia/Tokyo',
        vat               => 'NL1',
        created_at        => '2000-01-01T00:00:00Z',
        updated_at        => '2000-01-01T00:00:00Z',
        unprocessed_usage => -100,
        usage             => { containers => -1 },
        application_id    => 2,
        suspended_at      => '2000-01-01T00:00:00Z',
    );
    my @columns = grep { !$own{$_} } split /\n/, $server->sql(<<~'SQL');
        select distinct column_name from information_schema.columns
        where table_schema in ('users', 'users_api') and column_name not like 'document%'
        order by 1
        SQL
    my %foreign = map { $_ => $value{$_} // 'x' } grep { !/^provider/ } @columns;
    is_deeply [grep { !exists $foreign{$_} } keys %value], [], 'every column of every table is tried';

    my $shown = sub {
        $server->sql(<<~'SQL');
            select group_id, billing_plan_id, timezone, vat, unprocessed_usage, usage,
              application_id, suspended_at, created_at > now() - interval '1 hour', updated_at = created_at
            from users.account where id <> 1
            SQL
    };
    my $post = sub ($body, @headers) {
        my $answer = $server->request(POST => '/api/users',
            token => REGISTER_TOKEN, json => $body, headers => \@headers);
        my $row = $shown->();
        $server->sql('delete from users.account where id <> 1');
        return ($answer->{status}, $row);
    };
    my @plain = $post->({ user => \%registration });
    is $plain[0], 201, 'an account is registered';
    is_deeply [$post->({ user => { %foreign, %registration } })], \@plain,
        'members that are columns make no other one';
    is_deeply [$post->({ user => \%registration, %foreign })], \@plain, '... nor beside "user"';
    for my $column (sort keys %foreign) {
        is_deeply [$post->({ user => { %registration, $column => $foreign{$column} } },
            Prefer => 'handling=strict')], [422, ''], "$column is no member of a registration";
    }
};

$server->stop;

# ---- Time ------------------------------------------------------------------------------------

subtest 'who sends slowly does not keep the server' => sub {
    $server->start(
        modules => ['reqtimeout'],
        conf    => 'RequestReadTimeout header=2 body=2',
    );
    $rows = rows();
    my @slow;
    for (1 .. 20) {
        push @slow, my ($line, $field, $body) = map { $server->connect } 1 .. 3;
        $line->send('GET /api/us');
        $field->send("$get$host${reader}X-Slow: ");
        $body->send(patch_bytes("Content-Length: $length\r\n", '{'));
    }
    my $dripping = $server->connect;
    $dripping->send("PATCH /api/users HTTP/1.1\r\n$host$updater"
            . "Content-Type: application/json\r\nContent-Length: 60000\r\n\r\n");
    is $server->request(GET => '/api/users', token => READ_TOKEN)->{status}, 200,
        'others are served meanwhile';
    my $answered = wait_until(sub { $dripping->send(' '); sleep 0.05; $dripping->can_read },
        'an answer to one that drips');
    is $dripping->answer->{status}, 408, 'a body that drips is too slow';
    my @rest = map { $_->rest =~ m{^HTTP/1\.1 (\d+)} ? $1 : 'none' } @slow;
    is_deeply \@rest, [(qw(none 408 408)) x 20], 'a request that does not get on is ended';
    is rows(), $rows, 'the database is as it was';
    is $server->request(GET => '/api/users', token => READ_TOKEN)->{status}, 200,
        'the server serves';
};

done_testing;
