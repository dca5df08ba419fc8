# Why the database can't be reached, as the error log tells it: once a child, with where, why, and what
# to do about it; and never a password.

use v5.36;
use IO::Socket::INET;
use Users::Test;

use constant REQUESTS => 50;

my $server  = Users::Test->new;
my $dir     = $server->dir;
my $USER    = $> == 0 ? 'www-data' : getpwuid $>;    # who httpd is

my $port = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1)->sockport;
$server->postgres->listen($port);
$server->sql(<<~'SQL');
    create database closed;
    revoke connect on database closed from public;
    create role secretive login password 'right';
    select format('copy (values (%L), (%L), (%L)) to %L', 'local all secretive scram-sha-256',
      'local all all peer map=users', 'host all mod_users 127.0.0.1/32 trust', setting)
    from pg_settings where name = 'hba_file' \gexec
    select pg_reload_conf();
    SQL

# For httpd's user, unless another owns it.
sub passfile ($name, $mode, $text, $owner = $USER) {
    my $path = "$dir/$name";
    open my $file, '>', $path or die "$path: $!\n";
    print $file $text;
    close $file;
    chmod $mode, $path;
    chown +(getpwnam $owner)[2, 3], $path if $> == 0;
    return $path;
}

my $SOCKET = "$dir/pg";
my $local  = "host=$SOCKET port=$port";
my $tcp    = "host=127.0.0.1 port=$port sslmode=disable";
my $secret = "$local dbname=users user=secretive";
my $line   = "*:*:*:*:right\n";
mkdir "$dir/directory";
$ENV{HOME} = "$dir/home";    # which httpd's children have, too

my %CASES = (    # conninfo, the database's name, the reason
    peer => [
        "$local dbname=users user=postgres", "users\@$SOCKET:$port",
        qr/FATAL: +28000: Peer authentication failed for user "postgres": httpd runs as the user "$USER" and asked for the role "postgres": .*pg_hba\.conf .*pg_ident\.conf\b.*/
    ],
    'no-entry' => [
        "$tcp dbname=users user=postgres", "users\@127.0.0.1:$port",
        qr/FATAL: +28000: no pg_hba\.conf entry .*: httpd runs as the user "$USER" and asked for the role "postgres": .*/
    ],
    'no-role' => [
        "$tcp dbname=users user=nobody", "users\@127.0.0.1:$port",
        qr/FATAL: +28000: no pg_hba.* asked for the role "nobody": there must be that role, .*/
    ],
    'wrong-password' => [
        "$secret password=s3cret", "users\@$SOCKET:$port",
        qr/FATAL: +28P01: password authentication failed for user "secretive": the password is not that of the role "secretive": .*/
    ],
    'no-password' => [
        "$secret passfile=$dir/absent", "users\@$SOCKET:$port",
        qr/no password supplied: the passfile \Q$dir\E\/absent can't be read by the user "$USER" that httpd runs as: No such file or directory/
    ],
    'default-passfile' => [
        $secret, "users\@$SOCKET:$port",
        qr/no password supplied: the passfile \Q$dir\E\/home\/\.pgpass can't be read by the user "$USER" .*/
    ],
    ($> == 0 ? ('closed-passfile' => [
        "$secret passfile=" . passfile('closed', 0600, $line, 'root'), "users\@$SOCKET:$port",
        qr/no password supplied: the passfile \Q$dir\E\/closed can't be read by the user "$USER" .*: Permission denied/
    ]) : ()),
    'open-passfile' => [
        "$secret passfile=" . passfile('open', 0640, $line), "users\@$SOCKET:$port",
        qr/no password supplied: libpq passes over the passfile \Q$dir\E\/open, .*: set its mode to 0600/
    ],
    'empty-passfile' => [
        "$secret passfile=" . passfile('empty', 0600, "*:*:*:other:right\n"), "users\@$SOCKET:$port",
        qr/no password supplied: the passfile \Q$dir\E\/empty has no line for this host, port, database and role/
    ],
    'no-file' => [
        "$secret passfile=$dir/directory", "users\@$SOCKET:$port",
        qr/no password supplied: the passfile \Q$dir\E\/directory is not a plain file/
    ],
    'no-database' => [
        "$local dbname=absent user=mod_users", "absent\@$SOCKET:$port",
        qr/FATAL: +3D000: database "absent" does not exist: create it, and run "usersctl database install".*/
    ],
    'no-connect' => [
        "$local dbname=closed user=mod_users", "closed\@$SOCKET:$port",
        qr/FATAL: +42501: permission denied for database "closed"; .*: grant connect on the database to the role "mod_users"/
    ],
    'no-service' => ['service=absent', 'of the service absent', qr/definition of service "absent" not found/],
    'no-server'  => [
        'host=/nonexistent dbname=users', 'users@/nonexistent',
        qr/connection to server on socket .* failed: No such file or directory; Is the server running .*\?/
    ],
    'two-hosts' => [
        "host=127.0.0.1,$SOCKET port=1,$port dbname=absent user=mod_users", "absent\@127.0.0.1,$SOCKET:1,$port",
        qr/3D000.*/
    ],
);

sub vhost ($name) {
    return <<~SITE;
        <VirtualHost *:*>
          ServerName $name.example
          UsersDB "$CASES{$name}[0]"
          <Location /api/users>
            UsersEndpoint account
          </Location>
        </VirtualHost>
        SITE
}

$server->start(
    conf => <<~CONF,
        StartServers 1
        ServerLimit 1
        <IfModule mpm_prefork_module>
          MaxRequestWorkers 1
        </IfModule>
        <IfModule !mpm_prefork_module>
          ThreadsPerChild 16
          MaxRequestWorkers 16
          MinSpareThreads 1
          MaxSpareThreads 16
        </IfModule>
        CONF
    site => join '',
    map { vhost($_) } sort keys %CASES
);
$server->allow_log(qr/server reached MaxRequestWorkers setting/);    # it is small on purpose
$server->allow_log(qr/^WARNING: password file "/);                   # libpq's own words
$server->expect_log(qr/\[users:error\] .*can't be reached/);
$server->expect_log(qr/\[users:warn\] .*UsersDB of the service absent can't be connected to/);
$server->expect_log(qr/\[users:warn\] .*UsersDB of the service absent can't be connected to/);

for my $name (sort keys %CASES) {
    my (undef, $database, $reason) = $CASES{$name}->@*;
    my $before = $server->error_log;
    my @request = (GET => '/api/users', token => READ_TOKEN, headers => [Host => "$name.example"]);
    my %status;
    $status{ $server->request(@request)->{status} }++ for 1 .. REQUESTS;
    is_deeply \%status, { 503 => REQUESTS }, "$name: every request is a 503";
    my @lines = ($server->error_log)[$before .. $server->error_log - 1];
    @lines = grep { /\[users:(?:warn|error|crit)\]/ } @lines;
    is @lines, 1, '... and the log has one line' or diag(join "\n", @lines);
    like $lines[0], qr/\[users:error\] .*the database \Q$database\E can't be reached: .*$reason$/,
        '... which says where, why, and what to do';
    unlike $lines[0], qr/s3cret|right|\\n|LOCATION/, '... in one line, and without a password';
}

done_testing;
