# The documents name what there is: files, functions, directives, make's targets, and each other.

use v5.36;
use Cwd            qw(abs_path);
use File::Basename qw(dirname);
use File::Find     qw(find);
use File::Temp     qw(tempdir);
use Test::More;

my $SOURCE = $ENV{USERS_SRCDIR} // abs_path(dirname(__FILE__) . '/../..');

# A release archive has no files that begin with a dot.
my $IS_CLONE = -e "$SOURCE/.git";

sub slurp ($path) {
    open my $file, '<', $path or die "$path: $!\n";
    local $/;
    return <$file>;
}

# Every file below some folders, put together.
sub text_of (@folders) {
    my $text = '';
    find({ no_chdir => 1, wanted => sub { $text .= slurp($_) if -f && /\.(?:[ch]|sql)$/ } },
        map { "$SOURCE/$_" } @folders);
    return $text;
}

my $CODE       = text_of(qw(mod_users sql));
my $DIRECTIVES = slurp("$SOURCE/conf/users.conf");
my $TARGETS    = slurp("$SOURCE/Makefile.am");

# A path stands below the source, or, of C files, below mod_users/.
sub is_file ($name) {
    return 1 if $name =~ /^\./ && !$IS_CLONE;
    return grep { -e "$SOURCE/$_$name" } '', 'mod_users/';
}

# What is wrong with a word between backticks, or nothing.
sub fault ($words) {
    my ($word, $next) = split / /, $words;
    if ($word eq 'make' && $next !~ /^(?:check|distcheck|install|uninstall)$/) {    # which are automake's
        return $TARGETS =~ /^\Q$next\E:/m ? () : "no target $next";
    }
    if ($word =~ m{^(?!/)[\w.-]+/(?:[\w.-]+/)*[\w.-]*$} || $word =~ /^[\w-]+\.(?:c|h|sql|t|am|ac|conf|md)$/) {
        return is_file($word) ? () : "no file $word";
    }
    my ($name) = $word =~ /^(users(?:_api|_admin)?\.\w+|users_\w+)(?:\(\))?$/ or do {
        my ($directive) = $word =~ /^(Users[A-Z]\w+)/;
        return $directive && $DIRECTIVES !~ /\b$directive\b/ ? "no directive $directive" : ();
    };
    return $CODE =~ /\b\Q$name\E\b/ || $CODE =~ /\b\U$name\E\b/ ? () : "no $name";
}

# All faults of a document.
sub faults_of ($path) {
    my $text = slurp($path);
    my @faults;
    push @faults, fault($1) while $text =~ /`([^`\n]+)`/g;
    while ($text =~ /\]\(([^)#:]+)(?:#[^)]*)?\)/g) {
        push @faults, "no document $1" unless -e dirname($path) . "/$1";
    }
    return @faults;
}

my @documents;
find({ no_chdir => 1, wanted => sub { push @documents, $_ if /\.md$/ } }, "$SOURCE/doc");
push @documents, "$SOURCE/SECURITY.md";
cmp_ok scalar @documents, '>', 10, 'there are documents';
is_deeply [faults_of($_)], [], s/^\Q$SOURCE\E\///r for sort @documents;

# What was may have gone; what a changelog links to may not.
is_deeply [grep { /^no document/ } faults_of("$SOURCE/CHANGELOG.md")], [], 'CHANGELOG.md';

# Each decision is in the list.
my $list = slurp("$SOURCE/doc/decisions/README.md");
for my $decision (grep { m{/\d{3}-[^/]+$} } @documents) {
    my ($name, $number) = $decision =~ m{/((\d{3})-[^/]+)$};
    my ($title) = slurp($decision) =~ /^# (\d+\. .*)/;
    like $list, qr/^\Q${\($title =~ s{^(\d+\.) }{$1 [}r)}\E\]\(\Q$name\E\)$/m, "the list has $name";
    is sprintf('%03d', $title =~ /^(\d+)/), $number, '... by its number';
}

# SECURITY.md names those tests that make attack runs, which are some of make check's.
sub tests_of ($variable) {
    my ($list) = $TARGETS =~ /^$variable = ((?:.*\\\n)*.*)/m or return;
    return map { /^\$\((\w+)\)$/ ? tests_of($1) : s/_test$/_test.c/r } grep { $_ ne '\\' } split ' ', $list;
}
my %attack = map { $_ => 1 } tests_of('attack_tests');
my %named  = map { $_ => 1 } slurp("$SOURCE/SECURITY.md") =~ m{`(t/\w+/[\w-]+\.[ct])`}g;
my %run    = map { $_ => 1 } tests_of('TESTS');
is_deeply [sort keys %named], [sort keys %attack], 'make attack runs the tests that SECURITY.md names';
is_deeply [grep { !$run{$_} } sort keys %attack], [], '... and so does make check';

# The test notices what it is there for.
my $page = tempdir(CLEANUP => 1) . '/page.md';
for (
    ['`db/nothing.c`'          => 'no file db/nothing.c'],
    ['`mod_users/db/`'         => undef],
    ['`nothing.sql`'           => 'no file nothing.sql'],
    ['`Makefile.am`'           => undef],
    ['`users_db_nothing()`'    => 'no users_db_nothing'],
    ['`users_db_open()`'       => undef],
    ['`users_api.nothing`'     => 'no users_api.nothing'],
    ['`UsersNothing on`'       => 'no directive UsersNothing'],
    ['`UsersRealm panel`'      => undef],
    ['[a page](nothing.md#x)'  => 'no document nothing.md'],
    ['`make nothing`'          => 'no target nothing'],
    ['`make fresh`'            => undef],
    ['`/etc/nothing`, `a, b`'  => undef],
) {
    my ($text, $fault) = @$_;
    open my $file, '>', $page or die "$page: $!\n";
    print $file "$text\n";
    close $file;
    is_deeply [faults_of($page)], [$fault // ()], "$text: " . ($fault // 'nothing wrong');
}

# systemd makes a / of each - in %I: usersctl-purge@my-panel.timer would be for the database my/panel (systemd.unit(5)).
my @units = grep { /\@/ } glob "$SOURCE/debian/*.service $SOURCE/debian/*.timer";
cmp_ok scalar @units, '>=', 3, 'there are units with instances';
unlike slurp($_), qr/%I/, 'an instance is named as the database: ' . s{.*/}{}r for @units;

done_testing;
