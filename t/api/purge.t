# usersctl purge deletes what is dead, beside whoever works, and finds what it wants without reading
# a table as a whole.

use v5.36;
use Digest::SHA qw(sha256_hex);
use JSON::PP    qw();
use Users::Test;
use Users::Test::Session;
use Users::Test::Usersctl;

my $server   = Users::Test->new;
my $usersctl = Users::Test::Usersctl->new($server);

# It would change plans, some time or other.
$server->sql('alter system set autovacuum = off');
$server->sql('select pg_reload_conf()');

# 3000 tokens each that live, that expired, that were revoked, and of a removed application; as
# many records of Idempotency-Keys, and credentials that live or were revoked. Of the dead all but 300 of a kind have been so for two days.
sub fill () {
    $server->sql(<<~'SQL');
        delete from users.idempotency;
        delete from users.token where scopes = '{purge}';
        delete from users.application where client_id like 'purge%';
        insert into users.application (name, client_id, secret_digest, revoked_at)
        values ('purge', 'purge', sha256('secret'), null),
          ('purge', 'purge-removed', sha256('secret'), now() - interval '2 days');
        insert into users.token (digest, application_id, scopes, expires_at, revoked_at)
        select sha256((kind || n)::bytea), application.id, '{purge}',
          case kind when 'expired' then died when 'living' then now() + interval '1 day' end,
          case kind when 'revoked' then died end
        from generate_series(1, 3000) as n
        cross join unnest('{living,eternal,expired,revoked,orphan}'::text[]) as kind
        cross join least(now() - case when n > 300 then interval '2 days' else interval '1 hour' end)
          as died
        join users.application
          on client_id = case kind when 'orphan' then 'purge-removed' else 'purge' end;
        insert into users.idempotency (application_id, key, payload_digest, created_at)
        select id, n, sha256('payload'),
          now() - case when n > 300 then interval '25 hours' else interval '23 hours' end
        from generate_series(1, 3000) as n, users.application where client_id = 'purge';
        delete from users.credential where username like 'purge%';
        insert into users.credential (user_id, username, secret_digest, revoked_at)
        select 1, format('purge %s %s', kind, n), sha256('password'),
          case kind when 'revoked' then now() - case when n > 300 then interval '2 days' else interval '1 hour' end end
        from generate_series(1, 3000) as n, unnest('{living,revoked}'::text[]) as kind;
        analyze users.token, users.idempotency, users.credential;
        SQL
}

sub left () {
    return $server->sql(<<~'SQL');
        select (select count(*) from users.token where scopes = '{purge}'),
          (select count(*) from users.idempotency),
          (select count(*) from users.credential where username like 'purge%')
        SQL
}

subtest 'purge deletes what is dead for long enough, and nothing else' => sub {
    fill();
    my $others = $server->sql(q(select * from users.token where scopes <> '{purge}' order by 1));
    is_deeply $usersctl->told('purge'), { tokens => 2 * 2700 + 3000, credentials => 2700, idempotency_keys => 2700, changes => 0, audit => 0, events => 0 },
        'how many went';
    is left(), 2 * 3000 + 2 * 300 . '|300|3300', 'what is left';
    is $server->sql(q(select * from users.token where scopes <> '{purge}' order by 1)), $others,
        'all other tokens are';
    is_deeply $usersctl->told(qw(purge --older-than 5m --batch 1)),
        { tokens => 600, credentials => 300, idempotency_keys => 0, changes => 0, audit => 0, events => 0 }, 'what died an hour ago, in many batches';
    is left(), '6000|300|3000', 'the living are left';
    my ($status, $output) = $usersctl->run('purge');
    is $output, "tokens            0\ncredentials       0\nidempotency_keys  0\nchanges           0\naudit             0\nevents            0\n", 'nothing to do';
};

subtest 'the names of changes go after an hour' => sub {
    $server->sql(<<~'SQL');
        insert into users.change (user_id, nonce, created_at)
        select 1, gen_random_uuid(), now() - i * interval '1 minute' from generate_series(0, 119) as i
        SQL
    is $usersctl->told('purge')->{changes}, 60, 'those that are older';
    is $server->sql('select count(*) from users.change'), 60, '... and no others';
    $server->sql('truncate users.change');
};

subtest 'what 0.1.0 calls is there' => sub {
    fill();
    is $server->sql(q(select purged > 0 from users_admin.purge_tokens(0, 1000000, '1 day'))), 't', 'purge_tokens';
    is $server->sql('select purged from users_admin.purge_idempotency(0, 1000000)'), 2700, 'purge_idempotency';
    is_deeply [$server->postgres->attempt('users', q(select users_admin.purge('account', 0, 100, '1 day')))], ['42501'],
        'nor may the module call what deletes';
    ok !eval { $server->sql(q(select users_admin.purge('account', 0, 100, '1 day'))) }, 'accounts are not purged';
    like $@, qr/nothing to purge in account/, '... it says';
};

subtest 'two at once share the work, and none waits for a row' => sub {
    fill();
    my $session = Users::Test::Session->new($server);
    $session->sql(q(begin; select from users.token where digest = sha256('expired1000') for update));
    my $sum = 0;
    for (map { $usersctl->start('', qw(--json purge --batch 200)) } 1, 2) {
        my ($status, $output) = $usersctl->end($_);
        is $status, 0, 'it ends well';
        $sum += JSON::PP->new->decode($output)->{tokens};
    }
    is $sum, 2 * 2700 + 3000 - 1, 'each dead token went once, but the one that is locked';
    $session->sql('rollback');
    is $usersctl->told('purge')->{tokens}, 1, 'which the next takes';
};

subtest 'a signal ends it, and what it has deleted stays so' => sub {
    fill();
    my $lock = Users::Test::Session->new($server);
    $lock->sql('begin; lock table users.idempotency');
    my $started = $usersctl->start('', qw(--json purge));
    $usersctl->wait_for_lock;
    kill TERM => $started->{pid};
    my ($status, $output, $error) = $usersctl->end($started);
    is $status, 0, 'it ends well';
    is $error, "usersctl: interrupted\n", 'and says so';
    is_deeply(JSON::PP->new->decode($output), { tokens => 8400, credentials => 0, idempotency_keys => 0, changes => 0, audit => 0, events => 0 },
        'and how many went');
    $lock->sql('rollback');
    is left(), '6600|3000|6000', 'those are gone';
};

subtest 'nothing reads a large table as a whole' => sub {
    fill();
    local $ENV{PGOPTIONS} = join ' ', map { "-c $_" } 'session_preload_libraries=auto_explain',
        qw(auto_explain.log_min_duration=0 auto_explain.log_nested_statements=on);
    my $key  = qr/Index (?:Only )?Scan using token_pkey on token\b/;
    my $walk = qr/Tid Range Scan on/;
    for (
        [$key,  qw(token revoke), substr sha256_hex('living1'), 0, 12],
        [$key,  qw(token list --limit 3)],
        [qr/Scan (?:using|on) token_user_id\b/, qw(token list --user 1)],
        [qr/$walk token.*$walk credential.*$walk idempotency.*$walk change.*$walk audit.*$walk event/s, 'purge'],
    ) {
        my ($plan, @arguments) = @$_;
        my $before = length $server->postgres->log;
        is(($usersctl->run(@arguments))[0], 0, "@arguments goes well");
        my $plans = substr $server->postgres->log, $before;
        like $plans, $plan, '... it reads what it needs';
        unlike $plans, qr/Seq Scan on (?:token|credential|idempotency|change|audit|event)\b/, '... and no more';
    }
};

done_testing;
