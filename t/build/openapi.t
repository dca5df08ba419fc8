# The description of the API: what linters say of it, that the build has the same, that it lists the code's
# codes; and that the judge of the tests' answers (make check) finds what is not described.

use v5.36;
use Cwd            qw(abs_path);
use File::Basename qw(dirname);
use File::Temp     qw(tempdir);
use JSON::PP       ();
use Test::More;
use Users::Test::Process qw(run slurp);

my $SOURCE = $ENV{USERS_SRCDIR} // abs_path(dirname(__FILE__) . '/../..');
my $TOOLS  = "$SOURCE/t/openapi";
-d "$TOOLS/node_modules" or plan skip_all => "its tools are not there: npm ci --prefix $TOOLS";

my $dir         = tempdir(CLEANUP => 1);
my $description = JSON::PP->new->utf8->decode(slurp("$SOURCE/doc/openapi.json"));

# Node.js's program in a package, or a file of t/openapi. Returns the status, the output and the messages.
sub node ($program, @arguments) {
    local @ENV{qw(REDOCLY_TELEMETRY REDOCLY_SUPPRESS_UPDATE_NOTICE CI)} = qw(off true true);
    my $path = $program =~ m{/} ? "$TOOLS/node_modules/$program" : "$TOOLS/$program";
    return run(['/usr/bin/env', 'node', $path, @arguments], "$dir/node");
}

# ---- Linters ---------------------------------------------------------------------------------

my ($status, $output, $error) = node('@redocly/cli/bin/cli.js', 'lint', '--config', "$TOOLS/redocly.yaml",
    '--format', 'json', "$SOURCE/doc/openapi.yaml");
my $found = eval { JSON::PP->new->decode($output) } // {};
is_deeply [@{ $found->{totals} // {} }{qw(errors warnings)}], [0, 0], 'redocly finds nothing' or diag($output, $error);

($status, $output, $error) = node('@stoplight/spectral-cli/dist/index.js', 'lint', '--fail-severity', 'hint',
    '--ruleset', "$TOOLS/.spectral.yaml", "$SOURCE/doc/openapi.yaml");
is $status, 0, 'spectral finds nothing' or diag($output, $error);

# ---- What else says the same -----------------------------------------------------------------

($status, $output) = run(['/usr/bin/env', 'node', "$TOOLS/convert.mjs", "$SOURCE/doc/openapi.yaml"], "$dir/convert");
ok $output eq slurp("$SOURCE/doc/openapi.json"), 'doc/openapi.json is doc/openapi.yaml'
    or diag('make openapi brings it up to date');

($status, $output) = run(['/usr/bin/env', 'node', "$TOOLS/page.mjs", "$SOURCE/doc/openapi.yaml"], "$dir/page");
ok $output eq slurp("$SOURCE/doc/api.html"), '... and so is doc/api.html' or diag('make openapi brings it up to date');
unlike $output, qr{<script|\bsrc=|<link\b|\@import|url\(}, '... which loads nothing';
my %anchor = map { $_ => 1 } $output =~ /\bid="([^"]+)"/g;
is_deeply [grep { !$anchor{$_} } $output =~ /href="#([^"]+)"/g], [], '... and whose links lead somewhere';

my @codes = slurp("$SOURCE/mod_users/core/code.h") =~ /code\(\w+, "(\w+)"\)/g;
cmp_ok scalar @codes, '>', 40, 'there are codes';
is_deeply $description->{components}{schemas}{Code}{enum}, \@codes, 'it lists the codes, in their order';
my $prose = $description->{components}{schemas}{Code}{description};
is_deeply [grep { $prose !~ /`$_`/ } @codes], [], '... and tells of each what it means';

# ---- The judge -------------------------------------------------------------------------------

# A file with an answer: the head of its request, its own, its content. Returns its name.
sub made ($name, @answer) {
    my $path = "$dir/$name.answers";
    open my $file, '>:raw', $path or die "$path: $!\n";
    my $conf = "<Location /api/users>\n  UsersEndpoint account\n</Location>\n"
        . "<Location /status>\n  UsersEndpoint status\n</Location>\nHeader always set X-Added yes\n";
    for ([C => $conf], [A => @answer]) {
        my ($kind, @parts) = @$_;
        print $file join(' ', $kind, 8080, map { length } @parts), "\n", @parts, "\n";
    }
    close $file;
    return $path;
}

my $refused = join "\r\n", 'HTTP/1.1 %s', 'Date: today', 'Vary: Authorization,Accept', 'Cache-Control: no-store',
    'Content-Type: application/json';
my $unauthorized = sprintf("$refused\r\nWWW-Authenticate: Bearer realm=\"users\"", '401 Unauthorized');
my $page = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/html; charset=iso-8859-1";
my ($get, $errors) = ("GET /api/users HTTP/1.1\r\nHost: localhost", '{"errors":["credentials are required"]}');

my @good = (
    [$get, $unauthorized, $errors],
    ['GET /api/users/1 HTTP/1.1', sprintf($refused, '404 Not Found'), '{"errors":["nothing"]}'],
    [$get, "$unauthorized\r\nX-Added: yes", $errors],    # as the configuration says
    ['', $unauthorized, $errors],                        # to one of several requests
);
my @others = (
    ['GET /index.html HTTP/1.1', 'HTTP/1.1 418 Teapot', ''],    # of no endpoint
    [$get, $page, '<p>Bad'],                                    # of httpd's own
);
($status, $output) = node('judge.mjs', "$SOURCE/doc/openapi.yaml", map { made("good-$_", ($good[$_] // $others[$_ - @good])->@*) } 0 .. @good + @others - 1);
is $status, 0, 'the judge finds nothing in what is described' or diag($output);
like $output, qr/^4 answers of the API, 0 kinds/m, '... and tells what is of the API';

my $problem = '{"type":"about:blank","title":"x","status":401,"detail":"x","errors":[{"detail":"x","code":"odd"}]}';
my @bad = (
    [qr/GET account 418 has a status that is not described/ => $get, sprintf($refused, '418 Teapot'), $errors],
    [qr/PUT account 200 has a status/         => 'PUT /api/users HTTP/1.1', sprintf($refused, '200 OK'), '{}'],
    [qr/GET account 203 has a status/         => 'GET /api/users/1 HTTP/1.1', sprintf($refused, '203 OK'), '{}'],
    [qr/field x-other, which is not/          => $get, "$unauthorized\r\nX-Other: 1", $errors],
    [qr/lacks the header field www-auth/      => $get, sprintf($refused, '401 Unauthorized'), $errors],
    [qr/cache-control with another value/     => $get, $unauthorized =~ s/no-store/public/r, $errors],
    [qr/additional properties .*"hint"/       => $get, $unauthorized, '{"errors":["x"],"hint":1}'],
    [qr/required property 'errors'/           => $get, $unauthorized, '{}'],
    [qr{"/errors/N": must be string}          => $get, $unauthorized, '{"errors":[1]}'],
    [qr{one of the allowed values}            => $get, $unauthorized =~ s/json/problem+json/r, $problem],
    [qr{the type text/plain, which is not}    => $get, $unauthorized =~ s{application/json}{text/plain}r, 'x'],
    [qr{the type text/html}                   => $get, $unauthorized =~ s{application/json}{text/html}r, '<p>x'],
    [qr/content that is not JSON/             => $get, $unauthorized, '{'],
    [qr/UsersEndpoint status is not described/ => 'GET /status HTTP/1.1', 'HTTP/1.1 200 OK', ''],
    [qr/fits no operation/                    => '', $unauthorized, '{"error":"x"}'],
);
($status, $output) = node('judge.mjs', "$SOURCE/doc/openapi.yaml", map { made("bad-$_-", $bad[$_]->@[1 .. 3]) } keys @bad);
is $status, 1, 'the judge fails for what is not';
for my $i (keys @bad) {
    like $output, qr/$bad[$i][0].*such as bad-$i-/, "... $bad[$i][0]";
}

done_testing;
