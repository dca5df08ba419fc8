# What the directives take and refuse.

use v5.36;
use Cwd            qw(abs_path);
use File::Basename qw(dirname);
use Users::Test;

my $SOURCE = $ENV{USERS_SRCDIR} // abs_path(dirname(__FILE__) . '/../..');

my $server = Users::Test->new;

sub write_file ($name, $text, $mode = 0644) {
    my $path = $server->dir . "/$name";
    open my $file, '>', $path or die "$path: $!\n";
    print $file $text;
    close $file;
    chmod $mode, $path;
    return $path;
}

sub read_lines ($path) {
    open my $file, '<', $path or return;
    return <$file>;
}

# The directives of conf/users.conf: name => { value, active, default }; default is what the
# comment above it calls so, otherwise the value that is commented out.
sub reference () {
    my (%reference, $comment);
    for (read_lines("$SOURCE/conf/users.conf")) {
        $comment = '' if /^$/;
        if (my ($off, $name, $value) = /^\s*(#?)(Users\w+) "?([^"\n]*)"?$/) {
            my ($words) = $comment =~ s/\bDefault: (\w+)// ? $1 : ();
            $reference{$name} = { value => $value, active => !$off, default => $words // $value };
        } elsif (/^#(.*)$/) {
            $comment .= $1;
        }
    }
    return \%reference;
}

# What httpd knows of the module's directives: name => help.
sub known_directives () {
    $server->start(modules => ['info'], conf => <<~CONF);
        <Location /server-info>
          SetHandler server-info
        </Location>
        CONF
    my $page = $server->request(GET => '/server-info?mod_users.c')->{body};
    $server->stop;
    return { $page =~ m{<dd><tt>(\w+)(?:\s|&nbsp;)* - <i>(.*?)</i>}g };
}

subtest 'conf/users.conf names every directive, with its default' => sub {
    my $reference = reference();
    my $known     = known_directives();
    is_deeply [sort keys %$reference], [sort keys %$known], 'the same directives';
    for my $name (sort grep { !$reference->{$_}{active} } keys %$reference) {
        my ($default) = map { $_ // () } $known->{$name} =~ /\(default: (\w+)|(\w+) \(default\)/;
        is $reference->{$name}{default}, $default, "$name has the default that its help names";
    }
    my @off = grep { !$reference->{$_}{active} } sort keys %$reference;
    my ($status, $output) =
        $server->configtest(conf => join "\n", map { "$_ \"$reference->{$_}{value}\"" } @off);
    is $status, 0, 'every value that is commented out is a good one' or diag($output);
};

# Test one configuration with a virtual host for each of these texts.
sub configtest_all (@vhosts) {
    return $server->configtest(
        site => join '', map { "<VirtualHost *:*>\n$_\n</VirtualHost>\n" } @vhosts);
}

subtest 'values' => sub {
    my $duration    = 'a duration from 1ms to 24h';
    my $connections = 'a number from 1 to 1000';
    my @durations   = qw(1ms 500ms 5s 5 60 2min 1h 24h);
    my %values      = (    # good ones, bad ones, what the message says
        UsersDBExptime        => [[@durations], ['0', '1m1s', 'soon'], $duration],
        UsersDBAcquireTimeout => [[@durations], ['0s', '1.5s', '5 s'], $duration],
        UsersDBConnectTimeout => [[@durations], ['-1s', '25h'],        $duration],
        UsersDBTimeout        => [[@durations], ['0ms', '5days', '5seconds'], $duration],
        UsersRequestTimeout   => [[@durations], ['0', '1d', '5m'],     $duration],
        UsersDBMax => [[qw(1 4 1000)], [qw(0 -1 1001 4k 1.5 99999999999999999999)], $connections],
        UsersDBKeep  => [[1], [qw(0 1001 many)], $connections],
        UsersDBPrepare => [[qw(on off Off)], [qw(0 yes)], 'on or off'],
        UsersReplicaLag => [[@durations], ['0', '25h'], $duration],
        UsersReadLanes => [[qw(0 1 1000)], [qw(-1 1001 one)], 'a number from 0 to 1000'],
        UsersHostLanes   => [[qw(0 1 1000)], [qw(-1 1001 one)], 'a number from 0 to 1000'],
        UsersChangeLanes => [[qw(0 1 1000)], [qw(-1 1001 one)], 'a number from 0 to 1000'],
        UsersMaxBody   =>
            [[qw(1 65536 16777216)], [qw(0 -1 16777217 64k)], 'a number from 1 to 16777216'],
        UsersTraceParent => [[qw(off propagate generate Off)], [qw(on yes 00)], 'off or propagate or generate'],
        UsersChallenge  => [[qw(both bearer BEARER)], [qw(basic none)], 'both or bearer'],
        UsersAudit      => [[qw(on off On)], [qw(yes 1 verbose)], 'on or off'],
        UsersEvents     => [[qw(on off OFF)], [qw(no 0)], 'on or off'],
        UsersDuplicates => [[qw(create conflict Conflict)], ['refuse'], 'create or conflict'],
        UsersRealm      => [
            ['users', 'The users of example.com'],
            ['a\\b', "caf\xE9", "tab\there"],
            'printable ASCII without quotes and backslashes'
        ],
        UsersHostName => [
            ['localhost', 'panel.example.com', 'xn--bcher-kva.example', 'a' x 63 . '.example'],
            [
                'panel', 'panel.', '.panel.example', 'a..b', 'a_b.example', 'user@example.com',
                'example.com:443', '[::1]', 'x.' x 120 . 'example', '-panel.example', 'panel-.example',
                'panel.example-', '192.0.2.1', 'a' x 64 . '.example'
            ],
            'a domain name with a dot, or localhost'
        ],
        UsersCORSOrigin => [
            ['none', 'None', '*', 'https://panel.example', 'http://localhost:8080', 'http://[::1]:1', 'https://192.0.2.1'],
            [
                'null', 'panel.example', 'https://panel.example/', 'https://panel.example:443', 'http://panel.example:80',
                'https://Panel.example', 'HTTPS://panel.example', 'https://*.example', 'ftp://panel.example',
                'https://panel.example/path', 'https://u@panel.example', 'https://192.0.2', 'http://[0::1]', '**'
            ],
            'none, or * for all, or origins as browsers write them'
        ],
        UsersDefaultCountry => [[qw(US NL)], [qw(us USA U5 United), 'U S'], 'a code of ISO 3166-1 alpha-2'],
        UsersDefaultCurrency => [[qw(USD EUR)], [qw(usd US USDT U5D)], 'a code of ISO 4217'],
        UsersTokenLifetime =>
            [[qw(1s 2h 8760h)], [qw(0 999ms 8761h)], 'a duration from 1s to 8760h'],
        UsersPasswordGrant   => [[qw(on off On)],  [qw(yes 1)], 'on or off'],
        UsersCredentialCache => [[qw(0 1ms 300 24h)], [qw(-1 25h)], '0 or a duration from 1ms to 24h'],
        UsersMaxFailures => [[qw(0 10 1000000)], [qw(-1 1000001 ten)], 'a number from 0 to 1000000'],
        UsersFailureWindow => [[qw(1s 10min)], [qw(0 1ms)], 'a duration from 1s to 24h'],
        UsersProbeLimit  => [[qw(0 20 1000000)], [qw(-1 1000001 ten)], 'a number from 0 to 1000000'],
        UsersProbeWindow => [[qw(1s 10min 24h)], [qw(0 1ms 25h)], 'a duration from 1s to 24h'],
        UsersTokenRate   => [[qw(0 100 1000000)], [qw(-1 1000001 1.5)], 'a number from 0 to 1000000'],
        UsersTokenUser => [[qw(id external_id)], [qw(email)], 'external_id or id'],
        UsersIssuer    => [
            [qw(https://panel.example.com http://localhost:8080 https://a.example/b)],
            [
                'panel.example.com', 'ftp://a.example', 'https://', 'https://a.example/',
                'https://u:p@a.example', 'https://a.example?b', 'https://a.example#b', 'https://a b'
            ],
            'a URL'
        ],
        (map { $_ => [[qw(OAUTH2_CLAIM_sub _x1)], ['1x', 'a-b', 'a b'], 'the name of an environment'] }
                qw(UsersTokenUserVariable UsersTokenScopeVariable)),
        UsersDefaultLocale =>
            [[qw(en pt-BR es-419 zh-Hant zh-Hant-TW)],
            [qw(EN e eng pt-br pt_BR pt-B es-41 zh-hant zh-TW-Hant zh-Hant- en-US.UTF-8)], 'a language of ISO 639-1'],
    );
    for my $name (sort keys %values) {
        my ($good, $bad, $takes) = $values{$name}->@*;
        my ($status, $output) = configtest_all(map { "$name \"$_\"" } @$good);
        is $status, 0, "$name takes @$good" or diag($output);
        for my $value (@$bad) {
            ($status, $output) = $server->configtest(vhost => "$name \"$value\"");
            isnt $status, 0, "$name refuses '$value'";
            like $output, qr/\b$name: .*it takes \Q$takes/, 'and says what it takes';
        }
    }
    my %bare = (    # how much is taken without a unit, and too much
        (map { $_ => [60, 61] }
            qw(UsersDBAcquireTimeout UsersDBConnectTimeout UsersDBTimeout UsersRequestTimeout UsersReplicaLag)),
        (map { $_ => [3600, 5000] } qw(UsersDBExptime UsersCredentialCache UsersFailureWindow UsersProbeWindow)),
        UsersTokenLifetime => [2592000, 7200000],
    );
    for my $name (sort keys %bare) {
        my ($most, $more) = $bare{$name}->@*;
        my ($status, $output) = configtest_all("$name $most", "$name ${more}ms", "$name ${more}s");
        is $status, 0, "$name takes $most for seconds, and ${more}ms and ${more}s" or diag($output);
        ($status, $output) = $server->configtest(vhost => "$name $more");
        isnt $status, 0, "$name refuses $more";
        like $output, qr/\b$name: .*write ${more}ms or ${more}s/, 'and asks for a unit';
    }
    is_deeply [sort keys %bare], [sort grep { $values{$_}[2] =~ /duration/ } keys %values],
        'that was every duration';
    for my $name (sort keys reference()->%*) {
        my $where = $name eq 'UsersEndpoint' ? 'endpoint' : 'vhost';
        my ($status, $output) = $server->configtest($where => qq($name ""));
        isnt $status, 0, "$name needs a value";
        like $output, qr/\b$name\b/, 'and the message names it';
    }
};

subtest 'connection strings' => sub {
    for my $value (
        'dbname=users',
        'host=db1,db2 port=5432 dbname=users user=mod_users',
        'postgresql://mod_users@db.example/users?sslmode=require',
        q(service=users),
        q(dbname=users passfile=/etc/users.pgpass),
        q(dbname=users password=exec:/usr/local/bin/users-password),
        )
    {
        my ($status, $output) = $server->configtest(vhost => "UsersDB \"$value\"");
        is $status, 0, "UsersDB takes '$value'" or diag($output);
    }
    my %bad = (
        'an empty one'             => '""',
        'an unknown keyword'       => '"password=s3cret databse=users"',
        'no keyword'               => '"s3cret"',
        'an open quote'            => q("dbname=users password='s3cret"),
        'a URI with a bad host'    => '"postgresql://u:s3cret@[::1/users"',
        'a URI with a bad escape'  => '"postgresql://u:s3cret%2@localhost/users"',
        'a relative program'       => '"dbname=users password=exec:s3cret"',
        'a string without quotes'  => 'dbname=users password=s3cret',
    );
    for my $name (sort keys %bad) {
        for my $directive (qw(UsersDB UsersDBReplica)) {
            my ($status, $output) = $server->configtest(vhost => "$directive $bad{$name}");
            isnt $status, 0, "$directive: $name is refused";
            like $output, qr/\b$directive\b/, "$name: the message names the directive";
            unlike $output, qr/s3cret/, "$name: it does not show the password";
        }
    }
};

subtest 'a port is a number' => sub {
    for my $port (qw(x 0 65536 -1 5432x 5432;6432 123456), '5432,x') {
        for my $directive (qw(UsersDB UsersDBReplica)) {
            my ($status, $output) = $server->configtest(vhost => qq($directive "host=db dbname=users port='$port' password=s3cret"));
            isnt $status, 0, "$directive: port=$port is refused";
            like $output, qr/\b$directive: port=\Q$port\E: a port is a number from 1 to 65535/, '... and the message says why';
            unlike $output, qr/s3cret/, '... and no password';
        }
    }
    for my $port ('1', '65535', '', '5432,6432', ',6432') {
        my ($status, $output) = $server->configtest(vhost => qq(UsersDB "host=a,b dbname=users port='$port'"));
        is $status, 0, "port=$port is taken" or diag($output);
    }
};

subtest 'UsersDBReplica names each host once' => sub {
    for my $hosts ('host=db1,db2,db3', 'hostaddr=192.0.2.1,192.0.2.2 port=5432,5433', 'host=db,db port=5432,5433',
        'postgresql://db1,db2:5433/users', 'host=' . join ',', map { "db$_" } 1 .. 16) {
        my ($status, $output) = $server->configtest(vhost => qq(UsersDBReplica "$hosts"));
        is $status, 0, "$hosts is taken" or diag $output;
    }
    my %bad = (
        'host=db1,db2,db1 dbname=users password=s3cret'  => 'it names users@db1 twice',
        'host=db,db port=5433 dbname=users'              => 'it names users@db:5433 twice',
        'host=' . join(',', map { "db$_" } 1 .. 17)      => 'it names 17 hosts: it takes up to 16',
        'host=a,b,c port=5432,5433'                      => 'port=5432,5433: it takes one port for all hosts, or one for each of 3',
        'host=a port=5432,5433'                          => 'port=5432,5433: it takes one port for all hosts, or one for each of 1',
        'hostaddr=127.0.0.1,127.0.0.2 port=1,2,3'        => 'port=1,2,3: it takes one port for all hosts, or one for each of 2',
        'host=a,b hostaddr=127.0.0.1'                    => 'host=a,b hostaddr=127.0.0.1: where there are both, they are as many',
    );
    for my $hosts (sort keys %bad) {
        my ($status, $output) = $server->configtest(vhost => qq(UsersDBReplica "$hosts"));
        isnt $status, 0, "$hosts is refused";
        like $output, qr/\bUsersDBReplica: \Q$bad{$hosts}\E/, '... and the message says why';
        unlike $output, qr/s3cret/, '... and no password';
    }
};

subtest 'UsersEndpoint stands in a <Location> with a plain path' => sub {
    my %good = (
        'a <Location>'                 => '<Location /panel>%s</Location>',
        'a quoted path'                => '<Location "/panel">%s</Location>',
        'an <IfModule> within'         =>
            "<Location /panel>\n<IfModule users_module>%s</IfModule>\n</Location>",
        'the path / alone'             => '<Location />%s</Location>',
    );
    my %bad = (
        'the virtual host'             => '%s',
        'a <LocationMatch>'            => '<LocationMatch "^/panel$">%s</LocationMatch>',
        'a <Location ~>'               => '<Location ~ "^/panel$">%s</Location>',
        'a path with an asterisk'      => '<Location "/panel/*">%s</Location>',
        'a path with a question mark'  => '<Location "/pane?">%s</Location>',
        'a path with a bracket'        => '<Location "/[pq]anel">%s</Location>',
        'a URL'                        => '<Location "http://localhost/panel">%s</Location>',
        'a <Directory>'                => '<Directory /panel>%s</Directory>',
        'a <DirectoryMatch>'           => '<DirectoryMatch "^/panel">%s</DirectoryMatch>',
        'a <Files>'                    => '<Files panel>%s</Files>',
        'a <Limit> within'             =>
            "<Location /panel>\n<Limit GET>%s</Limit>\n</Location>",
        'a <LimitExcept> within'       =>
            "<Location /panel>\n<LimitExcept GET>%s</LimitExcept>\n</Location>",
        'an <If> within'               => "<Location /panel>\n<If \"true\">%s</If>\n</Location>",
        'a <Proxy>'                    => '<Proxy /panel>%s</Proxy>',
    );
    my $endpoint = "\nUsersEndpoint account\n";
    for my $name (sort keys %good) {
        my ($status, $output) = $server->configtest(vhost => sprintf $good{$name}, $endpoint);
        is $status, 0, "$name is good" or diag($output);
    }
    for my $name (sort keys %bad) {
        my ($status, $output) = $server->configtest(
            modules => ['proxy'], vhost => sprintf $bad{$name}, $endpoint);
        isnt $status, 0, "$name is refused";
        like $output, qr/\bUsersEndpoint\b/, "$name: the message names the directive";
        like $output, qr/<Location>|not allowed in/i, "$name: it says where it belongs";
    }
    my ($status, $output) = $server->configtest(endpoint => 'UsersEndpoint users');
    isnt $status, 0, 'another kind is refused';
    like $output, qr/\bUsersEndpoint: .*'users'.*it takes account/, 'and says what it takes';
};

subtest 'the others stand in the server or a virtual host' => sub {
    my $reference = reference();
    delete $reference->{UsersEndpoint};
    my @shared = qw(UsersCache UsersHashCost UsersHashSlots);    # by all virtual hosts
    my @lines = map { "$_ \"$reference->{$_}{value}\"" } sort keys %$reference;
    my ($status, $output) = $server->configtest(conf => join "\n", @lines);
    is $status, 0, 'the server takes them' or diag($output);
    delete $reference->@{@shared};
    ($status, $output) = $server->configtest(
        vhost => join "\n", map { "$_ \"$reference->{$_}{value}\"" } keys %$reference);
    is $status, 0, 'so does a virtual host' or diag($output);
    for my $name (@shared) {
        ($status, $output) = $server->configtest(vhost => "$name 4");
        isnt $status, 0, "$name is not for a virtual host";
        like $output, qr/\b$name cannot occur within <VirtualHost>/, 'and the message names it';
    }
    for my $line (@lines) {
        my ($name) = $line =~ /^(\w+)/;
        ($status, $output) = $server->configtest(endpoint => $line);
        isnt $status, 0, "$name is not for a <Location>";
        like $output, qr/\b$name not allowed in/, 'and the message names it';
    }
};

subtest 'directives that need another' => sub {
    my ($status, $output) = $server->configtest(site => <<~SITE);
        <VirtualHost *:*>
          ServerName panel.example
          <Location /panel/users>
            UsersEndpoint account
          </Location>
        </VirtualHost>
        SITE
    isnt $status, 0, 'UsersEndpoint without UsersDB is refused';
    like $output, qr/$_/, "the message names $_"
        for qw(UsersEndpoint UsersDB panel\.example /panel/users);

    ($status, $output) = $server->configtest(site => <<~SITE);
        UsersDB dbname=users
        <VirtualHost *:*>
          <Location /api/users>
            UsersEndpoint account
          </Location>
        </VirtualHost>
        SITE
    is $status, 0, 'that of the server will do' or diag($output);

    ($status, $output) = $server->configtest(vhost => 'UsersTokenSource environment');
    isnt $status, 0, 'UsersTokenSource environment without UsersTokenApplication is refused';
    like $output, qr/\b$_\b/, "the message names $_" for qw(UsersTokenSource UsersTokenApplication);
    ($status, $output) = $server->configtest(
        conf => 'UsersTokenApplication panel', vhost => 'UsersTokenSource environment');
    is $status, 0, 'that of the server will do' or diag($output);

    for my $case (
        ['more than UsersDBMax', { vhost => "UsersDBMax 2\nUsersDBKeep 3" }],
        ['more than its default', { vhost => 'UsersDBKeep 5' }],
        ['more than the one inherited', { conf => 'UsersDBMax 2', vhost => 'UsersDBKeep 3' }],
        )
    {
        my ($name, $conf) = @$case;
        ($status, $output) = $server->configtest(%$conf);
        isnt $status, 0, "UsersDBKeep of $name is refused";
        like $output, qr/\bUsersDBKeep\b.*\bUsersDBMax\b/, 'the message names both';
    }
    ($status, $output) = $server->configtest(vhost => "UsersDBKeep 2\nUsersDBMax 2");
    is $status, 0, 'as many are good' or diag($output);
};

subtest 'metadata stand where clients look for them' => sub {
    my $location = "<Location %s>\nUsersEndpoint metadata\n</Location>";
    my $known    = '/.well-known/oauth-';
    for my $path (
        "${known}authorization-server", "${known}authorization-server/panel",
        "${known}protected-resource",   "${known}protected-resource/api/users"
        )
    {
        my ($status, $output) = $server->configtest(vhost => sprintf $location, $path);
        is $status, 0, "$path is good" or diag($output);
    }
    for my $path ('/metadata', "${known}authorization-servers", "/x${known}authorization-server") {
        my ($status, $output) = $server->configtest(vhost => sprintf $location, $path);
        isnt $status, 0, "$path is refused";
        like $output, qr/\bUsersEndpoint: .*${known}authorization-server\b/,
            'the message names the directive and the path';
    }
};

subtest 'the cache that children share' => sub {
    my ($status, $output) = $server->configtest(conf => 'UsersHashSlots 1000');
    is $status, 0, 'UsersHashSlots takes 1000' or diag($output);
    for my $value (qw(0 1001 many)) {
        ($status, $output) = $server->configtest(conf => "UsersHashSlots $value");
        isnt $status, 0, "UsersHashSlots refuses $value";
        like $output, qr/\bUsersHashSlots: .*a number from 1 to 1000/, 'and says what it takes';
    }
    ($status, $output) = $server->configtest(conf => 'UsersHashCost 4');
    is $status, 0, 'UsersHashCost takes 4' or diag($output);
    for my $value (qw(0 3 17 high)) {
        ($status, $output) = $server->configtest(conf => "UsersHashCost $value");
        isnt $status, 0, "UsersHashCost refuses $value";
        like $output, qr/\bUsersHashCost: .*a number from 4 to 16/, 'and says what it takes';
    }
    ($status, $output) = $server->configtest(conf => 'UsersCache shmcb:cache(1048576)');
    is $status, 0, 'UsersCache takes a provider and its arguments' or diag($output);
    ($status, $output) = $server->configtest(conf => 'UsersCache memcache:localhost:11211');
    isnt $status, 0, 'a provider that is not loaded is refused';
    like $output, qr/\bUsersCache: .*'memcache': load mod_socache_memcache\b/,
        'the message names it, and what to load';
    like $output, qr/off what needs it by UsersCredentialCache 0/, 'and what does without';
    ($status, $output) = $server->configtest(conf => "UsersCache memcache\nUsersCredentialCache 0");
    is $status, 0, 'nothing is needed where nothing is kept' or diag($output);
    for my $value (qw{shmcb:cache(10) shmcb:(5) shmcb:cache(10000 shmcb:cache(999999999999999)}) {
        ($status, $output) = $server->configtest(conf => "UsersCache $value");
        isnt $status, 0, "UsersCache refuses $value";
        like $output, qr/\bUsersCache '\Q$value\E': ./, 'and says what the provider says';
    }
};

# Which shows in no configtest, and a reload would end all sites of the server.
subtest 'a cache that can not be had is done without' => sub {
    for my $case (['UsersCache dbm:/nonexistent/cache', qr/UsersCache 'dbm:\S+': it can't be opened: verified passwords are not remembered/],
        ['Mutex file:/proc users-cache', qr/UsersCache 'shmcb': the mutex users-cache can't be made: verified passwords are not remembered/])
    {
        my ($conf, $line) = @$case;
        $server->start(modules => ['socache_dbm'], conf => $conf);
        $server->expect_log($line);
        $server->allow_log(qr/users-cache|AH00021|AH00023|AH00804|AH02804|socache/);
        is $server->request(GET => '/api/users', token => READ_TOKEN)->{status}, 200, $conf;
        $server->graceful;
        is $server->request(GET => '/api/users', token => READ_TOKEN)->{status}, 200, '... after a reload, too';
        $server->stop;
    }
};

subtest 'a database that is down is no fault of the configuration' => sub {
    $server->postgres->stop;
    my ($status, $output) = $server->configtest;
    is $status, 0, 'configtest' or diag($output);
    ok eval { $server->start; 1 }, 'start' or diag($@);
    $server->stop;
    $server->postgres->start;
};

# Have PostgreSQL ask mod_users for a password, by superuser's SQL alone.
sub require_password ($password) {
    $server->sql(<<~SQL);
        alter role mod_users password '$password';
        select format('copy (values (%L), (%L)) to %L', 'local all mod_users scram-sha-256',
          'local all all peer map=users', setting)
        from pg_settings where name = 'hba_file' \\gexec
        select pg_reload_conf();
        SQL
}

subtest 'a password may come from elsewhere' => sub {
    my $password = q(pass 'word\\);
    require_password($password =~ s/'/''/gr);
    my $runs = $server->dir . '/runs';
    my $program = write_file('password', <<~'SH', 0755);
        #!/bin/sh
        echo "$1" >>"${0%/*}/runs"
        printf '%s\n' "pass 'word\\" 'a second line'
        SH
    my $works = sub ($name, $conninfo, %option) {
        $server->start(vhost => "UsersDB \"" . $server->conninfo . " $conninfo\"", %option);
        my $answer = $server->request(GET => '/api/users', token => READ_TOKEN);
        is $answer->{status}, 200, "$name: GET answers";
    };

    my $exec = "password='exec:$program argument'";
    my ($status, $output) = $server->configtest(vhost => "UsersDB \"host=x $exec\"");
    is $status, 0, 'configtest takes a program' or diag($output);
    is_deeply [read_lines($runs)], [], 'and does not run it';
    $works->('password=exec:', $exec, conf => <<~CONF);
        UsersDB "@{[$server->conninfo]} $exec"
        <Location /inherited>
          UsersEndpoint account
        </Location>
        <VirtualHost *:*>
          ServerName inherits.example
        </VirtualHost>
        CONF
    is_deeply [read_lines($runs)], ["argument\n"], 'the program ran once, with its argument';
    $server->allow_log(qr/long lost child came home/);    # httpd's word on the restart
    $server->graceful;
    is_deeply [read_lines($runs)], [("argument\n") x 2], 'and once more at a restart';
    is $server->request(GET => '/api/users', token => READ_TOKEN)->{status}, 200,
        'GET still answers';
    $server->stop;

    my $passfile = write_file('pgpass', '*:*:*:*:' . $password =~ s/\\/\\\\/gr . "\n", 0600);
    chown +(getpwnam 'www-data')[2, 3], $passfile if $> == 0;
    $works->('passfile=', "passfile=$passfile");
    $server->stop;

    $server->start(vhost => <<~CONF);
        UsersDB "@{[$server->conninfo]} passfile=$passfile"
        UsersDBReplica "@{[$server->conninfo]} application_name=replica password=exec:$program"
        CONF
    wait_until(
        sub {
            $server->request(GET => '/api/users', token => READ_TOKEN);
            $server->sql("select count(*) from pg_stat_activity where application_name = 'replica'");
        },
        'UsersDBReplica to have the password of its program'
    );
    $server->stop;

    local $ENV{PGSERVICEFILE} = write_file('services', <<~SERVICE);
        [panel]
        host=@{[$server->dir]}/pg
        dbname=users
        user=mod_users
        passfile=$passfile
        SERVICE
    $server->start(vhost => 'UsersDB service=panel');
    is $server->request(GET => '/api/users', token => READ_TOKEN)->{status}, 200,
        'service=: GET answers';
};

done_testing;
