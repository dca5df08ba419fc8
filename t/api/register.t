# POST registers an account for an application.

use v5.36;
use utf8;
use JSON::PP ();
use Users::Test;

my $HEX = qr/[0-9a-f]{12}/;

my $server = Users::Test->new;
$server->start(
    site => <<~SITE,
        UsersDB "@{[$server->conninfo]}"
        <Location /api/users>
          UsersEndpoint account
        </Location>
        <VirtualHost *:*>
          ServerName localhost
        </VirtualHost>
        <VirtualHost *:*>
          ServerName panel.example
          UsersHostName users.example.org
          UsersDefaultCountry NL
          UsersDefaultCurrency EUR
          UsersDefaultLocale nl
        </VirtualHost>
        <VirtualHost *:*>
          ServerName nowhere.example
          UsersDefaultCountry ZZ
        </VirtualHost>
        <VirtualHost *:*>
          ServerName strict.example
          UsersDuplicates conflict
        </VirtualHost>
        SITE
);

# Register an account: what "user" has besides the required fields, or instead of them.
# Options: host, token, body (members beside "user").
sub registration ($user = {}, %option) {
    my %user = (
        fname             => 'Jane',
        lname             => 'Roe',
        provider_server   => 'server.example',
        provider_username => 'jane',
        %$user
    );
    return (
        POST    => '/api/users',
        token   => $option{token} // REGISTER_TOKEN,
        headers => [Host => $option{host} // 'localhost', @{ $option{headers} // [] }],
        json    => { %{ $option{body} // {} }, user => \%user }
    );
}

sub register (@arguments) {
    return $server->request(registration(@arguments));
}

# The account that a registration's answer brought, as its credentials see it.
sub account_of ($answer) {
    my $api = $answer->{json}{user}{api};
    return $server->request(GET => '/api/users', basic => [$api->@{qw(username password)}]);
}

sub count_rows () {
    return $server->sql(<<~SQL);
        select (select count(*) from users.account), (select count(*) from users.provider_account),
          (select count(*) from users.credential), (select count(*) from users.idempotency)
        SQL
}

sub statuses (@answers) {
    my %count;
    $count{ $_->{status} }++ for @answers;
    return \%count;
}

# Another application, with a token that may register. Returns the token.
sub another_application ($name) {
    $server->sql(<<~SQL);
        insert into users.application (name, client_id, secret_digest, scopes)
        values ('$name', '$name', sha256('$name'), '{register}');
        select users_api.issue_token(id, null, sha256('token-of-$name'), '{register}', null)
        from users.application where client_id = '$name';
        SQL
    return "token-of-$name";
}

subtest 'the request of a cPanel plugin gets a 201 and works at once' => sub {
    my %bodies = (
        'with the names beside "user"' =>
            '{"user":{"fname":"jdoe","lname":"jdoe","email":"jdoe@example.net","locale":"en"},'
            . '"provider_server":"https:\/\/server.example:2083","provider_username":"jdoe"}',
        'with a provider and labels too' =>
            '{"user":{"fname":"jroe","lname":"jroe","email":"jroe@example.net","locale":"es_419"},'
            . '"provider":"cpanel","provider_server":"https:\/\/server.example:2083",'
            . '"provider_username":"jroe",'
            . '"labels":{"cpanel":{"https:\/\/server.example:2083":"jroe"}}}',
    );
    for my $name (sort keys %bodies) {
        my ($user) = $bodies{$name} =~ /"fname":"(\w+)"/;
        my $answer = $server->request(POST => '/api/users',
            token   => REGISTER_TOKEN,
            headers => [
                'Accept'       => 'application/json; api_version=52',
                'Content-Type' => 'application/json'
            ],
            body => $bodies{$name});
        is $answer->{status}, 201, "$name: 201";
        is_deeply $answer->{json}{user}{labels},
            { cpanel => { 'https://server.example:2083' => $user } }, "$name: the label";

        my $seen = account_of($answer);
        is $seen->{status}, 200, "$name: the credentials work";
        is $seen->{json}{user}{email}, "$user\@example.net", "$name: they show their own account";
    }
};

subtest 'the answer has its members in order, and nobody keeps it' => sub {
    my $answer = register({ email => 'order@example.net', company_name => 'Roe & Co.' });
    like $answer->{body}, qr/^
        \{"user":\{
        "id":\d+,"fname":"Jane","lname":"Roe","email":"order\@example\.net","locale":"en",
        "currency":"USD","company_name":"Roe\ &\ Co\.","external_id":null,
        "api":\{"username":"[^"]+","password":"[^"]+"\},
        "labels":\{"cpanel":\s*\{"server\.example":\s*"jane"\}\}
        \}\}$/x, 'the members';
    is $answer->{headers}{'content-type'}, 'application/json', 'the type';
    is $answer->{headers}{'content-length'}, length $answer->{body}, 'the length';
    is $answer->{headers}{'cache-control'}, 'no-store', 'its secret is not for caches';
};

subtest 'every field of the request is stored' => sub {
    my %user = (
        fname        => 'Zoë',
        lname        => 'O’Neil',
        email        => 'Zoe@example.net',
        locale       => 'pt-BR',
        city         => 'São Paulo',
        state        => 'SP',
        zip          => '01000-000',
        c_sftp_pass  => JSON::PP::true,
        country      => 'BR',
        address1     => 'Rua 1',
        address2     => 'Casa 2',
        company_name => 'Zoë Ltda',
        phone        => '+55 11 5555 5555',
        currency     => 'BRL',
    );
    my $seen = account_of(register({%user}))->{json}{user};
    is delete $seen->{currency}{code}, delete $user{currency}, 'the currency';
    is_deeply { $seen->%{ keys %user } }, \%user, 'all the others';
};

subtest 'names are required' => sub {
    my $before = count_rows();
    my @names  = qw(fname lname provider_server provider_username);
    my %faulty = (
        'null'           => undef,
        'empty'          => '',
        'blank'          => " \t\x{a0}",
        '256 characters' => 'ü' x 256,
        'a boolean'      => JSON::PP::true,
    );
    for my $name (@names) {
        for my $fault (sort keys %faulty) {
            my $answer = register({ $name => $faulty{$fault} });
            is $answer->{status}, 422, "$name $fault: 422";
            my $errors = $answer->{json}{errors};
            is @$errors, 1, "$name $fault: one sentence";
            like $errors->[0], qr/^$name /, "$name $fault: the sentence begins with the field";
        }
        is register({ $name => 'ü' x 255 })->{status}, 201, "$name of 255 characters: 201";
    }
    my $missing = $server->request(POST => '/api/users',
        token => REGISTER_TOKEN, json => { user => {} });
    is $missing->{status}, 422, 'none is there: 422';
    is_deeply $missing->{json}{errors}, [map { "$_ can't be blank" } @names], 'a sentence for each';

    my ($accounts)       = split /\|/, $before;
    my ($accounts_after) = split /\|/, count_rows();
    is $accounts_after - $accounts, @names, 'only the good ones are stored';
};

subtest 'what the request leaves out has a default' => sub {
    my $seen = account_of(register())->{json}{user};
    is $seen->{country},        'US',            'country';
    is $seen->{currency}{code}, 'USD',           'currency';
    is $seen->{locale},         'en',            'locale';
    is $seen->{c_sftp_pass},    JSON::PP::false, 'c_sftp_pass';

    my @unset = qw(country currency locale c_sftp_pass phone company_name);
    my $null  = account_of(register({ map { $_ => undef } @unset }))->{json}{user};
    is_deeply { $null->%{@unset} }, { $seen->%{@unset} }, 'null is as good as missing';

    my $panel = account_of(register({}, host => 'panel.example'))->{json}{user};
    is $panel->{country},        'NL',  'UsersDefaultCountry';
    is $panel->{currency}{code}, 'EUR', 'UsersDefaultCurrency';
    is $panel->{locale},         'nl',  'UsersDefaultLocale';

    $panel = account_of(register({ country => 'FR', currency => 'GBP', locale => 'de' }, host => 'panel.example'))
        ->{json}{user};
    is $panel->{country},        'FR',  'a country that is named goes before UsersDefaultCountry';
    is $panel->{currency}{code}, 'GBP', 'a currency that is named goes before UsersDefaultCurrency';
    is $panel->{locale},         'de',  'a locale that is known goes before UsersDefaultLocale';
};

subtest 'a default country that the database does not know is the administrator\'s fault' => sub {
    my $answer = register({}, host => 'nowhere.example');
    is $answer->{status}, 500, 'not the client\'s';
    $server->expect_log(qr/\[users:error\] .*UsersDefaultCountry: the database knows no country ZZ/);
    is register({ country => 'NL' }, host => 'nowhere.example')->{status}, 201, 'who names one has that';
    $answer = register({ country => 'XX' }, host => 'nowhere.example');
    is_deeply $answer->{json}{errors}, ['country is not a known country'], '... or is told of it';
    $answer = register({ country => 'USA' });
    is_deeply $answer->{json}{errors}, ['country is not a known country'], '... by its form, too';
};

subtest 'a locale that is not known becomes the default' => sub {
    for my $locale ('foo', 'xx', 'en-XX', 'i_cpanel_snowmen', '', ' ') {
        my $answer = register({ locale => $locale });
        is $answer->{status}, 201, "'$locale': 201";
        is $answer->{json}{user}{locale}, 'en', "'$locale': the default";
    }
    is register({ locale => 'foo' }, host => 'panel.example')->{json}{user}{locale}, 'nl',
        'which is UsersDefaultLocale';
    is register({ locale => 'PT-br' })->{json}{user}{locale}, 'pt-BR', 'one that is known is kept';
};

subtest 'the provider names the label' => sub {
    my %cases = (
        'none is cpanel'       => [{}                      => 'cpanel'],
        'null is cpanel'       => [{ provider => undef }   => 'cpanel'],
        'it is put downcase'   => [{ provider => 'PLesk' } => 'plesk'],
        'it may stay as it is' => [{ provider => 'whm' }   => 'whm'],
    );
    for my $name (sort keys %cases) {
        my ($user, $provider) = $cases{$name}->@*;
        is_deeply register($user)->{json}{user}{labels},
            { $provider => { 'server.example' => 'jane' } }, "$name, in \"user\"";
        is_deeply register({}, body => $user)->{json}{user}{labels},
            { $provider => { 'server.example' => 'jane' } }, "$name, beside it";
    }
};

subtest 'labels and merge_labels merge into the label of the provider' => sub {
    my $cpanel = { 'server.example' => 'jane' };
    my %cases  = (
        'labels beside "user"' =>
            [{}, { labels => { a => '1' } }, { cpanel => $cpanel, a => '1' }],
        'labels in "user"' => [{ labels => { a => '1' } }, {}, { cpanel => $cpanel, a => '1' }],
        'merge_labels'     =>
            [{ merge_labels => { a => ['1'] } }, {}, { cpanel => $cpanel, a => ['1'] }],
        'merge_labels replaces a whole label' => [
            { merge_labels => { a      => { new => 'x' } } },
            { labels       => { a      => { old => 'x' }, b => 'y' } },
            { cpanel => $cpanel, a => { new => 'x' }, b => 'y' }
        ],
        'null in merge_labels removes a label' => [
            { merge_labels => { a => undef } },
            { labels       => { a => '1', b => '2' } },
            { cpanel => $cpanel, b => '2' }
        ],
        'the same labels in both places' => [
            { labels => { a => { b => '1', c => '2' } } },
            { labels => { a => { c => '2', b => '1' } } },
            { cpanel => $cpanel, a => { b => '1', c => '2' } }
        ],
    );
    for my $name (sort keys %cases) {
        my ($user, $body, $labels) = $cases{$name}->@*;
        my $answer = register($user, body => $body);
        is $answer->{status}, 201, "$name: 201";
        is_deeply $answer->{json}{user}{labels}, $labels, $name;
    }
    for my $case (
        ['merge_labels that is no object', { merge_labels => [1] }],
        ['labels that are no object', { labels => 'a' }],
        ['merge_labels beyond 16 KiB', { merge_labels => { a => 'x' x 16384 } }],
        )
    {
        my ($name, $user) = @$case;
        my $answer = register($user);
        is $answer->{status}, 422, "$name: 422";
        like $answer->{json}{errors}[0], qr/^(?:merge_)?labels /, "$name: the sentence says so";
    }
    my $large = { a => 'x' x 16384 };
    for my $case (
        ['/labels',            {}, { labels => $large }],
        ['/user/labels',       { labels => $large }],
        ['/user/labels',       { labels => $large, merge_labels => undef }],
        ['/user/merge_labels', { merge_labels => $large }],
        )
    {
        my ($pointer, $user, $body) = @$case;
        my $answer = register($user, body => $body, headers => [Accept => 'application/problem+json']);
        is_deeply [map { [$_->@{qw(detail pointer)}] } $answer->{json}{errors}->@*],
            [[$pointer =~ s{.*/}{}r . ' is too large (maximum is 16 KiB)', $pointer]], "too large: $pointer";
    }
};

subtest 'numbers in labels keep their value' => sub {
    my $numbers = '[0.1, 1.5e-7, 9007199254740993, -0.25, 12345678.000000001]';
    my $answer  = $server->request(POST => '/api/users',
        token   => REGISTER_TOKEN,
        headers => ['Content-Type' => 'application/json'],
        body    => '{"user":{"fname":"Jane","lname":"Roe","merge_labels":{"numbers":' . $numbers
            . '}},"provider_server":"server.example","provider_username":"jane"}');
    is $answer->{status}, 201, 'they are accepted';
    my ($shown) = $answer->{body} =~ /"numbers":\s*(\[[^]]*\])/;
    is $server->sql("select '$shown'::jsonb = '$numbers'::jsonb"), 't', "$shown are the same";
};

subtest 'the same name in two places' => sub {
    for my $name (qw(provider provider_server provider_username)) {
        my $same = register({ $name => 'a' }, body => { $name => 'a' });
        is $same->{status}, 201, "$name twice with one value: 201";
        my $different = register({ $name => 'a' }, body => { $name => 'b' });
        is $different->{status}, 422, "$name twice with two values: 422";
        is_deeply $different->{json}{errors}, ["$name is given twice with different values"],
            "$name: the sentence";
    }
    my $labels = register({ labels => { a => '1' } }, body => { labels => { a => '2' } });
    is $labels->{status}, 422, 'labels twice with two values: 422';
};

subtest 'an address is generated where there is none to take' => sub {
    my $taken = 'John@Example.COM';    # the demo's john@example.com
    my %cases = (none => {}, null => { email => undef }, blank => { email => "  \t" },
        empty => { email => '' }, taken => { email => $taken });
    for my $name (sort keys %cases) {
        my $answer = register($cases{$name});
        is $answer->{status}, 201, "$name: 201";
        like $answer->{json}{user}{email}, qr/^jane_$HEX\@localhost$/, "$name: a generated one";
    }
    my $own = register({ email => 'Free@Example.net' });
    is $own->{json}{user}{email}, 'Free@Example.net', 'a free one is kept as it is';
    like register({}, host => 'panel.example')->{json}{user}{email},
        qr/^jane_$HEX\@users\.example\.org$/, 'UsersHostName is its domain';
};

subtest 'a generated address is valid, whatever the user name is' => sub {
    for my $username ('..a b@c/ü', '...', 'a..b.', '"', 'x' x 255, 'ü' x 255, '.' x 254 . 'a') {
        my $answer = register({ provider_username => $username }, host => 'panel.example');
        my $shown  = length $username < 20 ? $username : substr($username, 0, 5) . '…';
        utf8::encode($shown);
        my $email = $answer->{json}{user}{email} // '';
        my ($local) = $email =~ /^(.*)_$HEX\@users\.example\.org$/;
        is $answer->{status}, 201, "$shown: 201";
        like "${local}_", qr/^(?:[A-Za-z0-9+_-]+\.)*[A-Za-z0-9+_-]+$/,
            "$shown: $email is a dot-atom (RFC 5321 section 4.1.2)";
        cmp_ok length $local, '<=', 64 - 13, "$shown: its local part has at most 64 octets";

        my $api   = $answer->{json}{user}{api};
        my $again = $server->request(PATCH => '/api/users',
            basic => [$api->@{qw(username password)}], json => { user => { email => $email } });
        is $again->{status}, 200, "$shown: PATCH takes it";
    }
};

subtest 'of a hundred simultaneous registrations with one address exactly one has it' => sub {
    my @answers =
        $server->parallel(map { [registration({ email => 'crowd@example.net' })] } 1 .. 100);
    is_deeply statuses(@answers), { 201 => 100 }, 'all are 201';
    is scalar(grep { $_->{json}{user}{email} eq 'crowd@example.net' } @answers), 1,
        'one answer has it';
    my %distinct = map { $_->{json}{user}{email} => 1 } @answers;
    is keys %distinct, 100, 'no two accounts have the same';
    is $server->sql("select count(*) from users.account where lower(email) = 'crowd\@example.net'"),
        1, 'one account has it';
};

subtest 'external_id is unique within an application' => sub {
    my $first = register({ external_id => 'X-1' });
    is $first->{status}, 201, 'the first';
    is $first->{json}{user}{external_id}, 'X-1', 'is told it';

    my $before = count_rows();
    my $second = register({ external_id => 'X-1' });
    is $second->{status}, 422, 'a second is refused';
    is_deeply $second->{json}{errors}, ['external_id has already been taken'], 'by this sentence';
    is_deeply register({ external_id => 'X-1', country => 'XX' })->{json}{errors},
        ['country is not a known country', 'external_id has already been taken'],
        'beside other faults too';
    is register({ external_id => 'x' x 256 })->{status}, 422, 'one of 256 characters is too';
    is count_rows(), $before, 'these left nothing behind';

    for my $none (undef, '', '', ' ') {
        is register({ external_id => $none })->{status}, 201, 'none may be had twice';
    }
    my $other = another_application('external');
    is register({ external_id => 'X-1' }, token => $other)->{status}, 201,
        'another application may use it';

    my @answers = $server->parallel(map { [registration({ external_id => 'X-2' })] } 1 .. 10);
    is_deeply statuses(@answers), { 201 => 1, 422 => 9 }, 'of ten simultaneous ones one gets it';
};

subtest 'a provider pair may register again, unless UsersDuplicates is conflict' => sub {
    my %pair   = (provider_username => 'twice');
    my @create = map { register({%pair}) } 1, 2;
    is_deeply statuses(@create), { 201 => 2 }, 'create makes another account';
    isnt $create[0]{json}{user}{id}, $create[1]{json}{user}{id}, 'not the same one';

    my $before   = count_rows();
    my $conflict = register({%pair}, host => 'strict.example');
    is $conflict->{status}, 409, 'conflict is a 409';
    is @{ $conflict->{json}{errors} }, 1, 'with a sentence';
    is count_rows(), $before, 'and leaves nothing behind';

    my %others = (
        'another user name' => { provider_username => 'thrice' },
        'another server'    => { %pair, provider_server => 'other.example' },
        'another provider'  => { %pair, provider        => 'plesk' },
    );
    for my $name (sort keys %others) {
        is register($others{$name}, host => 'strict.example')->{status}, 201, "$name is no conflict";
        is register($others{$name}, host => 'strict.example')->{status}, 409, "$name again is one";
    }
    is register({ %pair, provider => 'CPANEL' }, host => 'strict.example')->{status}, 409,
        'the same provider in another case is one';
    my $token = another_application('duplicates');
    is register({%pair}, host => 'strict.example', token => $token)->{status}, 201,
        'another application has pairs of its own';

    my @answers = $server->parallel(
        map { [registration({ provider_username => 'crowd' }, host => 'strict.example')] } 1 .. 10);
    is_deeply statuses(@answers), { 201 => 1, 409 => 9 }, 'of ten simultaneous ones one is made';
};

subtest 'credentials are random and stored hashed' => sub {
    my @api = map { register()->{json}{user}{api} } 1 .. 5;
    my %distinct;
    for my $api (@api) {
        for my $secret ($api->@{qw(username password)}) {
            like $secret, qr/^[A-Za-z0-9_-]{20,}$/, 'at least 20 characters of 64: 120 bits';
            $distinct{$secret} = 1;
        }
    }
    is keys %distinct, 10, 'no two are the same';

    my ($name, $password) = $api[0]->@{qw(username password)};
    is $server->sql(<<~SQL), 't', 'the table holds the SHA-256 of the password';
        select secret_digest = sha256('$password') from users.credential where username = '$name'
        SQL
    my @tables = split /\n/, $server->sql(<<~SQL);
        select format('%I.%I', schemaname, tablename) from pg_tables where schemaname = 'users'
        SQL
    cmp_ok @tables, '>', 5, 'there are tables to search';
    my $rows = join ' union all ', map { "select t::text as row from $_ t" } @tables;
    is $server->sql("select count(*) from ($rows) r where position('$password' in row) > 0"), 0,
        'no table holds it in clear';
    unlike $server->postgres->log, qr/\Q$password/, 'nor does the log of PostgreSQL';
    is scalar(grep { /\Q$password/ } $server->error_log), 0, 'nor that of httpd';
};

subtest 'a registration is stored as a whole or not at all' => sub {
    my %tables = (
        'users.account'          => 'email',
        'users.provider_account' => 'provider_server',
        'users.credential'       => 'username',
        'users.idempotency'      => 'key',
    );
    $server->expect_log(qr/\[users:error\] .* the database \S+ refused \w+: 23514/);
    for my $table (sort keys %tables) {
        my $before = count_rows();
        $server->sql(
            "alter table $table add constraint broken check ($tables{$table} is null) not valid");
        my @request = registration({}, headers => ['Idempotency-Key' => "whole-$table"]);
        my $failed  = $server->request(@request);
        is $failed->{status}, 500, "where $table takes no row: 500";
        unlike $failed->{body}, qr/broken|constraint|$table|23514/, "$table: nothing is given away";
        is count_rows(), $before, "$table: no row is left behind";

        $server->sql("alter table $table drop constraint broken");
        is $server->request(@request)->{status}, 201, "$table: the same request succeeds later";
    }
};

done_testing;
