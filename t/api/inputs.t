# Each kind of input that clients are known to send has its right answer.

use v5.36;
use utf8;
use JSON::PP ();
use Users::Test;
use Users::Test::Usersctl;

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
          UsersDefaultLocale zh-Hant
        </VirtualHost>
        SITE
);

my $JSON = JSON::PP->new->ascii->canonical->allow_nonref;
my ($true, $false) = (JSON::PP::true, JSON::PP::false);
my @STRICT = (headers => [Prefer => 'handling=strict']);
my @TEXTS  = qw(phone address1 address2 city state zip company_name);

sub shown ($value) {
    return $JSON->encode($value);
}

# Register an account: what "user" has besides the required fields; body => members beside it.
sub register ($user = {}, %option) {
    my %user = (
        fname => 'Jane', lname => 'Roe', provider_server => 's.example', provider_username => 'jane',
        %$user
    );
    return $server->request(
        POST    => '/api/users',
        token   => REGISTER_TOKEN,
        json    => { %{ delete $option{body} // {} }, user => \%user },
        headers => [Host => delete $option{host} // 'localhost', @{ delete $option{headers} // [] }],
    );
}

sub account_of ($answer) {
    my $api = $answer->{json}{user}{api} or return {};    # it was refused
    return $server->request(GET => '/api/users', basic => [$api->@{qw(username password)}])->{json}{user};
}

sub patch ($user, %option) {
    return $server->request(PATCH => '/api/users', token => FULL_TOKEN, json => { user => $user }, %option);
}

sub account {
    return $server->request(GET => '/api/users', token => READ_TOKEN)->{json}{user};
}

sub row ($columns = 'account') {
    return $server->sql("select $columns from users.account where id = 1");
}

sub is_refused ($answer, $field, $what) {
    is $answer->{status}, 422, "$what: 422";
    is_deeply [map { /^(\w+) / } $answer->{json}{errors}->@*], [$field], "... about $field";
}

# ---- Blank where there is a default ------------------------------------------------------------

subtest 'null and blank are as good as missing where a registration has a default' => sub {
    my $default = account_of(register());
    my @blanks  = (undef, '', ' ', "\t\x{3000}", "\x{200b}", "\x{3164}");
    for my $field (qw(currency country c_sftp_pass locale), @TEXTS) {
        for my $blank (@blanks) {
            my $answer = register({ $field => $blank });
            is $answer->{status}, 201, "$field " . shown($blank) . ': 201';
            is_deeply account_of($answer)->{$field}, $default->{$field}, '... with the default';
        }
    }
    is register({ currency => { code => undef, symbol => '' } })->{json}{user}{currency}, 'USD',
        'an object of a currency without a code';
    for my $blank (@blanks) {
        my $user = register({ provider => $blank, external_id => $blank, email => $blank })->{json}{user};
        my $what = shown($blank);
        is_deeply [keys $user->{labels}->%*], ['cpanel'], "provider $what";
        is $user->{external_id}, undef, "external_id $what";
        like $user->{email}, qr/^jane_[0-9a-f]{12}\@localhost$/, "email $what";
        is_deeply [keys register({}, body => { provider => $blank })->{json}{user}{labels}->%*], ['cpanel'],
            "provider $what beside \"user\"";
        is_deeply [keys register({ provider => $blank }, body => { provider => 'whm' })->{json}{user}{labels}->%*],
            ['whm'], '... is not a second value';
        is_refused(register({ provider_username => $blank }), 'provider_username', "what is required, $what");
    }
};

subtest 'no labels are null, too, or an empty list' => sub {
    my $cpanel = { cpanel => { 's.example' => 'jane' } };
    for my $none (undef, []) {
        my $what = shown($none);
        for my $name (qw(labels merge_labels)) {
            my $answer = register({ $name => $none });
            is $answer->{status}, 201, "$name $what: 201";
            is_deeply $answer->{json}{user}{labels}, $cpanel, '... and the label of the provider';
        }
        is register({ labels => $none }, body => { labels => { a => 1 } })->{json}{user}{labels}{a}, 1,
            "labels $what are not a second value";
        is register({}, body => { labels => $none })->{status}, 201, "labels $what beside \"user\"";
        is register({ labels => $none }, headers => ['Idempotency-Key' => "none$what"])->{status}, 201,
            '... with an Idempotency-Key';

        patch({ merge_labels => { a => 1 } });
        my $before = row();
        is patch({ merge_labels => $none })->{status}, 200, "merge_labels $what on PATCH";
        is row(), $before, '... changes nothing';
        is patch({ merge_labels => $none, labels => { b => 1 } })->{status}, 200, '... nor beside other members';
        is row(), $before, '... at all';
        is patch({ merge_labels => $none, city => 'Ede' })->{json}{user}{city}, 'Ede', '... while others do';
        is row('labels'), '{"a": 1}', '... and the labels stay';
    }
    is_refused(patch({ merge_labels => $_ }), 'merge_labels', 'merge_labels ' . shown($_)) for [1], '', $false;
};

# ---- Types -----------------------------------------------------------------------------------

subtest 'an integer is taken for a text' => sub {
    is_refused(patch({ $_ => 12345 }, @STRICT), $_, "$_ under strict handling") for qw(fname lname), @TEXTS;
    for my $field (qw(fname lname), @TEXTS) {
        is patch({ $field => 12345 })->{status}, 200, "$field: 200";
        is account()->{$field}, '12345', '... as text';
    }
    is patch({ zip => -9223372036854775808 })->{json}{user}{zip}, '-9223372036854775808', 'the least of them';
    is_refused(patch({ zip => $_ }), 'zip', 'no number with a point, ' . shown($_)) for 1.5, $true, [1], {};

    my %user = (external_id => 4711, provider => 7, provider_server => 8, provider_username => 9);
    my $user = register(\%user)->{json}{user};
    is $user->{external_id}, '4711', 'external_id of a registration';
    is_deeply $user->{labels}, { 7 => { 8 => '9' } }, 'what names the provider';
    for my $field (sort keys %user) {
        is_refused(register({ $field => $user{$field} }, @STRICT), $field, "$field under strict handling");
    }
    is_refused(register({ external_id => '4711' }), 'external_id', 'a second of that name');
    is register({ locale => 7 })->{json}{user}{locale}, 'en', 'a locale that is not known';
    is_refused(patch({ $_ => 978 }), $_, "no code is a number: $_") for qw(currency country locale email);
};

subtest 'what is taken for a boolean' => sub {
    for my $case (map { my $is = $_; map { [$_, $is] } $is ? ($true, 1, '1', 'true') : ($false, 0, '0', 'false') } 1, 0) {
        my ($value, $is) = @$case;
        my $what = shown($value);
        patch({ c_sftp_pass => $is ? $false : $true });
        is patch({ c_sftp_pass => $value })->{status}, 200, "$what: 200";
        is account()->{c_sftp_pass}, $is ? $true : $false, '... as it says';
        is account_of(register({ c_sftp_pass => $value }))->{c_sftp_pass}, $is ? $true : $false,
            '... in a registration';
        next if ref $value;
        is_refused(patch({ c_sftp_pass => $value }, @STRICT), 'c_sftp_pass', "$what under strict handling");
    }
    is_refused(patch({ c_sftp_pass => $_ }), 'c_sftp_pass', 'not ' . shown($_)) for 2, -1, 1.5, 'yes', 'TRUE', ' 1', '', [1];
};

# ---- Addresses -------------------------------------------------------------------------------

subtest 'what an address is' => sub {
    my @bad = (
        'victim@example.com,attacker.example', 'a,b@example.com', 'a@example.com;b@example.com',
        '<jane@example.com>', 'Jane <jane@example.com>', '"jane"@example.com', 'jane(x)@example.com',
        'jane@-example.com', 'jane@example-.com', 'jane@a.b/c?d=e', 'jane@a_b.example', 'jane@a.b:25',
        '.jane@example.com', 'jane.@example.com', 'ja..ne@example.com', 'jane@[127.0.0.1]', 'jane@127.0.0.1',
        'jane@' . 'x' x 64 . '.example', "jane\@example.com\x{200b}", "ja\x{202e}ne\@example.com",
        "ja\x{ad}ne\@example.com", "ja\x{61c}ne\@example.com", "ja\x{3164}ne\@example.com",
        "jane\@ex\x{2066}ample.com", "ja\x{e0041}ne\@example.com", "jane\x{ff20}example.com",
        "jane\@example\x{3002}com", "jane\@\x{ff45}xample.com", "jane\@exam\x{2100}.com", "\x{301}a\@example.com",
        "jane\@exa\nmple.com", "jane\x{9b}\@example.com",
    );
    for my $email (@bad) {
        is_refused(patch({ email => $email }), 'email', shown($email));
        is_refused(register({ email => $email }), 'email', '... in a registration');
    }
    my @good = ('o\'brien+a=b@example.org', '!#$%&*-/?^_`{|}~@example.org', 'jürgen@müller.example', '用户@例子.测试',
        'مثال@مثال.مصر', 'क्ष@उदाहरण.भारत', 'a@xn--bcher-kva.example', 'a@col·legi.example', 'root@LocalHost',
        'a@1.example');
    for my $email (@good) {
        is patch({ email => $email })->{status}, 200, shown($email);
        is account()->{email}, $email, '... is stored as it is';
    }
};

subtest 'an address is trimmed and composed' => sub {
    is patch({ email => " trim\@example.com\t\x{a0}" })->{status}, 200, 'white space around it';
    is account()->{email}, 'trim@example.com', '... is not stored';
    is register({ email => ' Trim@Example.com ' })->{json}{user}{email} =~ /^jane_/, 1, '... nor a second address';

    my ($composed, $decomposed) = ("jos\x{e9}\@caf\x{e9}.example", "jose\x{301}\@cafe\x{301}.example");
    is patch({ email => $decomposed })->{status}, 200, 'NFD';
    is account()->{email}, $composed, '... is stored as NFC';
    my $usersctl = Users::Test::Usersctl->new($server);
    for my $same ($composed, $decomposed) {
        is +($usersctl->run(qw(user show), $same))[0], 0, 'usersctl finds it, ' . shown($same);
        like register({ email => $same })->{json}{user}{email}, qr/^jane_/, 'another account has it, ' . shown($same);
    }
    my $api = register({ email => 'free@example.com' })->{json}{user}{api};
    my $other = patch({ email => $decomposed }, token => undef, basic => [$api->@{qw(username password)}]);
    is_deeply $other->{json}{errors}, ['email has already been taken'], '... and is told so';
    is_deeply patch({ email => 'a' . "\x{323}\x{301}" x 1000 . '@example.com' })->{json}{errors},
        ['email is too long (maximum is 254 bytes)'], 'marks without end';
};

# ---- Texts -----------------------------------------------------------------------------------

subtest 'no text has control characters' => sub {
    my $before = row();
    for my $text ("F\r\nX-Evil: 1", "a\tb", "a\x{1b}[2J", "a\x{7f}b", "a\x{80}b", "a\x{85}b", "a\x{9b}2J") {
        my $what = shown($text);
        for my $field (qw(fname lname), @TEXTS) {
            is_refused(patch({ $field => $text }), $field, "$field $what");
        }
        for my $field (qw(fname city external_id provider provider_server provider_username)) {
            is_refused(register({ $field => $text }), $field, "$field $what in a registration");
        }
    }
    is row(), $before, 'nothing is stored';
    is_deeply patch({ city => "a\nb" })->{json}{errors}, ["city can't have control characters"], 'the sentence';
    is_refused(patch({ locale => "en\n" }), 'locale', 'a code');
    is register({ locale => "en\n" })->{json}{user}{locale}, 'en', 'a locale of a registration is not known then';
};

subtest 'what shows nothing is blank' => sub {
    my @nothing = ("\x{200b}", "\x{ad}", "\x{202e}", "\x{2800}", "\x{3164}", "\x{115f}", "\x{feff}", "\x{fe0f}",
        "\x{e0041}", "\x{1d159}", "\x{61c}", "\x{180e}", " \x{2003}\x{200d} ");
    for my $text (@nothing) {
        my $what = shown($text);
        is_deeply patch({ $_ => $text })->{json}{errors}, ["$_ can't be blank"], "$_ $what" for qw(fname lname email);
        is_deeply register({ $_ => $text })->{json}{errors}, ["$_ can't be blank"], "$_ $what"
            for qw(fname provider_server provider_username);
    }
    is patch({ fname => "می\x{200c}خواهم" })->{status}, 200, 'within a word they have their use';
    is account()->{fname}, "می\x{200c}خواهم", '... and stay';
};

# ---- What GET showed -------------------------------------------------------------------------

# An account as an earlier version, or an import, has left it.
sub make_old {
    $server->sql(<<~'SQL');
        alter table users.account drop constraint if exists account_country_fkey;
        update users.account set locale = 'xx_yy', country = 'YU', email = 'a,b@example.com', fname = E'Jo\nhn',
          lname = '', city = repeat('x', 300), phone = E'a\tb', labels = '{}' where id = 1
        SQL
}

subtest 'what GET showed can be sent back' => sub {
    make_old();
    my $old = account();
    my @odd = qw(locale country email fname lname city phone);
    my $before = row();
    for my $field (@odd) {
        is patch({ $field => $old->{$field} })->{status}, 200, "$field as it is";
        is row(), $before, '... stays';
        is patch({ $field => $old->{$field} }, @STRICT)->{status}, 200, '... to a strict client, too';
    }
    my $read = $server->request(GET => '/api/users', token => READ_TOKEN);
    my @back = (headers => ['Content-Type' => 'application/json'], body => $read->{body});
    my $answer = $server->request(PATCH => '/api/users', token => FULL_TOKEN, @back);
    is_deeply $answer->{json}{user}, { %$old, updated_at => $answer->{json}{user}{updated_at} }, 'the whole document';
    is $server->request(PATCH => '/api/users', token => UPDATE_TOKEN, @back)->{body}, '{}',
        '... by a token that may not read';

    my $edited = { %$old, address1 => 'Domplein 1', zip => 3512 };
    $answer = patch($edited);
    is $answer->{status}, 200, 'an edited copy';
    is_deeply $answer->{json}{user},
        { %$old, address1 => 'Domplein 1', zip => '3512', updated_at => $answer->{json}{user}{updated_at} },
        '... changes what was edited';
    isnt patch({ city => $old->{city}, state => 'UT' })->{json}{user}{updated_at},
        patch({ city => $old->{city}, state => 'UT' })->{json}{user}{updated_at}, '... each time';
    is patch({ city => $old->{city}, merge_labels => { a => 1 } })->{status}, 200, 'beside labels';
    is row('labels'), '{"a": 1}', '... which are stored';
};

subtest '... and nothing but that' => sub {
    make_old();
    my $before = row();
    my %other = (locale => 'yy', country => 'ZZ', email => 'b,a@example.com', fname => "Jo\rhn", lname => ' ',
        city => 'y' x 300, phone => "b\ta");
    is_refused(patch({ $_ => $other{$_} }), $_, "another $_ that is bad") for sort keys %other;
    my $answer = patch({ %other, locale => 'xx_yy', fname => "Jo\nhn" });
    is_deeply [map { /^(\w+)/ } $answer->{json}{errors}->@*], [qw(lname email city country phone)],
        'what differs is told, all of it';
    is_refused(patch({ country => 'YU', locale => 'zz', address1 => 'x' }), 'locale', 'what only the database knows');
    is_refused(patch({ locale => 'xx_yy', timezone => account()->{timezone} }, @STRICT), 'timezone',
        'what is read-only is to a strict client');
    is_refused(patch({ city => account()->{city}, address1 => "\n" }), 'address1', 'a fault beside it');
    is row(), $before, 'nothing is stored';

    my $tag = $server->request(GET => '/api/users', token => READ_TOKEN)->{headers}{etag};
    is patch({ locale => 'xx_yy', state => 'UT' }, headers => ['If-Match' => '"0000"'])->{status}, 412,
        'a stale tag counts';
    is patch({ city => 'x' x 300 }, headers => ['If-Match' => '"0000"'])->{status}, 412, '... in any case';
    is patch({ city => 'x' x 300, state => 'UT' }, headers => ['If-Match' => $tag])->{status}, 200, 'so does the present one';
    is patch({ city => 'x' x 300, state => 'UT' }, headers => ['If-Match' => $tag])->{status}, 412, '... once';
    $server->sql('update users.account set suspended_at = now() where id = 1');
    is patch({ city => 'x' x 300 })->{status}, 403, 'a suspended account';
    $server->sql('update users.account set suspended_at = null where id = 1');
};

# ---- Locales ---------------------------------------------------------------------------------

subtest 'a locale is a language, and perhaps a script and a region' => sub {
    my %good = (
        'pt_br' => 'pt-BR', 'pt_BR' => 'pt-BR', 'PT-br' => 'pt-BR', 'es-419' => 'es-419', 'es_419' => 'es-419',
        'zh-Hant' => 'zh-Hant', 'ZH_HANT_tw' => 'zh-Hant-TW', 'az-Cyrl-001' => 'az-Cyrl-001', 'nl' => 'nl',
    );
    for my $locale (sort keys %good) {
        is patch({ locale => $locale })->{status}, 200, "$locale: 200";
        is account()->{locale}, $good{$locale}, "... as $good{$locale}";
        is register({ locale => $locale })->{json}{user}{locale}, $good{$locale}, '... in a registration';
    }
    for my $locale ('foo', 'xx', 'en-ZZ', 'en-999', 'en-276', 'zh-Xxxx', 'zh-Qaaa', 'zh-TW-Hant', 'en--US', 'en-US-',
        'zh-Hant-ZZ', 'pt-BR.UTF-8', 'i_cpanel_snowmen') {
        is_refused(patch({ locale => $locale }), 'locale', $locale);
        is register({ locale => $locale })->{json}{user}{locale}, 'en', '... becomes the default of a registration';
        is register({ locale => $locale }, host => 'panel.example')->{json}{user}{locale}, 'zh-Hant',
            '... which is UsersDefaultLocale';
    }
};

done_testing;
