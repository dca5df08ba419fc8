# A year's traffic leaves accounts, and of all else only what is still alive: usersctl purge knows every table
# that grows. Traffic goes over HTTP; then what it has left is made a month older, twelve times.

use v5.36;
use Users::Test;
use Users::Test::Usersctl;

my $server   = Users::Test->new;
my $usersctl = Users::Test::Usersctl->new($server);
$server->start(vhost => "UsersTokenRate 0\nUsersPasswordGrant on\n" . OAUTH_ENDPOINTS);

my @CLIENT = (client_id => CLIENT_ID, client_secret => CLIENT_SECRET);
my $MONTHS = 12;

sub request ($status, @request) {
    my $answer = $server->request(@request);
    $answer->{status} == $status or die "$request[0] $request[1]: $answer->{status} $answer->{body}\n";
    return $answer->{json};
}

sub token (@parameters) {
    return request(200, POST => '/api/oauth/token', form => [@CLIENT, @parameters])->{access_token};
}

# What one user does in a month; the number makes names unique.
sub traffic ($month, $number) {
    my $name = "user-$month-$number";
    my @register = (
        POST => '/api/users', token => REGISTER_TOKEN, headers => ['Idempotency-Key' => $name],
        json => { user => { fname => 'Jane', lname => 'Roe', provider_server => 'server', provider_username => $name } });
    my $user = request(201, @register)->{user};
    $user = request(201, @register)->{user} for 1 .. 2;    # the answers were lost: two credentials have ended
    my ($username, $password) = $user->{api}->@{qw(username password)};
    my @tokens = map { token(grant_type => 'password', username => $username, password => $password) } 1 .. 2;
    token(grant_type => 'client_credentials') for 1 .. 2;    # never used
    request(200, PATCH => '/api/users', token => $tokens[0], json => { user => { city => "City $_" } }) for 1 .. 5;
    request(200, PATCH => '/api/users', token => $tokens[0], json => { user => { email => "$name\@example.com" } });
    request(200, POST => '/api/oauth/revoke', form => [@CLIENT, token => $tokens[1]]);
    $usersctl->told(qw(credential revoke --), $username) if $number == 2;
    $usersctl->told(qw(token issue --application), CLIENT_ID, '--user', $user->{id}, qw(--scopes profile_read --expires 40d))
        if $number == 3;
}

# All times in all tables, and the nonces, which begin with the time.
sub grow_older ($interval) {
    my @columns = map { [split /\|/] } split /\n/, $server->sql(<<~'SQL');
        select table_name, column_name from information_schema.columns
        where table_schema = 'users' and data_type = 'timestamp with time zone' and table_name <> 'migration'
          and table_name in (select table_name from information_schema.tables where table_type = 'BASE TABLE')
        SQL
    $server->sql(join ';', map { "update users.$_->[0] set $_->[1] = $_->[1] - interval '$interval'" } @columns);
    $server->sql(<<~SQL);
        update users.change set nonce = (lpad(to_hex((('x' || left(translate(nonce::text, '-', ''), 12))::bit(48)::bigint
          - extract(epoch from interval '$interval') * 1000)::bigint), 12, '0') || right(translate(nonce::text, '-', ''), 20))::uuid
        SQL
}

# The number of rows of each table.
sub rows () {
    return { map { split /\|/ } split /\n/, $server->sql(<<~'SQL') };
        select relname, (xpath('/row/n/text()', query_to_xml(format('select count(*) as n from users.%I', relname), false, true, '')))[1]
        from pg_class where relnamespace = 'users'::regnamespace and relkind = 'r'
        SQL
}

my $before = rows();
my $USERS  = 3;
for my $month (1 .. $MONTHS) {
    grow_older('30 days') if $month > 1;
    traffic($month, $_) for 1 .. $USERS;
}

my $all    = $MONTHS * $USERS;
my $recent = $USERS;
my $grown  = rows();
cmp_ok $grown->{token}, '>', 4 * $all, 'tokens have grown in number';
is $grown->{credential} - $before->{credential}, 3 * $all, '... credentials too';
is $grown->{idempotency}, $all, '... and Idempotency-Keys';

my %left = (
    %$before,
    account          => $before->{account} + $all,
    provider_account => $all,
    # two of three of the last month's users have live ones; all others' last one but the revoked lives
    credential  => $before->{credential} + $all - $MONTHS + 2 * $recent + 1,
    idempotency => $recent,
    change      => $grown->{change},    # see below
    # the last month's, and those issued for 40 days in this month and the one before
    token => $before->{token} + $recent * 4 + 1 + 1,
);
my $purged = $usersctl->told('purge');
my $after  = rows();
cmp_ok $after->{change}, '<=', 6 * $recent, 'of the names of changes the last hour\'s are left';
$left{change} = $after->{change};
is_deeply $after, \%left, 'nothing else is left of the year but accounts, and what is alive';
is $purged->{$_->[0]}, $grown->{ $_->[1] } - $after->{ $_->[1] }, "... by $_->[0], as purge tells"
    for [tokens => 'token'], [credentials => 'credential'], [idempotency_keys => 'idempotency'], [changes => 'change'];
is $server->sql('select count(*) from users_api.credential') - 1 * ($before->{credential} // 0), $all - $MONTHS,
    'each account has its credentials, but where they were revoked';

grow_older('30 days');
$usersctl->told('purge');
is rows()->{$_}, $before->{$_} // 0, "a month later nothing is left in $_" for qw(idempotency change);
is rows()->{credential} - $before->{credential}, $all - $MONTHS, '... nor a credential that was revoked';
is rows()->{token} - $before->{token}, 1, '... nor a token but the one that has ten days left';
is_deeply $usersctl->told('purge'), { map { $_ => 0 } qw(tokens credentials idempotency_keys changes audit events) }, 'then there is nothing to do';

done_testing;
