# An administrator's own contract that errs: a 500 and a line that names the function, never a crash.

use v5.36;
use Users::Test;

my $server = Users::Test->start(vhost => OAUTH_ENDPOINTS);

my %person = (fname => 'Jane', lname => 'Roe', provider_server => 's.example', provider_username => 'jane');

sub patch () {
    return $server->request(PATCH => '/api/users', token => FULL_TOKEN, json => { user => { city => 'Delft' } });
}

sub post () {
    return $server->request(POST => '/api/users', token => REGISTER_TOKEN, json => { user => \%person });
}

# The contract's function answers this row; its signature stays.
sub replace ($function, @columns) {
    my $columns = join ', ', @columns;
    $server->sql(<<~SQL);
        do \$do\$ declare f regprocedure := (select oid from pg_proc
          where pronamespace = 'users_api'::regnamespace and proname = '$function' order by pronargs desc limit 1);
        begin
          execute regexp_replace(pg_get_functiondef(f), '\\mAS \\\$function\\\$.*\$',
            'as \$body\$ begin return query select $columns; end \$body\$');
        end \$do\$
        SQL
}

# UsersAudit and UsersEvents are off, so a contract needs nothing for them.
$server->sql(<<~'SQL');
    do $$ declare f regprocedure; begin
      for f in select oid from pg_proc where pronamespace = 'users_api'::regnamespace and proargnames && '{p_note,p_notes}' loop
        execute format('drop function %s', f);
      end loop;
    end $$
    SQL

my @children = sort $server->children;

sub test_broken ($function, $ask, @cases) {
    for my $case (@cases) {
        my ($what, $wrong, @row) = @$case;
        replace($function, map { s/'/''/gr } @row);
        my $answer = $ask->();
        is $answer->{status}, 500, "$function: $what";
        is ref $answer->{json}{errors}, 'ARRAY', '... in JSON';
        my $line = qr/\Qusers_api.$function breaks the contract: $wrong\E/;
        ok $server->wait_for_log($line), '... with a line in the log';
        $server->expect_log($line);
    }
}

my $list = 'its faults are not a list of {field, text}';
my @faulty = map { my ($what, $faults) = @$_; [$what, $list, "'invalid'", "'$faults'::jsonb"] } (
    ['a fault without a field',        '[{"text":"is bad"}]'],
    ['one without a text',             '[{"field":"fname"}]'],
    ['a field that is null',           '[{"field":null,"text":"is bad"}]'],
    ['a field that is a number',       '[{"field":1,"text":"is bad"}]'],
    ['a text that is a number',        '[{"field":"fname","text":1}]'],
    ['a text that is a list',          '[{"field":"fname","text":["is bad"]}]'],
    ['a second fault that is none',    '[{"field":"fname","text":"is bad"},"fname"]'],
    ['faults that are an object',      '{"field":"fname","text":"is bad"}'],
    ['faults that are a text',         '"fname is bad"'],
);
my @refusing = map { my ($what, $faults) = @$_; [$what, 'it refuses without a fault', "'invalid'", "$faults\::jsonb"] }
    ['no faults at all', 'null'], ['an empty list of faults', "'[]'"];

# Whatever update_accounts returns: what it has made is made, and the rest is update_account's.
subtest 'update_accounts' => sub {
    $server->sql(<<~'SQL');
        alter function users_api.update_accounts rename to former;
        grant execute on function users_api.former to mod_users
        SQL
    my $call = '(p_user_ids, p_fields, p_requests, p_if_match, p_nonces, p_tokens, p_credentials, p_clients)';
    for my $case (
        ['nothing, and makes nothing', 'select 1::bigint, null::json where false'],
        ['nothing', "select number, document from users_api.former$call where false"],
        ['rows without a document', "select number, null::json from users_api.former$call"],
        ['rows without a number', "select null::bigint, document from users_api.former$call"],
        ['numbers that nobody has', "select number + n, document from users_api.former$call, (values (-2), (1), (1000)) as v (n)"],
        ['a number twice', "select number, document from users_api.former$call, (values (1), (2)) as v (n)"],
    ) {
        my ($what, $query) = @$case;
        $server->sql(<<~SQL);
            create or replace function users_api.update_accounts(
              p_user_ids bigint[], p_fields jsonb[], p_requests jsonb[], p_if_match text[], p_nonces uuid[],
              p_tokens bytea[], p_credentials text[], p_clients text[])
            returns table (number bigint, document json) language plpgsql security definer
            as \$\$ #variable_conflict use_column
            begin
              if p_nonces[1] is null then -- update_account stores by it
                return query select number, document from users_api.former$call;
              else
                return query $query;
              end if;
            end \$\$;
            delete from users.change;
            update users.account set city = 'Gouda' where id = 1
            SQL
        my $answer = patch();
        is_deeply [$answer->{status}, $answer->{json}{user}{city}], [200, 'Delft'], "it returns $what: the change is made";
        is $server->sql('select count(*) from users.change'), 1, '... once';
    }
    $server->sql('drop function users_api.update_accounts, users_api.former, users_api.register_accounts');
};

# A contract may do without them: each change is then update_account's.
subtest 'update_account' => sub {
    test_broken('update_account', \&patch,
        (map { [@$_, 'null::json'] } @faulty, @refusing),
        ['an unknown outcome',      "its outcome is 'done'",      "'done'",      'null::jsonb', 'null::json'],
        ['one of a registration',   "its outcome is 'duplicate'", "'duplicate'", 'null::jsonb', 'null::json'],
        ['no outcome',              "its outcome is ''",          'null::text',  'null::jsonb', 'null::json'],
        ['no document', 'its document is missing, or not an object with members', "'updated'", 'null::jsonb', 'null::json'],
    );
    replace('update_account', "''invalid''", qq(''[{"field":"fname","text":"is bad"}]''::jsonb), 'null::json');
    is_deeply patch()->{json}, { errors => ['fname is bad'] }, 'what keeps the contract is told';
    replace('update_account', "''invalid''", "''[1e1000]''::jsonb", 'null::json');
    is patch()->{status}, 500, 'faults with a number that nobody can read';
    $server->expect_log(qr/cannot read the faults of users_api\.update_account/);
};

subtest 'register_account' => sub {
    test_broken('register_account', \&post,
        (map { [@$_, 'null::json', 'null::jsonb'] } @faulty, @refusing),
        ['an unknown outcome',      "its outcome is 'registered'", "'registered'", 'null::jsonb', 'null::json', 'null::jsonb'],
        ['one of a change',         "its outcome is 'updated'",    "'updated'",    'null::jsonb', 'null::json', 'null::jsonb'],
        map { ['an account that is no object: ' . $_, 'its document is missing, or not an object with members', "'created'",
            'null::jsonb', "$_\::json", 'null::jsonb'] } 'null', "'{}'", "'[1,2]'", "'\"a\"'",
    );
};

# SQLSTATEs of values are the server's fault where the request is JSON in UTF-8.
subtest 'a value that is wrong in the database' => sub {
    replace('register_account', "''created''", 'null::jsonb', q(''''::json), 'null::jsonb');
    is post()->{status}, 500, 'a document that is no JSON';
    $server->expect_log(qr/register_account: 22P02/);
    for my $state (qw(22003 22P02 22P05 22021)) {
        $server->sql(<<~SQL);
            create or replace function users.err() returns trigger language plpgsql as
              \$\$ begin raise exception using errcode = '$state', message = 'a value is wrong'; end \$\$;
            create or replace trigger err before insert on users.token for each row execute function users.err()
            SQL
        is $server->request(POST => '/api/oauth/token', basic => [CLIENT_ID, CLIENT_SECRET],
            form => [grant_type => 'client_credentials'])->{status}, 500, "a trigger that fails with $state";
        $server->expect_log(qr/issue_token: $state/);
    }
};

subtest 'an application without scopes' => sub {
    $server->sql(<<~'SQL');
        create or replace view users_api.application as
        select id as application_id, client_id, secret_digest, null::text[] as scopes, null::text[] as default_scopes,
          null::bytea as old_secret_digest from users.application
        SQL
    my $answer = $server->request(POST => '/api/oauth/token', basic => [CLIENT_ID, CLIENT_SECRET],
        form => [grant_type => 'client_credentials']);
    is $answer->{status}, 400, 'gets no token';
    is $answer->{json}{error}, 'invalid_scope', '... for want of a scope';
};

my %alive = map { $_ => 1 } $server->children; # httpd may have started more
is_deeply [grep { !$alive{$_} } @children], [], 'no child has ended';

done_testing;
