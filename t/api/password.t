# Passwords that a program prints (password=exec:): what a program may do wrong, at a start, at a
# reload and at a configtest.

use v5.36;
use Time::HiRes qw(time);
use Users::Test;

use constant PATIENCE => 10;    # seconds that a program has

my $server = Users::Test->new;
my $dir    = $server->dir;
my @get    = (GET => '/api/users', token => READ_TOKEN);

# PostgreSQL asks mod_users for its password.
$server->sql(<<~'SQL');
    alter role mod_users password 'right';
    select format('copy (values (%L), (%L)) to %L', 'local all mod_users scram-sha-256',
      'local all all peer map=users', setting)
    from pg_settings where name = 'hba_file' \gexec
    select pg_reload_conf();
    SQL

# A shell script; $0 is its path. Returns the path.
sub program ($name, $script) {
    my $path = "$dir/$name";
    open my $file, '>', "$path.new" or die "$path: $!\n";
    print $file "#!/bin/sh\n$script\n";
    close $file;
    chmod 0755, "$path.new";
    rename "$path.new", $path;
    return $path;
}

my $SECRET = 'argument-s3cret';

sub conninfo ($program) {
    return $server->conninfo . " password='exec:$program $SECRET'";
}

sub programs_lines () {
    return grep { /password=exec:/ } $server->error_log;
}

my %FAILURES = (    # what a program does, and what the log says of it
    'fails'        => ['echo right; exit 3', qr/ended with the status 3/],
    'dies'         => ['kill -9 $$',         qr/was ended by the signal 9/],
    'is silent'    => ['exit 0',             qr/printed no password/],
    'begins empty' => ['echo; echo right',   qr/printed no password/],
    'is too long'  => ['head -c 8192 /dev/zero | tr "\\0" x', qr/printed a password of more than 8191 octets/],
    'hangs'        => ['exec sleep 1000',    qr/did not end within 10 seconds, and was killed/],
    'prints and hangs' => ['echo right; exec sleep 1000', qr/did not end within 10 seconds, and was killed/],
    'closes and hangs' => ['echo right; exec >&-; exec sleep 1000', qr/did not end within 10 seconds/],
);

subtest 'a start is refused' => sub {
    my %cases = map { $_ => [program($_ =~ s/ /-/gr, $FAILURES{$_}[0]), $FAILURES{$_}[1]] }
        grep { !/ hangs/ } keys %FAILURES;
    $cases{'is absent'} = ["$dir/absent", qr/can't be run: No such file or directory/];
    for my $name (sort keys %cases) {
        my ($program, $says) = $cases{$name}->@*;
        for my $directive ($name eq 'fails' ? qw(UsersDB UsersDBReplica) : 'UsersDB') {
            my $before  = time;
            my $started = eval { $server->start(vhost => "$directive \"" . conninfo($program) . '"'); 1 };
            ok !$started, "a program that $name: httpd does not start";
            $server->stop if $started;
            cmp_ok time - $before, '<', PATIENCE + 5, '... within the time that a program has';
            my @lines = programs_lines();
            is @lines, 1, '... and the log has a line';
            like $lines[0], qr/\[users:emerg\] .* $directive users\@$dir\S*: the program \Q$program\E of /,
                '... which names the directive, the database and the program';
            like $lines[0], $says, '... and what it did';
            unlike $lines[0], qr/$SECRET|right/, '... but neither an argument nor what it printed';
        }
    }
};

subtest 'a program may print more than the password' => sub {
    my $program = program('talks', <<~'SH');
        [ "$(cat | wc -c)" = 0 ] || exit 1
        echo 'the program complains' >&2
        echo right
        head -c 300000 /dev/zero | tr "\0" x
        SH
    $server->start(vhost => 'UsersDB "' . conninfo($program) . '"');
    is $server->request(@get)->{status}, 200, 'its first line is the password';
    my @complaints = grep { /^the program complains$/ } $server->error_log;
    is @complaints, 1, '... and what it says to standard error stands in the error log';
    $server->allow_log(qr/^the program complains$/);
    $server->stop;
};

subtest 'a reload keeps the last password' => sub {
    plan skip_all => 'a single process does not restart' if $server->single_process;
    my $program = program('changes', 'echo right');
    $server->start(vhost => 'UsersDB "' . conninfo($program) . '"');
    $server->allow_log(qr/long lost child came home/);    # httpd's word on the restart
    is $server->request(@get)->{status}, 200, 'it has one';
    for my $name ('fails', 'closes and hangs', 'prints and hangs', 'dies', 'is silent') {
        my ($script, $says) = $FAILURES{$name}->@*;
        program('changes', $script);
        my $before = programs_lines();
        my $began  = time;
        $server->graceful;
        cmp_ok time - $began, '<', PATIENCE + 5, "a program that $name: the reload takes no longer than it may";
        is $server->request(@get)->{status}, 200, '... httpd serves with the last password';
        my @lines = programs_lines();
        is @lines, $before + 1, '... and the log has a line';
        like $lines[-1], qr/\[users:error\] .* UsersDB users\@$dir\S*: the program \Q$program\E of /,
            '... which names the directive, the database and the program';
        like $lines[-1], qr/$says.*: the password of its last run stays in use$/, '... and what it did';
        $server->expect_log(qr/\[users:error\] .*$says/);
    }
    program('changes', 'echo other');
    $server->sql(q(alter role mod_users password 'other'));
    $server->graceful;
    is $server->request(@get)->{status}, 200, 'one that prints another password replaces it';
    $server->sql(q(alter role mod_users password 'right'));

    my $fails = program('fails', 'exit 3');
    $server->graceful(
        conf  => "UsersDB \"" . conninfo($fails) . '"',
        vhost => "UsersDB \"" . $server->conninfo . ' password=right"',
        site  => undef,
    );
    is $server->request(@get)->{status}, 200, 'where there is none from before httpd goes on, too';
    like +(programs_lines())[-1], qr/ended with the status 3: there is none from an earlier run/, '... and says so';
    $server->stop;
};

subtest 'a configtest runs none, but looks for it' => sub {
    my $runs    = "$dir/runs";
    my $program = program('runs-program', "echo >>$runs; echo right");
    my $there   = 'UsersDB "' . conninfo($program) . '"';
    my $absent  = 'UsersDB "' . conninfo("$dir/absent") . '"';
    my ($status, $output) = $server->configtest(vhost => $there);
    is $status, 0, 'it takes one that is there';
    unlike $output, qr/password=exec:/, '... without a word';
    ok !-e $runs, '... and does not run it';
    ($status, $output) = $server->configtest(conf => $absent, vhost => $absent);
    is $status, 0, 'it takes one that is not there';
    my @lines = grep { /password=exec:/ } split /\n/, $output;
    is @lines, 1, '... with a line';
    like $lines[0], qr/\[users:warn\] .*No such file or directory: .*UsersDB users\@$dir\S*: the program \Q$dir\E\/absent of /,
        '... that names the directive, the database and the program';
    unlike $output, qr/$SECRET/, '... without its arguments';
};

done_testing;
