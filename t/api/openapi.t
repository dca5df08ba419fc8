# The description of the API as the server serves it (UsersEndpoint openapi), with its examples, which are what a
# server answers, and with a client that is made of it.

use v5.36;
use Cwd            qw(abs_path);
use File::Basename qw(dirname);
use JSON::PP       ();
use Users::Test;
use Users::Test::Process qw(run slurp);

my $SOURCE = $ENV{USERS_SRCDIR} // abs_path(dirname(__FILE__) . '/../..');
my $TOOLS  = "$SOURCE/t/openapi";
my $PATH   = '/api/openapi.json';
my $JSON   = JSON::PP->new->utf8->canonical;

my $general = $JSON->decode(slurp("$SOURCE/doc/openapi.json"));

sub endpoints (%paths) {
    return join '', map { "<Location $_>\nUsersEndpoint $paths{$_}\n</Location>\n" } sort keys %paths;
}

# ---- As ./quickstart has it ------------------------------------------------------------------

my $server = Users::Test->new;
my $site = <<~SITE;
    Include $SOURCE/conf/users.conf
    UsersDB "@{[ $server->conninfo ]}"
    UsersPasswordGrant on
    SITE
$server->start(site => $site);
my $url = 'http://127.0.0.1:' . $server->port;

sub ask ($method, $path, @headers) {
    return $server->request($method, $path, headers => [Host => $url =~ s{http://}{}r, @headers]);
}

my $answer = ask(GET => $PATH);
is $answer->{status}, 200, 'the description needs no credential';
is $answer->{headers}{'content-type'}, 'application/json', '... and is JSON';
my $tag = $answer->{headers}{etag};
like $tag, qr/^"\w{32}"$/, '... with a tag';
is_deeply $answer->{json}{servers}, [{ url => $url }], '... it names the server';
my $flows = $answer->{json}{components}{securitySchemes}{token}{flows};
is_deeply { map { $_ => $flows->{$_}{tokenUrl} } keys %$flows },
    { map { $_ => "$url/api/oauth/token" } qw(clientCredentials password) }, '... and where tokens are had';
$answer->{json}{servers} = $general->{servers};
$_->{tokenUrl} = '/api/oauth/token' for values %$flows;
ok $JSON->encode($answer->{json}) eq $JSON->encode($general), '... and is doc/openapi.json in all else';

my $head = ask(HEAD => $PATH);
is_deeply [@$head{qw(status body)}, $head->{headers}{etag}], [200, '', $tag], 'HEAD';
is ask(GET => $PATH, 'If-None-Match' => $tag)->{status}, 304, 'what the client has already is a 304';
is ask(GET => $PATH, 'If-None-Match' => '"other"')->{status}, 200, '... what it has not is not';
is ask(GET => $PATH, 'If-None-Match' => 'x')->{status}, 400, '... and no tag is a 400';
is ask(GET => $PATH, 'If-Match' => '"other"')->{status}, 412, 'If-Match is judged as well';
is ask(GET => $PATH, 'If-Match' => $tag)->{status}, 200, '... and can be right';
is ask(GET => $PATH, Accept => 'application/openapi+json')->{status}, 200, 'Accept does not matter';
is_deeply [map { ask($_ => $PATH)->{status} } qw(POST DELETE BREW)], [405, 405, 501], 'other methods';
is ask(POST => $PATH)->{headers}{allow}, 'GET, HEAD, OPTIONS', '... of which it names those it has';
is ask(GET => "$PATH/x")->{status}, 404, 'there is nothing below';
isnt $server->request(GET => $PATH, headers => [Host => 'other.example'])->{headers}{etag}, $tag,
    'under another name it is another one';

my $link = qq(<$url$PATH>; rel="service-desc");
for my $path ('/api/users', '/api/oauth/token', '/.well-known/oauth-authorization-server', $PATH) {
    is ask(OPTIONS => $path)->{headers}{link}, $link, "OPTIONS of $path names it";
}
for my $path ('/.well-known/oauth-authorization-server', '/.well-known/oauth-protected-resource/api/users') {
    is ask(GET => $path)->{headers}{link}, $link, "$path names it";
}
is ask(GET => '/api/users', Authorization => 'Bearer ' . READ_TOKEN)->{headers}{link}, undef, 'an account does not';

# What the judge reads at the end of make check.
if (my $dir = $ENV{USERS_TEST_ANSWERS}) {
    my $answers = slurp("$dir/api-openapi.answers");
    like $answers, qr{^A \d+ \d+ \d+ \d+\nGET \Q$PATH\E HTTP/1\.1\r\n}m, 'the answers are on record';
    like $answers, qr/HTTP\/1\.1 304 /, '... each of them';
}

# ---- Examples and the client -----------------------------------------------------------------

# Node.js with standard input, in a directory. Returns the status and all output.
sub node ($dir, $input, @arguments) {
    open my $file, '>', "$dir/input" or die "$dir/input: $!\n";
    print $file $JSON->encode($input);
    close $file;
    my ($status, $output, $error) = run(['sh', '-c', 'cd "$0" && exec node "$@" <input', $dir, @arguments], "$dir/node");
    return ($status, "$output$error");
}

SKIP: {
    skip "its tools are not there: npm ci --prefix $TOOLS", 5 unless -d "$TOOLS/node_modules";
    my $dir = $server->dir . '/client';
    mkdir $dir;

    $server->sql(q{insert into users.application (name, client_id, secret_digest, scopes)
        values ('gateway', 'gateway', sha256('gateways secret'), '{introspect}')});
    $server->sql(q{update users.application set scopes = '{public,register}' where client_id = '} . CLIENT_ID . q{'});
    my ($status, $output) = node($dir, {
        url => $url, id => CLIENT_ID, secret => CLIENT_SECRET, read => READ_TOKEN, update => UPDATE_TOKEN,
        register => REGISTER_TOKEN, introspector => ['gateway', 'gateways secret'],
    }, "$TOOLS/examples.mjs", "$SOURCE/doc/openapi.yaml");
    is $status, 0, 'the examples are what the server answers' or diag($output);

    symlink "$TOOLS/node_modules", "$dir/node_modules";
    run(['/usr/bin/env', 'cp', map({ "$TOOLS/$_" } qw(client.ts package.json tsconfig.json)), $dir], "$dir/cp");
    ($status, $output) = node($dir, {}, 'node_modules/openapi-typescript/bin/cli.js', "$SOURCE/doc/openapi.json", '-o', 'api.d.ts');
    is $status, 0, 'openapi-typescript makes types of it' or diag($output);
    ($status, $output) = node($dir, {}, qw(node_modules/typescript/bin/tsc -p .));
    is $status, 0, 'tsc compiles a client' or diag($output);
    ($status, $output) = node($dir, { url => $url, id => CLIENT_ID, secret => CLIENT_SECRET }, '--input-type=module', '-e', <<~'JS');
        import { readFileSync } from 'node:fs'
        import { walk } from './client.js'
        const { url, id, secret } = JSON.parse(readFileSync('input', 'utf8'))
        console.log(JSON.stringify(await walk(url, id, secret)))
        JS
    my $walked = eval { $JSON->decode($output) } // {};
    is_deeply { %$walked, id => undef },
        { scope => 'register', id => undef, before => undef, after => 'Utrecht', codes => [qw(stale blank not_known)] },
        '... which goes from a secret to a change' or diag($output);
    is $server->sql("select city from users.account where id = $walked->{id}"), 'Utrecht', '... that is stored';
}
$server->stop;

# ---- Another server --------------------------------------------------------------------------

$server->start(
    vhost => "UsersIssuer https://panel.example/base\n" . endpoints(
        '/v2/me' => 'account', '/v2/token' => 'token', '/v2/description' => 'openapi',
        '/.well-known/oauth-protected-resource/v2/me' => 'metadata'),
);
my $description = $server->request(GET => '/v2/description')->{json};
is_deeply [sort keys $description->{paths}->%*],
    [sort qw(/api/users /v2/me /v2/token /v2/description /.well-known/oauth-protected-resource/v2/me)],
    'it has the paths of the server, and no others';
is_deeply $description->{servers}, [{ url => 'https://panel.example/base' }], '... its URL';
is_deeply $description->{components}{securitySchemes}{token}{flows}{clientCredentials}{tokenUrl},
    'https://panel.example/base/v2/token', '... where tokens are had';
is $description->{components}{securitySchemes}{token}{flows}{password}, undef, '... as it offers them';
my @ids = map { $_->{operationId} // () } map { grep { ref } values %$_ } values $description->{paths}->%*;
my %count;
$count{$_}++ for @ids;
is_deeply [grep { $count{$_} > 1 } sort keys %count], [], '... and no name of an operation twice';
is $server->request(OPTIONS => '/v2/me')->{headers}{link},
    '<https://panel.example/base/v2/description>; rel="service-desc"', 'and so has Link';
$server->stop;

$server->start(vhost => endpoints('/description' => 'openapi'));
my $scheme = $server->request(GET => '/description')->{json}{components}{securitySchemes}{token};
is_deeply [@$scheme{qw(type scheme flows)}], ['http', 'bearer', undef], 'a server without a token endpoint tells how they are sent';
$server->stop;

$server->start(vhost => "<Location /description>\nUsersEndpoint openapi\nRequire ip 192.0.2.1\n</Location>\n");
$server->allow_log(qr/client denied by server configuration/);
my $refused = $server->request(GET => '/description');
is_deeply [$refused->{status}, ref $refused->{json}{errors}], [403, 'ARRAY'], 'Require is judged';
$server->stop;

$server->start(vhost => OAUTH_ENDPOINTS);
is $server->request(OPTIONS => '/api/users')->{headers}{link}, undef, 'a server that serves no description names none';
is $server->request(GET => '/.well-known/oauth-authorization-server')->{headers}{link}, undef, '... nor do its metadata';

done_testing;
