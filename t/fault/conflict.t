# The database undoes a change in favour of another one: it is tried again, three times at most.

use v5.36;
use Users::Test;

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
    $server->start(vhost => 'UsersRequestTimeout 500ms');
    let_fail(4, '40001');
    $server->sql(<<~SQL);
        create function public.dawdle() returns trigger language plpgsql as
          'begin perform pg_sleep(0.3); return new; end';
        create trigger dawdle before update on users.account
          for each row execute function public.dawdle();
        SQL
    is $server->request($request{PATCH}->('slow'))->{status}, 503, 'a slow one is a 503';
    cmp_ok tries(), '<', 4, 'after fewer tries';
    $server->sql('drop function public.fail, public.dawdle cascade');
    is $server->request($request{PATCH}->('next'))->{status}, 200, 'the next one is served';
};

done_testing;
