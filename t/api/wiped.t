# A password that came by Basic is in the memory of no child any more when its request has been answered.
# (What came in a body stays in what httpd read it into, and so does the base64 of a header field.)

use v5.36;
use MIME::Base64 qw(encode_base64);
use Users::Test;

plan skip_all => 'memcheck has memory of its own' if $ENV{USERS_TEST_VALGRIND};
plan skip_all => 'the sanitizers keep what was freed' if $ENV{USERS_TEST_PRELOAD};

my %canary = (
    right  => 'canary-of-a-right-password',
    hashed => 'canary-of-a-hashed-password',
    wrong  => 'canary-of-a-wrong-password',
    client => 'canary-of-a-client-secret',
    coded  => 'canary-of-a-coded-secret%21',
);
my $server = Users::Test->new;
$server->sql(<<~SQL);
    insert into users.credential (user_id, username, secret_digest, secret_hash) values
      (1, 'john',   sha256('$canary{right}'), null),
      (1, 'hashed', null, '\$2y\$05\$abcdefghijklmnopqrstuuGW0Hyo9Kutwab1irCpEelJozXqOfxUe');
    insert into users.application (name, client_id, secret_digest, scopes)
    values ('panel', 'panel', sha256('$canary{client}'), '{public}');
    SQL
$server->start(vhost => OAUTH_ENDPOINTS);

# What a process can write to, but for what it shares.
sub memory_of ($pid) {
    open my $maps,   '<', "/proc/$pid/maps" or return;
    open my $memory, '<:raw', "/proc/$pid/mem" or return;
    my $all = '';
    while (<$maps>) {
        my ($from, $to) = /^([0-9a-f]+)-([0-9a-f]+) rw.p / or next;
        sysseek $memory, hex $from, 0;
        sysread $memory, (my $piece), hex($to) - hex $from;
        $all .= $piece // '';
    }
    return $all;
}

sub children_have ($text) {
    return scalar grep { index(memory_of($_), $text) >= 0 } $server->children;
}

plan skip_all => 'the memory of httpd may not be read' if grep { !memory_of($_) } $server->children;

my $base64 = encode_base64("john:$canary{right}", '');
is $server->request(GET => '/api/users', basic => ['john', $canary{right}])->{status}, 200, 'a request';
ok children_have(substr $base64, 0, -4), '... whose header field is found';

my %basic = (john => [qw(right wrong)], hashed => [qw(hashed wrong)], nobody => ['wrong']);
for my $name (sort keys %basic) {
    for my $canary ($basic{$name}->@*) {
        my $expected = $canary eq 'wrong' ? 401 : 200;
        is $server->request(GET => '/api/users', basic => [$name, $canary{$canary}])->{status}, $expected,
            "$name, $canary" for 1 .. 2;
        ok wait_until(sub { !children_have($canary{$canary}) }, undef), '... is in no memory';
    }
}
for my $canary (qw(client wrong coded)) {
    $server->request(POST => '/api/oauth/token', basic => ['panel', $canary{$canary}],
        form => [grant_type => 'client_credentials']);
    ok wait_until(sub { !children_have($canary{$canary} =~ s/%21/!/r) }, undef), "nor is the secret of a client, $canary";
}

done_testing;
