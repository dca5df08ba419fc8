# Who may know whom: the folders of mod_users/ depend on each other in one direction only, and none
# but db/ and usersctl/ knows libpq, a program of its own that may know core/ and db/, too. And every
# line that the log has of a request has its trace.

use v5.36;
use Cwd            qw(abs_path);
use File::Basename qw(dirname);
use File::Find     qw(find);
use File::Temp     qw(tempdir);
use Test::More;

my $SOURCE = ($ENV{USERS_SRCDIR} // abs_path(dirname(__FILE__) . '/../..')) . '/mod_users';

# A folder may include what stands before it, and itself; "" is mod_users.c's.
my @FLOORS = qw(core db http auth api config);
my %FLOOR  = (map({ $FLOORS[$_] => $_ } keys @FLOORS), '' => scalar @FLOORS);

# Of a folder below, all that those above may know.
my %DOOR = (db => 'db/db.h');

my $HTTPD = qr/^(?:httpd|http_\w+|ap_\w+|util_\w+|mod_\w+|mpm_\w+)\.h$/;
my $LIBPQ = qr/\b(?:libpq-fe\.h|PG(?:result|conn)|PQ[a-z]\w+)\b/;

# What is wrong with the line of a file, or nothing.
sub fault ($file, $line) {
    my ($folder) = $file =~ m{^(.*)/} ? $1 : '';
    my $program = $folder eq 'usersctl';

    return 'logs without the trace: users_log_request()' if $file ne 'http/trace.c' && $line =~ /\bap_log_rerror\b/;
    return 'knows libpq' if $folder ne 'db' && !$program && $line =~ $LIBPQ;
    return unless $line =~ /^\s*#\s*include\s*(["<])([^">]+)[">]/;
    my ($quote, $name) = ($1, $2);
    if ($quote eq '<') {
        my $free = $program || $folder eq 'core' || $folder eq 'db';
        return $free && $name =~ $HTTPD ? "includes httpd's $name" : ();
    }
    my ($other) = $name =~ m{^(.*)/} or return "includes $name without its folder";
    return if $other eq $folder;
    return $other =~ /^(?:core|db)$/ ? () : "includes $name" if $program;
    return "includes $name, of no floor" unless exists $FLOOR{$other} && exists $FLOOR{$folder};
    return if $name eq 'config/settings.h' && $FLOOR{$folder} > $FLOOR{db};
    return "includes $name, which is above it" if $FLOOR{$other} > $FLOOR{$folder};
    return "includes $name, behind $DOOR{$other}" if $DOOR{$other} && $name ne $DOOR{$other};
    return;
}

# All faults of a source tree, each with its file and line.
sub faults_of ($root) {
    my @faults;
    find({ no_chdir => 1, wanted => sub {
        return unless /\.[ch]$/;
        my $file = substr $_, length "$root/";
        open my $in, '<', $_ or die "$_: $!\n";
        my ($comment, @lines) = (0);
        { local $/; $_ = <$in> }
        s{/\*.*?\*/}{ $& =~ tr/\n//cdr }ges;    # comments may speak of anything
        my $number = 0;
        for my $line (split /\n/) {
            $number++;
            push @faults, map { "$file:$number $_" } fault($file, $line);
        }
    } }, $root);
    return @faults;
}

is_deeply [faults_of($SOURCE)], [], 'nobody includes what is above, or behind a door';

# The test notices what it is there for.
my @wrong = (
    ['core/x.c',     '#include "db/db.h"',              'a floor above'],
    ['db/x.c',       '#include "config/settings.h"',    'the settings, from db/'],
    ['db/x.h',       '#include <http_log.h>',           'httpd, from db/'],
    ['core/x.h',     '#include <httpd.h>',              'httpd, from core/'],
    ['http/x.c',     '#include "auth/access.h"',        'auth/, from http/'],
    ['auth/x.c',     '#include "api/metadata.h"',       'api/, from auth/'],
    ['api/x.c',      '#include "config/directives.h"',  'the directives'],
    ['api/x.c',      '#include "db/pool.h"',            'what is behind the door'],
    ['auth/x.c',     '    PGresult *result;',           'a result'],
    ['auth/x.c',     '    ap_log_rerror(x, "x");',      'a line for the log without the trace'],
    ['http/x.c',     '#include <libpq-fe.h>',           'libpq'],
    ['usersctl/x.c', '#include "config/settings.h"',    'the module, from the program'],
    ['api/x.c',      '#include "account.h"',            'a file without its folder'],
    ['x.c',          '#include "db/pool.h"',            'what is behind the door, from the top'],
);
for (@wrong) {
    my ($file, $line, $what) = @$_;
    my $root = tempdir(CLEANUP => 1);
    mkdir "$root/$_" for @FLOORS, 'usersctl';
    open my $out, '>', "$root/$file" or die "$root/$file: $!\n";
    print $out "/* $line */\n$line\n";
    close $out;
    is_deeply [map { s/ .*//r } faults_of($root)], ["$file:2"], "... such as $what";
}

done_testing;
