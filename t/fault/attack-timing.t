# The time of an answer tells nothing of a name: whatever its secret is kept as, and where there is no
# such name, a wrong one costs the same work, which the log counts. What nobody guesses costs none.

use v5.36;
use Users::Test;

my $server = Users::Test->new(databases => ['second']);
my %hash   = (weak => '$2y$04$abcdefghijklmnopqrstuu', strong => '$2y$08$abcdefghijklmnopqrstuu', other => '$6$salt');
$_ = crypt 'right', $_ for values %hash;
$hash{weak} =~ /^\$2y.{50}/ or plan skip_all => 'crypt knows no bcrypt here';
my ($KNOWN, $UNKNOWN) = ('generated-name-of-john-0', 'generated-name-of-nobody');    # as we make them
$server->sql(<<~SQL, $_) for qw(users second);
    insert into users.credential (user_id, username, secret_digest, secret_hash) values
      (1, 'john',   sha256('right'), null),
      (1, '$KNOWN', sha256('right'), null)
    SQL
$server->sql("insert into users.credential (user_id, username, secret_hash) values (1, '$_', '$hash{$_}')")
    for keys %hash;

sub try ($name, $secret) {
    return $server->request(GET => '/api/users', basic => [$name, $secret])->{status};
}

# The status of an attempt, and what it has cost, in bcrypts of the lowest cost.
sub cost_of ($attempt) {
    my $costs = sub { map { /has cost as much as (\d+) bcrypts/ ? $1 : () } $server->error_log };
    my @before = $costs->();
    my $status = $attempt->();
    my @after = $costs->();
    return join ' ', $status, @after[@before .. $#after];
}

sub costs_of ($secret, @names) {
    return [map { my $name = $_; cost_of(sub { try($name, $secret) }) } @names];
}

sub start ($conf, $database = 'users') {
    $server->stop if $server->pid;
    $server->start(conf => $conf,
        vhost => sprintf qq{UsersMaxFailures 3\nUsersDB "%s"\n%s}, $server->conninfo($database), OAUTH_ENDPOINTS);
    $server->allow_trouble('lockout');
}

my @COULD_BE = (qw(weak strong other john nobody), 'nobody else');

subtest 'a wrong secret of a name that could be hashed' => sub {
    start('');
    is cost_of(sub { try(strong => 'wrong') }), '401 16', 'costs what its hash does';
    is_deeply costs_of(wrong => @COULD_BE), [('401 16') x @COULD_BE], '... and so all others do, from then on';
    $server->graceful;
    is_deeply costs_of(wrong => 'nobody', 'weak'), ['401 16', '401 16'], '... and after a reload';
    is_deeply costs_of(right => qw(weak strong other john)), [(200) x 4], 'a right one costs no more than its own';
};

subtest 'what is locked out' => sub {
    try($_ => 'wrong') for map { ($_) x 3 } @COULD_BE;
    is_deeply costs_of(wrong => @COULD_BE), [(429) x @COULD_BE], 'costs no hash';
};

subtest 'what is generated' => sub {
    is_deeply costs_of(wrong => $KNOWN, $UNKNOWN), [401, 401], 'costs no hash';
    for my $id (CLIENT_ID, 'unknown') {
        is cost_of(sub {
            $server->request(POST => '/api/oauth/token',
                form => [client_id => $id, client_secret => 'wrong', grant_type => 'client_credentials'])->{status};
        }), 401, "... nor does the application $id";
    }
};

subtest 'UsersHashCost' => sub {
    start('UsersHashCost 6');
    is_deeply costs_of(wrong => qw(weak john nobody)), [('401 4') x 3], 'says what it costs';
    is_deeply costs_of(wrong => qw(strong nobody)), ['401 16', '401 4'], '... but for who costs more';
};

subtest 'where no password is hashed' => sub {
    start('', 'second');
    is_deeply costs_of(wrong => qw(john nobody), $KNOWN, $UNKNOWN), [(401) x 4], 'nothing costs a hash';
};

done_testing;
