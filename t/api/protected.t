# Is the way to the database protected? configtest and a start warn, once for each connection string,
# where another host could pass for it.

use v5.36;
use Users::Test;

my $server = Users::Test->new;
my $WARNS  = qr/\[users:warn\] .*(?:whoever sits between can pass for|can't be connected to)/;

sub site ($conninfo, $replica = undef) {
    my $lines = qq(UsersDB "$conninfo"\n) . ($replica ? qq(UsersDBReplica "$replica"\n) : '');
    return <<~SITE;
        $lines
        <Location /api/users>
          UsersEndpoint account
        </Location>
        <VirtualHost *:*>
          ServerName first.example
        </VirtualHost>
        <VirtualHost *:*>
          ServerName second.example
          $lines
        </VirtualHost>
        SITE
}

# The warnings of a configtest, which has to succeed.
sub warnings (@conninfos) {
    my ($status, $output) = $server->configtest(site => site(@conninfos));
    is $status, 0, "@conninfos is taken" or diag($output);
    unlike $output, qr/s3cret/, '... and no password told';
    return grep { $_ =~ $WARNS } split /\n/, $output;
}

my $services = $server->dir . '/services';
open my $file, '>', $services or die "$services: $!\n";
print $file <<~'SERVICES';
    [far]
    host=db.example.com
    dbname=users
    [verified]
    host=db.example.com
    dbname=users
    sslmode=verify-full
    SERVICES
close $file;
delete @ENV{ grep { /^PG/ } keys %ENV };
$ENV{PGSERVICEFILE} = $services;

my %EXPOSED = (    # conninfo => the database, sslmode, the host
    'host=db.example.com dbname=users password=s3cret' => ['users@db.example.com', 'prefer', 'db.example.com'],
    'host=192.0.2.1 dbname=users'                      => ['users@192.0.2.1',      'prefer', '192.0.2.1'],
    'host=db.example.com port=6432 dbname=users sslmode=require' => ['users@db.example.com:6432', 'require', 'db.example.com'],
    'host=db.example.com dbname=users sslmode=verify-ca' => ['users@db.example.com', 'verify-ca', 'db.example.com'],
    'host=db.example.com dbname=users sslmode=disable'   => ['users@db.example.com', 'disable',   'db.example.com'],
    'host=localhost hostaddr=192.0.2.1 dbname=users'     => ['users@localhost', 'prefer', '192.0.2.1'],
    'host=/run/postgresql,db2 dbname=users'              => ['users@/run/postgresql,db2', 'prefer', 'db2'],
    'host=127.0.0.1.example.com dbname=users'            => ['users@127.0.0.1.example.com', 'prefer', '127.0.0.1.example.com'],
    'postgresql://u:s3cret@db.example.com/users'         => ['users@db.example.com', 'prefer', 'db.example.com'],
    'service=far'                                        => ['users@db.example.com', 'prefer', 'db.example.com'],
);
my @PROTECTED = (
    'dbname=users',
    'host=/run/postgresql dbname=users',
    'host=@abstract dbname=users',
    'host=localhost dbname=users',
    'host=127.0.0.1 dbname=users',
    'host=::1 dbname=users',
    'host=db.example.com hostaddr=127.0.0.2 dbname=users',
    'host=localhost,127.0.0.1,/tmp dbname=users',
    'host=db.example.com dbname=users sslmode=verify-full',
    'postgresql://db.example.com/users?sslmode=verify-full&sslrootcert=/etc/ssl/ca.pem',
    'host=db.example.com dbname=users gssencmode=require',
    'host=db.example.com dbname=users channel_binding=require',
    'service=verified',
);
my %IMPOSSIBLE = (    # conninfo => what libpq says
    'service=absent'                         => qr/UsersDB of the service absent can't be connected to: .*"absent"/,
    'host=db.example.com dbname=users sslmode=yes' => qr/UsersDB users\@db\.example\.com can't be connected to: .*"yes"/,
    'host=a,b,c port=1,2 dbname=users password=s3cret' => qr/UsersDB users\@a,b,c:1,2 can't be connected to: .*port/,
);

for my $conninfo (sort keys %EXPOSED) {
    my ($database, $sslmode, $host) = $EXPOSED{$conninfo}->@*;
    my @warnings = warnings($conninfo);
    is @warnings, 1, '... with one warning for both virtual hosts';
    like $warnings[0], qr/UsersDB \Q$database\E: with sslmode=$sslmode whoever sits between can pass for \Q$host\E, .*sslmode=verify-full, and sslrootcert=/,
        '... which says which, and what to do';
}
for my $conninfo (@PROTECTED) {
    is warnings($conninfo), 0, '... without a warning';
}

for my $conninfo (sort keys %IMPOSSIBLE) {
    my @warnings = warnings($conninfo);
    is @warnings, 1, '... with one warning for both virtual hosts';
    like $warnings[0], $IMPOSSIBLE{$conninfo}, '... which says why';
}

my @warnings = warnings('host=/tmp dbname=users', 'host=replica.example.com dbname=users');
is @warnings, 1, 'a replica is looked at, too';
like $warnings[0], qr/UsersDBReplica users\@replica\.example\.com: /, '... under its own name';

{
    local $ENV{PGSSLMODE} = 'verify-full';
    is warnings('host=db.example.com dbname=users'), 0, 'PGSSLMODE counts';
    is warnings('host=db.example.com dbname=users sslmode=require'), 1, '... where the connection string does not say another';
}
{
    local $ENV{PGHOST} = 'db.example.com';
    is warnings('dbname=users'), 1, 'so does PGHOST';
}

my ($status, $output) = $server->configtest(site => 'UsersDB "host=db.example.com dbname=users"');
unlike $output, $WARNS, 'nobody connects to what no endpoint uses';

$server->start(site => site('host=192.0.2.1 dbname=users'));
is scalar(grep { $_ =~ $WARNS } $server->error_log), 1, 'a start warns once, too';
$server->expect_log($WARNS);
$server->stop;

done_testing;
