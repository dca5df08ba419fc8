package Users::Test::Fault;

=head1 NAME

Users::Test::Fault - a server whose database is about to fail

=head1 SYNOPSIS

    use v5.36;
    use Users::Test::Fault;

    my $server = Users::Test::Fault->new;
    $server->start_child(max => 2);
    $server->postgres->stop;
    is_unavailable($server->request(GET), 'GET');
    done_testing;

A L<Users::Test>, with all that it brings, and the requests C<GET>, C<PATCH> and C<POST>.

=head1 METHODS

    $server->start_child(
        conninfo => 'host=...',              # in place of the cluster's
        max      => 2,                       # UsersDBMax
        acquire  => 1, connect => 0.3, timeout => 0.6,    # time-outs, in seconds; the module's own where a test is not of them
        vhost    => 'UsersReadLanes 0',      # or site, as for Users::Test
        threads  => 32,
        conf     => 'ServerLimit 2',          # at the server level
        modules  => ['headers'], preload => '/path/to/library.so',    # as for start
    );

starts httpd, after a C<stop> where it runs, with one child: its pool is the only one.

C<begin> sends a request and returns the connection that its answer comes from. C<timed> returns
the answer and the seconds that it took. C<backends> are the process ids of the module's
connections. C<wait_for_locks> waits until so many of them wait for a lock. C<count_log> counts
the lines of the error log that match. C<wait_for_answer> repeats a request until its answer has
a status, and returns the seconds that it took.

    my $load = $server->load(4, [GET], [PATCH]);
    my @answers = $server->end_load($load);

has four clients send these requests in turn, one after the other, each on a connection of its
own while the server keeps it alive; C<end_load> ends them and returns, in the order of time, each
answer's C<at> (when it came), C<seconds> (how long it took), C<status> (0 where there was none),
C<method>, C<serial> (its number, which stood in place of C<SERIAL> in the request) and C<end>:
answered, refused (there was no connection), broken (it ended within the answer), unheard (before a
byte of the answer) or idle (the same on a connection that had been kept alive).

=head1 FUNCTIONS

C<SLACK> is how many seconds a busy machine may take on top of a deadline. C<is_unavailable> tests for a 503 that says when to come again and nothing else. C<count> makes
a hash of how often each value is in a list.

=cut

use v5.36;
use Users::Test;
use Users::Test::Client;
use Users::Test::Load;
use Users::Test::Process qw(end now slurp spawn);
use parent -norequire, qw(Users::Test);

use constant {
    SERIAL => Users::Test::Load::SERIAL,
    SLACK  => 2,    # seconds that a busy machine may take on top of a deadline
};

use constant GET   => (GET   => '/api/users', token => READ_TOKEN);
use constant PATCH => (PATCH => '/api/users', token => FULL_TOKEN, json => { user => { city => 'Delft' } });
use constant POST  => (
    POST  => '/api/users',
    token => REGISTER_TOKEN,
    json  => {
        user => {
            fname             => 'Jane',
            lname             => 'Roe',
            provider_server   => 'server.example',
            provider_username => 'jane'
        }
    });

our @EXPORT = (@Users::Test::EXPORT, qw(GET PATCH POST SERIAL SLACK count is_unavailable));

my %TIMEOUT = (acquire => 'UsersDBAcquireTimeout', connect => 'UsersDBConnectTimeout', timeout => 'UsersDBTimeout');

sub start_child ($self, %option) {
    my $threads = $option{threads} // 32;
    $self->stop if $self->pid;
    $self->start(
        modules => $option{modules},
        preload => $option{preload},
        conf => <<~CONF,
            StartServers 1
            ServerLimit 1
            ThreadsPerChild $threads
            MaxRequestWorkers $threads
            MinSpareThreads 1
            MaxSpareThreads $threads
            @{[$option{conf} // '']}
            CONF
        site  => $option{site},
        vhost => <<~CONF);
            UsersDB "@{[$option{conninfo} // $self->conninfo]}"
            UsersDBMax @{[$option{max} // 2]}
            @{[map { defined $option{$_} ? sprintf "$TIMEOUT{$_} %dms\n", 1000 * $option{$_} : () } keys %TIMEOUT]}
            @{[$option{vhost} // '']}
            CONF
    $self->allow_log(qr/server reached MaxRequestWorkers setting/);    # it is small on purpose
}

sub begin ($self, $method, $path, %option) {
    my $connection = $self->connect;
    $connection->send(
        Users::Test::Client::compose($method, $path, %option,
            headers => [($option{headers} // [])->@*, Connection => 'close']));
    return $connection;
}

sub timed ($self, @request) {
    my $before = now;
    my $answer = $self->request(@request);
    return ($answer, now - $before);
}

sub wait_for_answer ($self, $status, @request) {
    my $before = now;
    wait_until(sub { $self->request(@request)->{status} == $status }, "a $status");
    return now - $before;
}

sub backends ($self) {
    return split /\n/,
        $self->sql("select pid from pg_stat_activity where usename = 'mod_users' order by pid");
}

sub wait_for_locks ($self, $count) {
    wait_until(
        sub {
            $count == $self->sql(<<~SQL);
                select count(*) from pg_stat_activity
                where usename = 'mod_users' and wait_event_type = 'Lock'
                SQL
        },
        "$count statements to wait for a lock"
    );
}

sub count_log ($self, $pattern) {
    return scalar grep { $_ =~ $pattern } $self->error_log;
}

# ---- Load ------------------------------------------------------------------------------------

my $loads = 0;

sub load ($self, $clients, @requests) {
    my $name  = $self->dir . '/load-' . $loads++;
    my @bytes = map { Users::Test::Client::compose(@$_) } @requests;
    open my $file, '>:raw', "$name.requests" or die "$name.requests: $!\n";
    print $file join "\0", @bytes;
    close $file;
    my @command = ($^X, (map { "-I$_" } grep { !ref } @INC), '-MUsers::Test::Load',
        '-e', 'Users::Test::Load::run(@ARGV)', $self->port, "$name.requests");
    my %load = map { my $answers = "$name.$_.answers";
        ($answers => spawn(\@command, $answers, "$name.$_.errors")) } 1 .. $clients;
    wait_until(sub { !grep { !-s } keys %load }, 'the clients to have an answer');
    return \%load;
}

sub end_load ($self, $load) {
    my @answers;
    for my $file (keys %$load) {
        end($load->{$file});
        for (split /\n/, slurp($file)) {
            my %answer;
            @answer{qw(at seconds status method serial end)} = split;
            push @answers, \%answer;
        }
    }
    return sort { $a->{at} <=> $b->{at} } @answers;
}

# ---- Tests -----------------------------------------------------------------------------------

sub is_unavailable ($answer, $name) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is $answer->{status}, 503, "$name: 503";
    like $answer->{headers}{'retry-after'}, qr/^[1-9]\d*$/, "$name: Retry-After";
    unlike $answer->{body}, qr{/tmp/|socket|host|sql|connect}i, "$name: nothing is given away";
}

sub count (@values) {
    my %count;
    $count{$_}++ for @values;
    return \%count;
}

1;
