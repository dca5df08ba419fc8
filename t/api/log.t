# What the error log says of a database that works badly or not at all: a line when it begins, with
# what to do, however many requests and children meet it; and one when it is over, with how many did.

use v5.36;
use Time::HiRes qw(time);
use Users::Test;
use Users::Test::Session;

my $PREFORK = ($ENV{USERS_TEST_MPM} // '') eq 'prefork';

use constant { REQUESTS => 50, AT_ONCE => 5 };

my @DATABASES = qw(locked slow silent readonly absent halved forbidden broken);
my $server    = Users::Test->new(databases => \@DATABASES);

my %REQUEST = (
    GET   => [GET   => '/api/users', token => READ_TOKEN],
    PATCH => [PATCH => '/api/users', token => FULL_TOKEN, json => { user => { city => 'Delft' } }],
    POST  => [
        POST  => '/api/users',
        token => REGISTER_TOKEN,
        json  => {
            user => {
                fname             => 'Jane',
                lname             => 'Roe',
                provider_server   => 'server.example',
                provider_username => 'jane'
            }
        }
    ],
);

# A virtual host for each database, in which each GET has a statement of its own. Several children,
# which have one word for all.
sub vhost ($name, $more = '') {
    return <<~SITE;
        <VirtualHost *:*>
          ServerName $name.example
          UsersDB "@{[$server->conninfo($name)]}"
          $more
          <Location /api/users>
            UsersEndpoint account
          </Location>
        </VirtualHost>
        SITE
}

$server->start(
    conf => <<~CONF,
        UsersReadLanes 0
        UsersChangeLanes 0
        UsersDBTimeout 2s
        UsersRequestTimeout 20s
        UsersDBAcquireTimeout 20s
        <IfModule mpm_prefork_module>
          StartServers @{[AT_ONCE]}
          MaxRequestWorkers @{[AT_ONCE]}
          ServerLimit @{[AT_ONCE]}
        </IfModule>
        <IfModule !mpm_prefork_module>
          StartServers 2
          ServerLimit 2
          ThreadsPerChild 8
          MaxRequestWorkers 16
          MinSpareThreads 1
          MaxSpareThreads 16
        </IfModule>
        CONF
    site => join '',
    vhost('users', "UsersDBMax 1\nUsersDBAcquireTimeout 1s\nUsersDBTimeout 20s"), map { vhost($_, $_ eq 'locked' ? 'UsersDBTimeout 500ms' : '') } @DATABASES);
$server->allow_log(qr/server reached MaxRequestWorkers setting/);    # it is small on purpose

sub ask ($name, @kinds) {
    my @requests = map {
        my ($method, $path, %option) = $REQUEST{$_}->@*;
        [$method, $path, %option, headers => [Host => "$name.example"]]
    } @kinds;
    return join ' ', map { $_->{status} } $server->parallel(@requests);
}

# Fifty requests, a few at once. Returns what statuses they have.
sub ask_often ($name, @kinds) {
    my %status;
    for my $i (1 .. REQUESTS / AT_ONCE) {
        $status{$_}++ for split / /, ask($name, map { $kinds[$_ % @kinds] } 1 .. AT_ONCE);
    }
    return join ' ', sort keys %status;
}

# Lines of a level about a database.
sub lines ($name, $level) {
    return grep { /\[users:$level\] .*\bthe database $name@/ } $server->error_log;
}

# One line so far, of this level, and how many others there are for who looks closer.
sub is_told ($name, $level, $pattern, $others) {
    my $dir   = $server->dir;
    my @lines = map { lines($name, $_) } qw(warn error crit);
    is @lines, 1, '... of which the log has one line' or diag(join "\n", @lines);
    like $lines[0], qr/\[users:$level\] .*the database $name\@$dir\S* .*$pattern$/, '... with its cause and cure';
    is scalar(grep { /$pattern/ } lines($name, 'info')), REQUESTS - 1, '... and the rest for who looks closer'
        if $others;
    $server->expect_log($pattern);
}

my (%over, %cure);    # by database: what is to be told when it is over, and how that comes

subtest 'a lock held' => sub {
    my $session = Users::Test::Session->new($server, 'locked');
    $session->sql('begin; lock table users.token in access exclusive mode');
    is ask_often('locked', 'GET'), '504', 'every GET is a 504';
    is_told('locked', 'warn', qr/did not answer find_token_account in time \(UsersDBTimeout 500ms, UsersRequestTimeout 20000ms\): it waited for a lock: .*pg_blocking_pids\(\).*/, 1);
    $cure{locked} = sub { $session->sql('rollback') };
    $over{locked} = [qr/answers in time again after [\d.]+ s, in which 50 statements had no answer in time/, 'GET'];
};

subtest 'a slow statement' => sub {
    $server->sql(<<~'SQL', 'slow');
        create function public.dawdle() returns trigger language plpgsql as
          $$ begin perform pg_sleep(10); return new; end $$;
        create trigger dawdle before update on users.account for each row execute function public.dawdle();
        SQL
    is ask('slow', 'PATCH'), 503, 'a PATCH is a 503';
    my $pattern = qr/did not answer update_account in time \(UsersDBTimeout 2000ms, UsersRequestTimeout 20000ms\): it took too long, .*pg_stat_activity.*/;
    is_told('slow', 'warn', $pattern, 0);
    is ask('slow', ('GET') x AT_ONCE), join(' ', (200) x AT_ONCE), 'that others are in time';
    is_told('slow', 'warn', $pattern, 0);    # does not end it
    $cure{slow} = sub { $server->sql('drop trigger dawdle on users.account', 'slow') };
    $over{slow} = [qr/answers in time again after [\d.]+ s, in which 1 statements had no answer/, 'GET'];
};

subtest 'a server that says nothing' => sub {
    my $backends = sub {
        split /\n/, $server->sql("select pid from pg_stat_activity where datname = 'silent' and usename = 'mod_users'");
    };
    is ask('silent', ('GET') x AT_ONCE), join(' ', (200) x AT_ONCE), 'it speaks';
    my %frozen;
    wait_until(
        sub {
            $frozen{$_} = kill STOP => $_ for $backends->();    # another child may open others
            return ask('silent', ('GET') x AT_ONCE) =~ /504/;
        },
        'a 504'
    );
    kill CONT => keys %frozen;
    is_told('silent', 'warn', qr/did not answer find_token_account in time \(UsersDBTimeout 2000ms, UsersRequestTimeout 20000ms\): nothing came until then: .*/, 0);
    $cure{silent} = sub { };
    $over{silent} = [qr/answers in time again after [\d.]+ s, in which \d+ statements had no answer/, 'GET'];
};

subtest 'a standby' => sub {
    $server->sql('alter role mod_users in database readonly set default_transaction_read_only = on', 'readonly');
    is ask_often('readonly', 'PATCH'), '503', 'every PATCH is a 503';
    is_told('readonly', 'error', qr/takes no changes and refused update_account: it is a standby, .* target_session_attrs=read-write/, 1);
    is ask('readonly', ('GET') x AT_ONCE), join(' ', (200) x AT_ONCE), 'GET is served';
    $cure{readonly} = sub { $server->sql('alter role mod_users in database readonly reset all', 'readonly') };
    $over{readonly} = [qr/takes changes again after [\d.]+ s, in which 50 were refused/, 'PATCH'];
};

subtest 'a database that is not prepared' => sub {
    $server->sql('alter schema users_api rename to elsewhere', 'absent');
    is ask_often('absent', 'GET', 'PATCH'), '500', 'every request is a 500';
    is_told('absent', 'error', qr/is not prepared for this version of mod_users, and refused \w+: (?:42P01|3F000) .*: run "usersctl database status"/, 1);
    $cure{absent} = sub { $server->sql('alter schema elsewhere rename to users_api', 'absent') };
    $over{absent} = [qr/is prepared now after [\d.]+ s, in which 50 statements were refused/, 'GET', 'PATCH'];
};

subtest 'a contract of another version' => sub {
    my $signature = '(bigint, jsonb, jsonb, text[], boolean, uuid, bytea, text, text)';
    my @changes = (
        "alter function users_api.update_account$signature rename to former",
        'alter function users_api.former rename to update_account',
    );
    $server->sql($changes[0], 'halved');
    is ask_often('halved', 'PATCH'), '500', 'every PATCH is a 500';
    my $pattern = qr/is not prepared for this version of mod_users, and refused update_account: 42883 .*: run "usersctl database status"/;
    is_told('halved', 'error', $pattern, 1);
    $cure{halved} = sub { $server->sql($changes[1], 'halved') };
    $over{halved} = [qr/is prepared now after [\d.]+ s, in which 51 statements were refused/, 'PATCH'];

    $server->sql('alter view users_api.token rename column scopes to former', 'halved');
    is ask('halved', 'GET'), 500, 'without a column GET is one, too';
    is_told('halved', 'error', $pattern, 0);
    ok((grep { /refused find_token_account: 42703 / } lines('halved', 'info')), '... which the same line tells of');
    $server->sql('alter view users_api.token rename column former to scopes', 'halved');
    is ask('halved', 'GET'), 200, 'with it GET is served';
};

subtest 'a role without rights' => sub {
    $server->sql('revoke usage on schema users_api from mod_users', 'forbidden');
    is ask_often('forbidden', 'GET', 'POST'), '500', 'every request is a 500';
    my $dir   = $server->dir;
    my @lines = map { lines('forbidden', $_) } qw(warn error);
    is @lines, 1, '... of which the log has one line';
    like $lines[0], qr/\[users:error\] .*the role "mod_users" may not use the schema users_api of the database forbidden\@$dir\S*, which refused \w+: 42501 permission denied for schema users_api: connect as mod_users, to which "usersctl database upgrade" grants/,
        '... with its cause and cure';
    $server->expect_log(qr/the role "mod_users" may not use/);
    $cure{forbidden} = sub { $server->sql('grant usage on schema users_api to mod_users', 'forbidden') };
    $over{forbidden} = [qr/lets the role use the schema users_api again after [\d.]+ s, in which 50 statements were refused/, 'GET', 'POST'];
};

subtest 'any other error' => sub {
    $server->sql(<<~'SQL', 'broken');
        create function public.fail() returns trigger language plpgsql as
          $$ begin raise exception E'the trigger\n\tfails\n'; end $$;
        create trigger fail before insert or update on users.account for each row execute function public.fail();
        create function public.stumble() returns trigger language plpgsql as
          $$ begin perform from nowhere; return new; end $$;
        create trigger a before insert on users.account for each row execute function public.stumble();
        SQL
    is ask_often('broken', 'PATCH'), '500', 'every PATCH is a 500';
    is_told('broken', 'error', qr/refused update_account: P0001 the trigger; fails/, 1);
    is ask_often('broken', 'POST'), '500', 'every POST is a 500, too';
    is lines('broken', 'error'), 2, '... for which there is a line more';
    like +(lines('broken', 'error'))[1], qr/refused register_account: 42P01 relation "nowhere" does not exist$/,
        '... without a word of a database that is not prepared, since a trigger is at fault';
    $server->expect_log(qr/refused register_account/);
    $cure{broken} = sub { $server->sql('drop trigger fail on users.account; drop trigger a on users.account', 'broken') };
    $over{broken} = [qr/takes what it refused again after [\d.]+ s, in which 100 statements were refused/, 'PATCH', 'POST'];
};

subtest 'no connection is free' => sub {
    plan skip_all => 'a child of prefork has one for its one request' if $PREFORK;
    my $session = Users::Test::Session->new($server);
    $session->sql('begin; lock table users.token in access exclusive mode');
    my @waiting = map { $server->connect } 1 .. 12;
    for (@waiting) {
        my ($method, $path, %option) = $REQUEST{GET}->@*;
        $_->send(Users::Test::Client::compose($method, $path, %option,
            headers => [Host => 'users.example', Connection => 'close']));
    }
    wait_until(sub { grep { /no connection to the database users@/ } $server->error_log }, 'one to wait in vain');
    $session->sql('rollback');
    my %status;
    $status{ $_->answer->{status} }++ for @waiting;
    is join(' ', sort keys %status), '200 503', 'those without one are a 503';
    my @lines = grep { /\[users:(?:warn|error)\] .*no connection to the database users\@\S+ was free in time \(UsersDBAcquireTimeout 1000ms\): all 1 of UsersDBMax/ } $server->error_log;
    is @lines, 1, '... of which the log has one line';
    $server->expect_log(qr/no connection to .* was free in time/);
    $cure{users} = sub { };
    $over{users} = [qr/has connections free again after [\d.]+ s, in which \d+ requests waited for one in vain/, 'GET'];
};

subtest 'in the end' => sub {
    my %before = map { $_ => scalar lines($_, 'warn') } keys %over;
    $cure{$_}->() for keys %cure;
    for my $name (sort keys %over) {
        my ($pattern, @kinds) = $over{$name}->@*;
        wait_until(
            sub {
                ask($name, @kinds);
                return lines($name, 'warn') > $before{$name};
            },
            "$name to be over"
        );
        like ask($name, @kinds, @kinds), qr/^(?:20[01] ?)+$/, "$name: all is well";
        my @lines = lines($name, 'warn');
        is @lines, $before{$name} + 1, '... and there is a line of it';
        like $lines[-1], qr/the database $name\@\S+ $pattern/, '... with how long and how often';
        $server->expect_log($pattern);
    }
};

unlike join("\n", $server->error_log), qr/\\n/, 'no line has an end of a line in it';

done_testing;
