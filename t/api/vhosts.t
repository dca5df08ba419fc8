# Virtual hosts: each with its own users, with inherited settings, in a stock configuration.

use v5.36;
use Cwd            qw(abs_path);
use File::Basename qw(dirname);
use IO::Socket::INET;
use Users::Test;
use Users::Test::Session;

my $SOURCE  = $ENV{USERS_SRCDIR} // abs_path(dirname(__FILE__) . '/../..');
my $PREFORK = ($ENV{USERS_TEST_MPM} // '') eq 'prefork';

my $server = Users::Test->new(databases => ['second']);

sub vhost ($name, $text = '') {
    return "<VirtualHost *:*>\nServerName $name\n$text\n</VirtualHost>\n";
}

# Two virtual hosts that serve the API: inherits.example sets nothing itself, back.example
# sets the defaults.
sub two_vhosts ($settings, $defaults, $conninfo = $server->conninfo) {
    return <<~SITE . vhost('inherits.example') . vhost('back.example', $defaults);
        UsersDB "$conninfo"
        $settings
        <Location /api/users>
          UsersEndpoint account
        </Location>
        SITE
}

sub request ($host, $method, %option) {
    return $server->request($method => '/api/users', %option, headers => [Host => $host]);
}

sub register ($host, $user = {}) {
    my %user = (
        fname             => 'Jane',
        lname             => 'Roe',
        provider_server   => 'server.example',
        provider_username => 'jane',
        %$user
    );
    return request($host, 'POST', token => REGISTER_TOKEN, json => { user => \%user });
}

sub challenges ($answer) {
    my $field = $answer->{headers}{'www-authenticate'};
    return ref $field ? @$field : $field;
}

# Send a GET of which the answer is read later; by API credentials, each has a statement of its own.
sub begin_get ($host) {
    my $connection = $server->connect;
    $connection->send(
        Users::Test::Client::compose(
            GET     => '/api/users',
            basic   => ['john', 'johns secret'],
            headers => [Host => $host, Connection => 'close']));
    return $connection;
}

sub count_backends ($where = 'true') {
    return $server->sql(
        "select count(*) from pg_stat_activity where usename = 'mod_users' and ($where)");
}

sub wait_for_locks ($count) {
    wait_until(sub { count_backends("wait_event_type = 'Lock'") == $count },
        "$count statements to wait for a lock");
}

subtest 'each virtual host has the users of its own database' => sub {
    $server->sql("update users.account set fname = 'Second' where id = 1", 'second');
    my $endpoint = "<Location /api/users>\nUsersEndpoint account\n</Location>";
    $server->start(
        site => vhost('first.example', "UsersDB \"@{[$server->conninfo]}\"\n$endpoint")
            . vhost('second.example', "UsersDB \"@{[$server->conninfo('second')]}\"\n$endpoint")
            . vhost('none.example'));
    my %names = ('first.example' => 'John', 'second.example' => 'Second');
    for my $host (sort keys %names) {
        my $answer = request($host, 'GET', token => READ_TOKEN);
        is $answer->{status}, 200, "$host: GET answers";
        is $answer->{json}{user}{fname}, $names{$host}, "$host: from its database";
    }
    is request('none.example', 'GET', token => READ_TOKEN)->{status}, 404,
        'one without an endpoint serves nothing';

    my $made = register('second.example');
    my $pair = [$made->{json}{user}{api}->@{qw(username password)}];
    is request('second.example', 'GET', basic => $pair)->{status}, 200,
        'an account that is made in one';
    is request('first.example', 'GET', basic => $pair)->{status}, 401, 'is not known in the other';
    $server->stop;
};

subtest 'a setting of the server counts where a virtual host has none' => sub {
    $server->start(site => two_vhosts(<<~SETTINGS, <<~DEFAULTS));
        UsersRealm panel
        UsersChallenge bearer
        UsersMaxBody 500
        UsersHostName users.example.org
        UsersDefaultCurrency EUR
        UsersDefaultLocale nl
        UsersDuplicates conflict
        UsersDBTimeout 12s
        UsersRequestTimeout 10s
        SETTINGS
        UsersRealm users
        UsersChallenge both
        UsersMaxBody 65536
        UsersHostName back.example
        UsersDefaultCurrency USD
        UsersDefaultLocale en
        UsersDuplicates create
        UsersDBTimeout 3s
        UsersRequestTimeout 5s
        DEFAULTS
    $server->sql(<<~SQL);    # a new account's city is how long its statement may take
        create function users.tell_timeout() returns trigger language plpgsql as \$\$
          begin
            new.city := current_setting('statement_timeout');
            return new;
          end
        \$\$;
        create trigger tell_timeout before insert on users.account
          for each row execute function users.tell_timeout();
        SQL
    my %expected = (
        'inherits.example' => {
            realms    => ['Bearer realm="panel"'],
            large     => 413,
            domain    => 'users.example.org',
            currency  => 'EUR',
            locale    => 'nl',
            duplicate => 409,
            timeout   => '9s',
        },
        'back.example' => {
            realms    => ['Bearer realm="users"', 'Basic realm="users", charset="UTF-8"'],
            large     => 201,
            domain    => 'back.example',
            currency  => 'USD',
            locale    => 'en',
            duplicate => 201,
            timeout   => '2700ms',
        },
    );
    for my $host (sort keys %expected) {
        my $made = register($host, { provider_username => $host });
        my $user = $made->{json}{user};
        my $seen =
            request($host, 'GET', basic => [$user->{api}->@{qw(username password)}])->{json}{user};
        my %found = (
            realms    => [challenges(request($host, 'GET'))],
            large     => register($host, { merge_labels => { a => 'x' x 500 } })->{status},
            domain    => $user->{email} =~ s/.*@//r,
            currency  => $user->{currency},
            locale    => $user->{locale},
            duplicate => register($host, { provider_username => $host })->{status},
            timeout   => $seen->{city},
        );
        is_deeply $found{$_}, $expected{$host}{$_}, "$host: $_" for sort keys %found;
    }
    $server->sql('drop function users.tell_timeout() cascade');
    $server->stop;
};

subtest 'so it is with the connections' => sub {
    plan skip_all => 'a child of prefork serves one request at a time' if $PREFORK;
    $server->start(
        conf => "StartServers 1\nServerLimit 1\nThreadsPerChild 32\nMaxRequestWorkers 32\n"
            . "MinSpareThreads 1\nMaxSpareThreads 32",
        site => two_vhosts(<<~SETTINGS, <<~DEFAULTS));
        UsersDBMax 2
        UsersDBKeep 1
        UsersDBExptime 1ms
        UsersDBAcquireTimeout 1s
        UsersDBTimeout 20s
        UsersRequestTimeout 40s
        UsersReadLanes 0
        SETTINGS
        UsersDBMax 4
        UsersDBKeep 4
        UsersDBExptime 300s
        UsersDBAcquireTimeout 20s
        UsersReadLanes 1
        DEFAULTS
    $server->allow_log(qr/server reached MaxRequestWorkers setting/);
    $server->expect_trouble('busy');
    $server->sql(<<~'SQL');
        insert into users.credential (user_id, username, secret_digest) values (1, 'john', sha256('johns secret'))
        SQL
    my $session = Users::Test::Session->new($server);

    for my $case (['inherits.example', 2, 503, 1], ['back.example', 4, 200, 4]) {
        my ($host, $max, $status, $keep) = @$case;
        $session->sql('begin; lock table users.account');
        my @gets = map { begin_get($host) } 1 .. $max;
        wait_for_locks($max);
        is count_backends(), $max, "$host: UsersDBMax";

        my $one_more = begin_get($host);
        my $answer   = $status == 503 ? $one_more->answer : undef;
        $session->sql('rollback');
        is(($answer // $one_more->answer)->{status}, $status, "$host: UsersDBAcquireTimeout");
        is_deeply [map { $_->answer->{status} } @gets], [(200) x $max], "$host: then all go on";

        for (1 .. 5) {
            request($host, 'GET', token => READ_TOKEN);
        }
        is count_backends(), $keep, "$host: UsersDBKeep and UsersDBExptime";
        $server->sql(<<~SQL);
            select pg_terminate_backend(pid) from pg_stat_activity where usename = 'mod_users'
            SQL
        wait_until(sub { count_backends() == 0 }, 'the connections to end');
    }
    for my $case (['inherits.example', 2], ['back.example', 1]) {
        my ($host, $together) = @$case;
        $session->sql('begin; lock table users.token in access exclusive mode');
        my @gets = map { $server->connect } 1, 2;
        for my $get (@gets) {
            $get->send(
                Users::Test::Client::compose(
                    GET     => '/api/users',
                    token   => READ_TOKEN,
                    headers => [Host => $host, Connection => 'close']));
        }
        wait_for_locks($together);
        $session->sql('rollback');
        is_deeply [map { $_->answer->{status} } @gets], [200, 200],
            "$host: UsersReadLanes lets $together statements run";
    }
    $server->stop;
};

subtest 'and with the time to connect' => sub {
    my $mute = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 100) or die "$@\n";
    my $port = $mute->sockport;
    my $conninfo = $server->conninfo =~ s/host=(\S+)/host=127.0.0.1,$1 port=$port,5432/r;
    $server->start(site =>
            two_vhosts('UsersDBConnectTimeout 500ms', 'UsersDBConnectTimeout 2s', $conninfo));
    my %seconds;
    for my $host ('inherits.example', 'back.example') {
        my $before = now;
        is request($host, 'GET', token => READ_TOKEN)->{status}, 200, "$host: GET answers";
        $seconds{$host} = now - $before;
    }
    cmp_ok $seconds{'inherits.example'}, '<', 1.9, 'UsersDBConnectTimeout of the server';
    cmp_ok $seconds{'back.example'},     '>', 1.9, 'UsersDBConnectTimeout of its own';
    $server->stop;
};

sub write_file ($name, $text) {
    my $path = $server->dir . "/$name";
    open my $file, '>', $path or die "$path: $!\n";
    print $file $text;
    close $file;
    return $path;
}

sub users_conf () {
    open my $file, '<', "$SOURCE/conf/users.conf" or die "conf/users.conf: $!\n";
    my $text = join '', <$file>;
    $text =~ s/^UsersDB ".*"$/UsersDB "@{[$server->conninfo]}"/m or die "no UsersDB\n";
    return $text;
}

# What Debian's apache2.conf, its default site and the modules that it enables say.
my @STOCK_MODULES = qw(access_compat alias auth_basic authn_file authz_user autoindex deflate dir
    env filter mime negotiation reqtimeout setenvif status);
my $STOCK = <<'CONF';
Timeout 300
KeepAlive On
MaxKeepAliveRequests 100
KeepAliveTimeout 5
HostnameLookups Off
<Directory />
  Options FollowSymLinks
  AllowOverride None
  Require all denied
</Directory>
AccessFileName .htaccess
<FilesMatch "^\.ht">
  Require all denied
</FilesMatch>
ServerTokens OS
ServerSignature On
TraceEnable On
<IfModule alias_module>
  Alias /icons/ "/usr/share/apache2/icons/"
</IfModule>
DirectoryIndex index.html index.cgi index.pl index.php index.xhtml index.htm
TypesConfig /etc/mime.types
AddType application/x-compress .Z
AddLanguage en .en
LanguagePriority en ca cs da de
ForceLanguagePriority Prefer Fallback
AddOutputFilterByType DEFLATE text/html text/plain text/xml application/json
RequestReadTimeout header=20-40,minrate=500
RequestReadTimeout body=10,minrate=500
BrowserMatch "Mozilla/2" nokeepalive
<Location /server-status>
  SetHandler server-status
  Require local
</Location>
CONF

subtest 'a virtual host that sets nothing has a name of its own' => sub {
    $server->start(site => <<~SITE);
        UsersDB "@{[$server->conninfo]}"
        <Location /api/users>
          UsersEndpoint account
        </Location>
        <VirtualHost *:*>
          ServerName panel.example.com
        </VirtualHost>
        SITE
    like register('panel.example.com')->{json}{user}{email}, qr/\@panel\.example\.com$/,
        'generated addresses are in it';
    $server->stop;
};

subtest 'conf/users.conf works as it stands in a stock configuration' => sub {
    my $htdocs = $server->dir . '/htdocs';
    write_file('htdocs/index.html', 'It works!');
    my $path = write_file('users.conf', users_conf());
    $server->start(
        modules => \@STOCK_MODULES,
        conf    => $STOCK,
        site    => <<~SITE,
            <Directory $htdocs>
              Options Indexes FollowSymLinks
              AllowOverride None
              Require all granted
            </Directory>
            <VirtualHost *:*>
              ServerAdmin webmaster\@localhost
              DocumentRoot $htdocs
              Include $path
            </VirtualHost>
            <VirtualHost *:*>
              ServerName other.example
              DocumentRoot $htdocs
            </VirtualHost>
            SITE
    );
    my $expect = sub ($status, $method, $path, @option) {
        is $server->request($method => $path, @option)->{status}, $status, "$method $path: $status";
    };
    $expect->(200, GET     => '/api/users', token => READ_TOKEN);
    $expect->(200, HEAD    => '/api/users', token => READ_TOKEN);
    $expect->(200, PATCH   => '/api/users', token => FULL_TOKEN, json => { user => {} });
    $expect->(204, OPTIONS => '/api/users');
    $expect->(401, GET     => '/api/users');
    $expect->(405, DELETE  => '/api/users', token => FULL_TOKEN);
    $expect->(405, TRACE   => '/api/users', token => FULL_TOKEN);
    $expect->(404, GET     => '/api/users/', token => READ_TOKEN);
    $expect->(404, GET     => '/api/users/1', token => READ_TOKEN);
    $expect->(404, GET     => '/api/users.json', token => READ_TOKEN);
    $expect->(200, GET     => '/');
    is register('localhost')->{status}, 201, 'POST /api/users: 201';
    is request('other.example', 'GET', token => READ_TOKEN)->{status}, 404,
        'a virtual host that does not include it has no API';
    is $server->request(GET => '/')->{body}, 'It works!', 'the site around it stays as it was';
};

done_testing;
