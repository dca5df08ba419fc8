package Users::Test;

=head1 NAME

Users::Test - mod_users in a private httpd, over a private PostgreSQL

=head1 SYNOPSIS

    use v5.36;
    use Users::Test;

    my $server = Users::Test->start;
    my $answer = $server->request(GET => '/api/users', token => READ_TOKEN);
    is $answer->{status}, 200;
    is $answer->{json}{user}{fname}, 'John';
    done_testing;

Brings the functions of Test::More. Its C<done_testing> stops the servers first: what they
logged is tested too. C<wait_until> is for what has to happen, and C<now> (seconds since some moment)
for how long it takes: the time of day can be set meanwhile.

=head1 SERVERS

    my $server = Users::Test->new(databases => ['second']);

makes a PostgreSQL cluster with the database C<users> and more of the same, each with the
demo's account; its tokens are the constants C<READ_TOKEN> (user 1, profile_read),
C<UPDATE_TOKEN> (user 1, profile_update), C<FULL_TOKEN> (user 1, both), C<REGISTER_TOKEN>,
C<CLIENT_ID> and C<CLIENT_SECRET>. C<< $server->install($name, $options) >> makes one more, with options of
C<create database>; C<< $server->fill($name) >> gives one that has the tables the same account and tokens.

    $server->start(
        modules  => ['headers'],                         # to load besides the necessary ones
        conf     => 'Timeout 2',                         # at the server level
        vhost    => 'UsersRealm panel',                  # in the virtual host
        endpoint => 'Require ip 127.0.0.1',              # in <Location /api/users>
        preload  => '/path/to/library.so',               # into httpd
    );

starts httpd. C<OAUTH_ENDPOINTS> is a text for C<vhost> that turns on the others of
F<conf/users.conf>, C<HEALTH_ENDPOINTS> its health checks, C<OPENAPI_ENDPOINT> the description of the API, and
C<METRICS_ENDPOINT> figures at /metrics. Called on the class, C<new> too. C<site> replaces the virtual host by another
text, which says C<< UsersDB "@{[$server->conninfo('second')]}" >> to name a database.

C<own_contract> tells that the database has a contract of one's own now: until the next C<start> answers need not
be as F<doc/openapi.yaml> says.

C<< bare => 1 >> leaves out the module, and the virtual host with it.

C<tls> makes a certificate, and returns the directives that serve TLS with it (of the module C<ssl>).

C<stop> ends httpd; C<start> may follow, with other text. C<stop('WINCH')> has it serve first what
it has accepted. C<graceful> has httpd read its configuration again: another one with the options
of C<start>. C<configtest>, with these options, returns the exit status and the messages of
C<httpd -t>, and C<dump> what C<httpd -t -D DUMP_USERS> prints, and in
a list its messages, too. C<pid>, C<children> (their process ids), C<port> and C<dir> tell about the server.

C<< $server->postgres >> is its L<Users::Test::Postgres>;
C<< $server->sql($query, $database) >> runs as superuser and returns the rows as lines.

=head1 REQUESTS

    my $answer = $server->request(PATCH => '/api/users',
        token => UPDATE_TOKEN, headers => ['If-Match' => $etag], json => { user => {} });

See L<Users::Test::Client> for the options and the answer. C<< $server->parallel([...], ...) >>
sends such requests at once and returns their answers. C<< $server->figures >> is what C<METRICS_ENDPOINT>
tells, by series. C<< $server->raw($bytes) >> sends exact
bytes, closes its half of the connection and returns what comes until the server closes its
own. C<< $server->connect >> is a connection for anything else.

=head1 LOGS

C<error_log> and C<access_log> return the lines since C<start>. C<wait_for_log> waits until a
line of the error log matches a pattern.

C<stop> fails as a test where the error log has a line at warning or worse that no pattern of
C<expect_log> or C<allow_log> matches, and where what C<expect_log> announced isn't there.
C<expect_trouble> and C<allow_trouble> do the same for what the module tells of requests that got no
answer in time (C<late>), no connection (C<busy>), no slot for a hash (C<hashes>), a server that takes
no changes (C<standby>), a name that is locked out (C<lockout>), or a limit of an account or an application
that is reached (C<limit>).

=head1 ENVIRONMENT

USERS_TEST_ANSWERS is a directory for files with all answers, for F<t/openapi/judge.mjs>. USERS_TEST_MPM names the MPM (event). USERS_TEST_VALGRIND=1 runs httpd as one process
(C<single_process> is true) under memcheck, and C<stop> tests what that found in the module.
USERS_MODULE is the module, .libs/mod_users.so by default. USERS_TEST_KEEP=1 keeps the directory.

=cut

use v5.36;
use Cwd            qw(abs_path);
use File::Basename qw(dirname);
use File::Temp     qw();
use IO::Socket::INET;
use parent qw(Exporter);
use Test::More import => ['!done_testing'];
use Time::HiRes qw(sleep);
use Users::Test::Client;
use Users::Test::Postgres;
use Users::Test::Process qw(@HANDLED DEADLINE end end_all ended now run slurp spawn wait_until);

use constant {
    READ_TOKEN     => 'read-token-of-user-1',
    UPDATE_TOKEN   => 'update-token-of-user-1',
    FULL_TOKEN     => 'full-token-of-user-1',
    REGISTER_TOKEN => 'register-token',
    CLIENT_ID      => 'test-client',
    CLIENT_SECRET  => 'secret-of-the-test-client',
};

# A single process of the event MPM frees what its own threads still use, and may crash as it ends: memcheck
# tells whether the module has a part in that.
use constant SEGFAULT => 128 + 11;

use constant OAUTH_ENDPOINTS => join '', map { "<Location $_->[1]>\nUsersEndpoint $_->[0]\n</Location>\n" }
    (map { [$_ => "/api/oauth/$_"] } qw(token revoke introspect)),
    (map { [metadata => "/.well-known/oauth-$_"] } qw(authorization-server protected-resource/api/users));

use constant HEALTH_ENDPOINTS =>
    join '', map { "<Location /health/$_>\nUsersEndpoint health\n</Location>\n" } qw(live ready);

use constant OPENAPI_ENDPOINT => "<Location /api/openapi.json>\nUsersEndpoint openapi\n</Location>\n";

use constant METRICS_ENDPOINT => "<Location /metrics>\nUsersEndpoint metrics\nRequire local\n</Location>\n";

our @EXPORT = qw(HEALTH_ENDPOINTS READ_TOKEN UPDATE_TOKEN FULL_TOKEN REGISTER_TOKEN CLIENT_ID CLIENT_SECRET
    METRICS_ENDPOINT OAUTH_ENDPOINTS OPENAPI_ENDPOINT done_testing now wait_until);

my $SOURCE  = $ENV{USERS_SRCDIR}             // abs_path(dirname(__FILE__) . '/../../..');
my $MODULE  = $ENV{USERS_MODULE}             // "$SOURCE/.libs/mod_users.so";
my $HTTPD   = $ENV{USERS_TEST_HTTPD}         // '/usr/sbin/apache2';
my $MODULES = $ENV{USERS_TEST_HTTPD_MODULES} // '/usr/lib/apache2/modules';
my $MPM     = $ENV{USERS_TEST_MPM}           // 'event';

# Under memcheck connecting alone can take longer than by default it may.
my $PATIENCE = "UsersDBAcquireTimeout 60s\nUsersDBConnectTimeout 30s\n"
    . "UsersDBTimeout 60s\nUsersRequestTimeout 120s";

my @servers;

sub import ($class) {
    Test::More->export_to_level(1, $class, grep { $_ ne 'done_testing' } @Test::More::EXPORT);
    $class->export_to_level(1, $class);
}

sub done_testing {
    for my $server (@servers) {
        $server->stop if $server->pid;
    }
    Test::More::done_testing();
}

# Nothing outlives the script, however it ends: exit runs END, past any eval.
for my $name (@HANDLED) {
    $SIG{$name} = sub ($signal) { warn "SIG$signal\n"; exit 1 };
}
alarm 20 * DEADLINE;

END {
    $SIG{$_} = 'IGNORE' for qw(HUP INT PIPE TERM);    # a second one would leave the servers running
    my $status = $?;
    alarm 0;
    end_all();
    Users::Test::Postgres::stop_all();
    for my $server (@servers) {
        $server->_show_log unless Test::More->builder->is_passing;
    }
    $? = $status;
}

sub new ($class, %option) {
    my $dir = File::Temp->newdir('users-XXXXXX', DIR => '/tmp', CLEANUP => !$ENV{USERS_TEST_KEEP});
    chmod 0755, $dir;
    my $self = bless {
        dir      => $dir,
        run      => 0,
        postgres => Users::Test::Postgres->new("$dir/pg"),
    }, $class;
    push @servers, $self;
    mkdir "$dir/htdocs";
    $self->postgres->create;
    $self->install($_) for 'users', @{ $option{databases} // [] };
    return $self;
}

sub install ($self, $database, $options = '') {
    $self->sql("create database $database $options", 'postgres');
    $self->postgres->run_file($database, "$SOURCE/sql/install.sql");
    $self->fill($database);
}

sub fill ($self, $database) {
    $self->postgres->run_file($database, "$SOURCE/sql/demo.sql");
    $self->postgres->run_file(
        $database, "$SOURCE/t/lib/Users/Test/fixture.sql",
        read_token     => READ_TOKEN,
        update_token   => UPDATE_TOKEN,
        full_token     => FULL_TOKEN,
        register_token => REGISTER_TOKEN,
        client_id      => CLIENT_ID,
        client_secret  => CLIENT_SECRET,
    );
}

sub dir      ($self) { "$self->{dir}" }
sub pid      ($self) { $self->{pid} }
sub port     ($self) { $self->{port} }
sub postgres ($self) { $self->{postgres} }

sub conninfo ($self, $database = 'users') {
    return $self->postgres->conninfo($database);
}

sub sql ($self, $query, $database = 'users') {
    return $self->postgres->sql($database, $query);
}

sub single_process ($self) {
    return $ENV{USERS_TEST_VALGRIND};
}

sub tls ($self) {
    my $path = "$self->{dir}/server";
    my ($status, undef, $error) = run([qw(/usr/bin/env openssl req -x509 -newkey ec -nodes -days 1 -subj /CN=localhost),
        qw(-pkeyopt ec_paramgen_curve:P-256 -keyout), "$path.key", '-out', "$path.crt"], "$path.openssl");
    die "openssl makes no certificate: $error" if $status;
    return "SSLEngine on\nSSLCertificateFile $path.crt\nSSLCertificateKeyFile $path.key\n";
}

# ---- httpd -----------------------------------------------------------------------------------

sub start ($self, %config) {
    $self = $self->new unless ref $self;
    die "the server is already running\n" if $self->{pid};
    $self->{expected} = [];
    $self->{allowed}  = [];
    until ($self->_try_to_start(%config)) {
        my $complaint = slurp($self->_file('stderr'));
        die "httpd does not start:\n$complaint" unless $complaint =~ /could not bind/;
    }
    return $self;
}

# A free port can be taken by another process before httpd binds it: false then.
sub _try_to_start ($self, %config) {
    $self->{run}++;
    $self->{port} = _free_port();
    my $conf = $self->_write_configuration(%config);
    $self->_record($conf);
    local %ENV = (%ENV, _sanitizers($config{preload}));
    $self->{pid} = spawn([$self->_command, '-f', $conf], map { $self->_file($_) } qw(stdout stderr));
    my $ready = wait_until(
        sub {
            return 'ended' if defined ended($self->{pid});
            return 'ready' if $self->_is_ready;
        },
        'httpd to start'
    );
    return 1 if $ready eq 'ready';
    $self->{pid} = undef;
    return 0;
}

# httpd is built without them, so their runtime has to be there before the module comes, and before
# any other library. Leaks are httpd's own; valgrind finds the module's.
sub _sanitizers ($library = undef) {
    my @libraries = grep { length } $ENV{USERS_TEST_PRELOAD} // '', $library // '';
    return (LD_PRELOAD => join(':', @libraries), ASAN_OPTIONS => 'detect_leaks=0');
}

# A single process never says so; it writes its process id when it listens.
sub _is_ready ($self) {
    return -s $self->_file('pid') if $self->single_process;
    return grep { /resuming normal operations/ } $self->error_log;
}

sub _command ($self) {
    return ($HTTPD, '-DFOREGROUND') unless $self->single_process;
    return (qw(valgrind --quiet --vgdb=no --leak-check=full --errors-for-leak-kinds=definite),
        qw(--show-leak-kinds=definite --num-callers=40 --keep-debuginfo=yes --xml=yes),
        '--xml-file=' . $self->_file('memcheck'), $HTTPD, '-X');
}

sub configtest ($self, %config) {
    my ($status, undef, $error) = $self->_test([], %config);
    return ($status, $error);
}

sub dump ($self, %config) {
    my ($status, $output, $error) = $self->_test(['-D', 'DUMP_USERS'], %config);
    die "httpd -t -D DUMP_USERS: $error" if $status;
    return wantarray ? ($output, $error) : $output;
}

sub _test ($self, $options, %config) {
    local $self->{run}  = 'configtest';
    local $self->{port} = $self->{port} // _free_port();
    my $conf = $self->_write_configuration(%config);
    local %ENV = (%ENV, _sanitizers($config{preload}));
    return run([$HTTPD, '-t', @$options, '-f', $conf], "$self->{dir}/configtest");
}

sub graceful ($self, %config) {
    $self->_record($self->_write_configuration(%config)) if %config;
    my $generations = sub { scalar grep { /resuming normal operations/ } $self->error_log };
    my $before = $generations->();
    kill USR1 => $self->{pid};
    wait_until(sub { $generations->() > $before }, 'httpd to restart');
}

sub children ($self) {
    return `ps -o pid= --ppid $self->{pid}` =~ /\d+/g;
}

# A child of prefork ends within its signal handler (prefork.c's just_die()), which frees its pools: where that
# interrupts malloc() or free(), after an answer, the C library finds its lists in disorder. So they come to rest first.
sub _let_children_rest ($self) {
    for (1 .. 500) {
        return if !grep { slurp("/proc/$_/stat") =~ /\) R / } $self->children;
        sleep 0.002;
    }
}

sub stop ($self, $signal = 'TERM') {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $self->_let_children_rest if $MPM eq 'prefork' && $signal eq 'TERM';
    my $status = end(delete $self->{pid}, $signal);
    $status = 0 if $status == SEGFAULT && $self->single_process;
    is($status, 0, 'httpd ends well');
    $self->_test_log($signal eq 'TERM');
    $self->_test_memcheck if $self->single_process;
}

sub _free_port {
    my $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1)
        or die "no free port: $@\n";
    return $socket->sockport;
}

# A file of this run of httpd.
sub _file ($self, $name) {
    return "$self->{dir}/httpd-$self->{run}.$name";
}

sub _write_configuration ($self, %config) {
    my $path = $self->_file('conf');
    open my $file, '>:utf8', $path or die "$path: $!\n";
    print $file $self->_configuration(%config);
    close $file;
    return $path;
}

# Whoever reads the answers wants to know what the server serves.
sub _record ($self, $path) {
    my $text = slurp($path) =~ s/^\s*Include\s+"?([^\s"*]+)"?$/slurp($1)/gemr;
    Users::Test::Client::record(C => $self->{port}, $text);
}

sub own_contract ($self) {
    Users::Test::Client::record(C => $self->{port}, '');
}

sub _configuration ($self, %config) {
    my $dir = $self->{dir};
    my @modules = ("mpm_$MPM", qw(authn_core authz_core authz_host socache_shmcb), @{ $config{modules} // [] });
    my $site = $config{site} // <<~SITE;
        <VirtualHost *:*>
          ServerName localhost
          UsersDB "@{[ $self->conninfo ]}"
          @{[ $config{vhost} // '' ]}
          <Location /api/users>
            UsersEndpoint account
            @{[ $config{endpoint} // '' ]}
          </Location>
        </VirtualHost>
        SITE
    return <<~CONF;
        ServerRoot $dir
        DefaultRuntimeDir $dir
        PidFile @{[ $self->_file('pid') ]}
        Listen 127.0.0.1:$self->{port}
        ServerName localhost
        @{[ $> == 0 ? "User www-data\nGroup www-data" : '' ]}
        @{[ join "\n", map { "LoadModule ${_}_module $MODULES/mod_$_.so" } @modules ]}
        ErrorLog @{[ $self->_file('error_log') ]}
        LogLevel info
        CustomLog @{[ $self->_file('access_log') ]} "%h %l %u %t \\"%r\\" %>s %b"
        DocumentRoot $dir/htdocs
        TraceEnable Off
        @{[ $config{bare} ? '' : "LoadModule users_module $MODULE\nLogLevel users:trace8" ]}
        @{[ $self->single_process && !$config{bare} ? $PATIENCE : '' ]}
        @{[ $config{conf} // '' ]}
        @{[ $config{bare} ? '' : $site ]}
        CONF
}

# ---- Requests --------------------------------------------------------------------------------

sub connect ($self) {
    return Users::Test::Client->new($self->{port});
}

sub request ($self, $method, $path, %option) {
    my ($answer) = $self->parallel([$method, $path, %option]);
    return $answer;
}

sub parallel ($self, @requests) {
    my @connections = map { $self->connect } @requests;
    for my $i (keys @requests) {
        my ($method, $path, %option) = @{ $requests[$i] };
        $option{headers} = [Connection => 'close', @{ $option{headers} // [] }];
        $connections[$i]->send(Users::Test::Client::compose($method, $path, %option));
    }
    return map { $connections[$_]->answer($requests[$_][0]) } keys @requests;
}

sub figures ($self) {
    my $text = $self->request(GET => '/metrics')->{body};
    return { map { /^([^#].*) (\S+)$/ ? ($1 => $2) : () } split /\n/, $text };
}

sub raw ($self, $bytes) {
    my $connection = $self->connect;
    $connection->send($bytes);
    $connection->shut;
    return $connection->rest;
}

# ---- Logs ------------------------------------------------------------------------------------

sub error_log ($self) {
    return split /\n/, slurp($self->_file('error_log'));
}

sub access_log ($self) {
    return split /\n/, slurp($self->_file('access_log'));
}

sub expect_log ($self, $pattern) {
    push @{ $self->{expected} }, $pattern;
}

sub allow_log ($self, $pattern) {
    push @{ $self->{allowed} }, $pattern;
}

# How the log tells that something begins, and that it is over.
my %TROUBLE = (
    late    => ['did not answer \w+ in time',                 'answers in time again'],
    busy    => ['no connection to .* was free in time',        'has connections free again'],
    hashes  => ['more hashed passwords come than',             'hashed passwords are computed in time again'],
    standby => ['takes no changes and refused',                'takes changes again'],
    limit   => ['asks for more than \d+ tokens a second,|has asked for \d+ addresses that others have;', 'were over a limit of theirs'],
    lockout => ['too many wrong secrets \(\d+\) of the .* came from \S+,', 'were refused for too many wrong secrets'],
);

sub expect_trouble ($self, @names) {
    $self->expect_log(qr/\[users:(?:warn|error)\] .*(?:$TROUBLE{$_}[0])/) for @names;
    $self->allow_trouble(@names);
}

sub allow_trouble ($self, @names) {
    $self->allow_log(qr/\[users:(?:warn|error)\] .*(?:$_)/) for map { $TROUBLE{$_}->@* } @names;
}

sub wait_for_log ($self, $pattern) {
    return wait_until(sub { (grep { $_ =~ $pattern } $self->error_log)[0] }, "$pattern in the log");
}

# For whoever has to find out why a test failed.
sub _show_log ($self) {
    my @lines = $self->error_log;
    diag(join "\n", 'The end of the error log:', @lines > 30 ? @lines[-30 .. -1] : @lines);
}

# A line that isn't httpd's is bad too: libraries print there when they abort.
sub _test_log ($self, $at_once) {
    my @lines = $self->error_log;
    my @bad   = grep { !/^\[[^]]+\] \[\w*:(?:notice|info|debug|trace\d)\] / } @lines;
    @bad = grep { !/AH03092: process_lingering_close/ } @bad;    # the event MPM's own race at its end

    # Another one, unless it is stopped gracefully: event.c's close_worker_sockets() closes what threads are
    # working on, and one of them may just have closed its own.
    @bad = grep { !/\[mpm_event:error\] .*\(9\).*(?:AH00468|AH03093): / } @bad if $at_once;
    for my $pattern (@{ $self->{expected} }) {
        ok((grep { $_ =~ $pattern } @lines), "the error log has $pattern");
    }
    for my $pattern (@{ $self->{expected} }, @{ $self->{allowed} }) {
        @bad = grep { $_ !~ $pattern } @bad;
    }
    is(join("\n", @bad), '', 'nothing unexpected is in the error log');
}

# Errors, and a crash, with one of the module's functions in the stack.
sub _test_memcheck ($self) {
    my @errors = slurp($self->_file('memcheck')) =~ m{<error>.*?</error>|<fatal_signal>.*?</fatal_signal>}gs;
    my @ours = grep { m{/mod_users\.so</obj>} } @errors;
    is(join("\n", @ours), '', 'memcheck finds nothing in the module');
}

1;
