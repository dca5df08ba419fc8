# db/ without httpd: a small program (db_test.c) uses a real PostgreSQL through its one header.

use v5.36;
use IPC::Open2 qw(open2);
use JSON::PP   qw(decode_json);
use Test::More;
use Users::Test;
use Users::Test::Process qw(wait_until);

my $PROGRAM = $ENV{USERS_DB_TEST} // './t/unit/db_test';

my $users = Users::Test->new;
my $pid   = open2(my $answers, my $questions, $PROGRAM, $users->conninfo);
my @log;

# Ask; returns the outcome, the microseconds left, and what follows them.
sub ask ($question) {
    @log = ();
    print $questions "$question\n";
    while (my $line = <$answers>) {
        chomp $line;
        return split / /, $line, 4 unless $line =~ s/^log //;
        push @log, $line;
    }
    die "the program has ended\n";
}

my ($outcome, $left, $user, $document) = ask('token ' . FULL_TOKEN);
is "$outcome $user", 'done 1', 'a token is looked up';
is decode_json($document)->{user}{id}, 1, '... with its account';
ok $left > 0 && $left < 5_000_000, '... and the time that it took is counted';
ok((grep { /^10 .*the tokens of/ } @log), '... and told to who traces it') or diag "@log";

($outcome, $left, $user, $document) = ask('token nobody');
is "$outcome $user $document", 'done 0 -', 'one that there is not is not found';

($outcome, $left, my $kind, $document) = ask('update 1 {"city":"Turku"}');
is "$outcome $kind", 'done 0', 'an account is changed';
is decode_json($document)->{user}{city}, 'Turku', '... and comes back';
is $users->sql('select city from users.account where id = 1'), 'Turku', '... as it is stored';

($outcome, $left, $kind) = ask('update 1 {"country":"ZZ"}');
is "$outcome $kind", 'done 2', 'what the database refuses is an outcome too';

$users->postgres->stop('immediate');
($outcome) = ask('token ' . FULL_TOKEN);
is $outcome, 'unavailable', 'an outage is one outcome for look-ups';
ok((grep { /^3 .*can't be reached/ } @log), '... and a line for the log') or diag "@log";
($outcome) = ask('update 1 {"city":"Oulu"}');
is $outcome, 'unavailable', '... and for changes';

$users->postgres->start;
wait_until(sub { (ask('token ' . FULL_TOKEN))[0] eq 'done' }, 'the database to be back');
($outcome) = ask('update 1 {"city":"Oulu"}');
is $outcome, 'done', 'after it all goes on';

close $questions;
waitpid $pid, 0;
is $?, 0, 'the program ends well';

my $libraries = `ldd \Q$PROGRAM\E`;
unlike $libraries, qr/httpd/, 'nothing of httpd is in it';

done_testing;
