# The manual, doc/manual, and mod_users(8) beside what is built: every directive in httpd's own form,
# and every message of the source in "When something is wrong".

use v5.36;
use Cwd            qw(abs_path);
use File::Basename qw(dirname);
use File::Temp     qw(tempdir);
use Test::More;
use Users::Test::Phrases qw(pattern_of phrases_of);

my $SOURCE  = $ENV{USERS_SRCDIR}             // abs_path(dirname(__FILE__) . '/../..');
my $MODULE  = $ENV{USERS_MODULE}             // "$SOURCE/.libs/mod_users.so";
my $HTTPD   = $ENV{USERS_TEST_HTTPD}         // '/usr/sbin/apache2';
my $MODULES = $ENV{USERS_TEST_HTTPD_MODULES} // '/usr/lib/apache2/modules';

my $dir = tempdir(CLEANUP => 1);

sub slurp ($path) {
    open my $file, '<:encoding(UTF-8)', $path or die "$path: $!\n";
    local $/;
    return <$file>;
}

# ---- Directives --------------------------------------------------------------------------------

# Run httpd with such a configuration. Returns its exit status, and what it prints.
sub httpd ($conf, @options) {
    open my $file, '>:raw', "$dir/httpd.conf" or die "httpd.conf: $!\n";
    print $file <<~CONF, $conf;
        ServerRoot "$dir"
        ErrorLog "$dir/error.log"
        ServerName localhost
        Listen 127.0.0.1:80
        LoadModule mpm_event_module "$MODULES/mod_mpm_event.so"
        LoadModule authz_core_module "$MODULES/mod_authz_core.so"
        LoadModule socache_shmcb_module "$MODULES/mod_socache_shmcb.so"
        LoadModule users_module "$MODULE"
        CONF
    close $file;
    local $ENV{LD_PRELOAD}   = $ENV{USERS_TEST_PRELOAD} // '';    # of a module with sanitizers
    local $ENV{ASAN_OPTIONS} = 'detect_leaks=0';
    my $text = qx{'$HTTPD' -f '$dir/httpd.conf' @options 2>&1};
    return ($? >> 8, $text);
}

# What httpd knows of the module's directives: name => { help, inside (of sections alone) }.
sub known_directives () {
    my ($status, $text) = httpd('', '-L');
    my %known;
    while ($text =~ /^(\w+) \(mod_users\.c\)\n\t(.*)\n\tAllowed in \*\.conf only (inside|outside) /mg) {
        $known{$1} = { help => $2, inside => $3 eq 'inside' };
    }
    return \%known;
}

# What a directive takes, as it says when it refuses a value; nothing where it has more to say.
sub taken_by ($name, $is_inside) {
    my $line = "$name \"\xE9?\"\n";
    my ($status, $text) = httpd($is_inside ? "<Location /x>\n$line</Location>\n" : $line, '-t');
    return $text =~ /\b$name: invalid value '.*': it takes (.+)$/m;
}

# May it stand in a <VirtualHost>? One that may not says so whatever its value is.
sub is_for_virtual_hosts ($name) {
    my ($status, $text) = httpd("<VirtualHost *:80>\n$name \"\xE9?\"\n</VirtualHost>\n", '-t');
    return $text !~ /\b$name cannot occur within <VirtualHost>/;
}

# A section of the manual for each directive: name => { Description, Syntax, ... }.
sub described ($text) {
    my %described;
    for my $section (split /^(?=### )/m, $text) {
        my ($name, $rest) = $section =~ /^### (Users\w+)\n\n(.*)/s or next;
        $described{$name} = { $rest =~ /^- \*\*(\w+):\*\* (.+)$/mg, text => $rest };
    }
    return \%described;
}

# The entry of mod_users(8) for it.
sub in_roff ($name, $argument, $entry) {
    my %entry = map { $_ => $entry->{$_} =~ s/`(?:$name )?([^`]*)`/$1/gr } grep { defined $entry->{$_} } qw(Values Default Context);
    return join "\n", map { s/-/\\-/gr } "\\fB$name\\fR \\fI$argument\\fR", "$entry->{Description}.",
        map { "$_: $entry{$_}." } grep { $entry{$_} && $entry{$_} ne 'server config, virtual host' } qw(Values Default Context);
}

my $manual    = slurp("$SOURCE/doc/manual/directives.md");
my $described = described($manual);
my $known     = known_directives();
my $reference = slurp("$SOURCE/conf/users.conf");
my $page      = slurp("$SOURCE/mod_users/mod_users.8");

# By version; the first has everything that no later one names.
my %changes         = slurp("$SOURCE/CHANGELOG.md") =~ /^## \[(\S+)\](.*?)(?=^## \[|\z)/gms;
my ($first_version) = sort keys %changes;

binmode $_, ":encoding(UTF-8)" for Test::More->builder->output, Test::More->builder->failure_output;
cmp_ok scalar keys %$known, '>', 30, 'httpd lists the directives';
is_deeply [sort keys %$described], [sort keys %$known], 'the manual has the same';

# Words are in the syntax, ranges and all else among the values.
sub test_values ($name, $argument, $values, $taken, $text) {
    if ($taken =~ /^\w+(?: or \w+)+$/) {
        is $argument, $taken =~ s/ or /|/gr, '... with its words';
        my ($table) = $text =~ /^(\| word \|.*?)(?=\n\n)/ms or return;
        return is_deeply [$table =~ /^\| `(\w+)` \|/mg], [split / or /, $taken], '... each of which is in the table';
    }
    $taken =~ s/^a number from //;
    $taken =~ s/^(0 or )?a duration from (\S+ to \w+), .*/($1 ? '0, or ' : '') . $2/e;
    my ($stated, $bare) = split /; without a unit up to /, $values;
    $stated =~ s/, and at most .*//;
    $taken  =~ s/, such as https.*//;
    is $stated, $taken, 'Values';
    for my $case ([$bare, 0], [$bare && $bare + 1, 1]) {
        is +(httpd("$name $case->[0]\n", '-t'))[0], $case->[1], "... $case->[0] has no unit" if $bare;
    }
}

for my $name (sort keys %$known) {
    my $entry = $described->{$name} or next;
    my ($help, $inside) = $known->{$name}->@{qw(help inside)};
    my ($default) = map { $_ // () } $help =~ /\(default: (\w+)|(\w+) \(default\)/;
    my ($taken)   = taken_by($name, $inside);

    subtest $name => sub {
        is $entry->{Description}, $help =~ s/ ?\(default[^)]*\)//r, 'Description';
        my ($syntax, $argument) = $entry->{Syntax} =~ /^`(\w+) ([^`]+)`$/;
        is $syntax, $name, 'Syntax';
        test_values($name, $argument, $entry->{Values} // '', $taken, $entry->{text}) if $taken;
        like $entry->{Default}, qr/\b\Q$default\E\b/, 'Default, as the help has it' if $default;
        like $entry->{Default}, qr/^(?:`$name |none\b|the |ServerName|\d)/, '... in its form';
        my ($quoted) = $entry->{Default} =~ /^`$name (.+?)`/;
        my ($commented) = $reference =~ /^#$name "?([^"\n]+)"?$/m;
        is $quoted, $commented, '... as conf/users.conf' if $quoted;
        is $entry->{Context} =~ s/ \(.*//r,
            $inside ? 'directory' : is_for_virtual_hosts($name) ? 'server config, virtual host' : 'server config', 'Context';
        is $entry->{Status}, 'External',  'Status';
        is $entry->{Module}, 'mod_users', 'Module';
        my $since = $entry->{Compatibility} =~ s/^since //r;
        ok exists $changes{$since}, 'Compatibility: a version of CHANGELOG.md';
        like $changes{$since}, qr/`$name`/, '... which names it' if $since ne $first_version;
        like $manual, qr/\[$name\]\(#\L$name\E\)/, 'it is in the list';
        like $page, qr/^\Q${\ in_roff($name, $argument, $entry)}\E$/m, 'mod_users(8) has the same';
    };
}

my $warnings = qx{groff -man -ww -Tascii '$SOURCE/mod_users/mod_users.8' 2>&1 >/dev/null};
is_deeply [$?, $warnings], [0, ''], 'groff renders mod_users(8) without a warning';

# ---- Links -------------------------------------------------------------------------------------

# A heading's anchor: as GitHub, GitLab and pandoc's gfm make it.
sub anchors_of ($text) {
    return map { lc s/[^\w\s-]//gr =~ s/ /-/gr } $text =~ /^#+ (.+)$/mg;
}

my %page = map { s{.*/}{}r => slurp($_) } glob "$SOURCE/doc/manual/*.md";
for my $name (sort keys %page) {
    my @lost;
    while ($page{$name} =~ /\]\(([\w.-]*)#([^)]+)\)/g) {
        my ($other, $anchor) = ($1 || $name, $2);
        push @lost, "$other#$anchor" unless grep { $_ eq $anchor } anchors_of($page{$other} // '');
    }
    is_deeply \@lost, [], "the links of doc/manual/$name lead to headings";
}
is_deeply [anchors_of("# A b\n## The database can't, be_so\n")], [qw(a-b the-database-cant-be_so)], '... which are read as pages show them';

# ---- Messages ----------------------------------------------------------------------------------

# Texts of several words that nobody is shown: keywords and values for libpq, and what trace alone has.
my %SHOWN_TO_NOBODY = map { $_ => 1 } (
    'none, since nothing is to be connected',
    'none, or of another scheme',
    'a bearer token',
    'a name and a password',
    'more than one',
);

my $SQL     = qr/\bselect\b|\bunnest\(|\bcase when\b|^ where |\bset \w+ = |^-c |^set |= \$\d/;
my $LOGGING = qr/^(?:ap_log_\w*error|users_log_(?:at|request))$/;
my $REFUSAL = qr/refus|lock_out|or_wrong|users_oauth_invalid|invalid_client|^reply$/;
my $OTHERS  = qr/challenge|apr_table|json_pack|^(?:print|AP_INIT_\w+|SERVER_DIRECTIVE|users_process_\w+|users_counts_memory)$/;

# Of usersctl, what it says of databases: of its command line and its input it says what they must be.
my $DATABASES = qr{usersctl/(?:database|migrate|output|runner|scripts)\.c$};

# Is it a sentence, or a part of one, that an administrator may find in the error log, by configtest or by
# usersctl; or what a client is told?
sub is_message ($name, $phrase) {
    my ($text, @calls) = ($phrase->{text}, $phrase->{calls}->@*);
    my $words   = $text  =~ s/%[-+ #0]*[\d.*]*[a-z]+//gr;
    my $several = $words =~ /\w\W* +\W*\w+.* \W*\w/;
    return 0 if $text =~ $SQL || $words !~ /[a-z]{3}/i || $SHOWN_TO_NOBODY{$text};
    return 0 if ($phrase->{level} // '') =~ /^(?:TRACE|DEBUG)/ || grep { $_ =~ $OTHERS } @calls;
    return $several && $name =~ $DATABASES && grep { $_ eq 'users_output_complain' } @calls if $name =~ /usersctl/;
    return 1 if grep { $_ =~ $LOGGING } @calls;
    return $several && ($name =~ m{/(?:config|db|auth)/} || grep { $_ =~ $REFUSAL } @calls);
}

my @headers = glob "$SOURCE/mod_users/*/*.h";
my (@messages, @not_ascii);
for my $file (sort(glob("$SOURCE/mod_users/*.c"), glob "$SOURCE/mod_users/*/*.c")) {
    my $name = $file =~ s{^\Q$SOURCE\E/}{}r;
    my @phrases = phrases_of($file, @headers);
    push @messages, map { { %$_, name => $name } } grep { is_message($name, $_) } @phrases;
    push @not_ascii, map { "$name:$_->{line}: $_->{text}" } grep { $_->{text} =~ /[^\x00-\x7F]/ } @phrases;
}
for my $name (qw(sql/install.sql sql/role.sql sql/tables.sql)) {
    my $sql = slurp("$SOURCE/$name");
    while ($sql =~ /\b(?:raise (?:warning|exception)|message = format\()\s*'((?:[^']|'')+)'/g) {
        push @messages, { name => $name, line => 1 + (substr($sql, 0, pos $sql) =~ tr/\n//),
            text => $1 =~ s/%[IsL]?/%s/gr };
    }
}
is_deeply \@not_ascii, [], 'all texts are ASCII: httpd escapes others in its log';

# A message stands in one paragraph, or row of a table, by itself or within others' words.
my @paragraphs = map { s/\s+/ /gr } map { /^\|/m ? split /\n/ : $_ } split /\n{2,}/, slurp("$SOURCE/doc/manual/errors.md") =~ s/`//gr;

sub is_explained ($text) {
    my $pattern = pattern_of($text);
    return scalar grep { $_ =~ $pattern } @paragraphs;
}

cmp_ok scalar @messages, '>', 150, 'the source has messages';
for my $message (@messages) {
    ok is_explained($message->{text}), "doc/manual/errors.md has '$message->{text}'"
        or diag("$message->{name}:$message->{line}");
}

# The test notices what it is there for.
open my $source, '>', "$dir/config.c" or die "config.c: $!\n";
print $source <<'C';
#define TIMES 3
#define CURE(what) "raise " what ", or come " \
    "again"
/* "a comment" */
static const char *quote(char c)
{
    ap_log_error(APLOG_MARK, APLOG_ERR, 0, s, "%s has \"quotes\" in " /* here */ "two %" APR_INT64_T_FMT
                 " parts: " CURE("it") ", " APR_STRINGIFY(TIMES) " times", name, c == '"' ? "yes it was" : NULL);
    return apr_psprintf(p, "%d is a fault of %s", 1, c);
}
C
close $source;
is_deeply [map { [$_->@{qw(text line level)}, $_->{calls}[-1]] } phrases_of("$dir/config.c")],
    [['%s has "quotes" in two %d parts: raise it, or come again, 3 times', 7, 'ERR', 'ap_log_error'],
    ['yes it was', 8, 'ERR', 'ap_log_error'], ['%d is a fault of %s', 9, undef, 'apr_psprintf']],
    'literals are put together';
like 'it took 1.5 s (100%): why', qr/^${\ pattern_of('it took %.1f s (%u%%): %s')}$/, 'anything stands for a conversion';
unlike 'it took 1.5 s', pattern_of('it takes %.1f s'), '... and nothing else for its words';

# ---- The cluster -------------------------------------------------------------------------------

# What cluster.md has of configuration files is what make cluster runs with, but for what differs from host to host.
my @used = map { s/^\s+|\s+(?:#.*)?$//gr } map { split /\n/, slurp($_) } glob "$SOURCE/t/cluster/*.in";
my @patterns = map { my $line = quotemeta; $line =~ s/\\\@[A-Z_]+\\\@/.+/gr } grep { length } @used;
my @shown = slurp("$SOURCE/doc/manual/cluster.md") =~ /^ {4,}(\S.*)$/mg;
cmp_ok scalar @shown, '>', 30, 'cluster.md shows configuration';
is_deeply [grep { my $line = $_; !/^apt / && !grep { $line =~ /^$_$/ } @patterns } @shown], [], '... which the test uses';

done_testing;
