# Whatever else is configured: nobody reaches an account without the module's own check, and a
# request gets one answer.

use v5.36;
use Users::Test;

# How GET is answered to no credential, an unknown token and one without the scope, where the
# module answers; a fourth status is the one to a token with the scope.
my @refused = (401, 401, 403);

# What stands in an endpoint's location besides.
my @endpoints = (
    ['granted'             => [@refused, 200], 'Require all granted'],
    ['denied'              => [403, 403, 403, 403], 'Require all denied'],
    ['here'                => [@refused, 200], 'Require ip 127.0.0.1'],
    ['there'               => [403, 403, 403, 403], 'Require ip 192.0.2.1'],
    ['valid-user'          => [@refused, 200], 'Require valid-user'],
    ['user-1'              => [@refused, 200], 'Require user 1'],
    ['user-2'              => [@refused, 403], 'Require user 2'],
    ['allow'               => [@refused, 200], "Order deny,allow\nAllow from all"],
    ['deny'                => [403, 403, 403, 403], "Order allow,deny\nDeny from all"],
    ['satisfy-any'         => [@refused, 200], 'Satisfy Any'],
    ['satisfy-any-granted' => [@refused, 200], "Satisfy Any\nRequire all granted"],
    ['satisfy-any-denied'  => [403, 403, 403, 200], "Satisfy Any\nRequire all denied"],
    ['satisfy-any-here'    => [@refused, 200], "Satisfy Any\nRequire ip 127.0.0.1"],
    ['satisfy-any-there'   => [403, 403, 403, 200], "Satisfy Any\nRequire ip 192.0.2.1"],
    ['satisfy-any-allow'   => [@refused, 200], "Satisfy Any\nOrder deny,allow\nAllow from all"],
    ['satisfy-any-deny'    => [403, 403, 403, 403], "Satisfy Any\nOrder allow,deny\nDeny from all"],
    ['set-handler'         => [@refused, 200], 'SetHandler server-status'],
    ['set-handler-default' => [@refused, 200], 'SetHandler default-handler'],
    ['set-handler-none'    => [@refused, 200], 'SetHandler None'],
    ['document-401'        => [@refused, 200], 'ErrorDocument 401 /document-401'],
    ['document-403'        => [403, 403, 403, 403],
        "Require ip 192.0.2.1\nErrorDocument 403 /document-403"],
    ['proxied'             => [@refused, 200], 'ProxyPass http://127.0.0.1:1/'],
    # by the rewriting rules below
    ['rule-nothing'        => [@refused, 200]],
    ['rule-handler'        => [@refused, 200]],
    ['rule-other-handler'  => [@refused, 404]],
    ['rule-look-ahead'     => [@refused, 200]],
    ['rule-forbidden'      => [403, 403, 403, 403]],
    ['rule-away'           => [404, 404, 404, 404]],
    ['rule-below'          => [404, 404, 404, 404]],
    ['rule-redirect'       => [302, 302, 302, 302]],
);
my $rules = <<~'RULES';
    RewriteEngine On
    RewriteRule ^/rule-nothing$ -
    RewriteRule ^/rule-handler$ - [H=users-account]
    RewriteRule ^/rule-other-handler$ - [H=default-handler]
    RewriteCond %{LA-U:REMOTE_USER} =1
    RewriteRule ^/rule-look-ahead$ - [E=WHO:1]
    RewriteRule ^/rule-forbidden$ - [F]
    RewriteRule ^/rule-away$ /nothing [PT]
    RewriteRule ^/rule-below$ /api/users/1 [PT]
    RewriteRule ^/rule-redirect$ /nothing [R]
    RULES

# What stands elsewhere and leads to the endpoint's handler, or to the endpoint.
my @detours = (
    ['handler'           => [403, 403, 403, 403], 'SetHandler users-account'],
    ['rewritten-handler' => [403, 403, 403, 403]],
    ['rewritten-to-both' => [403, 403, 403, 403]],
    ['rewritten-file'    => [404, 404, 404, 404]],
    ['rewritten'         => [@refused, 200]],
    ['not-found'         => [@refused, 200], 'ErrorDocument 404 /api/users'],
    ['forbidden'         => [@refused, 200],
        "Require all denied\nErrorDocument 403 /api/users"],
    ['fallback'          => [@refused, 404], 'FallbackResource /api/users'],
    ['directory/'        => [@refused, 404], 'DirectoryIndex /api/users'],
    ['action'            => [404, 404, 404, 404],
        "SetHandler account\nAction account /api/users virtual"],
);
$rules .= <<~'RULES';
    RewriteRule ^/rewritten-handler$ - [H=users-account]
    RewriteRule ^/rewritten-to-both$ /nothing [H=users-account,PT]
    RewriteRule ^/rewritten-file$ /api/users-file
    RewriteRule ^/rewritten$ /api/users [PT]
    RULES

# Only a user would do, where a request has no credentials that make one.
my %somebody = (
    'valid-user' => 'Require valid-user',
    'user'       => 'Require user 1',
    'scope'      => 'Require users-scope other',
    'either'     => "<RequireAny>\nRequire ip 192.0.2.1\nRequire users-scope profile_read\n</RequireAny>",
    'none'       => "AuthType None\nRequire valid-user",
);
my @public = qw(token revoke introspect openapi health metrics);

my $server = Users::Test->new;
my $htdocs = $server->dir . '/htdocs';
mkdir "$htdocs/directory" or die "directory: $!\n";
for (['page', '/api/users'], ['page-of-handler', '/handler']) {
    my ($name, $included) = @$_;
    open my $page, '>', "$htdocs/$name" or die "$name: $!\n";
    print $page qq{before <!--#include virtual="$included" --> after};
    close $page;
}

sub locations ($directive, @locations) {
    return join '', map {
        my ($name, undef, $text) = @$_;
        "<Location /$name>\n$directive\n" . ($text // '') . "\n</Location>\n"
    } @locations;
}

sub path_for ($endpoint, $kind) {
    return "$endpoint-for-$kind" . ($endpoint eq 'health' ? '/live' : '');
}

$server->start(
    modules => [qw(access_compat actions authz_user dir include proxy proxy_http rewrite status)],
    vhost   => join '', $rules, locations('UsersEndpoint account', @endpoints),
    locations('', @detours),
    map({
        my $kind = $_;
        map { locations("UsersEndpoint $_", [path_for($_, $kind), undef, $somebody{$kind}]) } 'account', @public;
    } keys %somebody),
    <<~'CONF');
        <Location ~ ^/page>
          Options +Includes
          SetOutputFilter INCLUDES
          ForceType text/html
        </Location>
        CONF
$server->expect_log(qr/reached users-account without its access checker: refused/);
$server->allow_log(qr/client denied by server configuration/);
$server->allow_log(qr{unable to include "/(?:api/users|handler)"});

# What comes back: each answer's status, and whether the account is in there.
sub outcome ($method, $path, %option) {
    my $bytes = $server->raw(Users::Test::Client::compose($method, $path, %option,
        headers => [Connection => 'close']));
    my $outcome = join ' then ', $bytes =~ m{HTTP/1\.1 (\d{3}) }g;
    return $outcome . ($bytes =~ /John|john\@/ ? ' and the account' : '');
}

my @readers = (
    ['no credential'],
    ['an unknown token',          token => 'unknown'],
    ['a token without the scope', token => UPDATE_TOKEN],
    ['a token with the scope',    token => READ_TOKEN],
);

for (@endpoints, @detours) {
    my ($name, $expected, $text) = @$_;
    subtest "/$name" . ($text ? " with '" . $text =~ s/\n/', '/gr . "'" : '') => sub {
        for my $i (keys @readers) {
            my ($what, %credential) = $readers[$i]->@*;
            my $status = $expected->[$i];
            is outcome(GET => "/$name", %credential),
                $status == 200 ? '200 and the account' : $status, "$what gets $status";
        }
        my @strangers = ([], [token => 'unknown'], [token => READ_TOKEN]);
        push @strangers, [token => FULL_TOKEN] if $expected->[3] != 200;
        for (@strangers) {
            outcome(PATCH => "/$name", @$_, json => { user => { city => 'changed' } });
        }
        is $server->sql("select count(*) from users.account where city = 'changed'"), 0,
            'who may not change the account has not';
    };
}

for my $kind (sort keys %somebody) {
    subtest "where only a user would do: " . $somebody{$kind} =~ s/\n/', '/gr => sub {
        my $header = sub ($answer) { my %header = $answer->{headers}->%*; delete @header{qw(date link)}; \%header };
        my $open   = $server->request(OPTIONS => '/granted');
        for my $option ([], [token => READ_TOKEN]) {
            my $options = $server->request(OPTIONS => "/account-for-$kind", @$option);
            is $options->{status}, 204, 'OPTIONS asks for none';
            is_deeply $header->($options), $header->($open), '... and is answered as elsewhere';
        }
        for my $endpoint (@public) {
            my $path = '/' . path_for($endpoint, $kind);
            is $server->request(OPTIONS => $path)->{status}, 204, "$endpoint: so there";
            my $refused = $endpoint =~ /token|revoke|introspect/
                ? $server->request(POST => $path, form => [client_id => CLIENT_ID, client_secret => 'x', token => 'x'])
                : $server->request(GET => $path);
            is $refused->{status}, 403, '... but a client that can be none is refused';
            is_deeply $refused->{json}, { errors => ['the configuration of the server does not permit this'] }, '... in JSON';
        }
    };
}

subtest 'a page that includes the endpoint shows what its reader may see' => sub {
    for my $i (keys @readers) {
        my ($what, %credential) = $readers[$i]->@*;
        for my $method (qw(GET POST)) {
            is outcome($method => '/page', %credential),
                $i == $#readers ? '200 and the account' : '200', "$what, $method";
        }
    }
    like $server->request(GET => '/page')->{body}, qr/^before [^<]* after$/,
        'and is whole without it';
    like $server->request(GET => '/page', token => READ_TOKEN)->{body},
        qr/^before \{"user":\{.*\}\} after$/, 'and with it';
};

subtest 'a page that includes the handler alone shows nobody anything' => sub {
    for my $reader (@readers) {
        my ($what, %credential) = @$reader;
        is outcome(GET => '/page-of-handler', %credential), '200', $what;
    }
    like $server->request(GET => '/page-of-handler', token => READ_TOKEN)->{body}, qr/^before [^<]* after$/,
        'and is whole without it';
};

# httpd sends an answer of its own in place of one whose header fields can't be sent.
subtest 'a header field of the configuration that is no good' => sub {
    $server->stop;
    $server->start(modules => ['headers'], vhost => 'Header always set "X Y" z early');
    $server->allow_log(qr/invalid/);
    is outcome(GET => '/api/users', @$_), 500, 'has one answer' for [], [token => 'unknown'], [token => READ_TOKEN];
};

done_testing;
