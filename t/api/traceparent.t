# UsersTraceParent: which requests are part of a trace, and where its id goes.

use v5.36;
use Cwd            qw(abs_path);
use File::Basename qw(dirname);
use Users::Test;

use constant {
    ID    => '0af7651916cd43dd8448eb211c80319c',
    OTHER => '4bf92f3577b34da6a3ce929d0e0e4736',
    NONE  => '(null)',                             # as mod_headers writes a variable that is not set
};

my $server = Users::Test->new;

sub parent ($id)   { return "00-$id-b7ad6b7169203331-01" }
sub traced (@values) { return [map { (traceparent => $_) } @values] }

sub read_lines ($path) {
    open my $file, '<', $path or return;
    return <$file>;
}

sub write_page ($name, $text) {
    my $path = $server->dir . "/htdocs/$name";
    open my $file, '>', $path or die "$path: $!\n";
    print $file $text;
    close $file;
}

write_page('page',    '<!--#include virtual="/part" -->');
write_page('part',    'part <!--#echo var="USERS_TRACE" -->');
write_page('missing', 'missing <!--#echo var="USERS_TRACE" -->');
write_page('seen',    'seen');

# Each answer has the trace of its request; one of /seen what came there, also by way of /passed; /page has
# a part; /nothing is answered by another page.
sub start ($mode, $more = '') {
    $server->stop if $server->pid;
    $server->start(
        modules => [qw(headers include proxy proxy_http rewrite)],
        conf    => <<~CONF,
            UseCanonicalPhysicalPort On
            LogFormat "%s first=%<{USERS_TRACE}e last=%>{USERS_TRACE}e" trace
            CustomLog ${\$server->dir}/traces trace
            CONF
        vhost => <<~CONF);
            @{[defined $mode ? "UsersTraceParent $mode" : '']}
            Header always set X-Trace "%{USERS_TRACE}e"
            ErrorDocument 404 /missing
            RewriteEngine On
            RewriteRule ^/passed\$ http://127.0.0.1:%{SERVER_PORT}/seen [P]
            <Location /passed>
              Header unset X-Trace
            </Location>
            <Location /seen>
              Header always set X-Seen "expr=%{req:traceparent}|%{req:tracestate}"
            </Location>
            <LocationMatch "^/(page|part|missing)\$">
              Options +Includes
              SetOutputFilter INCLUDES
            </LocationMatch>
            $more
            CONF
}

sub trace_of ($headers = [], @request) {
    @request = (GET => '/api/users', token => READ_TOKEN) unless @request;
    return $server->request(@request, headers => $headers)->{headers}{'x-trace'};
}

# What the module's lines of requests end in; each begins with its client.
sub traces_in_log () {
    my @lines = grep { /\[users:\w+\] .*\[client [^]]+\]/ } $server->error_log;
    return map { / \[trace (\w+)\](?:, referer: .*)?$/ ? $1 : $_ } @lines;
}

# A request, and what it was redirected to.
sub is_same_for_both ($answer) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $id   = $answer->{headers}{'x-trace'};
    my $file = $server->dir . '/traces';
    my $line;
    wait_until(sub { ($line) = grep { /^404 .* last=$id$/ } read_lines($file) }, 'the access log');
    is $line, "404 first=$id last=$id\n", '... the same for both';
}

my %INVALID = (
    'nothing'              => '',
    'an id of zeros'       => parent('0' x 32),
    'a parent of zeros'    => '00-' . ID . '-' . '0' x 16 . '-01',
    'upper case'           => parent(uc ID),
    'version ff'           => 'ff-' . ID . '-b7ad6b7169203331-01',
    'more than version 00' => parent(ID) . '-more',
    'too little'           => substr(parent(ID), 0, -1),
    'something else'       => 'nonsense',
);

subtest 'off' => sub {
    for my $mode (undef, 'off') {
        start($mode);
        is trace_of(traced(parent(ID))), NONE, 'no trace is taken';
        is_deeply [grep { /\[trace/ } $server->error_log], [], 'none is in the log';
        is $server->request(GET => '/seen', headers => traced(parent(ID)))->{headers}{'x-seen'} // '', parent(ID) . '|',
            'what came is passed on';
    }
};

subtest 'propagate' => sub {
    start('propagate');
    is trace_of(), NONE, 'none is made';
    is trace_of(traced(parent(ID))), ID, 'one that is valid is taken';
    is trace_of([TraceParent => parent(OTHER)]), OTHER, '... under a name in any case';
    is trace_of(traced('42-' . ID . '-b7ad6b7169203331-00-of the future')), ID, '... of a higher version, too';
    is trace_of(traced(parent(ID)), GET => '/seen'), ID, '... wherever it is sent';
    is trace_of(traced($INVALID{$_})), NONE, "$_ is not taken" for sort keys %INVALID;
    is trace_of(traced(parent(ID), parent(ID))),    NONE, 'two are none';
    is trace_of(traced(parent(ID), parent(OTHER))), NONE, '... that differ, too';
    is $server->request(GET => '/seen', headers => traced('nonsense'))->{headers}{'x-seen'}, 'nonsense|',
        'what came is passed on';
};

subtest 'generate' => sub {
    start('generate');
    is trace_of(traced(parent(ID))), ID, 'one that is valid is taken';
    my %made = map { $_ => 1 } map { trace_of() } 1 .. 5;
    is scalar keys %made, 5, 'another one is made for each request without';
    like $_, qr/^(?!0{32})[0-9a-f]{32}$/, '... in its form' for keys %made;
    like trace_of(traced($INVALID{$_})), qr/^(?!${\ID})[0-9a-f]{32}$/i, "... for $_" for sort keys %INVALID;
    like trace_of(traced(parent(ID), parent(OTHER))), qr/^(?!${\ID}|${\OTHER})[0-9a-f]{32}$/, '... for two';

    my $state  = [tracestate => 'a=1'];
    my $passed = $server->request(GET => '/passed', headers => [traced(parent(ID))->@*, @$state]);
    is $passed->{headers}{'x-seen'}, parent(ID) . '|a=1', 'a proxied server gets what came';
    $passed = $server->request(GET => '/passed', headers => [traced('nonsense')->@*, @$state]);
    my ($trace, $parent) = $passed->{headers}{'x-seen'} =~ /^00-([0-9a-f]{32})-([0-9a-f]{16})-00\|$/;
    is $trace, $passed->{headers}{'x-trace'}, '... or what was made, and not the state of another trace';
    unlike $parent, qr/^0*$/, '... with a parent';
};

subtest 'every line of the log' => sub {
    start('propagate', "UsersMaxFailures 2\n" . OAUTH_ENDPOINTS);
    $server->expect_trouble('lockout');
    my @account = (token => FULL_TOKEN);
    my @oauth   = (basic => [CLIENT_ID, CLIENT_SECRET]);
    my @cases   = (
        [GET     => '/api/users', @account],
        [GET     => '/api/users', basic => ['nobody', 'guessed']],
        [GET     => '/api/users', basic => ['nobody', 'guessed']],
        [GET     => '/api/users', basic => ['nobody', 'guessed']],
        [GET     => '/api/users', token => 'unknown'],
        [PATCH   => '/api/users', token => READ_TOKEN, json => {}],
        [PATCH   => '/api/users', @account, json => { user => { city => 'Delft' } }],
        [PATCH   => '/api/users', @account, json => { user => { email => 'nonsense' } }],
        [PATCH   => '/api/users', @account, body => '{', headers => ['Content-Type' => 'application/json']],
        [POST    => '/api/users', token => REGISTER_TOKEN, json => { user => { fname => 'J' } }],
        [DELETE  => '/api/users'],
        [POST    => '/api/oauth/token', @oauth, form => [grant_type => 'client_credentials']],
        [POST    => '/api/oauth/token', @oauth, form => [grant_type => 'unknown']],
        [POST    => '/api/oauth/introspect', @oauth, form => [token => READ_TOKEN]],
    );
    my @ids = map { sprintf '%032x', $_ + 1 } keys @cases;
    for my $i (keys @cases) {
        my ($method, $path, %option) = $cases[$i]->@*;
        $option{headers} = [($option{headers} // [])->@*, Referer => 'http://localhost/', traced(parent($ids[$i]))->@*];
        $server->request($method, $path, %option);
    }
    my %count;
    $count{$_}++ for traces_in_log();
    is_deeply [sort keys %count], \@ids, 'has the id of its request';
    cmp_ok eval { my $sum = 0; $sum += $_ for values %count; $sum }, '>', @ids, '... of several lines, too';
    ok((grep { /\[users:warn\] .*too many wrong secrets .* \[trace ${\$ids[2]}\]/ } $server->error_log), '... a warning, too')
        or diag join "\n", grep { /too many/ } $server->error_log;
};

subtest 'parts, and other requests in its place' => sub {
    for my $mode (qw(propagate generate)) {
        start($mode);
        my @headers = $mode eq 'propagate' ? (headers => traced(parent(ID))) : ();
        my $page = $server->request(GET => '/page', @headers);
        is $page->{body}, "part $page->{headers}{'x-trace'}", "$mode: a part has the same";
        is $page->{headers}{'x-trace'}, ID, '... which came' if @headers;
        my $missing = $server->request(GET => '/nothing', @headers);
        is $missing->{status}, 404, 'an error document is another request';
        is $missing->{body}, "missing $missing->{headers}{'x-trace'}", '... with a trace';
        is $missing->{headers}{'x-trace'}, ID, '... which came' if @headers;
        is_same_for_both($missing);
    }
};

subtest 'what clients send may be removed before' => sub {
    start('generate', 'RequestHeader unset traceparent early');
    like trace_of(traced(parent(ID))), qr/^(?!${\ID})[0-9a-f]{32}$/, 'then it does not count';
    is_same_for_both($server->request(GET => '/nothing', headers => traced(parent(ID))));
};

subtest 'lines of other modules' => sub {
    my $manual = ($ENV{USERS_SRCDIR} // abs_path(dirname(__FILE__) . '/../..')) . '/doc/manual/directives.md';
    my ($format) = grep { /^    ErrorLogFormat / } read_lines($manual);
    start('propagate', $format // '');
    $server->request(GET => '/nothing', headers => traced(parent(ID)));
    ok((grep { /^\[[^]]+\] \[core:info\] \[pid .*\] \[client [^]]+\] \[trace ${\ID}\] AH00128: / } $server->error_log),
        'have it by the ErrorLogFormat of the manual') or diag join "\n", $server->error_log;
    $server->request(GET => '/api/users', headers => ['Authorization' => 'Bearer x', traced(parent(ID))->@*]);
    my @own = grep { /\[users:\w+\] .*\[client / } $server->error_log;
    ok scalar @own, 'lines of the module';
    is_deeply [grep { (() = /\Q[trace ${\ID}]/g) != 1 } @own], [], '... have it once, too';
    $server->request(GET => '/nothing');
    ok((grep { /\] AH00128: / && !/trace/ } $server->error_log), '... those of a request without one have none');
};

subtest 'statements that fail' => sub {
    start('propagate', "<Location /api/oauth/token>\nUsersEndpoint token\n</Location>");
    my @as = (basic => [CLIENT_ID, CLIENT_SECRET], form => [grant_type => 'client_credentials'], headers => traced(parent(ID)));
    $server->sql('revoke execute on all functions in schema users_api from mod_users');
    is $server->request(POST => '/api/oauth/token', @as)->{status}, 500, 'a token request fails';
    $server->sql('revoke select on users_api.token from mod_users');
    is $server->request(GET => '/api/users', token => READ_TOKEN, headers => traced(parent(ID)))->{status}, 500, '... and so does a GET';
    for my $what (qr/issue_token took \d+ us: error/, qr/the token was looked up with others: error/) {
        ok((grep { /\[users:info\] .*\[client [^]]+\] $what \[trace ${\ID}\]$/ } $server->error_log), 'the log says which request')
            or diag join "\n", grep { /users:info/ } $server->error_log;
    }
    $server->expect_log(qr/\[users:error\] .*permission denied/);
};

done_testing;
