# Nothing is cached: what a commit has changed is what the next request finds, under load too.

use v5.36;
use POSIX ();
use Users::Test;
use Users::Test::Session;

my $PREFORK = ($ENV{USERS_TEST_MPM} // '') eq 'prefork';

my $server = Users::Test->new;
my $TRIALS = $server->single_process ? 100 : 2000;

# One child under a threaded MPM: all requests share its statements.
$server->start(conf => <<~CONF);
    MaxKeepAliveRequests 0
    <IfModule mpm_prefork_module>
      StartServers 20
      MaxRequestWorkers 20
    </IfModule>
    <IfModule !mpm_prefork_module>
      StartServers 1
      ServerLimit 1
      ThreadsPerChild 64
      MaxRequestWorkers 64
      MinSpareThreads 1
      MaxSpareThreads 64
    </IfModule>
    CONF
$server->allow_log(qr/server reached MaxRequestWorkers setting/);    # it is small on purpose

$server->sql(<<~'SQL');
    insert into users.account (id, fname, lname, email, country, currency, locale)
    select n, 'John', 'Number ' || n, n || '@example.com', 'NL', 'EUR', 'nl'
    from generate_series(1001, 1016) as n;
    insert into users.token (digest, application_id, user_id, scopes)
    select sha256(convert_to('token-of-' || account.id, 'UTF8')), application.id, account.id,
      '{profile_read}'
    from users.account, users.application;
    SQL
my $TRIED = 1001;    # the account that changes; the others are load
my @OTHERS = 1002 .. 1016;

sub bytes ($user) {
    return Users::Test::Client::compose(GET => '/api/users', token => "token-of-$user");
}

# ---- Load ------------------------------------------------------------------------------------

# GETs of all other accounts at once, again and again until one of them shows something else. It
# reads an answer no more closely than it must, so that the server is what is busy.
sub load () {
    my %sockets  = map { $_ => $server->connect->{socket} } @OTHERS;
    my $complete = qr/"unprocessed_usage":[\d.]+\}\}\z|\]\}\z/;    # an account or errors
    while (1) {
        $sockets{$_}->syswrite(bytes($_)) for @OTHERS;
        for my $user (@OTHERS) {
            my $answer = '';
            until ($answer =~ $complete) {
                $sockets{$user}->sysread($answer, 65536, length $answer) or return;
            }
            return if index($answer, qq("user":{"id":$user,)) < 0;
        }
    }
}

# Returns the process that does it.
sub begin_load () {
    defined(my $pid = fork) or die "fork: $!";
    if (!$pid) {
        $SIG{$_} = 'DEFAULT' for qw(HUP INT TERM);    # not to end the servers
        load();
        POSIX::_exit(1);
    }
    return $pid;
}

# Requests that have been logged.
sub served () {
    return scalar $server->access_log;
}

# ---- Trials ----------------------------------------------------------------------------------

my $session    = Users::Test::Session->new($server);
my $connection = $server->connect;

sub get () {
    $connection->send(bytes($TRIED));
    return $connection->answer;
}

sub set_revoked ($time) {
    $session->sql("update users.token set revoked_at = $time where user_id = $TRIED");
}

my $load   = begin_load();
my $before = served();
wait_until(sub { served() > $before + 100 }, 'load');

my ($refused, $admitted, $shown) = (0, 0, 0);
for my $trial (1 .. $TRIALS) {
    set_revoked('now()');
    $refused++ if get()->{status} == 401;

    set_revoked('null');
    $session->sql("update users.account set city = 'Delft $trial' where id = $TRIED");
    my $answer = get();
    $admitted++ if $answer->{status} == 200;
    $shown++ if ($answer->{json}{user}{city} // '') eq "Delft $trial";
}
is $refused,  $TRIALS, "a token that is revoked is 401 at once, $TRIALS times";
is $admitted, $TRIALS, '... one that is instated again works at once';
is $shown,    $TRIALS, '... a change of an account is shown at once';

cmp_ok served() - $before, '>', 4 * $TRIALS, '... with more requests of others than of the trials';
is waitpid($load, POSIX::WNOHANG), 0, '... who are shown their own accounts';
kill TERM => $load;
waitpid $load, 0;

done_testing;
