# How many connections httpd's children may open together, and how many PostgreSQL has for them: the
# error log tells when that can't fit, and when there are none left; once, however many children.

use v5.36;
use Users::Test;
use Users::Test::Session;

use constant REQUESTS => 60;

my $PREFORK  = ($ENV{USERS_TEST_MPM} // '') eq 'prefork';
my $CHILDREN = $PREFORK ? 10 : 2;
my $EACH     = $PREFORK ? 1  : 5;

my $server = Users::Test->new(databases => ['second']);
my $dir    = $server->dir;
$server->postgres->configure("max_connections = 12\n");    # of which three are a superuser's
$server->postgres->restart;

my $FITS_NOT = qr/\[users:warn\] .*the database \S+: this httpd may open/;
my $FULL     = qr/\[users:error\] .*the database \S+ has no connection left: /;

# The options of start; children and each: UsersDBMax, of which prefork can use one only.
sub config (%option) {
    my $children = $option{children} // $CHILDREN;
    my $threads  = 8 * $children;
    return (
        conf => <<~CONF,
            UsersDBMax @{[$option{each} // $EACH]}
            UsersDB "@{[$server->conninfo]}"
            ServerLimit 20
            <IfModule mpm_prefork_module>
              StartServers $children
              MinSpareServers 1
              MaxRequestWorkers $children
            </IfModule>
            <IfModule !mpm_prefork_module>
              StartServers $children
              ThreadsPerChild 8
              MaxRequestWorkers $threads
              MinSpareThreads 1
              MaxSpareThreads $threads
            </IfModule>
            @{[$option{conf} // '']}
            CONF
        vhost => $option{vhost} // '',
        site  => $option{site},
    );
}

sub start (%option) {
    $server->stop if $server->pid;
    $server->start(config(%option));
    $server->allow_log(qr/server reached MaxRequestWorkers setting/);    # it is small on purpose
    $server->allow_log(qr/long lost child came home/);                   # httpd's word on a restart
}

sub ask ($host = 'localhost', $times = REQUESTS) {
    my %status;
    for (1 .. $times) {
        $status{ $server->request(GET => '/api/users', token => READ_TOKEN, headers => [Host => $host])->{status} }++;
    }
    return join ' ', sort keys %status;
}

my @few = ('localhost', $PREFORK ? 3 : REQUESTS);    # so that not all children of prefork open one

sub lines ($pattern) {
    return grep { $_ =~ $pattern } $server->error_log;
}

# All connections but those for superusers, when those of an httpd that has ended are gone.
sub take_all () {
    wait_until(sub { !$server->sql("select count(*) from pg_stat_activity where usename = 'mod_users'") }, 'connections to end');
    my @sessions = map { Users::Test::Session->new($server) } 1 .. 9;
    $_->sql('select') for @sessions;    # it is connected then
    return @sessions;
}

subtest 'more than PostgreSQL allows' => sub {
    start();
    is ask(@few), '200', 'requests are served';
    my @lines = lines($FITS_NOT);
    is @lines, 1, '... and the log has a warning';
    my $most = $CHILDREN * $EACH;
    like $lines[0], qr/the database users\@$dir\S*: this httpd may open $most connections \(children: $CHILDREN, each up to $EACH by UsersDBMax\), but PostgreSQL allows 9 \(max_connections = 12 less 3 reserved\): .*lower MaxRequestWorkers or UsersDBMax, raise that limit, or put a pooler/,
        '... with all that has to be known';
    $server->expect_log($FITS_NOT);

    if (!$server->single_process) {
        $server->graceful;
        is ask(@few), '200', 'after a reload they are, too';
        is lines($FITS_NOT), 1, '... and nothing is said again';
        my ($children, $each) = $PREFORK ? (11, 1) : (2, 6);
        $server->graceful(config(children => $children, each => $each));
        my %answers;
        wait_until(sub { $answers{ ask(@few) }++; lines($FITS_NOT) > 1 }, 'a new child to serve');    # an old one may be quicker
        is_deeply [keys %answers], ['200'], 'after one that lets them open more';
        @lines = lines($FITS_NOT);
        is @lines, 2, '... it is';
        like $lines[1], qr/may open @{[$children * $each]} connections \(children: $children, each up to $each by/, '... with the new number';
    }
};

subtest 'as many as PostgreSQL allows' => sub {
    start($PREFORK ? (children => 9) : (each => 4));
    is ask(), '200', 'requests are served';
    is lines($FITS_NOT), 0, 'without a warning';
};

subtest 'other limits' => sub {
    for my $case (['role mod_users' => 'alter role mod_users connection limit'],
        ['database users' => 'alter database users connection limit'])
    {
        my ($whose, $sql) = @$case;
        $server->sql("$sql 7");
        start($PREFORK ? (children => 8) : (each => 4));
        is ask(@few), '200', "that of the $whose";
        is lines(qr/$FITS_NOT 8 connections .* but PostgreSQL allows 7 \(the connection limit of the $whose\): /), 1, '... counts, too';
        $server->expect_log($FITS_NOT);
        $server->sql("$sql -1");
    }
};

subtest 'several databases of a server' => sub {
    my $endpoint = "<Location /api/users>\nUsersEndpoint account\n</Location>";
    my ($children, $each) = $PREFORK ? (5, 1) : (2, 3);
    start(
        children => $children,
        each     => $each,
        site     => <<~SITE
            $endpoint
            <VirtualHost *:*>
              ServerName same.example
            </VirtualHost>
            <VirtualHost *:*>
              ServerName second.example
              UsersDB "@{[$server->conninfo('second')]}"
            </VirtualHost>
            SITE
    );
    is ask($_, $few[1]), '200', "$_ is served" for qw(same.example second.example);
    my @lines = lines($FITS_NOT);
    is @lines, 1, 'the log has one warning';
    my ($most, $all) = (2 * $children * $each, 2 * $each);
    like $lines[0], qr/may open $most connections \(children: $children, each up to $all by/, '... of all of them';
    $server->expect_log($FITS_NOT);
};

subtest 'what a pooler has is not known' => sub {
    start(vhost => 'UsersDBPrepare off');
    is ask(@few), '200', 'requests are served';
    is lines($FITS_NOT), 0, 'without a warning';
};

subtest 'none is left' => sub {
    start($PREFORK ? (children => 9) : (each => 4));
    my @sessions = take_all();
    is ask(), '503', 'every request is a 503';
    my @lines = lines($FULL);
    is @lines, 1, '... of which the log has one line, whichever child served it';
    my $most = $PREFORK ? 9 : 8;
    my ($children, $each) = $PREFORK ? (9, 1) : (2, 4);
    like $lines[0], qr/the database users\@$dir\S* has no connection left: .*53300: .*: this httpd may open $most connections \(children: $children, each up to $each by UsersDBMax\), more than PostgreSQL has free: .*raise max_connections/,
        '... with all that is known';
    is lines(qr/\[users:(?:warn|error)\] .*(?:can't be reached|is back)/), 0, '... and no other';
    @sessions = ();
    wait_until(sub { ask() =~ /200/ && lines(qr/has connections left again/) }, 'it to be over');
    is ask(), '200', 'then every request is served';
    my $over = qr/\[users:warn\] .*the database users\@\S+ has connections left again after [\d.]+ s, in which it refused \d+$/;
    is lines($over), 1, '... and there is a line of it';
    $server->expect_log($_) for $FULL, $over;
};

subtest 'others have them' => sub {
    start($PREFORK ? (children => 9) : (each => 4));
    is ask(), '200', 'one knows how many there are';
    $server->sql("select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = 'mod_users'");
    my @sessions = take_all();
    is ask(), '503', 'and then has none';
    is lines(qr/$FULL.* PostgreSQL allows 9 \(max_connections = 12 less 3 reserved\), but others have them, as pg_stat_activity tells: raise that limit/), 1,
        '... since others have them';
    $server->expect_log($FULL);
    $server->allow_log(qr/the database \S+ (?:can't be reached|is back)/);
};

done_testing;
