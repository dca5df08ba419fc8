# AuthType Users and Require users-scope: the tokens and credentials of the API let in at other locations, too.

use v5.36;
use Users::Test;

my $server = Users::Test->new;
$server->sql(<<~'SQL');
    insert into users.credential (user_id, username, secret_digest) values (1, 'john', sha256('secret'));
    insert into users.account (id, fname, lname, email, country, currency, locale, suspended_at)
      values (2, 'Sue', 'Spended', 'sue@example.com', 'NL', 'EUR', 'nl', now());
    insert into users.token (digest, application_id, user_id, scopes) values
      (sha256('suspended'), 1, 2, '{profile_read}'),
      (sha256('ended'), 1, 1, '{reports}'),
      (sha256('reports'), 1, 1, '{reports,tickets_read}'),
      (sha256('tickets'), 1, 1, '{tickets_readx,xreports}');
    update users.token set revoked_at = now() where digest = sha256('ended')
    SQL

my $htdocs = $server->dir . '/htdocs';
-d $htdocs or mkdir $htdocs or die "$htdocs: $!\n";
for my $name (qw(page part)) {
    open my $file, '>', "$htdocs/$name.html" or die "$name: $!\n";
    print $file $name eq 'page' ? '[<!--#include virtual="/part/part.html" -->]' : 'a part';
    close $file;
}

# Clients come from where X-Client says. The backend is this very httpd, and tells whom it is asked for.
my $BACKEND = <<~CONF;
    UseCanonicalPhysicalPort On
    RewriteEngine On
    RewriteRule "^/app/(.*)" "http://127.0.0.1:%{SERVER_PORT}/backend/\$1" [P]
    Alias /backend/ $htdocs/
    <Location /backend/>
      Header always set X-Caller "expr=%{req:X-Caller} %{req:X-Scope}"
    </Location>
    <Location /app/>
      RequestHeader set X-Caller "expr=%{reqenv:USERS_ID}"
      RequestHeader set X-Scope "expr=%{reqenv:USERS_SCOPE}"
    </Location>
    Alias /part/ $htdocs/
    <Location /static/>
      Options +Includes
      SetOutputFilter INCLUDES
    </Location>
    Alias /static/ $htdocs/
    CONF
my %MODULES = (modules => [qw(alias rewrite proxy proxy_http headers include remoteip authz_user authn_file auth_basic)],
    conf => "RemoteIPHeader X-Client\nRemoteIPInternalProxy 127.0.0.1");

# guard: what stands in each guarded location.
sub start ($guard, %option) {
    $server->stop if $server->pid;
    my $locations = join '', map { "<Location $_>\n$guard\n</Location>\n" } $option{at} ? @{ delete $option{at} } : qw(/app/ /static/);
    $server->start(%MODULES, vhost => "$BACKEND$locations", %option);
    $server->allow_log(qr/AH016(?:14|17|18|30|31):|unable to include/);    # httpd tells of each that it refuses
}

sub get ($path, %option) {
    return $server->request(GET => $path, %option);
}

my $SCOPED = "AuthType Users\nRequire users-scope reports";

subtest 'who is let in' => sub {
    start("AuthType Users\nRequire valid-user");
    my $account = get('/api/users', token => READ_TOKEN);
    for my $path ('/app/page.html', '/static/part.html') {
        is get($path, token => READ_TOKEN)->{status}, 200, "$path: a token";
        is get($path, basic => ['john', 'secret'])->{status}, 200, '... and API credentials';
        is get($path, token => REGISTER_TOKEN)->{status}, 200, '... and an application';
        my $none = get($path);
        is $none->{status}, 401, '... but nobody without';
        is_deeply $none->{json}, { errors => ['credentials are required'] }, '... in JSON';
        is_deeply $none->{headers}{'www-authenticate'}, ['Bearer realm="users"', 'Basic realm="users", charset="UTF-8"'],
            '... with the challenges';
        is $none->{headers}{'cache-control'}, 'no-store', '... not to be stored';
        my $unknown = get($path, token => 'unknown');
        is $unknown->{status}, 401, '... nor with an unknown token';
        is $unknown->{headers}{'www-authenticate'}[0], 'Bearer realm="users", error="invalid_token"', '... which is told';
        is get($path, token => 'ended')->{body}, $unknown->{body}, '... nor with one that was revoked';
        is get($path, basic => ['john', 'wrong'])->{status}, 401, '... nor with a wrong password';
        is get($path, headers => [(Authorization => 'Bearer x') x 2])->{status}, 400, '... nor with two credentials';
        my $suspended = get($path, token => 'suspended', headers => [Accept => 'application/problem+json']);
        is $suspended->{status}, 403, '... nor for an account that is suspended';
        is $suspended->{json}{errors}[0]{detail}, 'the account is suspended', '... as problem details';
        is $server->request(HEAD => $path)->{status}, 401, '... nor for HEAD';
        my $post = $server->request(POST => $path, json => { x => 'x' x 100_000 });
        is $post->{status}, 401, '... nor with a body, which is not read';
    }
    is get('/backend/page.html')->{status}, 200, 'what is not guarded is open';
    is get('/api/users', token => READ_TOKEN)->{body}, $account->{body}, 'the API serves on';
};

subtest 'whom the backend is told of' => sub {
    my @forged = ('X-Caller' => 99, 'X-Scope' => 'all');
    is get('/app/page.html', token => FULL_TOKEN, headers => [@forged])->{headers}{'x-caller'}, '1 profile_read profile_update',
        'the account and the scopes';
    is get('/app/page.html', basic => ['john', 'secret'])->{headers}{'x-caller'}, '1 profile_read profile_update',
        'those of API credentials';
    is get('/app/page.html', token => REGISTER_TOKEN, headers => [@forged])->{headers}{'x-caller'}, 'register',
        'an application has no account';
    wait_until(sub { grep { m{ app:1 .*/app/page.html} } $server->access_log }, 'the log to have it all the same');
};

subtest 'scopes' => sub {
    start($SCOPED);
    is get('/app/page.html', token => 'reports')->{status}, 200, 'who has it is let in';
    for my $token ('tickets', READ_TOKEN) {
        my $refused = get('/app/page.html', token => $token);
        is $refused->{status}, 403, "$token: who has not is refused";
        is $refused->{headers}{'www-authenticate'}, 'Bearer realm="users", error="insufficient_scope", scope="reports"',
            '... and told what is missing';
        is_deeply $refused->{json}, { errors => ['this needs the scope reports'] }, '... in words';
    }
    is get('/app/page.html')->{status}, 401, 'nobody is told to bring a scope before a token';
    start("AuthType Users\nRequire users-scope nothing  tickets_read reports");
    is get('/app/page.html', token => 'reports')->{status}, 200, 'one of several will do';
    is get('/app/page.html', token => 'tickets')->{headers}{'www-authenticate'} =~ /scope="(.*)"/ && $1, 'nothing', '... the first is named';
    start("AuthType Users\n<RequireAll>\nRequire users-scope reports\nRequire users-scope profile_read\n</RequireAll>");
    is get('/app/page.html', token => 'reports')->{headers}{'www-authenticate'} =~ /scope="(.*)"/ && $1, 'profile_read',
        'of all the one that is missing';
    start("AuthType Users\n<RequireAll>\nRequire valid-user\nRequire not users-scope reports\n</RequireAll>");
    is get('/app/page.html', token => READ_TOKEN)->{status}, 200, 'Require not';
    my $refused = get('/app/page.html', token => 'reports');
    is $refused->{status}, 403, '... refuses who has it';
    is $refused->{headers}{'www-authenticate'}, undef, '... whom no scope helps';
    start("AuthType Users\nRequire users-scope reports\nAuthzSendForbiddenOnFailure On");
    is get('/app/page.html', token => READ_TOKEN)->{json}{errors}[0], 'this needs the scope reports',
        'AuthzSendForbiddenOnFailure changes nothing';
};

subtest 'other kinds of Require' => sub {
    my @away = (headers => ['X-Client' => '192.0.2.7']);
    start("AuthType Users\nRequire user 2 app:1");
    my $refused = get('/app/page.html', token => READ_TOKEN);
    is $refused->{status}, 403, 'Require user refuses another one';
    is_deeply $refused->{json}, { errors => ['the configuration of the server does not permit this'] }, '... in our words';
    is get('/app/page.html', token => REGISTER_TOKEN)->{status}, 200, '... and lets an application in';
    start("AuthType Users\n<RequireAny>\nRequire ip 192.0.2.7\nRequire users-scope reports\n</RequireAny>");
    is get('/app/page.html', @away)->{status}, 200, 'RequireAny: an address will do';
    is get('/app/page.html')->{status}, 401, '... another needs a token';
    is get('/app/page.html', token => READ_TOKEN)->{status}, 403, '... with the scope';
    is get('/app/page.html', token => 'reports')->{status}, 200, '... and is let in';
    start("AuthType Users\n<RequireAll>\nRequire ip 192.0.2.7\nRequire users-scope reports\n</RequireAll>");
    is get('/app/page.html', token => 'reports')->{status}, 403, 'RequireAll: who comes from elsewhere is refused';
    is get('/app/page.html')->{status}, 403, '... before credentials are judged';
    is get('/app/page.html', @away)->{status}, 401, '... who comes from there needs a token';
    is get('/app/page.html', @away, token => 'reports')->{status}, 200, '... and has both';
};

subtest 'Satisfy Any' => sub {
    my @away = (headers => ['X-Client' => '192.0.2.7']);
    start("AuthType Users\nRequire users-scope reports\nOrder deny,allow\nDeny from all\nAllow from 192.0.2.7\nSatisfy Any",
        modules => [$MODULES{modules}->@*, 'access_compat']);
    $server->allow_log(qr/AH01797:/);
    is get('/app/page.html', @away)->{status}, 200, 'an address will do';
    is get('/app/page.html', token => 'reports')->{status}, 200, 'a token, too';
    is get('/app/page.html', token => READ_TOKEN)->{status}, 403, '... with the scope';
    is get('/app/page.html')->{status}, 401, 'nothing does not';
};

subtest 'beside other kinds of authentication' => sub {
    my $passwords = $server->dir . '/passwords';
    open my $file, '>', $passwords or die "$passwords: $!\n";
    print $file '1:', crypt('secret', '$5$salt'), "\n";
    close $file;
    my $basic = "AuthType Basic\nAuthName x\nAuthBasicProvider file\nAuthUserFile $passwords\n";
    start("${basic}Require valid-user");
    is get('/app/page.html', basic => ['1', 'secret'])->{status}, 200, 'AuthType Basic serves on';
    is get('/app/page.html', token => FULL_TOKEN)->{status}, 401, '... without tokens';
    start("${basic}Require users-scope profile_read");
    is get('/app/page.html', basic => ['1', 'secret'])->{status}, 401, 'whom another module has found has no scopes';
};

subtest 'parts of pages, and of the API' => sub {
    start($SCOPED, at => ['/part/']);
    is get('/static/page.html')->{body}, '[[an error occurred while processing this directive]]', 'a part is kept from who may not read it';
    is get('/static/page.html', token => 'reports')->{body}, '[a part]', '... and shown to who may';
    start('', at => ['/app/'], endpoint => 'Require users-scope profile_update');
    is get('/api/users', token => FULL_TOKEN)->{status}, 200, 'an endpoint can want more';
    like get('/api/users', token => READ_TOKEN)->{headers}{'www-authenticate'}, qr/error="insufficient_scope", scope="profile_update"/,
        '... and says so';
    start($SCOPED, at => ['/']);
    is get('/api/users', token => READ_TOKEN)->{status}, 403, 'a whole server can';
    is get('/api/users')->{status}, 401, '... in the API, too';
};

subtest 'a database that is away' => sub {
    start($SCOPED);
    $server->postgres->stop;
    my $answer = get('/app/page.html', token => 'reports');
    is $answer->{status}, 503, 'is a 503';
    like $answer->{headers}{'retry-after'}, qr/^[1-9]/, '... with Retry-After';
    is ref $answer->{json}{errors}, 'ARRAY', '... in JSON';
    $server->allow_log(qr/can't be reached/);
    $server->stop;
    $server->postgres->start;
};

subtest 'no database at all' => sub {
    $server->start(%MODULES, site => "<Location /static/>\n$SCOPED\n</Location>\nAlias /static/ $htdocs/\n");
    $server->expect_log(qr/AuthType Users: there is no UsersDB for the server localhost/);
    is get('/static/part.html', token => 'reports')->{status}, 500, 'is told';
    is get('/static/part.html')->{status}, 401, '... to whom it matters';
    $server->stop;
};

subtest 'configuration' => sub {
    for my $words ('', '"a\\\\b"', '"with \\"quotes\\""') {
        my ($status, $messages) = $server->configtest(%MODULES, vhost => "<Location /x>\nRequire users-scope $words\n</Location>");
        isnt $status, 0, "Require users-scope $words is refused";
        like $messages, qr/Require users-scope wants one scope or more/, '... and says what it wants';
    }
};

done_testing;
