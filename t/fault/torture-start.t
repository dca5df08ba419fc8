# As torture.t, while httpd starts: it says what is wrong and does not start, or serves what it can.
# And usersctl: it does what it always does, or says on standard error that it does not.

use v5.36;
use Cwd            qw(abs_path realpath);
use File::Basename qw(dirname);
use Users::Test::Fault;
use Users::Test::Receiver;
use Users::Test::Torture;
use Users::Test::Usersctl;

my $SOURCE  = $ENV{USERS_SRCDIR} // abs_path(dirname(__FILE__) . '/../..');
my $server  = Users::Test::Fault->new;
my $torture = Users::Test::Torture->new($server->dir);

# Start httpd. Returns what is wrong with what came of it.
sub start_httpd ($call) {
    $torture->fail($call);
    my $started = eval {
        $server->start_child(
            preload  => $torture->library,
            conninfo => $server->conninfo . " password='exec:/bin/echo secret'",
            vhost    => HEALTH_ENDPOINTS . OPENAPI_ENDPOINT . 'UsersDBReplica "' . $server->conninfo . '"',
        );
        $server->request(GET => '/');    # no answer of ours: a child is there
        1;
    };
    my $complaint = $@;
    my @victims   = $torture->victims;
    $torture->fail(0);
    my @wrong;
    if ($started) {
        my $status = $server->request(GET)->{status};
        push @wrong, $status unless $status =~ /^(?:200|5..)$/;
        my $health = $server->request(GET => '/health/ready');
        push @wrong, "health $health->{status}" unless $health->{status} =~ /^(?:200|503)$/ && $health->{json}{checks};
        $server->allow_log(qr/\[users:crit\]|UsersHostLanes: the system has no such locks|UsersCache '\w+': .*: verified passwords are not remembered/) if @victims;
        $server->allow_log(qr/the (?:database|replica) \S+ (?:can't be reached|is back)/) if @victims;    # an examination was the victim
        $server->stop;
    } else {
        my $words = join "\n", $complaint, $server->error_log;
        push @wrong, $words
            unless $words =~ /\[users:emerg\]|\bUsersDB\w*: /
            || "@victims" eq 'ap_global_mutex_create';    # which says by itself what it lacks
    }
    return (\@wrong, @victims);
}

# Do something until no call fails any more. Returns how often, and what was wrong.
sub each_call ($do) {
    my (@all, @victims);
    my $calls = 0;
    do {
        (my $wrong, @victims) = $do->(++$calls);
        push @all, map { "$calls, @victims: $_" } @$wrong;
    } while @victims;
    return ($calls - 1, join "\n", @all);
}

subtest 'httpd' => sub {
    local %ENV = (%ENV, $torture->environment);
    my ($calls, $wrong) = each_call(\&start_httpd);
    cmp_ok $calls, '>', 20, 'it can fail';
    is $wrong, '', "... $calls times";
};

# The first memory that children share is that of figures.
subtest 'httpd without memory for figures' => sub {
    local %ENV = (%ENV, $torture->environment);
    my ($scrape, @victims);
    for my $call (1 .. 100) {
        $torture->fail($call);
        my $started = eval {
            $server->start_child(preload => $torture->library, vhost => "<Location /metrics>\nUsersEndpoint metrics\n</Location>");
            1;
        };
        @victims = $torture->victims;
        $torture->fail(0);
        next unless $started;
        $scrape = $server->request(GET => '/metrics');
        my $status = $server->request(GET)->{status};
        $server->allow_log(qr/\[users:crit\]|UsersHostLanes|UsersCache '\w+': .*: verified passwords are not remembered/);
        $server->expect_log(qr/\[users:crit\] .*no shared memory could be had for figures/) if "@victims" eq 'apr_shm_create';
        $server->stop;
        next unless "@victims" eq 'apr_shm_create';
        is $status, 200, 'it serves';
        last;
    }
    is "@victims", 'apr_shm_create', 'there is none';
    is $scrape->{status}, 503, 'figures are refused';
    is_deeply $scrape->{json}, { errors => ['there is no shared memory to keep figures in'] }, '... in JSON';
};

subtest 'httpd -t -D DUMP_USERS' => sub {
    local %ENV = (%ENV, $torture->environment);
    my %config = (preload => $torture->library);
    $torture->fail(0);
    my $usual = $server->dump(%config);
    my ($calls, $wrong) = each_call(
        sub ($call) {
            $torture->fail($call);
            my ($output, $messages) = eval { $server->dump(%config) };
            my @victims = $torture->victims;
            $torture->fail(0);
            # a refusal to start names the directive; MPM's numbers are then those of a single child
            my $good = ($output // '') eq $usual || "$@$messages" =~ /\bUsersDB\b|DUMP_USERS/ || "@victims" eq 'ap_mpm_query';
            return ($good ? [] : ["$@ $messages"], @victims);
        }
    );
    cmp_ok $calls, '>', 10, 'it can fail';
    is $wrong, '', "... $calls times";
};

subtest 'usersctl' => sub {
    my $settings = $server->dump;
    my $usersctl = Users::Test::Usersctl->new($server);
    my $file = $server->dir . '/settings';
    open my $out, '>', $file or die "$file: $!\n";
    print $out $settings;
    close $out;
    # One event, which is due whatever happens to it; and who wants no more, which ends its delivery.
    my $receiver = Users::Test::Receiver->new($server->dir);
    $receiver->behave(410);
    my $endpoint = $server->dir . '/endpoint';
    open $out, '>', $endpoint or die "$endpoint: $!\n";
    chmod 0600, $endpoint;
    print $out 'url ', $receiver->url, "\nsecret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\nallow http\nallow private\n";
    close $out;
    $server->sql(<<~'SQL');
        create function due() returns trigger language plpgsql as 'begin new.due_at := now(); return new; end';
        create trigger due before update on users.event for each row execute function due();
        insert into users.event (type, user_id, fields) values ('user.updated', 1, '{city}')
        SQL
    local %ENV = (
        %ENV, $torture->environment(realpath($usersctl->program)),
        LD_PRELOAD => join(':', grep { length } $ENV{USERS_TEST_PRELOAD} // '', $torture->library),
        ASAN_OPTIONS => 'detect_leaks=0',
    );
    my @commands = (
        ['', qw(--help)],
        ['', qw(user show 1)],
        ['', qw(--json user show 1)],
        ['', qw(application list)],
        ['', qw(application add panel --scopes register)],
        ["a-secret-of-twenty-characters\n", qw(application add panel --secret)],
        ['', qw(token issue --scopes public --application), CLIENT_ID],
        ['', qw(token list)],
        ["unknown\n", qw(token revoke -)],
        ['', qw(credential add 1)],
        ['', qw(user suspend 1)],
        ['', qw(user list)],
        ['', qw(user list --newest --suspended)],
        ['', qw(user add fname=Jane lname=Roe email=jane@example.com), 'merge_labels={"a":1}', 'vat='],
        ['', qw(user set 1 city=Delft plan=1)],
        ['', qw(user export 1)],
        ['', qw(user remove 1)],
        ['', qw(usage set 1 projects=1)],
        ["id,projects\n1,2\n", qw(usage import)],
        ['{"id":1,"projects":2}', qw(usage import)],
        ["id,projects\n1,x\n", qw(usage import)],
        ['', qw(event list)],
        ['', qw(event retry --failing)],
        ['', qw(event deliver --once --attempts 1000 --endpoint), $endpoint],
        ['', qw(purge)],
        ['', qw(database status --sql), "$SOURCE/sql"],
        ['', qw(database upgrade --sql), "$SOURCE/sql"],
        ['', qw(check --sql), "$SOURCE/sql"],
        [$settings, qw(check --settings -)],
        ['', qw(check --settings), $file],
    );
    for my $command (@commands) {
        my ($input, @arguments) = @$command;
        $torture->fail(0);
        my ($usual) = $usersctl->run_with($input, @arguments);
        my ($calls, $wrong) = each_call(
            sub ($call) {
                $torture->fail($call);
                my ($status, $output, $error) = $usersctl->run_with($input, @arguments);
                my $good = $status == $usual || ($status < 126 && $error =~ /^usersctl: \S.*\n\z/)
                    || ($arguments[0] eq 'check' && $status == 3 && $output =~ /^  error /m);
                return ($good ? [] : ["$status $error"], $torture->victims);
            }
        );
        is $wrong, '', "@arguments: $calls times";
    }
    is join(' ', $torture->strangers), '', 'every function that it calls is known';
};

done_testing;
