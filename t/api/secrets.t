# No token and no password gets into a log, however much is logged and whatever fails.

use v5.36;
use Digest::SHA qw(sha256_hex);
use MIME::Base64 qw(encode_base64);
use Users::Test;

my %canary = (
    token    => 'canary-of-a-valid-token',
    register => 'canary-of-a-token-for-register',
    unknown  => 'canary-of-an-unknown-token',
    secret   => 'canary-of-a-right-password',
    hashed   => 'canary-of-a-hashed-password',
    wrong    => 'canary-of-a-wrong-password',
    sent     => 'canary-of-a-password-in-a-body',
    client   => 'canary-of-a-client-secret',
);
my $bcrypt = '$2y$05$abcdefghijklmnopqrstuuGW0Hyo9Kutwab1irCpEelJozXqOfxUe';

my $server = Users::Test->new;
$server->sql(<<~SQL);
    insert into users.token (digest, application_id, user_id, scopes)
    select sha256('$canary{token}'), id, 1, '{profile_read,profile_update}'::text[]
    from users.application
    union all
    select sha256('$canary{register}'), id, null, '{register}' from users.application;

    insert into users.application (name, client_id, secret_digest, scopes)
    values ('panel', 'panel', sha256('$canary{client}'), '{register,introspect}');

    insert into users.credential (user_id, username, secret_digest, secret_hash)
    values (1, 'john', sha256('$canary{secret}'), null), (1, 'bcrypt', null, '$bcrypt');
    SQL

# PostgreSQL logs all that it is told to log in general; a role can have settings of its own.
my @logging = (
    q(log_statement = 'all'), q(log_min_duration_statement = 0), q(log_parameter_max_length = -1),
    q(log_parameter_max_length_on_error = -1), q(log_min_messages = 'debug1'),
    q(log_min_error_statement = 'error'), q(log_error_verbosity = 'verbose'),
);
$server->sql("alter system set $_") for @logging;
$server->postgres->restart;

my $requests;    # since then

sub start {
    $requests = 0;
    $server->start(vhost => "UsersPasswordGrant on\nUsersMaxFailures 20\n" . OAUTH_ENDPOINTS,
        conf => <<~'CONF');
        LogFormat "%r %u %{USERS_ID}e %{USERS_APPLICATION}e %{USERS_SCOPE}e %s" users
        CustomLog users_log users
        CONF
    $server->allow_trouble('lockout');
}
start();

sub ask ($method, %option) {
    $requests++;
    return $server->request($method, delete $option{path} // '/api/users', %option);
}

sub registration (%user) {
    return {
        user => {
            fname             => 'Jane',
            lname             => 'Roe',
            provider_server   => 'server.example',
            provider_username => 'jane',
            %user,
        }
    };
}

sub base64 ($name, $secret) {
    return encode_base64("$name:$secret", '');
}

my @credentials = (
    [token => $canary{token}],
    [token => $canary{register}],
    [token => $canary{unknown}],
    [basic => ['john',    $canary{secret}]],
    [basic => ['bcrypt',  $canary{hashed}]],
    [basic => ['john',    $canary{wrong}]],
    [basic => ['bcrypt',  $canary{wrong}]],
    [basic => ['unknown', $canary{wrong}]],
);
my @bodies = (
    [PATCH => json => { user => { city => 'Utrecht' } }],
    [PATCH => json => { user => { fname => undef, country => 'XX' } }],
    [PATCH => json => { user => [] }],
    [PATCH => json => { user => { merge_labels => { key => 'value' x 4000 } } }],
    [PATCH => json => {}, headers => ['If-Match' => '"stale"']],
    [PATCH => body => '{"user":{"fname":'],
    [PATCH => body => "\xff", headers => ['Content-Type' => 'application/json']],
    [PATCH => body => ' ' x 65537, headers => ['Content-Type' => 'application/json']],
    [POST  => json => registration()],
    [POST  => json => registration(), headers => ['Idempotency-Key' => 'k']],
    [POST  => json => registration(), headers => ['Idempotency-Key' => 'k']],
    [POST  => json => registration(city => 'Utrecht'), headers => ['Idempotency-Key' => 'k']],
    [POST  => json => registration(fname => undef, currency => 'XXY')],
    [POST  => json => {}],
);
my @operations = (
    (map { [$_] } qw(GET HEAD OPTIONS PUT FROBNICATE)),
    [GET => path => '/api/users/1'],
    [GET => headers => [Accept => 'text/html']],
    [GET => headers => ['If-Match' => '"']],
    @bodies,
);

my @passwords;    # that POST has told
my @tokens;       # that the token endpoint has

sub run ($operation, $credential) {
    my $answer = ask(@$operation, @$credential);
    push @passwords, $answer->{json}{user}{api}{password} if $answer->{status} == 201;
    unlike $answer->{body}, qr/canary/,
        "the $answer->{status} to $operation->[0] does not repeat it";
}

sub logs {
    wait_until(sub { $server->access_log == $requests }, 'the access log to be written');
    open my $file, '<', $server->dir . '/users_log' or die "users_log: $!\n";
    return (
        'the error log'    => join("\n", $server->error_log),
        'the access log'   => join('', <$file>),
        "PostgreSQL's log" => $server->postgres->log,
    );
}

# Neither in clear, nor in hexadecimal as of a bytea, nor in the base64 of a pair.
sub has_none ($log, $what, $secret) {
    my @forms = ($secret, unpack('H*', $secret));
    push @forms, map { substr base64($_, $secret), 0, -4 } qw(john bcrypt unknown);
    my $forms = join '|', map { quotemeta } @forms;
    for my $name (sort keys %$log) {
        my ($line) = grep { /$forms/i } split /\n/, $log->{$name};
        is $line, undef, "$name has no $what";
    }
}

subtest 'bodies that hold a password' => sub {
    my @json = ('Content-Type' => 'application/json');
    my $api  = { username => 'jane', password => $canary{sent} };
    for (
        [PATCH => json => { user => { api => $api } }],
        [PATCH => json => { user => { api => $api, fname => undef } }],
        [PATCH => json => { user => { api => $api } }, headers => [Prefer => 'handling=strict']],
        [PATCH => json => { user => $canary{sent} }],
        [PATCH => json => { api => $api }],
        [PATCH => body => qq({"user":{"api":"$canary{sent}), headers => \@json],
        [PATCH => body => "password=$canary{sent}"],
        [POST  => json => registration(api => $api)],
        [POST  => json => registration(api => $api, fname => undef)],
    ) {
        run($_, [token => $_->[0] eq 'POST' ? $canary{register} : $canary{token}]);
    }

    my %log = logs();
    ok $log{'the access log'} =~ /^POST /m, 'the access log has the requests';
    ok $log{"PostgreSQL's log"} =~ /users_api\.update_account\(/, "PostgreSQL's log has the statements";
    has_none(\%log, 'password of a body', $canary{sent});
};

# From here on PostgreSQL logs the parameters of the module's statements, whatever it was told.
$server->stop;
$server->sql("alter role mod_users set $_") for @logging;
start();
$server->expect_log(qr/PostgreSQL logs what clients send, personal data and passwords too, .* the role mod_users/);

subtest 'every operation with every credential' => sub {
    for my $operation (@operations) {
        run($operation, $_) for @credentials;
    }
    ok @passwords, 'some registered an account';
};

subtest 'header fields that hold no credential' => sub {
    my $pair = base64('john', $canary{secret});
    for my $value (
        (map { ("$_ $canary{token}", "$_ $canary{secret}", "$_ $pair") }
            qw(Token Digest Basic Bearer)),
        $canary{token}, $pair, ":$canary{secret}", "Bearer:$canary{token}", "Basic:$pair",
        "Bearer $canary{token} $canary{token}", "Bearer $canary{token}, Basic $pair",
        qq{Bearer "$canary{token}"}, "Bearer $canary{token}\xff", "Bearer\t$canary{token}",
        "Basic $pair$pair", "Basic $pair $pair", "Basic john:$canary{secret}",
        'Basic ' . base64('john',     "$canary{secret}\0"),
        'Basic ' . base64("john\0",   $canary{secret}),
        'Basic ' . base64('john',     "$canary{secret}\xff"),
        'Basic ' . base64("john\xff", $canary{secret}),
        'Basic ' . encode_base64($canary{secret}, ''), "Bearer $canary{token}" . 'x' x 9000,
        "Bearer $canary{token}\x01",
    ) {
        my $answer = ask(GET => headers => [Authorization => $value]);
        unlike $answer->{body}, qr/canary/, "the $answer->{status} does not repeat it";
    }
};

# Parameters to an OAuth endpoint, in each way that a client may send them.
sub oauth ($path, $id, $secret, @parameters) {
    my @client = (client_id => $id, client_secret => $secret);
    my @basic  = (headers => [Authorization => 'Basic ' . base64($id, $secret)]);
    for my $options (
        [form => [@client, @parameters]],
        [json => { @client, @parameters }],
        [form => [@parameters], @basic],
        [form => [@client, @parameters], @basic],
        [body => join('&', "client_secret=$secret", @parameters)],
        )
    {
        my $answer = ask(POST => path => "/api/oauth/$path", @$options);
        push @tokens, $answer->{json}{access_token} if ref $answer->{json} && $answer->{json}{access_token};
        unlike $answer->{body}, qr/canary/, "the $answer->{status} of $path does not repeat it";
    }
}

sub oauth_requests {
    for my $client (['panel', $canary{client}], ['panel', $canary{wrong}], ['unknown', $canary{client}]) {
        oauth('token', @$client, grant_type => 'client_credentials');
        oauth('token', @$client, grant_type => 'client_credentials', scope => $canary{wrong});
        oauth('token', @$client, grant_type => $canary{wrong});
        for my $owner (['john', 'secret'], ['bcrypt', 'hashed'], ['john', 'wrong'], ['unknown', 'wrong']) {
            my ($name, $password) = @$owner;
            oauth('token', @$client, grant_type => 'password', username => $name, password => $canary{$password});
        }
        for my $path (qw(revoke introspect)) {
            oauth($path, @$client, token => $canary{$_}) for qw(unknown token);
        }
    }
}

subtest 'OAuth' => sub {
    oauth_requests();
    ok @tokens, 'some got a token';
};

subtest 'requests that the database fails' => sub {
    $server->expect_log(qr/the database \S+ refused \w+/);
    $server->expect_log(qr/the role "mod_users" may not use the schema users_api/);
    $server->expect_log(qr/the database \S+ can't be reached/);
    $server->allow_log(qr/the database \S+ is back/);

    $server->sql(<<~'SQL');
        create function public.fail() returns trigger language plpgsql
        as $$ begin raise exception 'the trigger fails'; end $$;
        create trigger fail before insert or update on users.account
        for each row execute function public.fail();
        create trigger fail before insert or update on users.token
        for each row execute function public.fail();
        SQL
    for my $operation (@bodies) {
        run($operation, $_) for @credentials;
    }
    oauth_requests();
    # sessions that have prepared their statements are not asked again
    $server->sql(<<~'SQL');
        revoke usage on schema users_api from mod_users;
        select pg_terminate_backend(pid, 10000) from pg_stat_activity where usename = 'mod_users'
        SQL
    run(['GET'], $_) for @credentials;
    oauth_requests();
    $server->postgres->stop;
    run(['GET'], $_) for @credentials;
    oauth_requests();
};

subtest 'the logs have all that, and no secret' => sub {
    my %log    = logs();
    my $digest = sha256_hex($canary{token});
    ok $log{'the error log'} =~ /the trigger fails/, 'the error log has what failed';
    ok $log{'the access log'} =~ /^PATCH .* 1 \d+ profile_read profile_update /m,
        'the access log has who called';
    ok $log{"PostgreSQL's log"} =~ /\$1 = '\\x$digest'/,
        "PostgreSQL's log has the parameters";
    ok $log{"PostgreSQL's log"} =~ /the trigger fails/, 'and the errors';

    has_none(\%log, "canary: $_", $canary{$_}) for grep { $_ ne 'sent' } sort keys %canary;
    has_none(\%log, 'password that POST made', $_) for @passwords;
    has_none(\%log, 'token that was issued', $_) for @tokens;
};

done_testing;
