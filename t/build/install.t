# What make install puts where, and that what the documents say about it is true: the line that
# they have for cron runs in cron's environment, which is hardly one.

use v5.36;
use Cwd            qw(abs_path);
use File::Basename qw(dirname);
use Users::Test;
use Users::Test::Process qw(run slurp);

my $SOURCE = $ENV{USERS_SRCDIR}   // abs_path(dirname(__FILE__) . '/../..');
my $BUILD  = $ENV{USERS_BUILDDIR} // $SOURCE;

my $server = Users::Test->new;
my $dir    = $server->dir;
my $root   = "$dir/root";

# As by ./configure without options.
sub make_install () {
    local %ENV = %ENV;
    delete @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL)};    # those of the make that runs this test
    my ($status, undef, $error) = run(
        ['/bin/sh', '-c', 'umask 022; exec make -C "$0" install prefix=/usr/local DESTDIR="$1"', $BUILD, $root],
        "$dir/make"
    );
    is $status, 0, 'make install goes well' or diag $error;
}

subtest 'where things are' => sub {
    mkdir $_ for $root, "$root/usr", "$root/usr/local", "$root/usr/local/sbin";
    symlink '/bin/false', "$root/usr/local/sbin/usersctl" or die "symlink: $!\n";
    make_install();
    ok -x "$root/usr/local/bin/usersctl", 'usersctl is in bin';
    ok !-l "$root/usr/local/sbin/usersctl", '... and that of 0.1.0 is gone from sbin';
    ok -e "$root/usr/local/share/man/man8/usersctl.8", 'it has a manual page';
    ok -e "$root/usr/local/share/man/man8/mod_users.8", 'so has the module';
    my $installed = sub ($from) { [map { s{^\Q$from\E/}{}r } glob "$from/*.sql $from/migrations/*.sql"] };
    is_deeply $installed->("$root/usr/local/share/mod_users/sql"),
        $installed->("$SOURCE/sql"), 'all of the SQL is there';
    for my $page (glob "$SOURCE/doc/manual/*") {
        my $name = $page =~ s{.*/}{}r;
        ok -e "$root/usr/local/share/doc/mod_users/manual/$name", "the manual's $name is there";
    }
    ok -e "$root/usr/local/share/bash-completion/completions/usersctl", 'bash completes it';
};

subtest 'where sbin is bin, there it is' => sub {
    unlink "$root/usr/local/bin/usersctl";
    rmdir "$root/usr/local/sbin";
    symlink 'bin', "$root/usr/local/sbin" or die "symlink: $!\n";
    make_install();
    ok -x "$root/usr/local/bin/usersctl", 'usersctl is in bin';
};

# The lines of a document that look like a crontab's, each as its user and its command.
sub cron_lines ($name) {
    my $text = slurp("$SOURCE/$name") =~ s/\\-/-/gr;
    return $text =~ /^ *(?:[\d*\/,-]+ +){5}(\S+ .+)$/mg;
}

subtest 'the line for cron' => sub {
    my @lines = cron_lines('doc/manual/install.md');
    is @lines, 1, 'the manual has it';
    is_deeply [cron_lines('mod_users/usersctl/usersctl.8')], \@lines, 'the manual page has the same';
    my ($user, $command) = split / /, $lines[0], 2;
    is $user, 'postgres', 'its user is postgres';
    is $command =~ s{(/usr/local/)}{$root$1}g, 1, 'it names a program by its whole path';

    $server->sql(<<~'SQL');
        insert into users.token (digest, application_id, scopes, expires_at)
        select sha256('dead'), id, '{register}', now() - interval '2 days' from users.application;
        SQL
    my @as = $> == 0 ? ('/usr/sbin/runuser', '-u', $user, '--') : ();
    my ($status, $output, $error) = run(
        [@as, qw(/usr/bin/env -i PATH=/usr/bin:/bin), "PGHOST=$dir/pg", ($> == 0 ? () : 'PGUSER=postgres'),
            '/bin/sh', '-c', $command],
        "$dir/cron"
    );
    is_deeply [$status, $output, $error], [0, '', ''], 'it runs, and cron has nothing to mail';
    is $server->sql(q(select count(*) from users.token where digest = sha256('dead'))), 0,
        'what was dead is gone';
};

done_testing;
