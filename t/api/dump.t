# httpd -t -D DUMP_USERS prints the settings in effect: all of them, as a configuration has them, what is
# set apart from what is not, and no password.

use v5.36;
use Users::Test;

my $server = Users::Test->new;

# What it prints, by server ("" is the main one) and directive: [value, whether it is set].
sub servers (%config) {
    my ($name, %servers) = '';
    for (split /\n/, $server->dump(%config)) {
        $name = $1, next if /^<VirtualHost (.*)>$/;
        $name = '', next if m{^</VirtualHost>$};
        push $servers{$name}{locations}->@*, $1 if /^ *<Location (.*)>$/;
        $servers{$name}{$2} = [$3 // '', $1 ? 0 : 1] if /^ *(#?)([A-Z]\w+)(?: (.*))?$/;
    }
    return \%servers;
}

sub settings (%config) {
    my $servers = servers(%config);
    return $servers->{'*:*'};
}

# The directives that httpd knows of the module.
sub known_directives () {
    $server->start(modules => ['info'], conf => <<~CONF);
        <Location /server-info>
          SetHandler server-info
        </Location>
        CONF
    my $page = $server->request(GET => '/server-info?mod_users.c')->{body};
    $server->stop;
    return $page =~ m{<dd><tt>(\w+)(?:\s|&nbsp;)* - <i>.*?</i>}g;
}

my $ENDPOINT = "<Location /api/users>\nUsersEndpoint account\n</Location>\n";

# Every directive with another value than its default, as it is written.
my %SET = (
    UsersDB                 => '"user=mod_users dbname=users host=/run/postgresql"',
    UsersDBKeep             => 2,
    UsersDBMax              => 3,
    UsersDBExptime          => '90s',
    UsersDBAcquireTimeout   => '1500ms',
    UsersDBConnectTimeout   => '500ms',
    UsersDBTimeout          => '2s',
    UsersDBPrepare          => 'off',
    UsersRequestTimeout     => '4s',
    UsersReadLanes          => 0,
    UsersChangeLanes        => 0,
    UsersHostLanes          => 7,
    UsersDBReplica          => '"dbname=users host=a.example,b.example hostaddr=::1,192.0.2.1 port=5433"',
    UsersReplicaLag         => '5s',
    UsersTraceParent        => 'generate',
    UsersChallenge          => 'bearer',
    UsersCORSOrigin         => 'https://panel.example http://localhost:8080',
    UsersRealm              => '"The users of example.com"',
    UsersHostName           => '"panel.example.com"',
    UsersMaxBody            => 1024,
    UsersDefaultCountry     => '"NL"',
    UsersDefaultCurrency    => '"EUR"',
    UsersDefaultLocale      => '"pt-BR"',
    UsersDuplicates         => 'conflict',
    UsersAudit              => 'on',
    UsersEvents             => 'on',
    UsersIssuer             => '"https://panel.example.com"',
    UsersTokenLifetime      => '720h',
    UsersTokenRate          => 0,
    UsersPasswordGrant      => 'on',
    UsersCache              => '"shmcb:users-cache(1048576)"',
    UsersHashSlots          => 2,
    UsersHashCost           => 12,
    UsersCredentialCache    => 0,
    UsersMaxFailures        => 0,
    UsersFailureWindow      => '1min',
    UsersProbeLimit         => 0,
    UsersProbeWindow        => '2h',
    UsersTokenSource        => 'environment',
    UsersTokenApplication   => '"a \\\\ and a \\" and a #"',
    UsersTokenUser          => 'id',
    UsersTokenUserVariable  => '"USER"',
    UsersTokenScopeVariable => '"SCOPE"',
);

subtest 'every directive' => sub {
    my @known = grep { $_ ne 'UsersEndpoint' } known_directives();
    is_deeply [sort keys %SET], [sort @known], 'this test knows them';
    my $none = settings();
    is_deeply [grep { !$none->{$_} } @known], [], 'each is printed where it is not set';
    is_deeply [grep { $none->{$_}[1] } @known], ['UsersDB'], '... and said not to be set';

    my $lines = join "\n", map { "$_ $SET{$_}" } sort keys %SET;
    my $all   = settings(conf => $lines, site => "<VirtualHost *:*>\n$ENDPOINT</VirtualHost>\n");
    is_deeply [grep { !$all->{$_}[1] } @known], [], 'each is said to be set where it is';
    is $all->{$_}[0], $SET{$_}, "$_ $SET{$_}" for sort keys %SET;

    my $again = join "\n", map { "$_ $all->{$_}[0]" } @known;
    is_deeply settings(conf => $again, site => "<VirtualHost *:*>\n$ENDPOINT</VirtualHost>\n"), $all,
        'what is printed can be read again';
};

subtest 'defaults' => sub {
    my $settings = settings();
    my %wanted = (
        UsersDBTimeout => '3s', UsersRequestTimeout => '5s', UsersDBExptime => '5min', UsersTokenLifetime => '2h',
        UsersFailureWindow => '10min', UsersDBPrepare => 'on', UsersChallenge => 'both', UsersRealm => '"users"',
        UsersHostName => '"localhost"', UsersDBReplica => '', UsersIssuer => '', UsersHashCost => '', UsersTokenRate => 100,
    );
    is_deeply $settings->{$_}, [$wanted{$_}, 0], "$_ $wanted{$_}" for sort keys %wanted;
    is $settings->{ServerName}[0], 'localhost', 'ServerName';
    is_deeply settings(vhost => "UsersDBTimeout 3s")->{UsersDBTimeout}, ["3s", 1], 'a default that is set is said to be set';
    is_deeply settings(conf => 'UsersRealm panel')->{UsersRealm}, ['"panel"', 1], 'so is what is inherited';
};

subtest 'time-outs that are cut' => sub {
    my %config   = (vhost => "UsersRequestTimeout 2s\nUsersDBTimeout 2500ms");
    my $settings = settings(%config);
    is_deeply $settings->{UsersDBTimeout}, ['2s', 1], 'the one that counts';
    like $server->dump(%config), qr/^ *# set to 2500ms, .*\n *UsersDBTimeout 2s$/m, '... below what was set';
    is_deeply $settings->{UsersDBAcquireTimeout}, ['2s', 0], 'a default is cut, too';
};

subtest 'servers' => sub {
    my $db      = 'UsersDB dbname=users';
    my $servers = servers(site => <<~SITE);
        $db
        <Location /everywhere>
          UsersEndpoint account
        </Location>
        <VirtualHost 127.0.0.1:81 [::1]:82>
          ServerName one.example
          <Location /api/oauth/token>
            UsersEndpoint token
          </Location>
          <Location /everywhere>
            UsersEndpoint account
          </Location>
        </VirtualHost>
        SITE
    is_deeply [sort keys %$servers], ['', '127.0.0.1:81 [::1]:82'], 'each with an endpoint';
    my $one = $servers->{'127.0.0.1:81 [::1]:82'};
    is_deeply $servers->{''}{locations}, ['"/everywhere"'], 'the main one has its own';
    is_deeply $one->{locations}, ['"/api/oauth/token"', '"/everywhere"'], 'another one that, too, once';
    is $one->{ServerName}[0], 'one.example', 'with its name';
    is $one->{UsersEndpoint}[0], 'account', 'and what it serves';
    is_deeply [map { keys %{ servers(site => $_) } } "<VirtualHost *:*>\n$db\n</VirtualHost>"], [''],
        'none without an endpoint';
    like $server->dump, qr/^# \S+:\d+\n<VirtualHost \*:\*>$/m, 'the file and the line of one';
};

subtest 'connections' => sub {
    my $prefork = ($ENV{USERS_TEST_MPM} // '') eq 'prefork';
    my $main = servers(conf => $prefork ? 'MaxRequestWorkers 7' : "ThreadsPerChild 8\nMaxRequestWorkers 40")->{''};
    is $main->{ThreadsPerChild}[0], $prefork ? 1 : 8, 'ThreadsPerChild';
    is $main->{MaxRequestWorkers}[0], $prefork ? 7 : 40, 'MaxRequestWorkers';
};

subtest 'secrets' => sub {
    for (
        [q("host=db.example password='hu sh\\\\''"),                     '"host=db.example password=********"'],
        ['"postgresql://mod_users:hu%20sh%27@db.example:5433/users?sslmode=require"',
            '"user=mod_users password=******** dbname=users host=db.example port=5433 sslmode=require"'],
        [q("dbname=users sslpassword='hu sh\\\\''"),                     '"dbname=users sslpassword=****"'],
        [q("dbname='a b' passfile='/etc/it\\\\'s\\\\\\\\here' service=panel"),
            q("service=panel passfile='/etc/it\\\\'s\\\\\\\\here' dbname='a b'")],
        [q("dbname=users password='exec:/bin/echo hu sh\\\\''"),         '"password=exec:/bin/echo dbname=users"'],
    ) {
        my ($conninfo, $printed) = @$_;
        for my $directive (qw(UsersDB UsersDBReplica)) {
            my $dump = $server->dump(vhost => "$directive $conninfo");
            my ($value) = $dump =~ /^ *$directive "(.*)"$/m;
            is_deeply [sort split / /, $value // ''], [sort split / /, $printed =~ s/^"|"$//gr], "$directive $conninfo";
            unlike $dump, qr/hu\W*sh/, '... keeps its secret';
        }
    }
};

subtest 'a configtest without it' => sub {
    my ($status, $output) = $server->configtest;
    is $status, 0, 'goes well';
    unlike $output, qr/UsersDBMax/, '... and prints nothing of it';
};

done_testing;
