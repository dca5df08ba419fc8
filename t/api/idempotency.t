# Idempotency-Key: who did not get the answer to a POST may repeat it
# (draft-ietf-httpapi-idempotency-key-header).

use v5.36;
use Users::Test;
use Users::Test::Session;

my $HASTE = 2;    # seconds of a statement on hasty.example, 4/5 of them for a lock

my $server = Users::Test->new;
$server->start(
    site => <<~SITE,
        UsersDB "@{[$server->conninfo]}"
        UsersDBTimeout 20s
        UsersRequestTimeout 40s
        <Location /api/users>
          UsersEndpoint account
        </Location>
        <VirtualHost *:*>
          ServerName localhost
        </VirtualHost>
        <VirtualHost *:*>
          ServerName hasty.example
          UsersDBTimeout @{[1000 * $HASTE]}ms
        </VirtualHost>
        <VirtualHost *:*>
          ServerName strict.example
          UsersDuplicates conflict
        </VirtualHost>
        SITE
);

# A registration with a key (undef: without). Options: token, host, body instead of JSON.
sub registration ($key, $user = {}, %option) {
    my %user = (
        fname             => 'Jane',
        lname             => 'Roe',
        provider_server   => 'server.example',
        provider_username => 'jane',
        %$user
    );
    return (
        POST    => '/api/users',
        token   => $option{token} // REGISTER_TOKEN,
        headers => [
            'Host'         => $option{host} // 'localhost',
            'Content-Type' => 'application/json',
            defined $key ? ('Idempotency-Key' => $key) : ()
        ],
        $option{body} ? (body => $option{body}) : (json => { user => \%user }));
}

sub register (@arguments) {
    return $server->request(registration(@arguments));
}

sub id_of ($answer) {
    return $answer->{json}{user}{id};
}

# The status that the owner of an answer's credentials gets.
sub status_of_owner ($answer) {
    my $api = $answer->{json}{user}{api};
    return $server->request(GET => '/api/users', basic => [$api->@{qw(username password)}])
        ->{status};
}

sub count_accounts () {
    return $server->sql('select count(*) from users.account');
}

sub count_lock_waits () {
    return $server->sql(<<~SQL);
        select count(*) from pg_stat_activity where usename = 'mod_users' and wait_event_type = 'Lock'
        SQL
}

subtest 'a repeat brings the same account and fresh credentials' => sub {
    my $first  = register('repeat', { external_id => 'repeat' });
    my $before = count_accounts();
    my $second = register('repeat', { external_id => 'repeat' });
    my $third  = register('repeat', { external_id => 'repeat' });
    my @answers = ($first, $second, $third);

    is_deeply [map { $_->{status} } @answers], [201, 201, 201], 'each is a 201';
    is count_accounts(), $before, 'no other account is made';
    my @api = map { delete $_->{json}{user}{api} } @answers;
    is_deeply $_->{json}, $first->{json}, 'the account is the same' for $second, $third;
    isnt $api[1]{$_}, $api[0]{$_}, "another $_" for qw(username password);
    is_deeply [
        map {
            $server->request(GET => '/api/users', basic => [$_->@{qw(username password)}])->{status}
        } @api
        ],
        [401, 401, 200], 'the last credentials work, the earlier ones are dead';
};

subtest 'another payload under a known key is refused' => sub {
    register('payload');
    my $before = count_accounts();
    my $answer = register('payload', { fname => 'Joan' });
    is $answer->{status}, 422, 'it is a 422';
    like $answer->{json}{errors}[0], qr/^Idempotency-Key /, 'the sentence begins with the field';
    is count_accounts(), $before, 'no account is made';
    is register('payload')->{status}, 201, 'the first payload may still be repeated';

    my @both = $server->parallel([registration('race', { fname => 'A' })],
        [registration('race', { fname => 'B' })]);
    is_deeply [sort map { $_->{status} } @both], [201, 422], 'of two simultaneous ones one counts';
};

subtest 'the order of members and white space make no other payload' => sub {
    my @bodies = (
        '{"user":{"fname":"Jane","lname":"Roe","merge_labels":{"a":1,"b":2}},'
            . '"provider_server":"s","provider_username":"u"}',
        qq({"provider_username": "u", "provider_server": "s",\n "user":)
            . '{"merge_labels": {"b": 2, "a": 1}, "lname": "\u0052oe", "fname": "Jane"}}',
    );
    my @answers = map { register('order', {}, body => $_) } @bodies;
    is_deeply [map { $_->{status} } @answers], [201, 201], 'both are a 201';
    is id_of($answers[1]), id_of($answers[0]), 'of the same account';
};

subtest 'keys belong to an application' => sub {
    $server->sql(<<~SQL);
        insert into users.application (name, client_id, secret_digest, scopes)
        values ('other', 'other', sha256('other'), '{register}');
        select users_api.issue_token(id, null, sha256('token-of-' || name::bytea), '{register}', null)
        from users.application;
        SQL
    my $first = register('shared');
    my $other = register('shared', {}, token => 'token-of-other');
    is $other->{status}, 201, 'another one may use the same';
    isnt id_of($other), id_of($first), 'for an account of its own';
    is status_of_owner($first), 200, 'and leaves the credentials of the first alone';
    is register('shared', { fname => 'Joan' }, token => 'token-of-other')->{status}, 422,
        'it has one for each key too';
    is id_of(register('shared', {}, token => 'token-of-demo')), id_of($first),
        'another token of the same application is as good';
};

subtest 'a key is forgotten after 24 hours' => sub {
    my $age = sub ($interval) {
        $server->sql(<<~SQL);
            update users.idempotency set created_at = now() - interval '$interval'
            where key = 'old'
            SQL
    };
    my $first = register('old');
    $age->('23 hours 59 minutes');
    my $young = register('old');
    is id_of($young), id_of($first), 'before that it is a repeat';

    $age->('24 hours 1 second');
    my $new = register('old', { fname => 'Joan' });
    is $new->{status}, 201, 'then any payload is new';
    isnt id_of($new), id_of($first), 'and makes another account';
    is status_of_owner($young), 200, 'the first one keeps its credentials';
    is id_of(register('old', { fname => 'Joan' })), id_of($new), 'the key stands for the new one';
};

subtest 'ten simultaneous requests with one key make one account' => sub {
    my $before  = count_accounts();
    my @answers = $server->parallel(map { [registration('ten')] } 1 .. 10);
    is_deeply [map { $_->{status} } @answers], [(201) x 10], 'all are a 201';
    is count_accounts() - $before, 1, 'one account is made';
    my %id = map { id_of($_) => 1 } @answers;
    is keys %id, 1, 'all tell the same';
    is scalar(grep { status_of_owner($_) == 200 } @answers), 1, 'one of the credentials works';
};

subtest 'a first request that is still under way is waited for' => sub {
    my $session = Users::Test::Session->new($server);
    $session->sql('begin; lock table users.credential in share mode');
    my @connections = map { $server->connect } 1, 2;
    $_->send(Users::Test::Client::compose(registration('slow'))) for @connections;
    wait_until(sub { count_lock_waits() == 2 }, 'both requests to wait');
    my $before = now;
    my $hasty  = register('slow', {}, host => 'hasty.example');
    my $took   = now - $before;
    is $hasty->{status}, 409, 'who waits too long gets a 409';
    like $hasty->{headers}{'retry-after'}, qr/^[1-9]\d*$/, 'with Retry-After';
    is @{ $hasty->{json}{errors} }, 1, 'and a sentence';
    cmp_ok $took, '>', 0.7 * $HASTE, 'after it has waited';
    cmp_ok $took, '<', 3 * $HASTE, 'for the time of a lock';

    $session->sql('rollback');
    my @answers = map { $_->answer } @connections;
    is_deeply [map { $_->{status} } @answers], [201, 201], 'who waits long enough gets a 201';
    is id_of($answers[1]), id_of($answers[0]), 'of the same account';
};

subtest 'a key undoes no revocation' => sub {
    my %ends = (
        'the credential is revoked'  => "update users.credential set revoked_at = now() where username = '%s'",
        'the credential is deleted'  => "delete from users.credential where username = '%s'",
        'the account is suspended'   => "update users.account set suspended_at = now() where id = %d",
    );
    for my $repeated (0, 1) {
        for my $end (sort keys %ends) {
            my $key    = "$end-$repeated" =~ tr/ /-/r;
            my $answer = register($key);
            $answer = register($key) if $repeated;
            my $id   = id_of($answer);
            my $name = "$end, after " . ($repeated ? 'a repeat' : 'the first answer');
            $server->sql(sprintf $ends{$end}, $end =~ /account/ ? $id : $answer->{json}{user}{api}{username});
            my $credentials = "select count(*) from users.credential where user_id = $id";
            my $before      = $server->sql($credentials);
            for my $time ('a repeat', 'another one') {
                my $refused = register($key);
                is $refused->{status}, 409, "$name: $time is a 409";
                like $refused->{json}{errors}[0], qr/\bIdempotency-Key is suspended, or its API credentials were ended/,
                    '... with a sentence';
                is $refused->{headers}{'retry-after'}, undef, '... and no hope';
            }
            is $server->sql($credentials), $before, '... no credential is made';
            is register("$key-2")->{status}, 201, '... another key makes another account';
            next unless $end =~ /account/;
            $server->sql("update users.account set suspended_at = null where id = $id");
            is status_of_owner($answer), 200, '... and the credentials work again when the account is resumed';
            is register($key)->{status}, 201, '... which can be repeated, too';
        }
    }
    my $answer = register('others');
    $server->sql(sprintf q(insert into users.credential (user_id, username, secret_digest, revoked_at)
        values (%d, 'another', sha256('x'), now())), id_of($answer));
    is register('others')->{status}, 201, 'that another credential has ended is nothing';
};

subtest 'a revocation on its way' => sub {
    my $session = Users::Test::Session->new($server);
    my $answer  = register('on-its-way');
    $session->sql("begin; update users.credential set revoked_at = now()
        where username = '$answer->{json}{user}{api}{username}'");
    my $connection = $server->connect;
    $connection->send(Users::Test::Client::compose(registration('on-its-way')));
    wait_until(sub { count_lock_waits() == 1 }, 'the repeat to wait');
    $session->sql('commit');
    is $connection->answer->{status}, 409, 'counts when it is there';
};

subtest 'a key is a quoted or bare text' => sub {
    my %good = (
        'bare'                   => q(8e03978e-40d5-43dd-bc93-6894a57f9324),
        'quoted'                 => q("8e03978e-40d5-43dd-bc93-6894a57f9325"),
        'quoted with spaces'     => q("a, b c"),
        'quoted with a quote'    => q("a\"b\\\\c"),
        'bare of 255 characters' => 'x' x 255,
        'quoted of 255'          => '"' . 'y' x 255 . '"',
        'surrounded by blanks'   => q(  blank	),
    );
    for my $name (sort keys %good) {
        my @answers = map { register($good{$name}) } 1, 2;
        is_deeply [map { $_->{status} } @answers], [201, 201], "$name: 201";
        is id_of($answers[0]), id_of($answers[1]), "$name: it counts";
    }
    is id_of(register('"both"')), id_of(register('both')), 'both forms are the same key';

    my %bad = (
        'empty'                     => '',
        'quoted and empty'          => '""',
        'without its closing quote' => '"a',
        'without its opening quote' => 'a"',
        'a blank in a bare one'     => 'a b',
        'two'                       => '"a", "b"',
        'two bare ones'             => 'a,b',
        'not ASCII'                 => "\xC3\xBC",
        'quoted, not ASCII'         => "\"\xC3\xBC\"",
        'a backslash'               => 'a\\b',
        'an unknown escape'         => '"a\\b"',
        'a control character'       => "\"a\tb\"",
        '256 characters'            => 'x' x 256,
        '256 characters, quoted'    => '"' . 'x' x 256 . '"',
    );
    my $before = count_accounts();
    for my $name (sort keys %bad) {
        my $answer = register($bad{$name});
        is $answer->{status}, 400, "$name: 400";
        like $answer->{json}{errors}[0], qr/Idempotency-Key/, "$name: the sentence names the field";
    }
    my @twice = registration('a');
    push @{ { @twice[2 .. $#twice] }->{headers} }, 'Idempotency-Key' => 'a';
    is $server->request(@twice)->{status}, 400, 'two header fields: 400';
    is count_accounts(), $before, 'none makes an account';
};

subtest 'a request that failed leaves its key free' => sub {
    register(undef, { external_id => 'taken' });
    my %failures = (
        'a missing name'             => [{ fname       => undef },   'localhost',      422],
        'an unknown country'         => [{ country     => 'XX' },    'localhost',      422],
        'an external_id in use'      => [{ external_id => 'taken' }, 'localhost',      422],
        'a provider pair registered' => [{},                         'strict.example', 409],
    );
    for my $name (sort keys %failures) {
        my ($user, $host, $status) = $failures{$name}->@*;
        my $key = $name =~ tr/ /-/r;
        is register($key, $user, host => $host)->{status}, $status, "$name: $status";
        is register($key, { provider_username => $key }, host => $host)->{status}, 201,
            "$name: another payload may have the key";
        is register($key, { provider_username => $key }, host => $host)->{status}, 201,
            "$name: and repeat";
    }
};

subtest 'without a key each request makes an account' => sub {
    my @answers = map { register(undef) } 1, 2;
    is_deeply [map { $_->{status} } @answers], [201, 201], 'both are a 201';
    isnt id_of($answers[1]), id_of($answers[0]), 'of different accounts';
    is status_of_owner($answers[0]), 200, 'the first credentials stay good';
};

done_testing;
