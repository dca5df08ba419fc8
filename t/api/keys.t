# What tells accounts, applications and credentials apart: whatever locale the database has, and as long as the
# limits let it be, in any script.

use v5.36;
use utf8;
use Users::Test;
use Users::Test::Usersctl;

my $server   = Users::Test->new;
my $usersctl = Users::Test::Usersctl->new($server);
$server->install('turkish', "template template0 encoding utf8 locale 'C.UTF-8' locale_provider icu icu_locale 'tr'");
$server->start(
    vhost => OAUTH_ENDPOINTS . "UsersDuplicates conflict\nUsersPasswordGrant on",
    conf  => <<~CONF,
        <VirtualHost *:*>
          ServerName turkish.example
          UsersDB "@{[$server->conninfo('turkish')]}"
          <Location /api/users>
            UsersEndpoint account
          </Location>
        </VirtualHost>
        CONF
);

my $number = 0;

# Register an account. Options: host, headers.
sub register ($user, %option) {
    my %user = (fname => 'Jane', lname => 'Roe', provider_server => 's.example', provider_username => 'jane' . ++$number);
    return $server->request(POST => '/api/users', token => REGISTER_TOKEN,
        headers => [Host => $option{host} // 'localhost', @{ $option{headers} // [] }], json => { user => { %user, %$user } });
}

# Text that does not get shorter when it is compressed: of so many characters, from these.
sub incompressible ($length, @characters) {
    return join '', map { $characters[rand @characters] } 1 .. $length;
}

srand 12;
my @WIDE    = map { chr } 0x20000 .. 0x2A6DF;           # ideographs of four octets
my @VISIBLE = grep { !/["\\,]/ } map { chr } 0x21 .. 0x7E;
my @LETTERS = ('a' .. 'z');

sub wide ($length = 255) { return incompressible($length, @WIDE) }

subtest 'the case rules of a database' => sub {
    for my $host ('localhost', 'turkish.example') {
        my $database = $host eq 'localhost' ? 'users' : 'turkish';
        my @host = (host => $host);
        is register({ email => 'jim@example.com' }, @host)->{json}{user}{email}, 'jim@example.com', "$database: an address";
        isnt register({ email => 'JIM@EXAMPLE.COM' }, @host)->{json}{user}{email}, 'JIM@EXAMPLE.COM', '... is taken in capitals';
        my $info = register({ email => 'Info@example.com' }, @host);
        is $info->{json}{user}{email}, 'Info@example.com', 'another keeps its case';
        my ($api, $id) = $info->{json}{user}->@{qw(api id)};
        my @patch = (PATCH => '/api/users', basic => [$api->@{qw(username password)}], headers => [Host => $host]);
        is_deeply $server->request(@patch, json => { user => { email => 'JiM@Example.com' } })->{json},
            { errors => ['email has already been taken'] }, '... and can\'t become the first one';
        is $server->request(@patch, json => { user => { email => 'INFO@example.com' } })->{status}, 200, '... but changes its own case';
        is $server->request(@patch, json => { user => { email => 'ı@example.com' } })->{status}, 200, '... or has other letters';
        is register({ email => $_ }, @host)->{json}{user}{email}, $_, "$_ is an address of its own"
            for 'i@example.com', 'é@example.com', 'É@example.com';
        for my $name ('JIM@EXAMPLE.COM', 'jim@example.com', 'I@EXAMPLE.COM') {
            like +($usersctl->run('--db', "dbname=$database", '--json', qw(user show), $name))[1], qr/"email":"\L$name\E"/,
                "usersctl finds $name";
        }
        $server->sql(<<~'SQL', $database);
            insert into users.group_quota (group_id, kind, quota) select 1, kind, 1
            from unnest('{i,I,Z,a,ı,ä,_x}'::text[]) as kind
            SQL
        my $body = $server->request(GET => '/api/users', token => READ_TOKEN, headers => [Host => $host])->{body};
        utf8::decode($body);
        is join(' ', $body =~ /"([^"]+)":\{"current"/g), 'I Z _x a containers cr dns_zones i ä ı', 'quotas are in one order';
        is $server->sql(<<~'SQL', $database), '', 'no index of text has another collation than C';
            select distinct indexrelid::regclass from pg_index, unnest(indcollation) as collation_oid
            where indrelid in (select oid from pg_class where relnamespace = 'users'::regnamespace)
              and collation_oid <> 0 and collation_oid <> '"C"'::regcollation
            SQL
    }
};

subtest 'names as long as they may be' => sub {
    my %long = map { $_ => wide() } qw(provider provider_server provider_username external_id);
    my $answer = register({ %long, email => wide(60) . '@example.com', fname => wide(), company_name => wide() },
        headers => ['Idempotency-Key' => incompressible(255, @VISIBLE)]);
    is $answer->{status}, 201, 'a registration' or diag $answer->{body};
    is $answer->{json}{user}{labels}{ $long{provider} }{ $long{provider_server} }, $long{provider_username}, '... with its names';
    is $answer->{json}{user}{external_id}, $long{external_id}, '... and its external id';
    is register({ %long, external_id => 'another' })->{status}, 409, 'it is a duplicate the next time';
    is register({ %long, external_id => $long{external_id} })->{status}, 422, '... as is the external id';
    for my $field (qw(provider provider_server provider_username)) {
        is register({ %long, external_id => $field, $field => substr($long{$field}, 0, 254) . 'x' })->{status}, 201,
            "... but not with another $field";
        is register({ %long, external_id => $field, $field => "$long{$field}x" })->{status}, 422, '... and no longer one';
    }
    # the same text, cut at other places
    is register({ provider => 'a', provider_server => "b$_", provider_username => "$_ c" })->{status}, 201, 'names that hold ' . $_
        for ' ', ' 1', '\\', "'";
    is register({ provider => 'ab', provider_server => 'c', provider_username => 'd' })->{status}, 201, 'a name';
    is register({ provider => 'a', provider_server => 'bc', provider_username => 'd' })->{status}, 201, '... is not another one';

    my ($status, undef, $error) = $usersctl->run(qw(application add long --client-id), incompressible(255, @LETTERS));
    is $status, 0, 'a client id' or diag $error;
    ($status, undef, $error) = $usersctl->run(qw(credential add 1 --username), wide(63));
    is $status, 0, 'a user name' or diag $error;
};

subtest 'the scopes of a token' => sub {
    my $words = sub ($count, $length) { join ' ', map { incompressible($length, @LETTERS) } 1 .. $count };
    my $many = $words->(6_500, 6);
    $server->sql("update users.application set scopes = string_to_array('public register $many', ' '), default_scopes = '{public}'");
    my @grant = (grant_type => 'client_credentials');
    my $ask = sub (@form) {
        return $server->request(POST => '/api/oauth/token', basic => [CLIENT_ID, CLIENT_SECRET], form => [@grant, @form]);
    };
    my $answer = $ask->(scope => $many);
    is $answer->{status}, 400, '6,500 words' or diag $answer->{body};
    is_deeply $answer->{json}, { error => 'invalid_scope',
        error_description => 'scope is too long (maximum is 100 words, 1500 characters in all)' }, '... say so';
    my @some = (split / /, $many)[0 .. 99];
    is $ask->(scope => "@some")->{json}{scope}, "@some", 'a hundred of them';
    is $ask->(scope => "@some public")->{status}, 400, '... and no more';
    my $long = $words->(1, 1500);
    my $most = $words->(100, 14);
    $server->sql("update users.application set scopes = string_to_array('$long $most ${long}x', ' '), default_scopes = null");
    is $ask->(scope => $_)->{status}, 200, '1,500 characters' for $long, $most;
    is $ask->(scope => "${long}x")->{status}, 400, '... and no more';
    is $ask->()->{status}, 400, 'nor where all are the default';

    my ($status, undef, $error) = $usersctl->run(qw(token issue --application), CLIENT_ID, '--scopes', "$long $most");
    is $status, 1, 'usersctl refuses such a token';
    like $error, qr/^usersctl: the scopes are too long for a token/, '... and says why';
    is +($usersctl->run(qw(token issue --application), CLIENT_ID, '--scopes', $_))[0], 0, 'it makes one' for $long, $most;
};

subtest 'what administrators write' => sub {
    my $account = 'insert into users.account (fname, lname, country, currency, locale, email, external_id)'
        . " values ('a', 'b', 'US', 'USD', 'en', ";
    my %written = (
        account_email_length         => "$account '%s', null)",
        account_external_id_length   => "$account 'key\@example.com', '%s')",
        account_group_name_length    => q(insert into users.account_group (id, name) values (8, '%s')),
        application_client_id_length => q(insert into users.application (name, client_id, secret_digest) values ('a', '%s', sha256(''))),
        billing_plan_name_length     => q(insert into users.billing_plan (id, name) values (8, '%s')),
        credential_username_length   => q(insert into users.credential (user_id, username, secret_hash) values (1, '%s', 'x')),
        group_quota_kind_length      => q(insert into users.group_quota (group_id, kind, quota) values (1, '%s', 1)),
        idempotency_key_length       => q(insert into users.idempotency (application_id, key, payload_digest) values (1, '%s', '')),
        token_scopes_size            => q(insert into users.token (digest, application_id, scopes) values (sha256('8'), 1, '{%s}')),
    );
    for my $constraint (sort keys %written) {
        my ($fits, $too_long) = $constraint =~ /^token/ ? (wide(640), wide(660)) : (wide(), wide() . 'x');
        ok !eval { $server->sql(sprintf $written{$constraint}, $too_long) }, "$constraint is kept";
        like $@, qr/violates check constraint "$constraint"/, '... by its name';
        ok eval { $server->sql(sprintf $written{$constraint}, $fits); 1 }, '... and what keeps it is stored' or diag $@;
    }
    is $server->sql(q(select count(*) from pg_constraint where conname ~ '_(length|size)$')), keys %written, 'these are all';
    is $server->sql(<<~'SQL'), 'users.migration.name', 'every text in an index has a check, but for the names of our own files';
        select distinct format('%s.%s', indrelid::regclass, attname) from pg_index
        join pg_attribute on attrelid = indrelid and attnum = any (indkey) and atttypid = 'text'::regtype
        where indrelid in (select oid from pg_class where relnamespace = 'users'::regnamespace)
          and not exists (select from pg_constraint where conrelid = indrelid and contype = 'c' and attnum = any (conkey))
        SQL
};

done_testing;
