# What its own credentials let an account or an application do so often, and no more: ask whether others
# have an address, and have tokens issued.

use v5.36;
use List::Util qw(sum0);
use Users::Test;

use constant ACCOUNTS => 14;    # that ask

# Two children, so that they must know of each other.
my $CHILDREN = <<~CONF;
    MaxKeepAliveRequests 0
    StartServers 2
    <IfModule !mpm_prefork_module>
      ServerLimit 2
      ThreadsPerChild 16
      ThreadLimit 16
      MaxRequestWorkers 32
      MinSpareThreads 1
      MaxSpareThreads 32
    </IfModule>
    CONF

# asker1 and so on have a token of their name; taken1 to taken60 have an address.
my $server = Users::Test->new(databases => ['second']);
for my $database (qw(users second)) {
    $server->sql(<<~SQL, $database);
        insert into users.account (fname, lname, email, country, currency, locale)
        select 'Jane', 'Roe', 'taken' || n || '\@example.com', 'NL', 'EUR', 'nl' from generate_series(1, 60) n;
        insert into users.account (id, fname, lname, email, country, currency, locale)
        select 1000 + n, 'Ann', 'Asks', 'asker' || n || '\@example.com', 'NL', 'EUR', 'nl' from generate_series(1, @{[ACCOUNTS]}) n;
        insert into users.token (digest, application_id, user_id, scopes)
        select sha256(convert_to('asker' || n, 'UTF8')), application.id, 1000 + n, '{profile_read,profile_update}'
        from generate_series(1, @{[ACCOUNTS]}) n cross join users.application;
        insert into users.credential (user_id, username, secret_digest)
        select 1000 + n, 'asker' || n, sha256('secret') from generate_series(1, @{[ACCOUNTS]}) n;
        insert into users.application (name, client_id, secret_digest, scopes) values
          ('other', 'other', sha256('other'), '{public}')
        SQL
}

sub restart (%conf) {
    $server->stop if $server->pid;
    $server->start(%conf, conf => $CHILDREN, vhost => OAUTH_ENDPOINTS . ($conf{vhost} // ''));
    $server->allow_log(qr/server reached MaxRequestWorkers/);
    $server->allow_trouble('limit');
}

# A PATCH of an account, which has a fault beside the address where it is to store nothing.
sub change ($asker, $user, %option) {
    $user = { country => 'XX', %$user } if delete $option{faulty};
    return (PATCH => '/api/users', token => $asker, json => { user => $user }, %option);
}

sub ask ($asker, $address, %option) {
    return $server->request(change($asker, { email => "$address\@example.com" }, faulty => 1, %option));
}

sub is_told ($answer) {
    return !!grep { $_ eq 'email has already been taken' } ($answer->{json}{errors} // [])->@*;
}

sub statuses (@answers) {
    return join ' ', map { $_->{status} } @answers;
}

sub count (@values) {
    my %count;
    $count{$_}++ for @values;
    return \%count;
}

my @LIMITED = ('422') x 20;

subtest 'an account asks for addresses' => sub {
    restart();
    my @answers = map { ask(asker1 => "taken$_") } 1 .. 20;
    is statuses(@answers), "@LIMITED", 'twenty answers';
    is_deeply [grep { !is_told($_) } @answers], [], '... tell that another has it';
    my $answer = ask(asker1 => 'taken21');
    is $answer->{status}, 429, 'the next one does not';
    like $answer->{headers}{'retry-after'}, qr/^\d+$/, '... but when to come back';
    cmp_ok $answer->{headers}{'retry-after'}, '<=', 3600, '... within an hour';
    cmp_ok $answer->{headers}{'retry-after'}, '>', 3400, '... and not much sooner';
    is_deeply $answer->{json}{errors}, ['too many addresses were asked for that are taken: try again later'], '... and why';
    my $problem = ask(asker1 => 'taken21', headers => [Accept => 'application/problem+json']);
    is_deeply [$problem->{status}, $problem->{json}{status}], [429, 429], '... in RFC 9457 too';
    is_deeply [ask(asker1 => 'free')->@{qw(status body)}], [$answer->@{qw(status body)}], 'one that is free is answered alike';
    is ask(undef, 'taken21', basic => ['asker1', 'secret'])->{status}, 429, 'so with API credentials';
    is $server->request(change(asker1 => { email => 'free@example.com' }))->{status}, 429, 'so without another fault';
    is $server->request(change(asker1 => { city => 'Delft' }))->{status}, 200, 'what names no address is changed';
    is $server->request(change(asker1 => {}, faulty => 1))->{status}, 422, '... or judged';
    is $server->request(GET => '/api/users', token => 'asker1')->{status}, 200, 'GET is served';
    is is_told(ask(asker2 => 'taken1')), 1, 'another account is told';
    is $server->sql(q(select email from users.account where id = 1001)), 'asker1@example.com', 'nothing is stored';
    my @lines = grep { /account 1001 has asked for 20 addresses that others have; changes of its address are refused for 3600 s \(UsersProbeLimit, UsersProbeWindow\)/ } $server->error_log;
    is @lines, 1, 'the log tells it once';
};

subtest 'a reload forgets nothing' => sub {
    for (1 .. 2) {
        my @children = $server->children;
        $server->graceful;
        wait_until(sub { !grep { kill 0 => $_ } @children }, 'children to end');
        is ask(asker1 => 'taken1')->{status}, 429, 'refused';
    }
};

subtest 'many at once' => sub {
    restart();
    my @answers = $server->parallel(map { [change(asker1 => { email => "taken$_\@example.com" }, faulty => 1)] } 1 .. 60);
    is_deeply count(map { $_->{status} } @answers), { 422 => 20, 429 => 40 }, 'twenty are told, whoever serves them';
    is scalar(grep { is_told($_) } @answers), 20, '... of what they asked for';
};

subtest 'what is no probe' => sub {
    restart();
    my $status = sub (@request) { $server->request(@request)->{status} };
    is_deeply count(map { ask(asker1 => "free$_")->{status} } 1 .. 30), { 422 => 30 }, 'an address that is free';
    is_deeply count(map { $status->(change(asker1 => { email => "new$_\@example.com" })) } 1 .. 30), { 200 => 30 },
        'a change of the address';
    is_deeply count(map { $status->(change(asker1 => { email => 'NEW30@example.com', city => "C$_" })) } 1 .. 30),
        { 200 => 30 }, 'what GET showed';
    is_deeply count(map { ask(asker1 => 'new30')->{status} } 1 .. 30), { 422 => 30 }, '... beside a fault';
    is_deeply count(map { $status->(change(asker1 => { email => "taken$_" }, faulty => 1)) } 1 .. 30), { 422 => 30 },
        'what is no address';
    is_deeply count(map { $status->(change(asker1 => { email => "taken$_\@example.com" }, headers => ['If-Match' => '"stale"'])) } 1 .. 30),
        { 412 => 30 }, 'a stale change';
    is_deeply count(map {
        $status->(POST => '/api/users', token => REGISTER_TOKEN, json => { user => {
            fname => 'Jane', lname => 'Roe', email => "taken$_\@example.com",
            provider_server => 'server.example', provider_username => "jane$_" } });
    } 1 .. 30), { 201 => 30 }, 'a registration, whose account has another address then';
    is is_told(ask(asker1 => 'taken1')), 1, 'all that has not been counted';
};

subtest 'UsersProbeLimit and UsersProbeWindow' => sub {
    restart(vhost => "UsersProbeLimit 2\nUsersProbeWindow 1s");
    wait_until(sub { ask(asker1 => 'taken1')->{status} == 429 }, 'to be refused');
    wait_until(sub { is_told(ask(asker1 => 'taken1')) }, 'the window to end');
    pass 'it ends';
    restart(vhost => 'UsersProbeLimit 0');
    is_deeply count(map { ask(asker1 => "taken$_")->{status} } 1 .. 40), { 422 => 40 }, 'or nothing is counted';
    restart(site => <<~SITE);
        UsersProbeLimit 1
        UsersDB "@{[$server->conninfo]}"
        <Location /api/users>
          UsersEndpoint account
        </Location>
        <VirtualHost *:*>
          ServerName localhost
        </VirtualHost>
        <VirtualHost *:*>
          ServerName same.example
        </VirtualHost>
        <VirtualHost *:*>
          ServerName second.example
          UsersDB "@{[$server->conninfo('second')]}"
        </VirtualHost>
        SITE
    is ask(asker1 => 'taken1')->{status}, 422, 'one that is told';
    is ask(asker1 => 'taken1', headers => [Host => 'same.example'])->{status}, 429, 'counts in all that one database serves';
    is ask(asker1 => 'taken1', headers => [Host => 'second.example'])->{status}, 422, '... but not in another';
};

# ---- Tokens ----------------------------------------------------------------------------------

my @TOKEN = (POST => '/api/oauth/token');
my @CLIENT = (client_id => CLIENT_ID, client_secret => CLIENT_SECRET, grant_type => 'client_credentials');
my @OTHER  = (client_id => 'other', client_secret => 'other', grant_type => 'client_credentials');

sub stored () {
    return $server->sql('select count(*) from users.token where user_id is null');
}

# Eight clients ask for tokens; returns the answers, and the seconds that it took.
sub mint ($rounds, @form) {
    my $request     = Users::Test::Client::compose(@TOKEN, form => \@form);
    my @connections = map { $server->connect } 1 .. 8;
    my $before      = now;
    my @answers;
    for (1 .. $rounds) {
        $_->send($request) for @connections;
        push @answers, map { $_->answer } @connections;
    }
    return (now - $before, @answers);
}

# A window begins with a token, so there are at most so many more than the seconds that pass.
sub is_limited ($most, $seconds, @answers) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $count = count(map { $_->{status} } @answers);
    cmp_ok $count->{200}, '<=', $most * ($seconds + 1), "at most $most a second are issued";
    is sum0(values %$count), $count->{200} + ($count->{429} // 0), '... and others told to come again';
    return $count;
}

subtest 'each of ten in a minute is told to the log' => sub {
    restart(vhost => 'UsersProbeLimit 1');
    my $told = 0;    # accounts that share a place share its count, so one may be refused already
    for my $n (1 .. ACCOUNTS) {
        $told++ if $told < 9 && is_told(ask("asker$n", 'taken1'));
    }
    is $told, 9, 'nine accounts ask';
    is scalar(grep { /\[users:warn\] .*has asked for 1 addresses that others have;/ } $server->error_log), 9, '... which stand there as warnings';
};

subtest 'an application has tokens issued' => sub {
    restart();
    my $before = stored();
    my $count = is_limited(100, mint(100, @CLIENT));
    is stored() - $before, $count->{200}, 'no other is stored';

    restart(vhost => 'UsersTokenRate 2');
    my ($seconds, @answers) = mint(20, @CLIENT);
    is_limited(2, $seconds, @answers);
    my ($refused) = grep { $_->{status} == 429 } @answers;
    is $refused->{headers}{'retry-after'}, 1, 'it says when to come back';
    is_deeply $refused->{json},
        { error => 'temporarily_unavailable', error_description => 'too many tokens were asked for: try again later' },
        '... in the words of OAuth';
    is $server->request(@TOKEN, form => \@OTHER)->{status}, 200, 'another application gets its own';
    wait_until(sub { $server->request(@TOKEN, form => \@CLIENT)->{status} == 200 }, 'the second to end');
    pass 'and so does this one';
    ok((grep { /application \d+ asks for more than 2 tokens a second, and is told to come again \(UsersTokenRate\)/ } $server->error_log),
        'the log tells it');
};

subtest 'the password grant counts, too' => sub {
    restart(vhost => "UsersTokenRate 1\nUsersPasswordGrant on");
    is_limited(1, mint(10, client_id => CLIENT_ID, client_secret => CLIENT_SECRET, grant_type => 'password',
        username => 'asker3', password => 'secret'));
};

subtest 'what issues no token does not' => sub {
    restart(vhost => 'UsersTokenRate 1');
    my @form = (client_id => 'other', grant_type => 'client_credentials');
    is_deeply count(map { $server->request(@TOKEN, form => [@OTHER, scope => 'register'])->{status} } 1 .. 5),
        { 400 => 5 }, 'a scope that it does not hold';
    is_deeply count(map { $server->request(@TOKEN, form => [@form, client_secret => 'wrong'])->{status} } 1 .. 5),
        { 401 => 5 }, 'a wrong secret';
    is $server->request(@TOKEN, form => \@OTHER)->{status}, 200, 'a token';
    restart(vhost => 'UsersTokenRate 0');
    my (undef, @answers) = mint(40, @CLIENT);
    is_deeply count(map { $_->{status} } @answers), { 200 => 320 }, '0: any number';
};

done_testing;
