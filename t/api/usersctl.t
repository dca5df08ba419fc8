# The administrator's command: what it makes works at once over HTTP, what it ends does not, it is
# plain about what it refuses, and no secret of it is to be seen by others.

use v5.36;
use utf8;
use Cwd            qw(abs_path);
use Digest::SHA    qw(sha256_hex);
use File::Basename qw(dirname);
use IO::Socket::INET;
use JSON::PP qw();
use Users::Test;
use Users::Test::Process qw(run slurp);
use Users::Test::Session;
use Users::Test::Usersctl;

my $PROGRAM = Users::Test::Usersctl->program;
my $BCRYPT  = '$2y$05$abcdefghijklmnopqrstuu3JgwjVpvICm0WBx/KCD2Txrbr.XoE5m';    # an old password

binmode $_, ':utf8' for map { Test::More->builder->$_ } qw(output failure_output);

my $server   = Users::Test->start(vhost => OAUTH_ENDPOINTS);
my $dir      = $server->dir;
my $usersctl = Users::Test::Usersctl->new($server);

sub usersctl  (@arguments) { $usersctl->run(@arguments) }
sub told      (@arguments) { $usersctl->told(@arguments) }
sub told_with (@arguments) { $usersctl->told_with(@arguments) }

sub refuses ($status, $message, @arguments) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($is, $output, $error) = usersctl(@arguments);
    is $is, $status, "'@arguments' is $status";
    is $output, '', '... and tells nothing';
    like $error, qr/\Ausersctl: [^\n]*$message[^\n]*\n\z/, '... but why, in a line';
}

sub status_of (%credential) {
    return $server->request(GET => '/api/users', %credential)->{status};
}

# Every row of the tables that it changes.
sub data () {
    return join "\n", map { $server->sql("select * from users.$_ order by 1, 2") }
        qw(application token credential account idempotency);
}

# ---- The command line ------------------------------------------------------------------------

subtest 'the manual page and --help tell the same' => sub {
    my $source = $ENV{USERS_SRCDIR} // abs_path(dirname(__FILE__) . '/../..');
    my $page   = "$source/mod_users/usersctl/usersctl.8";
    my ($status, $manual, $warnings) =
        run(['groff', qw(-man -ww -Tascii -P-c -rLL=1000n), $page], "$dir/groff");
    is $status,   0,  'groff renders the page';
    is $warnings, '', '... without a warning';
    $manual =~ s/.\x08//g;

    ($status, my $help, my $error) = usersctl('--help');
    is $status, 0,  '--help goes well';
    is $error,  '', '... without a complaint';
    my ($commands, $options) = $help =~ /^Commands:\n(.*)^Options:\n(.*)/ms;
    my @commands = $commands =~ /^  (\S.*)$/mg;
    is scalar @commands, 43, 'it has the commands';
    like $manual, qr/^ +\Q$_\E$/m, "the page has '$_'" for @commands;
    my @known  = $manual =~ /^       ([a-z]+(?: [a-z]+)?(?: [A-Z_]+)?(?: [A-Z]+=VALUE\.\.\.)?(?: \[?--.*)?)$/mg;
    my %listed = map { $_ => 1 } @commands;
    is_deeply [grep { /^(?:application|token|credential|user|plan|group|quota|usage|audit|event|purge|database|check)\b/ && !$listed{$_} } @known],
        [], 'and no other';

    my %in_help = map { $_ => 1 } $options =~ /^  (--[a-z-]+(?: [A-Z]+)?)/mg;
    my ($described) = $manual =~ /^OPTIONS\n(.*?)^\S/ms;
    for (sort keys %in_help) {
        like $described, qr/\Q$_\E/, "the page describes $_";
    }
    my %name = map { (split)[0] => 1 } keys %in_help;
    is_deeply [grep { !$name{$_} } $manual =~ /(?<!\S)\[?(--[a-z][a-z-]+)/g], [],
        'and knows no other option';

    like((usersctl('--version'))[1], qr/\Ausersctl \(mod_users\) \d+\.\d+\.\d+\n\z/, '--version');
};

subtest 'a command line that is wrong is 2, and needs no database' => sub {
    local $ENV{PGHOST} = '/nonexistent';
    my @issue = qw(token issue --application test-client --scopes);
    for (
        [qr/no command/],
        [qr/there is no command frobnicate/,        'frobnicate'],
        [qr/there is no command token frobnicate/,  qw(token frobnicate)],
        [qr/there is no command token/,             'token'],
        [qr/there is no option --frobnicate/,       qw(user show 1 --frobnicate)],
        [qr/--limit needs a value/,                 qw(token list --limit)],
        [qr/user show needs a USER/,                qw(user show)],
        [qr/2 is too much/,                         qw(user show 1 2)],
        [qr/--limit is of no use here/,             qw(user show 1 --limit 2)],
        [qr/--user is of no use here/,              qw(token revoke 0123456789 --user 1)],
        [qr/--user is of no use here/,              qw(user show 1 --user 2)],
        [qr/--user is there twice/,                 qw(token revoke --user 1 --user 2)],
        [qr/token issue needs --application/,       qw(token issue --scopes register)],
        [qr/token issue needs --scopes/,            qw(token issue --application test-client)],
        [qr/token revoke of what/,                  qw(token revoke)],
        [qr/SCOPES "" must be words/,               @issue, ''],
        [qr/SCOPES "  " must be words/,             @issue, '  '],
        [qr/SCOPES "a"b" must be words/,            @issue, 'a"b'],
        [qr/SCOPES "a\\b" must be words/,           @issue, 'a\\b'],
        [qr/SCOPES "a\\x09b" must be words|SCOPES "a b" must be words/, @issue, "a\tb"],
        [qr/SCOPES "ä" must be words/,              @issue, 'ä'],
        (map {
            my ($duration, $wanted) = ($_, qr/DURATION "$_" must be a number .* at most 100y/);
            map { [qr/--$_->[-1] $wanted/, @$_[0 .. $#$_ - 1], "--$_->[-1]", $duration] }
                [@issue, qw(a expires)], [qw(application rotate a keep-old)], [qw(purge older-than)];
        } '', qw(0 0d 30 d 30x 1.5d -1d 1dd 101y 36501d 3153600001s 99999999999999999999s)),
        [qr/--keep-old is of no use here/,          qw(application add x --keep-old 24h)],
        [qr/--keep-old needs a value/,              qw(application rotate test-client --keep-old)],
        (map { [qr/ROWS "$_" must be a number from 1 to 1000000/, qw(token list --limit), $_] }
            '', qw(0 -1 1e3 1000001 99999999999999999999)),
        (map { [qr/HANDLE "$_" must be 8 to 64/, qw(token revoke), $_] }
            '', '0123456', '0123456g', '0' x 65),
        [qr/NAME "  " must be/,                     qw(application add), '  '],
        [qr/NAME "a b" must be/,                    qw(application add), "a\nb"],
        [qr/CLIENT_ID "a b" must be/,               qw(application add x --client-id), 'a b'],
        [qr/USERNAME "a:b" must be/,                qw(credential add 1 --username a:b)],
        [qr/password's hash/,                       qw(credential add 1 --username x --hash)],
        [qr/--hash needs/,                          qw(credential add 1 --hash)],
        [qr/must be a client secret/,               qw(application add x --secret)],
        [qr/must be one token/,                     qw(token revoke -)],
        [qr/passfile/, qw(user show 1 --db), 'host=/nonexistent password=hush'],
        [qr/passfile/, qw(user show 1 --db), 'postgresql://me:hush@localhost/users'],
        [qr/passfile/, qw(user show 1 --db), 'postgresql:///users?password=hush'],
    ) {
        my ($message, @arguments) = @$_;
        refuses(2, $message, @arguments);
    }
    for (
        ["$BCRYPT\n$BCRYPT\n", qw(credential add 1 --username x --hash)],
        ['an old password',        qw(credential add 1 --username x --hash)],
        [substr($BCRYPT, 0, -1),   qw(credential add 1 --username x --hash)],
        ['too short',              qw(application rotate test-client --secret)],
        ['a secret with blanks in it', qw(application rotate test-client --secret)],
        ["one\ntwo",               qw(token revoke -)],
    ) {
        my ($input, @arguments) = @$_;
        my ($status, $output, $error) = $usersctl->run_with($input, @arguments);
        is $status, 2, "'$input' is not for @arguments";
        unlike $error, qr/\Q$input\E/, '... and is not repeated';
    }
};

subtest 'what is not there or is refused is 1, and changes nothing' => sub {
    told(qw(application add gone --client-id gone --scopes register));
    told(qw(application remove gone));
    $server->sql(<<~'SQL');
        insert into users.account (id, fname, lname, email, country, currency, locale, suspended_at)
        values (900, 'Sue', 'Spended', 'sue@example.com', 'US', 'USD', 'en', now());
        insert into users.token (digest, application_id, user_id, scopes)
        select decode(rpad('abcdef01' || n, 64, '0'), 'hex'), id, 1, '{profile_read}'
        from users.application, generate_series(1, 2) as n where client_id = 'test-client';
        SQL
    my $before = data();
    my @issue  = qw(token issue --scopes profile_read --application);
    for (
        [qr/no application nobody/,            @issue, 'nobody'],
        [qr/application gone is removed/,      @issue, 'gone'],
        [qr/test-client does not hold the scope profile_read$/, @issue, 'test-client'],
        [qr/no user 99/,                       @issue, qw(test-client --user 99)],
        [qr/user 900 is suspended/,            @issue, qw(test-client --user 900)],
        [qr/no application nobody/,            qw(application rotate nobody)],
        [qr/application gone is removed/,      qw(application rotate gone)],
        [qr/application gone is removed/,      qw(application rotate gone --keep-old 24h)],
        [qr/no application nobody/,            qw(application remove nobody)],
        [qr/already an application/,           qw(application add x --client-id test-client)],
        [qr/must be among the scopes/,         qw(application add x --default-scopes public)],
        [qr/no application nobody/,            qw(token list --application nobody)],
        [qr/no user nobody/,                   qw(token list --user nobody)],
        [qr/there is no such token/,           qw(token revoke 0123456789abcdef)],
        [qr/more than one token begins with/,  qw(token revoke abcdef01)],
        [qr/no application nobody/,            qw(token revoke --application nobody)],
        [qr/no user nobody/,                   qw(token revoke --user nobody)],
        [qr/no user 99999999999999999999/,     qw(user show 99999999999999999999)],
        [qr/no user nobody\@example.com/,      qw(user suspend nobody@example.com)],
        [qr/no user 99/,                       qw(user resume 99)],
        [qr/no user 99/,                       qw(credential add 99)],
        [qr/no user 99/,                       qw(credential list --user 99)],
        [qr/no credential nobody/,             qw(credential revoke nobody)],
    ) {
        my ($message, @arguments) = @$_;
        refuses(1, $message, @arguments);
    }
    my ($status, $output, $error) = $usersctl->run_with("an-unknown-token\n", qw(token revoke -));
    is $status, 1, 'an unknown token on standard input is 1';
    unlike $error, qr/unknown-token/, '... and is not repeated';
    is data(), $before, 'nothing has changed';

    is told(qw(token revoke ABCDEF012))->{outcome}, 'revoked', 'one digit more tells them apart';
    $server->sql(q(delete from users.token where encode(digest, 'hex') like 'abcdef01%'));
};

subtest 'a database that fails is 3' => sub {
    my $silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 1) or die "listen: $@\n";
    my $port   = $silent->sockport;
    refuses(3, qr/No such file/, qw(user show 1 --db), 'host=/nonexistent');
    refuses(3, qr/timeout expired/, qw(user show 1 --db),
        "host=127.0.0.1 port=$port connect_timeout=2");
    refuses(3, qr/database "nowhere" does not exist/, qw(user show 1 --db nowhere));
    refuses(3, qr/"postgres" is not of this version: see usersctl database status/, qw(user show 1 --db postgres));
    my $before = data();
    my ($status, $output, $error) =
        run(['/bin/sh', '-c', '"$0" application add full >/dev/full', $PROGRAM], "$dir/full");
    is $status, 3, 'so is an output that can not be written';
    like $error, qr/\Ausersctl: can't write to standard output: No space left on device\n\z/,
        '... which it says';
    is data(), $before, 'and then nothing has changed: nobody has seen the secret';
};

# Where one is closed the database's socket would take its place.
subtest 'descriptors that are closed' => sub {
    my $sh = sub ($command) { return run(['/bin/sh', '-c', $command, $PROGRAM], "$dir/closed") };
    my $before = data();
    for my $closed ('>&-', '<&- >&-') {
        my ($status, $output, $error) = $sh->(qq("\$0" application add closed $closed));
        is $status, 3, "$closed is an output that can not be written";
        like $error, qr/\Ausersctl: can't write to standard output: Bad file descriptor\n\z/, '... which it says';
    }
    is +($sh->('"$0" application add closed <&- >&- 2>&-'))[0], 3, '... or can not even say';
    is data(), $before, 'and then nothing has changed';
    my ($status, $output, $error) = $sh->('"$0" token revoke - <&-');
    is $status, 2, '<&- is an input that is not there';
    like $error, qr/standard input must be one token/, '... which it says';
    ($status, $output, $error) = $sh->('"$0" user show 1 <&- 2>&-');
    is $status, 0, 'what is neither read nor written need not be open';
    like $output, qr/john\@example\.com/, '... and all else is done';
};

subtest 'the database is the one that is named, else users' => sub {
    is told(qw(user show 1))->{email}, 'john@example.com', 'nothing names one';
    is told(qw(user show 1 --db users))->{id}, 1, 'its name';
    is told(qw(user show 1 --db), "postgresql:///users?host=$ENV{PGHOST}")->{id}, 1, 'a URI';
    local $ENV{PGDATABASE} = 'nowhere';
    refuses(3, qr/"nowhere" does not exist/, qw(user show 1));
    local $ENV{PGSERVICEFILE} = "$dir/service";
    open my $file, '>', $ENV{PGSERVICEFILE} or die "service: $!\n";
    print $file "[panel]\ndbname=users\n";
    close $file;
    is told(qw(user show 1 --db service=panel))->{id}, 1, 'a service';
};

# ---- What it does, over HTTP -----------------------------------------------------------------

# Asking for a token of the application's own.
sub grant ($client_id, $client_secret) {
    return $server->request(
        POST  => '/api/oauth/token',
        basic => [$client_id, $client_secret],
        form  => [grant_type => 'client_credentials'],
    )->{status};
}

subtest 'tokens work at once, and end at once' => sub {
    my $panel = told(qw(application add), 'The panel', '--scopes', 'public register');
    like $panel->{client_secret}, qr/\A[\w-]{43}\z/, 'a client secret of 256 bits';
    is $panel->{scopes}, 'public register', 'the scopes';
    my $id    = $panel->{client_id};
    my @issue = (qw(token issue --application), $id, '--scopes');

    my $own = told(@issue, 'register');
    is $own->{digest}, sha256_hex($own->{token}), 'the digest is of the token';
    is $server->request(
        POST => '/api/users',
        token => $own->{token},
        json  => {
            user => { fname => 'J', lname => 'R', provider_server => 's', provider_username => 'j' }
        },
    )->{status}, 201, "the application's own registers";

    my %token = map { $_ => told(@issue, 'profile_read', '--user', 'JOHN@example.com') } 1 .. 4;
    is $token{1}{user_id}, 1, 'a user can be named by the address';
    is status_of(token => $_->{token}), 200, 'a token is valid' for values %token;

    my $handle = substr $token{1}{digest}, 0, 12;
    is told(qw(token revoke), $handle)->{outcome}, 'revoked', 'one by its digest';
    is status_of(token => $token{1}{token}), 401, '... it is a 401';
    is told(qw(token revoke), $token{1}{digest})->{outcome}, 'already revoked', 'once more';
    is told_with("$token{2}{token}\n", qw(token revoke -))->{digest}, $token{2}{digest}, 'by itself';
    is status_of(token => $token{2}{token}), 401, '... it is a 401';

    my $other = told(qw(token issue --application test-client --user 1 --scopes profile_read));
    is told(qw(token revoke --user 1 --application), $id)->{revoked}, 2, 'those of both';
    is status_of(token => $token{3}{token}), 401, '... are a 401';
    is status_of(token => $other->{token}), 200, '... and no other is';

    my $brief = told(@issue, 'profile_read', qw(--user 1 --expires 1s));
    wait_until(sub { status_of(token => $brief->{token}) == 401 }, 'the token to expire');
    my $long = told(@issue, 'profile_read', qw(--user 1 --expires 30d));
    is $server->sql(<<~"SQL"), '30 days', 'a duration';
        select expires_at - created_at from users.token where digest = '\\x$long->{digest}'
        SQL
    is status_of(token => $long->{token}), 200, 'it is valid until then';
    ok told(@issue, 'public', '--expires', $_)->{expires_at}, "$_ is not too long"
        for qw(100y 36500d 3153600000s);

    is grant($id, $panel->{client_secret}), 200, 'the client secret gets tokens';
    my $rotated = told(qw(application rotate), $id);
    is grant($id, $panel->{client_secret}),   401, '... but not when it has been rotated';
    is grant($id, $rotated->{client_secret}), 200, '... when the new one does';
    is status_of(token => $long->{token}), 200, '... and the tokens are as they were';

    is told(qw(application remove), $id)->{outcome}, 'removed', 'without its application';
    is status_of(token => $long->{token}), 401, '... a token is a 401';
    is grant($id, $rotated->{client_secret}), 401, '... and the application gets no other';
    is told(qw(application remove), $id)->{outcome}, 'already removed', 'once more';
};

# What the list has of an application.
sub listed ($client_id) {
    return (grep { $_->{client_id} eq $client_id } told(qw(application list))->@*)[0];
}

subtest 'an old client secret can stay valid for a while' => sub {
    my $made = told(qw(application add rotated --client-id rotated --scopes), 'public introspect');
    my $rotate = sub (@options) { told(qw(application rotate rotated), @options) };
    my $old    = $made->{client_secret};
    is $made->{old_secret_expires_at}, undef, 'a new one has none';

    my $rotated = $rotate->(qw(--keep-old 24h));
    my $new     = $rotated->{client_secret};
    is grant('rotated', $_), 200, 'both get tokens' for $old, $new;
    is grant('rotated', 'wrong' . $old), 401, '... and nothing else does';
    for my $secret ($old, $new) {
        for my $path (qw(introspect revoke)) {
            is $server->request(
                POST  => "/api/oauth/$path",
                basic => ['rotated', $secret],
                form  => [token => READ_TOKEN . 'x'],
            )->{status}, 200, "... and both may $path";
        }
    }
    is $server->sql(<<~'SQL'), 't', 'it ends a day from now';
        select old_secret_expires_at - now() between interval '23 h 50 min' and interval '24 h'
        from users.application where client_id = 'rotated'
        SQL
    ok my $end = listed('rotated')->{old_secret_expires_at}, 'the list has the end';
    is $rotated->{old_secret_expires_at}, $end, '... as the rotation told';
    like((usersctl(qw(application list)))[1], qr/ old_secret_expires_at *\n(?:.*\n)*.* rotated .*\d+\n/,
        '... as a table too');
    is listed('test-client')->{old_secret_expires_at}, undef, 'others have none';

    $server->sql(<<~'SQL');
        update users.application set old_secret_expires_at = now() where client_id = 'rotated'
        SQL
    is grant('rotated', $old), 401, 'when it has ended it is wrong';
    is grant('rotated', $new), 200, '... and the new one right';
    is listed('rotated')->{old_secret_expires_at}, undef, '... and the list has none';
    is_deeply told('purge'), { tokens => 0, credentials => 0, idempotency_keys => 0, changes => 0, audit => 0, events => 0 }, '... nor has purge to do with it';
    is grant('rotated', $new), 200, '... which changes nothing';

    ($old, $new) = ($new, $rotate->(qw(--keep-old 1y))->{client_secret});
    is grant('rotated', $_), 200, 'after another rotation both get tokens' for $old, $new;
    my ($status, $output, $error) = usersctl(qw(--json application rotate rotated --keep-old 1w));
    is $status, 0, 'it is rotated while the old one is valid';
    like $error, qr/\Ausersctl: warning: the old secret [^\n]* rotated[^\n]* ends now[^\n]*\n\z/,
        '... which warns that this one ends early';
    my $newest = JSON::PP->new->decode($output)->{client_secret};
    is join(' ', map { grant('rotated', $_) } $old, $new, $newest), '401 200 200',
        '... the last two are right';

    ($status, $output, $error) = usersctl(qw(--json application rotate rotated));
    like $error, qr/\Ausersctl: warning: the old secret [^\n]*\n\z/, 'so it does without --keep-old';
    my $last = JSON::PP->new->decode($output);
    is $last->{old_secret_expires_at}, undef, '... none is kept';
    is join(' ', map { grant('rotated', $_) } $new, $newest, $last->{client_secret}), '401 401 200',
        '... and the last one alone is right';

    my $chosen = 'a-secret-of-another-system';
    told_with($chosen, qw(application rotate rotated --secret --keep-old 100y));
    is grant('rotated', $_), 200, 'both of a given secret and the one before get tokens'
        for $chosen, $last->{client_secret};
    told(qw(application remove rotated));
    is grant('rotated', $_), 401, 'without the application neither does'
        for $chosen, $last->{client_secret};
    is listed('rotated')->{old_secret_expires_at}, undef, '... and the list has none';
};

subtest 'usersctl 0.1.0 rotates without an old secret' => sub {
    my $made = told(qw(application add earlier --client-id earlier --scopes public));
    my $kept = told(qw(application rotate earlier --keep-old 24h));
    is $server->sql(<<~'SQL'), 'earlier', 'its call is still there';
        select client_id from (select * from users_admin.rotate_secret('earlier', sha256('the other'))) as answer
        SQL
    is join(' ', map { grant('earlier', $_) } $made->{client_secret}, $kept->{client_secret}, 'the other'),
        '401 401 200', '... and ends both';
};

subtest 'a client secret can stay as it is' => sub {
    my $secret = 'f00dfeedf00dfeedf00dfeedf00dfeed';
    my @add    = (qw(application add), 'Blåbær', qw(--client-id kept --secret --scopes), ' b  a b ',
        '--default-scopes', 'b');
    my ($status, $output, $error) = $usersctl->run_with($secret, '--json', @add);
    my $told = JSON::PP->new->decode($output);
    is $told->{client_secret},  undef,    'it is not told';
    is $told->{name},           'Blåbær', 'a name in UTF-8';
    is $told->{scopes},         'b a',    'each scope once';
    is $told->{default_scopes}, 'b',      'default scopes';
    is grant('kept', $secret), 200, 'it gets tokens';
};

subtest 'a scope that nobody knows is a slip' => sub {
    my @issue = (qw(token issue --application test-client --scopes));
    my @user  = (qw(--user 1));
    for ('public', 'profile_read profile_update', 'register introspect') {
        ok told(@issue, $_, @user)->{token}, "'$_' is known";
    }
    my $before = data();
    for (
        ['profile_reed'],
        ['profile_read profile_reed', @user],
        ['public profile_reed'],
        ['profile_reed profile_raed', @user],
        ['Profile_read', @user],
        ['profile_read,profile_update', @user],
    ) {
        my ($scopes, @options) = @$_;
        my $unknown = join ', ', grep { !/^(?:profile_read|public)\z/ } split / /, $scopes;
        refuses(1, qr/unknown scope \Q$unknown\E: .*profile_read, profile_update/, @issue, $scopes, @options);
    }
    is data(), $before, 'nothing has changed';

    my ($status, $output, $error) =
        usersctl(qw(application add slip --client-id slip --scopes), 'public dns_edit');
    is $status, 0, 'an application may be the first to have a scope';
    like $error, qr/\Ausersctl: warning: unknown scope dns_edit: [^\n]*no application holds it but this one\n\z/,
        '... with a warning';
    ok told(qw(application add second --scopes dns_edit))->{client_id}, 'the second has no warning';
    ok told(@issue, 'dns_edit', @user)->{token}, 'then it is known';
    refuses(1, qr/already an application slip/, qw(application add x --client-id slip --scopes dns_edti));
    $server->sql(q(update users.application set revoked_at = now() where scopes @> '{dns_edit}'));
    refuses(1, qr/unknown scope dns_edit: /, @issue, 'dns_edit', @user);
};

subtest 'credentials' => sub {
    my $made = told(qw(credential add john@example.com));
    like $made->{username}, qr/\A[\w-]{24}\z/, 'a user name of 144 bits';
    like $made->{password}, qr/\A[\w-]{32}\z/, 'a password of 192';
    my @pair = @$made{qw(username password)};
    is status_of(basic => \@pair), 200, 'they work';
    is told(qw(credential revoke --), $pair[0])->{outcome}, 'revoked', 'and are revoked';
    is status_of(basic => \@pair), 401, '... they are a 401';
    is told(qw(credential revoke --), $pair[0])->{outcome}, 'already revoked', 'once more';

    my $named = told(qw(credential add 1 --username jörg));
    utf8::encode(my $name = 'jörg');
    is status_of(basic => [$name, $named->{password}]), 200, 'a name of choice';
    refuses(1, qr/already a credential jörg/, qw(credential add 1 --username jörg));

    my $taken = told_with("$BCRYPT\n", qw(credential add 1 --username john --hash));
    is_deeply $taken, { user_id => 1, username => 'john' }, 'a hash that is taken over';
    is status_of(basic => ['john', 'an old password']), 200, '... lets its password in';
    is status_of(basic => ['john', 'another']), 401, '... and no other';
    for my $kind (qw(2a 2b)) {
        told_with($BCRYPT =~ s/2y/$kind/r, qw(credential add 1 --hash --username), $kind);
        is status_of(basic => [$kind, 'an old password']), 200, "... of the kind \$$kind\$ too";
        $server->sql("delete from users.credential where username = '$kind'");
    }
    is_deeply [map { "$_->{username} $_->{kind}" } told(qw(credential list --user 1))->@*],
        [sort "$pair[0] generated", 'john hash', 'jörg generated'], 'the list has all three';
};

subtest 'a suspended user is a 403, whatever the credential' => sub {
    my %token = (token => READ_TOKEN);
    my %pair  = (basic => ['john', 'an old password']);
    is told(qw(user suspend 1))->{outcome}, 'suspended', 'suspended';
    is status_of(%token), 403, 'the token is a 403';
    is status_of(%pair),  403, 'so are the credentials';
    ok told(qw(user show 1))->{suspended_at}, 'it shows';
    is told(qw(user suspend 1))->{outcome}, 'already suspended', 'once more';
    is told(qw(user resume john@example.com))->{outcome}, 'resumed', 'resumed';
    is status_of(%token), 200, 'the token is valid';
    is status_of(%pair),  200, 'so are the credentials';
    is told(qw(user resume 1))->{outcome}, 'not suspended', 'once more';

    is told(qw(credential revoke john))->{outcome}, 'revoked', 'a hash can be revoked';
    is status_of(%pair), 401, '... it is a 401';
};

# ---- What it tells ---------------------------------------------------------------------------

subtest 'a record is a line a column' => sub {
    my ($status, $output) = usersctl(qw(user show 1));
    like $output, qr/^id                1\nemail             john\@example\.com\n/, 'aligned';
    like $output, qr/^company_name      -$/m, 'null is a dash';
};

subtest 'hostile names do no harm, and wide ones keep the columns' => sub {
    $server->sql(<<~'SQL');
        delete from users.application where client_id <> 'test-client';
        insert into users.application (name, client_id, secret_digest)
        select name, 'hostile-' || place, sha256('secret')
        from unnest(array[E'\u001b[2Jgone\u0007', E'two\nlines', E'\u202Erevo\u200Bked',
          E'\u0085next', '日本語', E'e\u0301té', '-', E'\u009B\u007F2J', E'a\u061Cb\u00ADc\u180Ed\u2800',
          E'tag\U000E0041\u2028']) with ordinality as hostile (name, place);
        SQL
    my ($status, $output, $error) = usersctl(qw(application list));
    is $error, '', 'no complaint';
    my @lines = split /\n/, $output, -1;
    is @lines, 1 + 11 + 1, 'a line a row';
    my $harmful = qr/[^\n\P{Cc}]|[\p{Cf}\p{Zl}\p{Zp}\p{DI}\x{2800}]/;
    unlike $output, $harmful, 'nothing that moves a terminal';
    like $output, qr/\\x1b\[2Jgone\\x07 /,         'but an escape for it';
    like $output, qr/two\\x0alines /,              '... for a line break';
    like $output, qr/\\xe2\\x80\\xaerevo\\xe2\\x80\\x8bked /, '... for what turns the text around';
    like $output, qr/\\xc2\\x85next /,             '... for C1 controls';
    my $width = sub ($text) { $text =~ s/\p{M}//gr =~ s/\p{Ea=W}/xx/gr };
    my %column = map { index($width->($_), /(hostile-\d+|test-client)/ ? $1 : 'client_id') => 1 }
        grep { $_ ne '' } @lines;
    is keys %column, 1, 'the columns are aligned' or diag $output;

    my @names = map { $_->{name} } told(qw(application list))->@*;
    is $names[1], "\e[2Jgone\a", 'JSON has them as they are';
    is_deeply [@names[-3 .. -1]], ["\x{9b}\x{7f}2J", "a\x{61c}b\x{ad}c\x{180e}d\x{2800}", "tag\x{e0041}\x{2028}"],
        '... all of them';
    for my $arguments ([qw(application list)], [qw(application remove hostile-10)], [qw(application rotate hostile-8)]) {
        ($status, $output, $error) = usersctl('--json', @$arguments);
        unlike $output, $harmful, "... as escapes: @$arguments";
    }
    ($status, $output) = usersctl('--json', qw(application remove hostile-10));
    like $output, qr/"tag\\udb40\\udc41\\u2028"/, '... which JSON knows';
    for my $name ("\x{9b}2J", "a\x{85}b", "\x{200b}", "\x{3164} ") {
        ($status, $output, $error) = usersctl(qw(application add), $name);
        is $status, 2, 'a new name has none of these, and is to be seen';
        like $error, qr/NAME ".*" must be 1 to 255 octets on one line, not blank/, '... which is told';
    }

    ($status, $output, $error) = run([$PROGRAM, qw(user show), "\xc3\e[2J\x80"], "$dir/hostile");
    like $error, qr/USER "\\xc3\\x1b\[2J\\x80" must be/, 'a complaint escapes what is not UTF-8 too';
};

subtest 'lists have a limit, and say so' => sub {
    my ($status, $output, $error) = usersctl(qw(application list --limit 11));
    is_deeply [$status, scalar($output =~ tr/\n//), $error], [0, 12, ''], 'just enough';
    ($status, $output, $error) = usersctl(qw(application list --limit 10));
    is_deeply [$status, scalar($output =~ tr/\n//)], [0, 11], 'one less';
    is $error, "usersctl: there are more than these 10: --limit shows more\n", '... it says so';
    ($status, $output, $error) = usersctl(qw(--json application list --limit 10));
    is @{ JSON::PP->new->decode($output) }, 10, 'in JSON too';
    like $error, qr/more than these 10/, '... it says so';
    is_deeply told(qw(token list --application hostile-1)), [], 'an empty list in JSON';
    like((usersctl(qw(token list --application hostile-1)))[1], qr/\Adigest +client_id .*\n\z/,
        'and as a table');
    my ($token) = grep { $_->{digest} eq sha256_hex(READ_TOKEN) } told(qw(token list --user 1))->@*;
    like((usersctl(qw(token list --user 1)))[1], qr/^\Q@{[ substr $token->{digest}, 0, 12 ]}\E  /m,
        'a table has the first 12 digits of a digest, JSON has all');
    unlike((usersctl(qw(application list)))[1], qr/digest|[0-9a-f]{64}/, 'no digest of a secret is shown');
};

subtest 'what the database warns of is told on standard error' => sub {
    $server->sql(<<~'SQL');
        create function public.warn() returns trigger language plpgsql as $$
        begin
          raise warning E'look\x1b out' using hint = 'Go home';
          raise notice 'there is news';
          raise log 'nobody sees this';
          return new;
        end $$;
        create trigger warn before update on users.account
          for each row execute function public.warn();
        SQL
    my $lines = "usersctl: warning: look\\x1b out. Go home\nusersctl: notice: there is news\n";
    for my $options ('', '-c client_min_messages=error') {
        local $ENV{PGOPTIONS} = $options;
        my ($status, $output, $error) = usersctl(qw(--json user suspend 1));
        is_deeply [$status, JSON::PP->new->decode($output)->{outcome}], [0, 'suspended'],
            "it is done, with PGOPTIONS '$options'";
        is $error, $lines, '... and a line each';
        usersctl(qw(user resume 1));
    }
    $server->sql('drop function public.warn() cascade');
};

# ---- Who sees what ---------------------------------------------------------------------------

subtest 'no secret is in the arguments, the environment or the log' => sub {
    $server->sql("alter system set $_")
        for "log_statement = 'all'", 'log_parameter_max_length = -1',
        'log_parameter_max_length_on_error = -1';
    $server->sql('select pg_reload_conf()');
    my $log    = sub { $server->postgres->log };
    my $client = 'a-client-secret-that-is-kept';
    my $token =
        told(qw(token issue --application test-client --user 1 --scopes profile_read))->{token};
    wait_until(sub { $log->() =~ /@{[ sha256_hex($token) ]}/ },
        'the log to have parameters');

    my $lock   = Users::Test::Session->new($server);
    my @tables = 'users.application, users.token, users.credential';
    for (
        ['', qw(application add seen)],
        [$client, qw(application add kept --client-id kept --secret)],
        ['', qw(application rotate test-client)],
        [$client, qw(application rotate test-client --secret)],
        ['', qw(token issue --application test-client --scopes public)],
        [$token, qw(token revoke -)],
        ['', qw(credential add 1)],
        [$BCRYPT, qw(credential add 1 --username taken --hash)],
    ) {
        my ($input, @arguments) = @$_;
        $lock->sql("begin; lock table @tables");
        my $started = $usersctl->start($input, '--json', @arguments);
        $usersctl->wait_for_lock;
        my $seen = join '', map { slurp("/proc/$started->{pid}/$_") } qw(cmdline environ);
        like $seen, qr/\Q$PROGRAM\E.*PGHOST/s, "'@arguments' is seen to run";
        $lock->sql('rollback');
        my ($status, $output) = $usersctl->end($started);
        is $status, 0, '... to its end';
        my $told = JSON::PP->new->decode($output);
        my @secrets = grep { defined && $_ ne '' } $input, @$told{qw(client_secret token password)};
        is @secrets, 1, '... with a secret';
        my $forms = join '|', map { quotemeta } @secrets, map { unpack 'H*', $_ } @secrets;
        unlike $seen,    qr/$forms/, '... that is in no argument, nor in the environment';
        unlike $log->(), qr/$forms/, "... nor in PostgreSQL's log";
    }
    like $log->(), qr/select .* users_admin\.add_credential/,
        'the log has the calls';
    $server->sql('alter system reset all');
    $server->sql('select pg_reload_conf()');
};

subtest 'a signal ends a command that waits, and undoes it' => sub {
    my $lock = Users::Test::Session->new($server);
    $lock->sql('begin; lock table users.application');
    my $started = $usersctl->start('', qw(application add interrupted));
    $usersctl->wait_for_lock;
    kill INT => $started->{pid};
    my ($status, $output, $error) = $usersctl->end($started);
    is_deeply [$status, $output, $error], [3, '', "usersctl: interrupted\n"],
        'it fails, and says so';
    $lock->sql('rollback');
    is $server->sql(q(select count(*) from users.application where name = 'interrupted')), 0,
        '... nor does what it began come to pass later';
};

subtest 'users_admin is nothing for the web server' => sub {
    is $server->sql(q(select has_schema_privilege('mod_users', 'users_admin', 'usage'))), 'f',
        'it may not even look';
    is $server->sql(<<~'SQL'), '', 'no function is open to it, lends rights or has no comment';
        select oid::regprocedure from pg_proc
        where pronamespace = 'users_admin'::regnamespace
          and (prosecdef or has_function_privilege('mod_users', oid, 'execute')
            or obj_description(oid, 'pg_proc') is null
            or not 'search_path=pg_catalog, pg_temp' = any (coalesce(proconfig, '{}')))
        SQL
    cmp_ok $server->sql(
        q(select count(*) from pg_proc where pronamespace = 'users_admin'::regnamespace)), '>', 10,
        'it has functions';
};

done_testing;
