# What bash completes of a command line of usersctl: every command and option that --help tells, and
# words, directories and files where they are values.

use v5.36;
use Cwd            qw(abs_path);
use File::Basename qw(dirname);
use File::Temp     qw(tempdir);
use Test::More;

my $SOURCE   = $ENV{USERS_SRCDIR}   // abs_path(dirname(__FILE__) . '/../..');
my $USERSCTL = $ENV{USERS_USERSCTL} // "$SOURCE/usersctl";
my $FILE     = "$SOURCE/mod_users/usersctl/usersctl.bash-completion";

my $dir = tempdir(CLEANUP => 1);

# What it offers for the last of these words, sorted. Whatever goes to standard error is offered, too.
sub completions ($program, @words) {
    my $script = <<~'BASH';
        source "$0"
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _usersctl "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}" 2>&1
        [ ${#COMPREPLY[@]} = 0 ] || printf '%s\n' "${COMPREPLY[@]}"
        BASH
    open my $bash, '-|', 'bash', '--norc', '-c', $script, $FILE, $program, @words or die "bash: $!\n";
    chomp(my @lines = <$bash>);
    close $bash;
    is $?, 0, "@words" if $?;
    return [sort @lines];
}

sub offers ($wanted, @words) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is_deeply completions($USERSCTL, @words), [sort @$wanted], join ' ', 'usersctl', map { length ? $_ : '<TAB>' } @words;
}

my $help = `$USERSCTL --help`;
my ($commands, $options) = $help =~ /^Commands:\n(.*)^Options:\n(.*)/ms;
my (%verbs, %options);
for ($commands =~ /^  (\S.*)$/mg) {
    my ($noun, $verb) = /^([a-z]+)(?: ([a-z]+))?/;
    $verbs{$noun}{ $verb // '' } = 1;
    $options{ join ' ', grep { defined } $noun, $verb }{$_} = 1 for /(--[a-z-]+)/g;
}
my @OF_ALL = qw(--db --json --help --version);

subtest 'commands' => sub {
    cmp_ok scalar keys %verbs, '>=', 7, 'there are commands';
    offers([keys %verbs], '');
    for my $noun (sort keys %verbs) {
        offers([grep { length } keys $verbs{$noun}->%*], $noun, '');
    }
    offers(['token'],             'tok');
    offers([qw(remove rotate)],   'application', 'r');
    offers(['upgrade'],           '--json', 'database', 'u');
    offers(['upgrade'],           '--db', 'users', 'database', 'u');
    offers(['upgrade'],           '--db', '=', 'users', 'database', 'u');
    offers([],                    'nothing', '');
    offers([],                    'application', 'remove', '');
    offers([],                    'no[thing', 'a*', '');
};

subtest 'options' => sub {
    offers(\@OF_ALL, '--');
    for my $noun (sort keys %verbs) {
        for my $verb (sort keys $verbs{$noun}->%*) {
            my @words = ($noun, length $verb ? $verb : ());
            offers([@OF_ALL, keys %{ $options{"@words"} // {} }], @words, '--');
        }
    }
    offers(['--scopes', '--secret'], qw(application add x --s));
    offers(['--secret'],             qw(application add x --scopes public --s));
    offers(['--default-scopes'],     qw(application add x --scopes --secret --json --de));
    offers([],                       qw(application add x --limit));
    offers([],                       qw(no[thing a* --x));
};

subtest 'values' => sub {
    my @scopes = qw(introspect profile_read profile_update public register);
    offers(\@scopes,                              qw(token issue --scopes), '');
    offers([qw(profile_read profile_update)],     qw(token issue --scopes profile));
    offers([qw(profile_read profile_update)],     qw(token issue --scopes = profile));
    offers([map { "public $_" } qw(profile_read profile_update)], qw(token issue --scopes), '"public profile');
    offers(\@scopes,                              qw(token issue --scopes =));
    offers([qw(csv ndjson)],                      qw(usage import --format), '');
    offers([],                                    qw(token list --limit), '');
    offers([],                                    qw(token list --user tok));
    mkdir "$dir/$_" or die "$_: $!\n" for 'a dir', 'another';
    open my $file, '>', "$dir/a file" or die "$dir/a file: $!\n";
    offers([map { "$dir/$_" } 'a dir', 'another'],           qw(database install --sql), "$dir/a");
    offers([map { "$dir/$_" } 'a dir', 'a file', 'another'], qw(check --settings), "$dir/a");
};

subtest 'the known scopes are those of the database' => sub {
    open my $sql, '<', "$SOURCE/sql/admin.sql" or die "admin.sql: $!\n";
    my ($known) = join('', <$sql>) =~ /v_known constant text\[\] := '\{(.*?)\}'/;
    is_deeply completions($USERSCTL, qw(token issue --scopes), ''), [sort split /,/, $known], 'all of them';
};

subtest 'whatever a version tells' => sub {
    my $program = "$dir/usersctl";
    open my $file, '>', $program or die "$program: $!\n";
    print $file <<~'SH';
        #!/bin/sh
        cat <<END
        usage: usersctl COMMAND [OPTION]...

        Commands:
          thing turn KIND FIELD=VALUE... --way WAY [--much]
              turn a thing
          thing twist [--way WAY]
              twist it
          rest [--much]
              do nothing

        Options:
          --db CONNINFO
              which database
          --way WAY
              where to
              words: left, right
          --much
              a lot
        END
        SH
    chmod 0755, $program;
    close $file;
    is_deeply completions($program, ''),                             [qw(rest thing)], 'commands';
    is_deeply completions($program, 'thing', ''),                    [qw(turn twist)], 'verbs';
    is_deeply completions($program, qw(rest --m)),                   ['--much'],       'options';
    is_deeply completions($program, qw(thing turn a b=c --m)),       ['--much'],       'options behind fields';
    is_deeply completions($program, qw(thing twist --way), ''),      [qw(left right)], 'words';
    is_deeply completions("$dir/nothing", ''), [], 'a program that is not there offers nothing';
};

is `bash --norc -c 'source "\$0"; complete -p usersctl' $FILE`, "complete -F _usersctl usersctl\n", 'bash is told';

done_testing;
