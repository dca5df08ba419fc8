# The database undoes a change in favour of another one: it is tried again, three times at most.

use v5.36;
use Users::Test;
use Users::Test::Session;

my $server = Users::Test->new;
$server->start;

my %code = (serialization_failure => '40001', deadlock_detected => '40P01');
my %request = (
    PATCH => sub ($mark) {
        (PATCH => '/api/users', token => FULL_TOKEN, json => { user => { city => $mark } });
    },
    POST => sub ($mark) {
        my %user = (
            fname             => 'Jane',
            lname             => 'Roe',
            city              => $mark,
            external_id       => $mark,
            provider_server   => 'server.example',
            provider_username => 'jane'
        );
        (POST => '/api/users', token => REGISTER_TOKEN, json => { user => \%user });
    },
);

# A sequence is not undone with the change that draws from it: the first so many changes fail.
sub let_fail ($times, $code) {
    $server->sql(<<~SQL);
        drop function if exists public.fail cascade;
        drop sequence if exists public.tries;
        create sequence public.tries;
        create function public.fail() returns trigger language plpgsql security definer as \$\$
          begin
            if nextval('public.tries') <= $times then
              raise exception 'no' using errcode = '$code';
            end if;
            return null;
          end
        \$\$;
        create trigger fail after insert or update on users.account
          for each row execute function public.fail();
        SQL
}

sub tries () {
    return $server->sql('select last_value from public.tries');
}

for my $name (sort keys %code) {
    for my $method (sort keys %request) {
        subtest "$method: $name" => sub {
            let_fail(3, $code{$name});
            my $answer = $server->request($request{$method}->("three-$name"));
            like $answer->{status}, qr/^20[01]$/, 'three failures are not noticed';
            is tries(), 4, 'the fourth try succeeds';
            is $answer->{json}{user}{id},
                $server->sql("select max(id) from users.account where city = 'three-$name'"),
                'it is told of';

            let_fail(4, $code{$name});
            $answer = $server->request($request{$method}->("four-$name"));
            is $answer->{status}, 503, 'four are a 503';
            like $answer->{headers}{'retry-after'}, qr/^[1-9]\d*$/, 'with Retry-After';
            unlike $answer->{body}, qr/outcome/, 'whose outcome is known';
            is tries(), 4, 'there is no fifth try';
            is $server->sql("select count(*) from users.account where city = 'four-$name'"), 0,
                'nothing is stored';
        };
    }
}

subtest 'they end with the time of the request' => sub {
    $server->stop;
    $server->start(vhost => 'UsersRequestTimeout 1s');
    $server->allow_trouble('late');    # it ends within a try, or between two
    let_fail(4, '40001');
    $server->sql(<<~SQL);
        create function public.dawdle() returns trigger language plpgsql as
          'begin perform pg_sleep(0.6); return new; end';
        create trigger dawdle before update on users.account
          for each row execute function public.dawdle();
        SQL
    is $server->request($request{PATCH}->('slow'))->{status}, 503, 'a slow one is a 503';
    cmp_ok tries(), '<', 4, 'after fewer tries';
    $server->sql('drop function public.fail, public.dawdle cascade');
    is $server->request($request{PATCH}->('next'))->{status}, 200, 'the next one is served';
};

# ---- Real ones -------------------------------------------------------------------------------

my $PATIENT = "UsersDBTimeout 30s\nUsersRequestTimeout 60s";

# Each try of a change of user 1 is counted, and has to pass a gate first.
$server->sql(<<~'SQL');
    create table public.gate ();
    create function public.pass() returns trigger language plpgsql security definer as
      $$ begin
        perform nextval('public.tries');
        perform from public.gate;
        return new;
      end $$;
    create trigger pass before update on users.account
      for each row when (new.id = 1) execute function public.pass();
    insert into users.account (id, fname, lname, email, country, currency, locale)
      values (1000, 'Jane', 'Roe', 'jane@roe.example', 'US', 'USD', 'en');
    SQL

sub start_patiently ($options = '') {
    $server->stop;
    $server->sql('drop sequence if exists public.tries; create sequence public.tries');
    $server->start(vhost => qq(UsersDB "@{[$server->conninfo]} $options"\n$PATIENT));
}

# Send a PATCH. Returns the connection that its answer comes from.
sub begin (%user) {
    my $connection = $server->connect;
    $connection->send(Users::Test::Client::compose(PATCH => '/api/users', token => FULL_TOKEN,
        json => { user => \%user }, headers => [Connection => 'close']));
    return $connection;
}

sub wait_for_locks ($count) {
    wait_until(
        sub { $count == $server->sql("select count(*) from pg_stat_activity where wait_event_type = 'Lock'") },
        "$count sessions to wait for a lock"
    );
}

sub changes () {
    return $server->sql('select count(*) from users.change where user_id = 1');
}

sub count_log ($pattern) {
    return scalar(() = $server->postgres->log =~ /$pattern/g);
}

# PostgreSQL ends the transaction that looks first, which is the module's: it waits for the address
# that a session is giving to another account, while that waits for the account of its change.
subtest 'a deadlock' => sub {
    $server->sql(q(alter role mod_users set deadlock_timeout = '100ms'));
    start_patiently();
    my ($before, $changes)  = (count_log(qr/deadlock detected/), changes());
    my ($gate,   $opponent) = map { Users::Test::Session->new($server) } 1, 2;
    $gate->sql('begin; lock table public.gate in access exclusive mode');
    $opponent->sql(q(set deadlock_timeout = '1h'));
    $opponent->sql(q(begin; update users.account set email = 'new@roe.example' where id = 1000));
    my $patch = begin(email => 'new@roe.example', city => 'Deadlock');
    wait_for_locks(1);
    $opponent->send('select from users.account where id = 1 for update');
    wait_for_locks(2);
    $gate->sql('commit');
    $opponent->rows;
    is count_log(qr/deadlock detected/) - $before, 1, 'the database ends it';
    $opponent->sql('rollback');
    my $answer = $patch->answer;
    is $answer->{status}, 200, 'the client does not notice';
    is $answer->{json}{user}{email}, 'new@roe.example', 'its change is made';
    is tries(), 2, '... by the second try';
    is changes(), $changes + 1, '... once';
    $server->sql('alter role mod_users reset deadlock_timeout');
};

# An administrator may ask for more than the module needs.
subtest 'a serialization failure' => sub {
    start_patiently(q(options='-c default_transaction_isolation=serializable'));
    my ($before, $changes) = (count_log(qr/could not serialize access/), changes());
    my $opponent = Users::Test::Session->new($server);
    $opponent->sql(q(begin; update users.account set state = 'Zeeland' where id = 1));
    my $patch = begin(city => 'Middelburg');
    wait_for_locks(1);
    $opponent->sql('commit');
    my $answer = $patch->answer;
    is count_log(qr/could not serialize access/) - $before, 1, 'the database undoes a change';
    is $answer->{status}, 200, '... which the client does not notice';
    is_deeply [$answer->{json}{user}->@{qw(city state)}], ['Middelburg', 'Zeeland'], 'it is made upon the other one';
    is tries(), 2, '... once';    # the other one was the first
    is changes(), $changes + 1, '... and no more';
};

done_testing;
