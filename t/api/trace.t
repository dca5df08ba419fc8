# LogLevel users:trace2 says on what way a request was answered, and why it was refused; no line
# holds a secret.

use v5.36;
use Users::Test;

my $server = Users::Test->start(conf => 'LogLevel users:trace4');

# The lines that a request adds to the log, once it has added one like this.
sub trace ($pattern, @request) {
    my $before = () = $server->error_log;
    $server->request(@request);
    $server->wait_for_log($pattern);
    my @lines = $server->error_log;
    return grep { /\[users:trace\d\]/ } @lines[$before .. $#lines];
}

my @lines = trace(qr/403/, PATCH => '/api/users', token => READ_TOKEN, json => {});
ok((grep { /trace2\].*user 1, application \d+, has the scopes 'profile_read' and needs profile_update/ }
    @lines), 'a 403: what was held, and what was needed') or diag "@lines";
ok((grep { /trace2\].*403: this needs the scope profile_update/ } @lines), '... and the answer')
    or diag "@lines";
ok((grep { /trace3\].*the credential is a bearer token/ } @lines), '... to which credential')
    or diag "@lines";
ok((grep { /trace3\].*the tokens of 1 requests took \d+ us: done/ } @lines), '... after which statement')
    or diag "@lines";

@lines = trace(qr/401: the user name/, GET => '/api/users', basic => ['somebody', 'open sesame']);
ok((grep { /trace3\].*the credential is a name and a password/ } @lines), 'a name and a password')
    or diag "@lines";

@lines = trace(qr/the tokens of 1 requests/, GET => '/api/users', token => FULL_TOKEN);
ok((grep { /trace2\].*looked up with others: done/ } @lines), 'a look-up that may be shared')
    or diag "@lines";

@lines = trace(qr/the change was made with others/, PATCH => '/api/users', token => FULL_TOKEN,
    json => { user => { city => 'Turku' } });
ok((grep { /update_accounts for 1 requests took \d+ us: done/ } @lines), 'a change') or diag "@lines";

my $log = join "\n", $server->error_log;
unlike $log, qr/\Q$_\E/, 'no secret is in the log' for READ_TOKEN, FULL_TOKEN, 'open sesame';

$server->stop;
$server->start(conf => 'LogLevel users:debug');
$server->request(PATCH => '/api/users', token => READ_TOKEN, json => {});
is scalar(grep { /\[users:trace/ } $server->error_log), 0, 'without it there is no such line';

done_testing;
