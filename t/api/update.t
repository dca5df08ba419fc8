# What PATCH stores, and what it refuses.

use v5.36;
use utf8;
use JSON::PP ();
use Users::Test;

my $server = Users::Test->start;
my $json   = JSON::PP->new->ascii->canonical->allow_nonref;
my ($true, $false) = (JSON::PP::true, JSON::PP::false);

sub patch ($user, %option) {
    return $server->request(
        PATCH => '/api/users',
        token => FULL_TOKEN,
        json  => { user => $user },
        %option
    );
}

sub patch_bytes ($body) {
    return $server->request(
        PATCH   => '/api/users',
        token   => FULL_TOKEN,
        headers => ['Content-Type' => 'application/json'],
        body    => $body
    );
}

sub shown {
    return $server->request(GET => '/api/users', token => READ_TOKEN);
}

sub account {
    return shown()->{json}{user};
}

# What no answer shows is stored too.
sub row ($columns = 'account') {
    return $server->sql("select $columns from users.account where id = 1");
}

sub labels {
    return JSON::PP->new->utf8->decode(row('labels'));
}

sub short ($value) {
    my $text = $json->encode($value);
    return length $text > 40 ? substr($text, 0, 37) . '...' : $text;
}

sub fields_of ($answer) {
    return [sort map { /^(\w+) / ? $1 : "no field: $_" } @{ $answer->{json}{errors} }];
}

my @texts = qw(phone address1 address2 city state zip company_name);

# ---- The fields ------------------------------------------------------------------------------

my $long_domain = join '.', ('d' x 60) x 3, 'org';
my $long_email = 'a' x (254 - length "\@$long_domain") . "\@$long_domain";

# The field, what is sent and, where that is something else, what is stored.
my @good = (
    (
        map {
            (
                [$_ => 'Anna'],
                [$_ => 'Anna Maria'],
                [$_ => "  Bob\t",               'Bob'],
                [$_ => "\x{A0}\x{2003}Carol\n", 'Carol'],
                [$_ => '日本語'],
                [$_ => 'é' x 255],
                [$_ => "\x{1F600}" x 255],
                [$_ => ' ' x 10 . 'x' x 255 . ' ' x 10, 'x' x 255],
            )
        } qw(fname lname)
    ),
    (
        map {
            (
                [$_ => 'text'],
                [$_ => undef],
                [$_ => 'é' x 255],
                [$_ => "l'été; drop table users.account; --"],
                [$_ => '"\\/<>&'],
                [$_ => undef],
            )
        } @texts
    ),
    [email => 'anna@example.org'],
    [email => 'Anna.Bell+tag@Example.ORG'],
    [email => "o'brien\@example.org"],
    [email => 'root@localhost'],
    [email => $long_email],
    [country => 'NL'],
    [country => 'ca', 'CA'],
    [country => 'uS', 'US'],
    [currency => 'EUR', { code => 'EUR', symbol => '€' }],
    [currency => 'gbp', { code => 'GBP', symbol => '£' }],
    [currency => { code => 'USD', symbol => '$' }],
    [currency => { code => 'eur' }, { code => 'EUR', symbol => '€' }],
    [currency => { code => 'USD', symbol => '€' }, { code => 'USD', symbol => '$' }],
    [locale => 'nl'],
    [locale => 'pt-BR'],
    [locale => 'en'],
    [c_sftp_pass => $true],
    [c_sftp_pass => $false],
);
for my $row (@good) {
    my ($field, $sent, $stored) = (@$row, $row->[1]);
    my $before = account();
    my $answer = patch({ $field => $sent });
    is $answer->{status}, 200, "$field can be " . short($sent);
    my $after = account();
    is_deeply $after, { %$before, $field => $stored, updated_at => $after->{updated_at} },
        "$field is then " . short($stored) . ', and no other field has changed';
}

my @not_strings = (1.5, $true, $false, [], ['x'], {});

my %bad = (
    (map { $_ => [undef, '', "  \t", 'x' x 256, 'é' x 256, @not_strings] } qw(fname lname)),
    (map { $_ => ['x' x 256, 'é' x 256, @not_strings] } @texts),
    email => [
        undef, '', ' ', 'anna', '@example.org', 'anna@', 'anna@example', 'anna@@example.org',
        'anna@bell@example.org', 'an na@example.org', 42,
        "anna\@example\n.org", "an\x{01}na\@example.org", "anna\x{7F}\@example.org",
        "an\x{A0}na\@example.org", "anna\x{3000}\@example.org", "a$long_email",
        'é' x 122 . '@example.org', @not_strings
    ],
    country => [undef, '', 'ZZ', 'X', 'USA', 'ÅÄ', ' US', 'U1', 42, @not_strings],
    currency => [
        undef, '', 'ZZZ', 'EU', 'EURO', '€', 'ЕUR', {}, { code => undef }, { code => 'ZZZ' },
        { code => ['EUR'] }, { symbol => '$' }, 978, $true, ['EUR']
    ],
    locale => [
        undef, '', 'foo', 'zz', 'en-', 'en-ZZ', 'en-us-x', 'e', '-US', 42, @not_strings
    ],
    c_sftp_pass  => [undef, '', 'yes', 2, 1.5, [], {}],
    merge_labels => ['', 'label', 1, $true, ['a']],
);
my $before = row();
for my $field (sort keys %bad) {
    for my $value ($bad{$field}->@*) {
        my $answer = patch({ $field => $value });
        is $answer->{status}, 422, "$field can't be " . short($value);
        is_deeply fields_of($answer), [$field], '... and that alone is what the errors are about';
    }
}
is row(), $before, 'what is refused leaves the account as it was';

# ---- All or nothing --------------------------------------------------------------------------

my $other = $server->request(
    POST  => '/api/users',
    token => REGISTER_TOKEN,
    json  => {
        user => {
            fname             => 'Jane',
            lname             => 'Roe',
            email             => 'Jane@Example.com',
            provider_server   => 'server.example',
            provider_username => 'jane',
        }
    }
)->{json}{user};

my %faulty = (
    fname        => undef,
    lname        => ' ',
    email        => 'jane@example.com',
    country      => 'ZZ',
    currency     => 'ZZZ',
    locale       => 'zz',
    c_sftp_pass  => 'yes',
    merge_labels => [1],
    map { $_ => 'x' x 256 } @texts,
);
$before = row();
my $answer = patch(\%faulty);
is $answer->{status}, 422, 'many faults in one request';
is_deeply fields_of($answer), [sort keys %faulty], 'are all told at once';
is row(), $before, 'and change nothing';

for my $fault (['zip', [], 'wrong type'], ['country', 'ZZ', 'code that nobody knows']) {
    my ($field, $value, $what) = @$fault;
    is patch({ fname => 'Good', merge_labels => { good => 1 }, $field => $value })->{status}, 422,
        "a $what among good fields";
    is row(), $before, 'keeps those from being stored';
}

patch({ fname => 'John', lname => 'Doe', city => undef, phone => undef });
$answer = patch({ fname => 'Anna', city => 'Utrecht', phone => '+31 30 1', currency => 'EUR' });
is_deeply [account()->@{qw(fname lname city phone)}, account()->{currency}{code}],
    ['Anna', 'Doe', 'Utrecht', '+31 30 1', 'EUR'], 'many fields change in one request';

# ---- Email addresses -------------------------------------------------------------------------

for my $email ('Jane@Example.com', 'jane@example.com', 'JANE@EXAMPLE.COM') {
    $answer = patch({ email => $email });
    is $answer->{status}, 422, "another account has the address $email";
    is_deeply $answer->{json}{errors}, ['email has already been taken'], '... and the error says so';
}
patch({ email => 'john@example.com' });
for my $email ('JOHN@Example.com', 'john@example.com', 'john@example.com') {
    is patch({ email => $email })->{status}, 200, "an account may write its own address $email";
    is account()->{email}, $email, '... which is stored in that case';
}

# ---- Members that are not the owner's --------------------------------------------------------

my %foreign = (
    id                => 2,
    timezone          => 'UTC',
    vat               => 'NL1',
    created_at        => '2000-01-01T00:00:00.000Z',
    updated_at        => '2000-01-01T00:00:00.000Z',
    billing_plan      => { id => 2, name => 'free' },
    billing_plan_id   => 2,
    services          => { projects => 1000 },
    quota             => { containers => { quota => 1000 } },
    unprocessed_usage => -100,
    external_id       => 'mine',
    labels            => { admin => $true },
    provider          => 'cpanel',
    provider_server   => 'server.example',
    provider_username => 'root',
    is_admin          => $true,
    group             => 2,
    user_id           => 2,
    api               => { username => 'me', password => 'secret' },
    password          => 'secret',
    scopes            => ['register'],
    'fname '          => 'Mallory',
    FNAME             => 'Mallory',
    ''                => 'nothing',
    __proto__         => { is_admin => $true },
);
my %own = map { $_ => 1 } keys %bad;
my @columns = split /\n/, $server->sql(<<~'SQL');
    select column_name from information_schema.columns
    where table_schema = 'users' and table_name = 'account'
    SQL
for my $column (grep { !$own{$_} } @columns) {
    $foreign{$column} //= 2;
}
ok exists $foreign{suspended_at}, 'every column of the table is tried';

my $others = sub { $server->sql('select account from users.account where id <> 1') };
my @hidden = grep { !$own{$_} && $_ ne 'updated_at' && !/^document_/ } @columns; # the rest follows
my $hidden = 'row(' . join(', ', @hidden) . ')';
my @before = (row($hidden), account()->{updated_at}, $others->());
$answer = patch(\%foreign);
is $answer->{status}, 200, 'members that the owner may not set are ignored';
is_deeply [row($hidden), account()->{updated_at}, $others->()], \@before,
    '... and set nothing, here or in another account';

$answer = patch({ %foreign, city => 'Leiden' });
is account()->{city}, 'Leiden', '... while what stands beside them is stored';
is row($hidden), $before[0], '... alone';

$answer = patch({ city => 'Delft' }, json => { user => { city => 'Delft' }, %foreign });
is $answer->{status}, 200, 'what stands beside "user" is ignored';
is account()->{city}, 'Delft', '... while its members are stored';
is row($hidden), $before[0], '... alone';

$before = row();
for my $name (sort keys %foreign) {
    $answer = patch({ city => 'Gouda', $name => $foreign{$name} },
        headers => [Prefer => 'handling=strict']);
    is $answer->{status}, 422, "'$name' is an error to a client that wants strict handling";
    is 0 + grep({ index($_, "$name ") == 0 } $answer->{json}{errors}->@*), 1,
        '... which begins with its name';
}
is row(), $before, '... and nothing is stored';
is patch({ city => 'Gouda' }, headers => [Prefer => 'handling=lenient'])->{status}, 200,
    'strict handling has to be asked for';
$answer = patch({ city => 'Breda' }, headers => [Prefer => 'handling=strict']);
is $answer->{status}, 200, 'strict handling takes the fields that there are';
is $answer->{headers}{'preference-applied'}, 'handling=strict', '... and is acknowledged';

# ---- Sending back what was read --------------------------------------------------------------

$server->sql(q{update users.account set unprocessed_usage = 12.3456789012345678 where id = 1});
my $read = shown();
$answer = patch_bytes($read->{body});
is $answer->{status}, 200, 'what GET shows can be sent back';
is_deeply $answer->{json}{user},
    { $read->{json}{user}->%*, updated_at => $answer->{json}{user}{updated_at} },
    '... and changes nothing';

my $edited = $read->{json};
$edited->{user}{address1} = 'Domplein 1';
is patch($edited->{user})->{status}, 200, 'an edited copy of what GET shows can be sent back';
is_deeply account(), { $edited->{user}->%*, updated_at => account()->{updated_at} },
    '... and changes what was edited';

# ---- The answer ------------------------------------------------------------------------------

for my $may_read ([token => FULL_TOKEN], [basic => [$other->{api}->@{qw(username password)}]]) {
    $answer = patch({ city => 'Assen' }, token => undef, @$may_read);
    my $next = $server->request(GET => '/api/users', @$may_read);
    is $answer->{body}, $next->{body}, "who may read ($may_read->[0]) is answered with what GET shows";
    is $answer->{json}{user}{city}, 'Assen', '... after the change';
}
$answer = patch({ city => 'Zwolle' }, token => UPDATE_TOKEN);
is $answer->{status}, 200, 'who may not read can change';
is $answer->{body}, '{}', '... and is shown nothing';
is account()->{city}, 'Zwolle', '... of what was stored';

# ---- Labels ----------------------------------------------------------------------------------

# What the labels become in turn.
my @merges = (
    [{ a => 1, b => { c => 1, d => 2 } }, { a => 1, b => { c => 1, d => 2 } }, 'labels are added'],
    [{ a => 'x' }, { a => 'x', b => { c => 1, d => 2 } }, 'a label that is named is replaced'],
    [{ b => { c => 9 } }, { a => 'x', b => { c => 9 } }, '... as a whole, not merged below'],
    [{}, { a => 'x', b => { c => 9 } }, 'no label changes nothing'],
    [{ a => undef }, { b => { c => 9 } }, 'null removes a label'],
    [{ z => undef }, { b => { c => 9 } }, '... or nothing, where there is none'],
    [{ b => { c => undef } }, { b => { c => undef } }, 'a null within a label is a value'],
    [{ b => [undef, { x => undef }] }, { b => [undef, { x => undef }] }, '... in a list too'],
    [{ b => undef, 'ключ "\\' => 'é', '' => $false }, { 'ключ "\\' => 'é', '' => $false },
        'any text is a key'],
    [{ 'ключ "\\' => undef, '' => undef }, {}, 'all labels can go'],
);
$server->sql(q{update users.account set labels = '{}' where id = 1});
for my $merge (@merges) {
    my ($patch, $result, $what) = @$merge;
    is patch({ merge_labels => $patch })->{status}, 200, $what;
    is_deeply labels(), $result, '... as ' . short($result);
}

# As sent, and as PostgreSQL writes that value.
my %numbers = (
    '0'                        => '0',
    '-7'                       => '-7',
    '0.1'                      => '0.1',
    '1e2'                      => '100',
    '1E-5'                     => '0.00001',
    '123456789012345678'       => '123456789012345678',
    '9223372036854775807'      => '9223372036854775807',
    '-9223372036854775808'     => '-9223372036854775808',
    '0.12345678901234567890'   => '0.12345678901234567890',
    '-98765432109876543210.01' => '-98765432109876543210.01',
    '1e300'                    => '1' . '0' x 300,
);
for my $number (sort keys %numbers) {
    is patch_bytes(qq({"user":{"merge_labels":{"n":$number,"list":[$number]}}}))->{status}, 200,
        "a label can be the number $number";
    is row(q{concat_ws(' ', labels -> 'n', labels #> '{list,0}')}), "$numbers{$number} $numbers{$number}",
        '... which keeps its value';
}

$server->sql(q{update users.account set labels = '{}' where id = 1});
is patch({ merge_labels => { a => 'x' x 16_000 } })->{status}, 200, 'labels can have 16 KiB';
$before = row();
for my $more (
    { b => 'x' x 1000 },
    { a => 'x' x 16_500 },
    { a => 'é' x 8_500 },
    { a => undef, b => [('abc') x 4000] },
    )
{
    $answer = patch({ merge_labels => $more });
    is $answer->{status}, 422, 'no more, with ' . short($more);
    is_deeply fields_of($answer), ['merge_labels'], '... and the error says so';
}
is row(), $before, '... so what was there stays';
is patch({ merge_labels => { a => undef, b => 'x' x 16_000 } })->{status}, 200,
    'it is the result that counts';
patch({ merge_labels => { b => undef } });

# Some of it is judged before the database sees it, where numbers are as long as they are written.
my $mixed = '[1e300, 1.5e-7, -0, 10e-1, 123456789012345678, true, null, "\\u00e9\\n", "", {}, [], {"a": [[]]}]';
for my $list (map { join ', ', ($mixed) x $_ } 0, 1, 20) {
    my $labels = sub ($padding) { sprintf '{"list": [%s], "none": null, "text": "%s"}', $list, 'x' x $padding };
    $server->sql(q{update users.account set labels = '{}' where id = 1});
    my $rest = 16_384 - $server->sql(sprintf q{select octet_length((('%s'::jsonb) - 'none')::text)}, $labels->(0));
    for my $case ([$rest + 1, 422], [$rest, 200]) {
        my ($padding, $status) = @$case;
        is patch_bytes(sprintf '{"user":{"merge_labels":%s}}', $labels->($padding))->{status}, $status,
            "... $status where $padding characters are added to " . length($list);
    }
}
$answer = patch_bytes('{"user":{"fname":"","country":"XX","merge_labels":{"n":[' . join(',', ('1e300') x 1000) . ']}}}');
is_deeply [sort @{ fields_of($answer) }], [qw(country fname merge_labels)], 'too large labels are one fault of several';
$server->sql(q{update users.account set labels = '{}' where id = 1});

# ---- The time of the last change -------------------------------------------------------------

# Writing what is there already is a change: each success uses up the entity tag that it was
# made with.

my $last = account()->{updated_at};
for my $change (
    { city => 'Almere' },
    { merge_labels => { a => 1 } },
    { c_sftp_pass => $true },
    { c_sftp_pass => $true },
    (map { { zip => "code $_" } } 1 .. 5),
    )
{
    my $changed = patch($change)->{json}{user}{updated_at};
    cmp_ok $changed, 'gt', $last, 'updated_at moves with ' . short($change);
    $last = $changed;
}
like $last, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/, 'updated_at has milliseconds';

for my $change (
    [{}, 'no field'],
    [{ is_admin => $true, vat => 'NL1' }, 'fields that are ignored'],
    [{ city => 'Emmen', fname => '' }, 'a refused change'],
    )
{
    my ($user, $what) = @$change;
    $last = account()->{updated_at};
    patch($user);
    is account()->{updated_at}, $last, "updated_at stays with $what";
}

$server->sql(q{update users.account set updated_at = '2100-01-01T00:00:00Z' where id = 1});
is patch({ city => 'Venlo' })->{json}{user}{updated_at}, '2100-01-01T00:00:00.001Z',
    'updated_at moves forward even where the clock is behind';

# ---- At the same time ------------------------------------------------------------------------

my @answers = $server->parallel(
    [PATCH => '/api/users', token => FULL_TOKEN, json => { user => { email => 'one@example.org' } }],
    [
        PATCH => '/api/users',
        basic => [$other->{api}->@{qw(username password)}],
        json  => { user => { email => 'ONE@example.org' } }
    ],
);
is_deeply [sort map { $_->{status} } @answers], [200, 422],
    'of two accounts that take one address at once, one gets it';

@answers = $server->parallel(
    map { [PATCH => '/api/users', token => FULL_TOKEN, json => { user => { $texts[$_] => 'at once' } }] }
        keys @texts
);
is_deeply [map { $_->{status} } @answers], [(200) x @texts], 'changes at the same time all succeed';
is_deeply [account()->@{@texts}], [('at once') x @texts], '... and none is lost';

done_testing;
