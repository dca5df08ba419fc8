# usersctl usage: what an account has and has accrued, of one or from a file of many. GET shows it; a file
# with a fault stores nothing, and one that was stopped is repeated.

use v5.36;
use utf8;
use JSON::PP qw();
use Users::Test;
use Users::Test::Process qw(run);
use Users::Test::Session;
use Users::Test::Usersctl;

my $MANY = 4500;    # accounts from 1001 on

binmode $_, ':utf8' for map { Test::More->builder->$_ } qw(output failure_output);

my $server   = Users::Test->start;
my $usersctl = Users::Test::Usersctl->new($server);

$server->sql(<<~SQL);
    insert into users.application (name, client_id, secret_digest) values ('other', 'other', sha256('secret'));
    insert into users.account (id, application_id, external_id, fname, lname, email, country, currency, locale)
    select 1000 + n, 1, 'ext,' || n, 'John', 'Doe', 'user-' || n || '\@example.com', 'NL', 'EUR', 'nl'
    from generate_series(1, $MANY) as n;
    insert into users.provider_account (application_id, provider, provider_server, provider_username, user_id)
    select 1, 'cpanel', 'https://server.example:2087', 'user"' || id, id from users.account where id > 1000;
    -- the same external_id and provider's user, of another application
    insert into users.account (id, application_id, external_id, fname, lname, email, country, currency, locale)
    values (900, 2, 'ext,7', 'Jane', 'Roe', 'jane\@example.com', 'NL', 'EUR', 'nl');
    insert into users.provider_account (application_id, provider, provider_server, provider_username, user_id)
    values (2, 'cpanel', 'https://server.example:2087', 'user"1007', 900);
    insert into users.group_quota (group_id, kind, quota, counter) values (1, 'mailboxes', 10, null);
    analyze users.account;
    SQL

sub import_from ($input, @options) { return $usersctl->run_with($input, qw(usage import), @options) }

# Import what must be good. Returns what it tells.
sub imported ($input, @options) {
    return $usersctl->told_with($input, qw(usage import), @options);
}

sub of ($id) {
    return $server->sql("select usage, unprocessed_usage from users.account where id = $id");
}

sub all () {
    return $server->sql('select id, usage, unprocessed_usage, updated_at from users.account order by id');
}

sub reset_usage () {
    $server->sql(q(update users.account set usage = '{}', unprocessed_usage = 0.0));
}

# ---- One account -----------------------------------------------------------------------------

subtest 'usage of an account shows in GET' => sub {
    my $get    = sub { $server->request(GET => '/api/users', token => READ_TOKEN) };
    my $before = $get->();
    my $told   = $usersctl->told(qw(usage set john@example.com projects=3 containers=7 mailboxes=10),
        'unprocessed_usage=12.3456789012345678901234567890');
    is $told->{outcome}, 'changed', 'it is set';
    my $answer = $get->();
    my $user   = $answer->{json}{user};
    is_deeply [$user->{services}->@{qw(projects containers dns_zones)}], [3, 7, 0], 'the counters';
    is_deeply $user->{quota}{mailboxes}, { current => 10, quota => 10, is_over => JSON::PP::true, available => 0 },
        'that of a quota';
    like $answer->{body}, qr/"unprocessed_usage":12\.3456789012345678901234567890\}/, 'every digit';
    is $user->{updated_at}, $before->{json}{user}{updated_at}, 'updated_at is the owner\'s';
    isnt $answer->{headers}{etag}, $before->{headers}{etag}, 'the tag is another';
    is $usersctl->told(qw(usage set 1 projects=3))->{outcome}, 'unchanged', 'once more';
    is of(1), '{"projects": 3, "mailboxes": 10, "containers": 7, "container_images": 1}|12.3456789012345678901234567890', 'what is not named stays';
    is $usersctl->told(qw(usage set 1 unprocessed_usage=12.3450))->{outcome}, 'changed', 'digits count';
    is $usersctl->told(qw(usage set 1 unprocessed_usage=12.345))->{outcome}, 'changed', '... zeros, too';
    is $usersctl->told(qw(usage set 1 projects=9223372036854775807 unprocessed_usage=-0.5))->{outcome}, 'changed',
        'the largest, and what is owed to the account';
    like $get->()->{body}, qr/"projects":9223372036854775807,/, '... as they are';
    is $usersctl->told('usage', 'set', 'external_id=ext,1', 'projects=1')->{id}, 1001, 'another name of an account';
};

subtest 'what is no usage is refused' => sub {
    my $before = all();
    for (
        [2, qr/projects must be a whole number from 0 to/, 'projects=-1'],
        [2, qr/projects must be/,                          'projects=1.5'],
        [2, qr/projects must be/,                          'projects=1e3'],
        [2, qr/projects must be/,                          'projects=9223372036854775808'],
        [2, qr/projects must be/,                          'projects=' . '9' x 400],
        [2, qr/projects must be/,                          'projects=٣'],
        [2, qr/unprocessed_usage must be a decimal number/, 'unprocessed_usage=1e3'],
        [2, qr/unprocessed_usage must be/,                 'unprocessed_usage=NaN'],
        [2, qr/unprocessed_usage must be/,                 'unprocessed_usage=1,5'],
        [2, qr/unprocessed_usage must be/,                 'unprocessed_usage=' . '1' x 39],
        [2, qr/cr is no counter: they are .*container_registries.*mailboxes/, 'cr=1'],
        [2, qr/id is no counter/,                          'id=2'],
        [2, qr/there is no value/,                         'projects='],
        [2, qr/projects must be.*; cr is no counter|cr is no counter.*; projects must be/, 'projects=x', 'cr=1'],
        [2, qr/"projects" must be COUNTER=VALUE/,          'projects'],
        [2, qr/"=1" must be/,                              '=1'],
        [2, qr/projects was given twice/,                  'projects=1', 'projects=2'],
    ) {
        my ($is, $message, @values) = @$_;
        my ($status, $output, $error) = $usersctl->run(qw(usage set 1), @values);
        is "$status $output", "$is ", "@values: $is";
        like $error, qr/\Ausersctl: [^\n]*$message[^\n]*\n\z/, '... in a line';
    }
    is all(), $before, 'nothing has changed';
};

# ---- Many ------------------------------------------------------------------------------------

subtest 'CSV' => sub {
    reset_usage();
    is_deeply imported("\x{FEFF}id,projects,unprocessed_usage\r\n1001,3,1.50\r\n\r\n\"1002\",\"4\",\r\n1003,,\"2\""),
        { lines => 3, stored => 3, changed => 3 }, 'a byte order mark, CRLF, an empty line, quotes, no last line break';
    is_deeply [map { of($_) } 1001 .. 1004], ['{"projects": 3}|1.50', '{"projects": 4}|0.0', '{}|2', '{}|0.0'],
        '... empty values leave what is there';
    is_deeply imported("email,projects\nUSER-4\@example.com,5\n"), { lines => 1, stored => 1, changed => 1 }, 'by address';
    is_deeply imported(qq(provider_server,provider_username,projects\nhttps://server.example:2087,"user""1005",6\n)),
        { lines => 1, stored => 1, changed => 1 }, 'by a provider\'s user, with a mark in it';
    is_deeply imported(qq(external_id,application,id,projects\n"ext,6",,,7\n"ext,7",test-client,,8\n"ext,7",other,,9\n,,1008,10\n)),
        { lines => 4, stored => 4, changed => 4 }, 'each line its own way';
    is_deeply [map { of($_) } 1004 .. 1008, 900], [map { qq({"projects": $_}|0.0) } 5 .. 8, 10, 9], '... all are right';
    is_deeply imported("id,projects\n"), { lines => 0, stored => 0, changed => 0 }, 'columns alone';
    is_deeply imported("\n\nid,projects\n1,1\n", qw(--format csv)), { lines => 1, stored => 1, changed => 1 }, 'empty lines before';
    my ($status, $output) = import_from("id,projects\n1,2\n");
    is $output, "lines             1\nstored            1\nchanged           1\n", 'as lines';
};

subtest 'NDJSON' => sub {
    reset_usage();
    is_deeply imported(<<~'LINES'), { lines => 4, stored => 4, changed => 4 }, 'numbers and texts';
        {"id":1001,"projects":3,"unprocessed_usage":12.3456789012345678901}

        {"email":"user-2@example.com","projects":"4","containers":null}
          { "external_id" : "ext,3" , "projects" : 5 , "mailboxes":1 }
        {"provider":"CPanel","provider_server":"https://server.example:2087","provider_username":"user\"1007","application":"other","projects":6}
        LINES
    is_deeply [map { of($_) } 1001 .. 1003, 900],
        ['{"projects": 3}|12.3456789012345678901', '{"projects": 4}|0.0', '{"projects": 5, "mailboxes": 1}|0.0', '{"projects": 6}|0.0'],
        'every digit, and what is not named stays';
    is_deeply imported("\x{FEFF}{\"id\":1,\"projects\":1}"), { lines => 1, stored => 1, changed => 1 }, 'a byte order mark';
    is_deeply imported('', qw(--format ndjson)), { lines => 0, stored => 0, changed => 0 }, 'nothing';
};

# What is wrong, and each fault that is told: in its order, and no other.
sub refuses ($what, $input, @faults) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $before = all();
    my ($status, $output, $error) = import_from($input);
    is "$status $output", '2 ', "$what: 2";
    my @lines = split /\n/, $error;
    my $last  = pop @lines;
    like $last, qr/\Ausersctl: \d+ of \d+ lines have a fault: nothing is stored\z/, '... it says what came of it';
    is scalar @lines, scalar @faults, '... so many' or diag $error;
    like $lines[$_], qr/\Ausersctl: $faults[$_]/, "... $faults[$_]" for keys @faults;
    is all(), $before, '... nothing is stored';
}

subtest 'a line with a fault stores nothing' => sub {
    my $number = qr/projects must be a whole number/;
    refuses('values', "id,projects,unprocessed_usage\n1,1,1\n1001,-1,\n1002,99999999999999999999,\n1003,x,1e3\n1004,,\n1005,1.5,\n1006,1,NaN\n",
        qr/line 3: $number/, qr/line 4: $number/, qr/line 5: $number.*; unprocessed_usage must be a decimal/,
        qr/line 6: there is no value/, qr/line 7: $number/, qr/line 8: unprocessed_usage must be/);
    refuses('names', qq(id,email,external_id,application,provider_server,provider_username,projects\n99,,,,,,1\n,,,,,,2\n)
            . qq(1,john\@example.com,,,,,3\nx,,,,,,4\n,,"ext,7",,,,5\n,,"ext,7",nobody,,,6\n,,,,https://server.example:2087,,7\n)
            . qq(,,,,https://server.example:2087,"user""1007",8\n99999999999999999999,,,,,,9\n),
        qr/line 2: there is no such user/, qr/line 3: no account is named/, qr/line 4: .*more than one way/, qr/line 5: there is no such user/,
        qr/line 6: 2 accounts have this external_id: name its application, too, such as application=other/,
        qr/line 7: there is no application nobody/, qr/line 8: .*both a provider_server and a provider_username/,
        qr/line 9: 2 accounts have this provider_server and provider_username/, qr/line 10: there is no such user/);
    refuses('an account twice', "id,email,projects\n1,,1\n1001,,1\n,user-1\@example.com,1\n,JOHN\@example.com,1\n",
        qr/line 4: it is about the account 1001, as line 3 is/, qr/line 5: it is about the account 1, as line 2 is/);
    refuses('CSV that is none', qq(id,projects\n1,"2\n),       qr/line 2: it has a quoted value that does not end/);
    refuses('quotes', qq(id,projects\n1,"2"3\n1,2"3\n1,"2\n3"\n1001,1\n), qr/line 2: it has something behind a quoted/,
        qr/line 3: it has a quotation mark/, qr/line 4: projects can't have control characters/);
    refuses('too few and too many', "id,projects\n1\n1,2,3\n", qr/line 2: it has 1 values, where the first line has 2/, qr/line 3: it has 3/);
    refuses('a line that is too long', "id,projects\n1," . '9' x 70_000 . "\n1,\"" . '9' x 70_000 . "\"\nx,1\n",
        qr/line 2: it is too long \(maximum is 65536 bytes\)/, qr/line 3: it is too long/, qr/line 4: there is no such/);
    refuses('a NUL', "id,projects\n1,\0\n", qr/line 2: projects can't have control/);
    refuses('an unknown column', "id,project\n1,1\n2,1\n", qr/line 1: "project" is not a column: they are id .* mailboxes/);
    refuses('a column twice',    "id,id\n1,1\n",          qr/line 1: the column id is there twice/);
    refuses('semicolons',        "id;projects\n1;1\n",    qr/line 1: "id;projects" is not a column/);
    refuses('nothing',           '',                      qr/line 1: "" is not a column/);
    refuses('JSON that is none', qq({"id":1,"projects":1}\n{"id":1\n[]\n{"id":1,"id":1}\n{"id":1,"projects":1e400}\n{"id":1001,"projects":[1]}\n{"id":1,"projects":1,"project":1}\n{}\n"\x01"\n),
        qr/line 2: it is not valid JSON/, qr/line 3: it must be an object/, qr/line 4: it names a member twice/,
        qr/line 5: it holds a number that is out of range/, qr/line 6: $number/, qr/line 7: project is no counter/,
        qr/line 8: no account is named.*; there is no value/, qr/line 9: it is not valid JSON/);
    refuses('an array', "[{\"id\":1,\"projects\":1}]", qr/line 1: it must be an object/);
    refuses('a line that is too long in JSON', qq({"id":1,"projects":1}\n{"id":") . 'x' x 70_000 . qq("}\n), qr/line 2: it is too long/);
    my $scratch = $server->dir . '/octets';
    for (["id,projects\n1,\xff\n", 'line 2'], ["id,\xff\n1,1\n", 'line 1'], ["{\"id\":\"\xff\",\"projects\":1}\n", 'line 1']) {
        my ($octets, $line) = @$_;
        open my $file, '>:raw', "$scratch.in" or die "$scratch: $!\n";
        print $file $octets;
        close $file;
        my ($status, undef, $error) = run(['/bin/sh', '-c', '"$1" usage import <"$0"', "$scratch.in", Users::Test::Usersctl->program], $scratch);
        is $status, 2, 'octets that are not UTF-8';
        like $error, qr/\Ausersctl: $line: it is not valid UTF-8\n/, '... on a line';
    }
    refuses('many faults', "id,projects\n" . join('', map { "$_,x\n" } 1001 .. 1100), map { qr/line $_: $number/ } 2 .. 21);
    my ($status, undef, $error) = import_from("id,projects\n1,1\n", qw(--format tsv));
    is $status, 2, 'another format';
    like $error, qr/--format FORMAT "tsv" must be csv or ndjson/, '... is told';
    ($status, undef, $error) = run(['/bin/sh', '-c', '"$0" usage import <&-', Users::Test::Usersctl->program], $scratch);
    is $status, 3, 'no input that can be read';
    like $error, qr/\Ausersctl: can't read standard input: Bad file descriptor\n\z/, '... is told';
};

# ---- Batches ---------------------------------------------------------------------------------

my $file = "id,projects,unprocessed_usage\n" . join '', map { 1000 + $_ . ",$_,$_.50\n" } reverse 1 .. $MANY;

sub done () {
    return $server->sql(q(select count(*) from users.account where id > 1000 and usage = jsonb_build_object('projects', id - 1000)
        and unprocessed_usage::text = id - 1000 || '.50'));
}

subtest 'many lines, and once more' => sub {
    reset_usage();
    is_deeply imported($file), { lines => $MANY, stored => $MANY, changed => $MANY }, 'all are stored';
    is done(), $MANY, '... and right';
    my $versions = sub { $server->sql('select xmin, xmax, ctid from users.account order by id') };
    my $before = $versions->();
    is_deeply imported($file), { lines => $MANY, stored => $MANY, changed => 0 }, 'once more nothing changes';
    is $versions->(), $before, '... no row is written';
};

# Have the batch wait in which account 3500 is.
my $HOLD = <<~'SQL';
    create function public.hold() returns trigger language plpgsql as $$
    begin
      if new.id = 3500 then perform pg_advisory_xact_lock(1); end if;
      return new;
    end $$;
    create trigger hold before update on users.account for each row execute function public.hold();
    SQL

subtest 'an import that is stopped' => sub {
    for my $signal (qw(TERM INT KILL)) {
        reset_usage();
        $server->sql($HOLD);
        my $lock = Users::Test::Session->new($server);
        $lock->sql('select pg_advisory_lock(1)');
        my $started = $usersctl->start($file, qw(--json usage import));
        $usersctl->wait_for_lock;
        is done(), 2000, 'what came before is committed';
        kill $signal => $started->{pid};
        my ($status, $output, $error) = $usersctl->end($started);
        if ($signal eq 'KILL') {
            is $status, 128 + 9, "$signal ends it";
            $server->sql(q(select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = 'usersctl'));
        } else {
            is $status, 3, "$signal ends it";
            is $error, "usersctl: interrupted\n", '... it says so';
            is_deeply(JSON::PP->new->decode($output), { lines => $MANY, stored => 2000, changed => 2000 }, '... and what was stored');
        }
        $lock->sql('select pg_advisory_unlock(1)');
        is done(), 2000, '... no more is';
        is_deeply imported($file), { lines => $MANY, stored => $MANY, changed => $MANY - 2000 }, 'repeated, it stores the rest';
        is done(), $MANY, '... all of it';
        $server->sql('drop function public.hold() cascade');
    }
};

subtest 'one that is stopped while it reads' => sub {
    reset_usage();
    my $pipe = $server->dir . '/pipe';
    run(['mkfifo', $pipe], $server->dir . '/mkfifo');
    my $pid = Users::Test::Process::spawn(['/bin/sh', '-c', 'exec "$0" usage import <"$1"', Users::Test::Usersctl->program, $pipe],
        "$pipe.out", "$pipe.err");
    open my $file, '>', $pipe or die "$pipe: $!\n";    # which waits for it
    $file->autoflush;
    print $file "id,projects\n1,1\n";
    wait_until(sub { $server->sql(q(select count(*) from pg_stat_activity where application_name = 'usersctl' and query ~ '^copy')) },
        'it to read');
    is Users::Test::Process::end($pid), 3, 'it ends';
    like Users::Test::Process::slurp("$pipe.err"), qr/\Ausersctl: interrupted\n\z/, '... and says so';
    is of(1), '{}|0.0', '... nothing is stored';
};

subtest 'it waits for nobody, and nobody for it' => sub {
    reset_usage();
    my $lock = Users::Test::Session->new($server);
    $lock->sql('begin; select from users.account where id in (1, 1500) for update');
    my $started = $usersctl->start("$file" . "1,7,\n", qw(--json usage import));
    wait_until(sub { done() == $MANY - 1 }, 'all others to be stored');
    is $server->request(PATCH => '/api/users', basic => ['nobody', 'x'], json => {})->{status}, 401, 'the API answers';
    $lock->sql('rollback');
    my ($status, $output) = $usersctl->end($started);
    is $status, 0, 'then it stores those, too';
    is_deeply(JSON::PP->new->decode($output), { lines => $MANY + 1, stored => $MANY + 1, changed => $MANY + 1 }, '... all of them');
    is done(), $MANY, '... rightly';

    reset_usage();
    $lock->sql('begin; select from users.account where id = 1500 for update');
    ($status, $output, my $error) = import_from($file, '--json');
    is $status, 3, 'who does not let go for ten seconds has it end';
    is $error, "usersctl: 1 accounts are locked by somebody else: import the same again later\n", '... it says so';
    is_deeply(JSON::PP->new->decode($output), { lines => $MANY, stored => $MANY - 1, changed => $MANY - 1 }, '... and what was stored');
    $lock->sql('rollback');
    is_deeply imported($file), { lines => $MANY, stored => $MANY, changed => 1 }, 'the same again stores it';
};

subtest 'owners\' changes meanwhile are not lost' => sub {
    reset_usage();
    $server->sql($HOLD =~ s/3500/1/r);
    my $lock = Users::Test::Session->new($server);
    $lock->sql('select pg_advisory_lock(1)');
    my $before  = $server->request(GET => '/api/users', token => READ_TOKEN)->{json}{user};
    my $started = $usersctl->start("id,projects\n1,8\n", qw(usage import));
    $usersctl->wait_for_lock;
    my $client = $server->connect;
    $client->send(Users::Test::Client::compose(PATCH => '/api/users', token => FULL_TOKEN, json => { user => { city => 'Delft' } }));
    wait_until(sub { $server->sql(q(select count(*) from pg_stat_activity where usename = 'mod_users' and wait_event_type = 'Lock')) },
        'the change to wait');
    $lock->sql('select pg_advisory_unlock(1)');
    is $client->answer->{status}, 200, 'the change is made';
    is +($usersctl->end($started))[0], 0, '... and the import';
    my $user = $server->request(GET => '/api/users', token => READ_TOKEN)->{json}{user};
    is "$user->{city} $user->{services}{projects}", 'Delft 8', 'both are there';
    isnt $user->{updated_at}, $before->{updated_at}, '... the owner\'s moved updated_at';
    $server->sql('drop function public.hold() cascade');
};

subtest 'a terminal shows how far it is' => sub {
    my $scratch = $server->dir . '/terminal';
    open my $input, '>', "$scratch.csv" or die "$scratch: $!\n";
    print $input $file;
    close $input;
    my ($status, $output) = run(['script', '-qec', "'@{[Users::Test::Usersctl->program]}' usage import <$scratch.csv", '/dev/null'], $scratch);
    is $status, 0, 'it is imported';
    like $output, qr/\d+ lines read|judging $MANY lines|\d+ of $MANY accounts stored/, 'a line says how far it was';
    like $output, qr/\r\e\[K[^\r\n]*lines             $MANY\r?\n/, '... and is gone when the result comes';
};

# ---- Plans of statements ---------------------------------------------------------------------

subtest 'nothing reads the accounts as a whole' => sub {
    local $ENV{PGOPTIONS} = join ' ', map { "-c $_" } 'session_preload_libraries=auto_explain',
        qw(auto_explain.log_min_duration=0 auto_explain.log_nested_statements=on);
    for my $lines ("id,projects\n1,1\n", "email,projects\njohn\@example.com,2\n", "external_id,projects\n\"ext,1\",3\n",
        "provider_server,provider_username,projects\nhttps://server.example:2087,\"user\"\"1001\",4\n") {
        my $before = length $server->postgres->log;
        is +(import_from($lines))[0], 0, $lines =~ s/\n.*//sr;
        my $plans = substr $server->postgres->log, $before;
        like $plans, qr/Index (?:Only )?Scan|Bitmap Index Scan/, '... has plans';
        unlike $plans, qr/Seq Scan on (?:account|provider_account)\b/, '... by indexes';
    }
};

done_testing;
