# Sessions that lose what was prepared in them, as by DISCARD ALL, behind the module's back.

use v5.36;
use Users::Test::Fault;

my $server = Users::Test::Fault->new;
$server->start_child(max => 1);

# DISCARD ALL cannot run in a function; this is the part of it that matters.
$server->sql(<<~'SQL');
    create function public.forget() returns trigger language plpgsql as
      $$ begin execute 'deallocate all'; return new; end $$;
    create trigger forget after update on users.account
      for each row execute function public.forget();
    SQL

for my $round (1 .. 3) {
    is $server->request(GET)->{status}, 200, 'a session has prepared statements';
    is $server->request(PATCH)->{status}, 200, '... and loses them';
    is $server->request($_->@*)->{status}, 200, "... $_->[0] succeeds" for [GET], [PATCH], [PATCH];
}
is $server->count_log(qr/\[users:info\].* ended with/), 0, 'nobody has noticed';
is $server->sql('select count(*) from users.account where city = \'Delft\''), 1, 'PATCH has changed it';

# An upgrade may replace a view, so that what was prepared has another result.
is $server->request(GET)->{status}, 200, 'a session has prepared statements';
$server->sql(<<~'SQL');
    begin;
    alter view users_api.account rename to old_account;
    create view users_api.account as
      select user_id, suspended, document::text as document from users_api.old_account;
    grant select on users_api.account to mod_users;
    drop trigger forget on users.account;
    commit;
    SQL
is $server->request(GET)->{status}, 200, '... GET succeeds when a column has another type';
is $server->request(GET)->{status}, 200, '... again';

done_testing;
