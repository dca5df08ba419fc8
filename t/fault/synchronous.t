# Commits wait for a standby (synchronous_standby_names). One that was made and did not wait for it, since its backend was
# ended or its wait cancelled, can be lost with the server. So nobody is told of it before a later commit has waited.

use v5.36;
use Users::Test::Fault;
use Users::Test::Process qw(end spawn);

my $server = Users::Test::Fault->new;
my $secret = 0;
my %client = (basic => [CLIENT_ID, CLIENT_SECRET]);

# A registration that no other is like.
sub registration (%option) {
    my $name = 'jane' . ++$secret;
    my %user = (fname => 'Jane', lname => 'Roe', provider_server => 'server.example', provider_username => $name);
    $user{$_} = $option{$_} . $secret for grep { $option{$_} } qw(external_id);
    $user{email} = "$name\@example.com" if $option{email};
    return (
        POST    => '/api/users',
        token   => REGISTER_TOKEN,
        headers => [map { ('Idempotency-Key' => qq("$_-$secret")) } $option{key} // ()],
        json    => { user => \%user });
}

sub token () {
    my $answer = $server->request(POST => '/api/oauth/token', %client, form => [grant_type => 'client_credentials']);
    return $answer->{json}{access_token} // die "no token: $answer->{body}";
}

# The process ids of the module's backends whose commit waits for a standby.
sub waiting () {
    return split /\n/, $server->sql("select pid from pg_stat_activity where usename = 'mod_users' and wait_event = 'SyncRep'");
}

# What stands for a standby: it keeps what is written, and says so.
my ($standby, $runs) = (undef, 0);
my $bin = $server->sql("select setting from pg_config where name = 'BINDIR'");

sub start_standby () {
    my $dir = $server->dir . '/wal-' . ++$runs;
    mkdir $dir;
    $standby = spawn(["$bin/pg_receivewal", qw(--synchronous --no-loop --directory), $dir, '--dbname',
            'host=' . $server->postgres->dir . ' user=postgres application_name=standby'], "$dir.out", "$dir.err");
    wait_until(sub { $server->sql('select count(*) from pg_stat_replication') }, 'the standby to be there');
}

sub stop_standby () {
    end($standby);
    wait_until(sub { !$server->sql('select count(*) from pg_stat_replication') }, 'the standby to be gone');
}

$server->sql(q(alter role postgres set synchronous_commit = 'local'));
$server->postgres->configure("synchronous_standby_names = 'standby'\n");
$server->postgres->restart;

my @kinds = (
    [200, 'a change',                              sub { PATCH }],
    [201, 'a registration',                        sub { registration() }],
    [201, 'a registration with an email',          sub { registration(email => 1) }],
    [201, 'a registration with an external_id',    sub { registration(external_id => 'e') }],
    [201, 'a registration with an Idempotency-Key', sub { registration(key => 'k') }],
    [200, 'a token', sub { (POST => '/api/oauth/token', %client, form => [grant_type => 'client_credentials']) }],
    [200, 'the end of a token', sub { (POST => '/api/oauth/revoke', %client, form => [token => token()]) }],
);

for my $notes ('', "UsersAudit on\nUsersEvents on") {
    $server->start_child(vhost => "UsersRequestTimeout 30s\nUsersDBTimeout 30s\n$notes\n" . OAUTH_ENDPOINTS);
    for my $ending (qw(pg_terminate_backend pg_cancel_backend)) {
        for my $kind (@kinds) {
            my ($status, $name, $request) = @$kind;
            start_standby();
            my @request = $request->();
            stop_standby();
            my $connection = $server->begin(@request);
            wait_until(sub { waiting() == 1 || $connection->can_read }, "$name to wait");
            my ($first) = waiting();
            $server->sql("select $ending($first)");
            ok wait_until(sub { $connection->can_read or grep { $_ != $first } waiting() }, undef)
                && !$connection->can_read, "$ending under $name: it is not answered";
            start_standby();
            is $connection->answer->{status}, $status, '... until a later commit has reached the standby';
            stop_standby();
        }
    }
    is $server->sql('select count(*) from users.audit'), 2 * 5, 'each change and registration is noted once' if $notes;
}

subtest 'nothing was made twice' => sub {
    is $server->sql('select provider_username from users.provider_account_later'), '', 'no registration';
    is $server->sql(q(select count(*) from users.account where email like 'jane%')), 2 * 2 * 4, 'all were made';
};

subtest 'what has not reached the standby in time' => sub {
    $server->start_child(vhost => 'UsersRequestTimeout 2s');
    my $answer = $server->request(PATCH);
    is $answer->{status}, 503, 'is not acknowledged';
    like $answer->{body}, qr/the outcome is not known/, '... and the client is told why';
    is $server->request(GET)->{status}, 200, 'reads go on';
    start_standby();
    $server->wait_for_answer(200, PATCH);
    $server->expect_trouble('late');
};

done_testing;
