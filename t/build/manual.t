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

# What httpd knows of the module's directives: name => { help, inside (of sections alone) }.
sub known_directives () {
    open my $conf, '>', "$dir/httpd.conf" or die "httpd.conf: $!\n";
    print $conf <<~CONF;
        ServerRoot "$dir"
        ErrorLog "$dir/error.log"
        ServerName localhost
        Listen 127.0.0.1:80
        LoadModule mpm_event_module "$MODULES/mod_mpm_event.so"
        LoadModule authz_core_module "$MODULES/mod_authz_core.so"
        LoadModule users_module "$MODULE"
        CONF
    close $conf;
    open my $list, '-|', $HTTPD, '-L', '-f', "$dir/httpd.conf" or die "$HTTPD: $!\n";
    my $text = do { local $/; <$list> };
    close $list;
    my %known;
    while ($text =~ /^(\w+) \(mod_users\.c\)\n\t(.*)\n\tAllowed in \*\.conf only (inside|outside) /mg) {
        $known{$1} = { help => $2, inside => $3 eq 'inside' };
    }
    return \%known;
}

# The table in the source: name => { setter, words, values }.
sub table () {
    my $code  = slurp("$SOURCE/mod_users/config/directives.c");
    my %value = map { /^#define (\w+)\s+([\w(]\V*)$/ ? ($1 => $2) : () } split /\n/, $code;
    my $number = sub ($text) {
        1 while $text =~ s/\b([A-Z]\w+)\b/$value{$1} \/\/ die "$1 in the table of directives\n"/e;
        $text =~ /^[\d\s()*+]+$/ or die "$text is no number\n";
        return eval $text;
    };
    my %words;
    while ($code =~ /^static const choice (\w+)\[\] = \{(.*?)\{NULL/gsm) {
        my ($name, $list) = ($1, $2);
        $words{$name} = join '|', $list =~ /\{"(\w+)"/g;
    }
    my %table = (UsersEndpoint => { setter => 'set_endpoint', words => $words{endpoints} });
    while ($code =~ /SERVER_DIRECTIVE\("(\w+)",\s*(\w+),.*?MEMBER\(\w+\)(.*?)\),?\n    (?=S|\{0)/gs) {
        my ($name, $setter, $rest) = ($1, $2, $3);
        my ($choices) = $rest =~ /\.choices = (\w+)/;
        my %row = (setter => $setter, words => $choices && $words{$choices});
        if ($setter =~ /_number$/) {
            my ($least, $most) = $rest =~ /^,\s*([^,]+),\s*([^,]+)$/;
            $row{values} = $number->($least) . ' to ' . $number->($most);
        } elsif ($setter eq 'set_duration') {
            my %has   = $rest =~ /\.(\w+) = ([^,]+)/g;
            my $limit = $number->($has{limit} // 'DAY') / 3600;
            my $bare  = $number->($has{bare}  // '60');
            $row{values} = ($has{zero} ? '0, or ' : '') . ($has{least} ? '1s' : '1ms') . " to ${limit}h"
                . ($bare > 60 ? "; without a unit up to $bare" : '');
        } elsif ($setter eq 'set_code') {
            $row{values} = join '', $rest =~ /\.valid = ((?:"[^"]*"\s*)+)/s ? $1 =~ /"([^"]*)"/g : ();
        }
        $table{$name} = \%row;
    }
    return \%table;
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
my $table     = table();
my $reference = slurp("$SOURCE/conf/users.conf");
my $page      = slurp("$SOURCE/mod_users/mod_users.8");

# By version; the first has everything that no later one names.
my %changes         = slurp("$SOURCE/CHANGELOG.md") =~ /^## \[(\S+)\](.*?)(?=^## \[|\z)/gms;
my ($first_version) = sort keys %changes;

binmode $_, ":encoding(UTF-8)" for Test::More->builder->output, Test::More->builder->failure_output;
cmp_ok scalar keys %$known, '>', 30, 'httpd lists the directives';
is_deeply [sort keys %$described], [sort keys %$known], 'the manual has the same';
is_deeply [sort keys %$table],     [sort keys %$known], '... and so has the table in the source';

for my $name (sort keys %$known) {
    my $entry = $described->{$name} or next;
    my ($row, $help) = ($table->{$name}, $known->{$name}{help});
    my ($default) = map { $_ // () } $help =~ /\(default: (\w+)|(\w+) \(default\)/;

    subtest $name => sub {
        is $entry->{Description}, $help =~ s/ ?\(default[^)]*\)//r, 'Description';
        my ($syntax, $argument) = $entry->{Syntax} =~ /^`(\w+) ([^`]+)`$/;
        is $syntax, $name, 'Syntax';
        is $argument, $row->{words}, '... with its words' if $row->{words};
        like $entry->{Values} // '', qr/^\Q$row->{values}\E(?:,|$)/, 'Values' if $row->{values};
        like $entry->{Default}, qr/\b\Q$default\E\b/, 'Default, as the help has it' if $default;
        like $entry->{Default}, qr/^(?:`$name |none\b|the |ServerName|\d)/, '... in its form';
        my ($quoted) = $entry->{Default} =~ /^`$name (.+?)`/;
        my ($commented) = $reference =~ /^#$name "?([^"\n]+)"?$/m;
        is $quoted, $commented, '... as conf/users.conf' if $quoted;
        is $entry->{Context} =~ s/ \(.*//r,
            $known->{$name}{inside} ? 'directory'
            : $row->{setter} =~ /^set_process/ ? 'server config' : 'server config, virtual host', 'Context';
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
my $LOGGING = qr/^(?:ap_log_\w*error|users_log_at)$/;
my $REFUSAL = qr/refus|lock_out|or_wrong|users_oauth_invalid|invalid_client|^reply$/;
my $OTHERS  = qr/challenge|apr_table|json_pack|^(?:AP_INIT_TAKE1|SERVER_DIRECTIVE|users_process_\w+|users_counts_memory)$/;

# What usersctl says of its command line and its input names what is wrong with it.
my $COMMAND_LINE = qr{usersctl/(?:arguments|commands|secrets|usersctl)\.c$};

# Is it a sentence, or a part of one, that an administrator may find in the error log, by configtest or by
# usersctl; or what a client is told?
sub is_message ($name, $phrase) {
    my ($text, @calls) = ($phrase->{text}, $phrase->{calls}->@*);
    my $words   = $text  =~ s/%[-+ #0]*[\d.*]*[a-z]+//gr;
    my $several = $words =~ /\w\W* +\W*\w+.* \W*\w/;
    return 0 if $text =~ $SQL || $words !~ /[a-z]{3}/i || $SHOWN_TO_NOBODY{$text};
    return 0 if ($phrase->{level} // '') =~ /^(?:TRACE|DEBUG)/ || grep { $_ =~ $OTHERS } @calls;
    return $several && $name !~ $COMMAND_LINE && grep { $_ eq 'users_output_complain' } @calls if $name =~ /usersctl/;
    return 1 if grep { $_ =~ $LOGGING } @calls;
    return $several && ($name =~ m{/(?:config|db|auth)/} || grep { $_ =~ $REFUSAL } @calls);
}

my @headers = glob "$SOURCE/mod_users/*/*.h";
my @messages;
for my $file (sort(glob("$SOURCE/mod_users/*.c"), glob "$SOURCE/mod_users/*/*.c")) {
    my $name = $file =~ s{^\Q$SOURCE\E/}{}r;
    push @messages, map { { %$_, name => $name } } grep { is_message($name, $_) } phrases_of($file, @headers);
}
for my $name (qw(sql/install.sql sql/role.sql sql/tables.sql)) {
    my $sql = slurp("$SOURCE/$name");
    while ($sql =~ /\b(?:raise (?:warning|exception)|message = format\()\s*'((?:[^']|'')+)'/g) {
        push @messages, { name => $name, line => 1 + (substr($sql, 0, pos $sql) =~ tr/\n//),
            text => $1 =~ s/%[IsL]?/%s/gr };
    }
}

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
#define CURE(what) "raise " what ", or come " \
    "again"
/* "a comment" */
static const char *quote(char c)
{
    ap_log_error(APLOG_MARK, APLOG_ERR, 0, s, "%s has \"quotes\" in " /* here */ "two %" APR_INT64_T_FMT
                 " parts: " CURE("it"), name, c == '"' ? "yes it was" : NULL);
    return apr_psprintf(p, "%d is a fault of %s", 1, c);
}
C
close $source;
is_deeply [map { [$_->@{qw(text line level)}, $_->{calls}[-1]] } phrases_of("$dir/config.c")],
    [['%s has "quotes" in two %d parts: raise it, or come again', 6, 'ERR', 'ap_log_error'],
    ['yes it was', 7, 'ERR', 'ap_log_error'], ['%d is a fault of %s', 8, undef, 'apr_psprintf']],
    'literals are put together';
like 'it took 1.5 s (100%): why', qr/^${\ pattern_of('it took %.1f s (%u%%): %s')}$/, 'anything stands for a conversion';
unlike 'it took 1.5 s', pattern_of('it takes %.1f s'), '... and nothing else for its words';

done_testing;
