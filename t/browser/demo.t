# doc/demo.html in Chromium, beside its backend doc/demo-server.mjs, on another origin than the API: a user
# registers, reads, changes, and meets every refusal, by keyboard and in what a screen reader is told; a page that is
# not listed gets nowhere. USERS_TEST_PICTURES=DIRECTORY keeps pictures of it.

use v5.36;
use Cwd            qw(abs_path);
use File::Basename qw(dirname);
use IO::Socket::INET;
use IPC::Open2 qw(open2);
use Users::Test;
use Users::Test::Process qw(reap slurp spawn);

my $SOURCE = $ENV{USERS_SRCDIR} // abs_path(dirname(__FILE__) . '/../..');
-d "$SOURCE/t/browser/node_modules"
    or die "playwright-core is missing: npm ci --prefix $SOURCE/t/browser\n";
my ($CHROMIUM) = grep { -x } map { "$_/chromium" } split /:/, $ENV{PATH};
$CHROMIUM or die "chromium is missing: install chromium\n";

my $server = Users::Test->new;
my $dir    = $server->dir;

# Free, and not one that a system gives to whoever asks for any: it is bound after httpd has started.
sub free_port () {
    while (1) {
        my $port = 20_000 + int rand 10_000;
        return $port if IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 1);
    }
}

my @ports = map { free_port() } 1, 2;
my ($listed, $unlisted) = map { "http://127.0.0.1:$_" } @ports;
$server->start(vhost => "UsersMaxFailures 1\nUsersCORSOrigin $listed\n" . OAUTH_ENDPOINTS);
my $api = 'http://127.0.0.1:' . $server->port;

for my $port (@ports) {
    local %ENV = (%ENV, USERS_CLIENT_ID => CLIENT_ID, USERS_CLIENT_SECRET => CLIENT_SECRET);
    spawn(['node', "$SOURCE/doc/demo-server.mjs", $api, $port], map { "$dir/page-$port.$_" } qw(stdout stderr));
    wait_until(sub { slurp("$dir/page-$port.stdout") }, "the page's server");
}

sub jane ($column) {
    return $server->sql("select $column from users.account where email = 'jane\@example.com'");
}

sub accounts () {
    return $server->sql('select count(*) from users.account');
}

my $before;
my %deeds = (
    (map { my $city = $_; ("see $city" => sub { is jane('city'), $city, "$city is stored" }) } qw(Utrecht Gouda Leiden)),
    'change it elsewhere' => sub { $server->sql(q(update users.account set phone = '+31 15 1234' where email = 'jane@example.com')) },
    'suspend'             => sub { $server->sql(q(update users.account set suspended_at = now() where email = 'jane@example.com')) },
    'let in again'        => sub { $server->sql(q(update users.account set suspended_at = null where email = 'jane@example.com')) },
    'stop the database'   => sub {
        $server->expect_log(qr/\[users:\w+\] .*can't be reached/);
        $server->allow_log(qr/\[users:\w+\] .*is back after/);
        $server->postgres->stop;
    },
    'start the database' => sub {
        $server->postgres->start;
        wait_until(sub { $server->request(GET => '/api/users', token => READ_TOKEN)->{status} == 200 }, 'the database to be back');
    },
    'count'   => sub { $before = [accounts(), scalar $server->access_log] },
    'compare' => sub {
        my ($count, $lines) = @$before;
        my @new = ($server->access_log)[$lines .. $#{ [$server->access_log] }];
        is accounts(), $count, 'no account was made';
        is jane('city'), 'Leiden', '... and none was changed';
        is_deeply [grep { /"(?:PATCH|POST) \/api\/users / } @new], [], '... as the browser did not even ask for it';
    },
);
$server->expect_trouble('lockout');

my $pid = open2(my $output, my $input, 'node', "$SOURCE/t/browser/demo.mjs", $CHROMIUM, $listed, $unlisted, $api,
    $ENV{USERS_TEST_PICTURES} // ());
while (my $line = <$output>) {
    chomp $line;
    if ($line =~ /^do (.*)/) {
        $deeds{$1}->();
        print $input "done\n";
        $input->flush;
    } else {
        my ($bad, $name) = $line =~ /^(not )?ok (.*)/ or die "the browser says: $line\n";
        ok !$bad, $name;
    }
}
is reap($pid), 0, 'the browser ends';
like join("\n", $server->access_log), qr{"OPTIONS /api/users HTTP/1\.1" 204}, 'it has asked before it called';

done_testing;
