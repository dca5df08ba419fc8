package Users::Test::Phrases;

=head1 NAME

Users::Test::Phrases - the texts that C source can show somebody

=head1 SYNOPSIS

    for my $phrase (phrases_of('mod_users/db/outage.c', @headers)) {
        say "$phrase->{text} in a call of $phrase->{calls}[-1] at line $phrase->{line}";
    }

C<phrases_of> reads a C file, and finds every string literal in it, those that stand side by side or have a
macro for a string between them, or APR_STRINGIFY of one for a number, as one. Of each it tells the C<text>, with its
escapes undone; the C<line>; the C<calls> that it is an argument of, the innermost last; and the C<level>, where one of
these calls has named a log level before it (APLOG_x or USERS_LOG_x: x). What headers define is known by these files.

C<pattern_of> makes a regular expression of a text for printf: anything may stand for a conversion.

=cut

use v5.36;
use parent qw(Exporter);

our @EXPORT_OK = qw(pattern_of phrases_of);

my $STRING  = qr/"(?:[^"\\]|\\.)*"/s;
my $LITERAL = qr/$STRING(?:\s*$STRING)*/;

sub slurp ($path) {
    open my $file, '<:encoding(UTF-8)', $path or die "$path: $!\n";
    local $/;
    return <$file>;
}

# Without comments and continued lines; the ends of lines stay.
sub code_of ($path) {
    my $code = slurp($path);
    $code =~ s{($STRING|'(?:[^'\\]|\\.)+')|(/\*.*?\*/|//\V*)}{$1 // $2 =~ s/[^\n]//gr}gse;
    $code =~ s{^(#(?:[^\n\\]|\\\n|\\.)*)}{my $line = $1; my $more = $line =~ s/\\\n/ /g; $line . "\n" x $more}gem;
    return $code;
}

# Of the macros that are strings: those without parameters, and those with one. And those that are numbers.
sub macros_of (@paths) {
    my (%plain, %with, %number);
    for my $code (map { code_of($_) } @paths) {
        $plain{$1} = $2 while $code =~ /^#define (\w+)\s+($STRING[^\n]*)$/mg;
        $with{$1} = [$2, $3] while $code =~ /^#define (\w+)\((\w+)\)\s+($STRING[^\n]*)$/mg;
        $number{$1} = $2 while $code =~ /^#define (\w+)\s+(\d+)\s*$/mg;
    }
    return (\%plain, \%with, \%number);
}

sub expand ($code, $plain, $with, $number) {
    for my $name (keys %$with) {
        my ($parameter, $body) = $with->{$name}->@*;
        $code =~ s{\b$name\(\s*($LITERAL)\s*\)}{
            my ($call, $given) = ($&, $1);
            ($body =~ s/\b$parameter\b/$given/gr) . $call =~ s/[^\n]//gr
        }gex;
    }
    my $names = join '|', map { quotemeta } sort keys %$plain;
    if ($names) {
        1 while $code =~ s/($STRING|'(?:[^'\\]|\\.)+')(*SKIP)(*FAIL)|\b($names)\b/$plain->{$2}/g;
    }
    return $code =~ s/\bAPR_STRINGIFY\(\s*(\w+)\s*\)/exists $number->{$1} ? qq{"$number->{$1}"} : $&/ger;
}

sub unescape ($literals) {
    my $text = join '', map { substr $_, 1, -1 } $literals =~ /$STRING|\b\w+\b/g;
    return $text =~ s/\\n/\n/gr =~ s/\\t/\t/gr =~ s/\\(.)/$1/gr;
}

sub phrases_of ($path, @headers) {
    my $code = code_of($path);
    my @macros = macros_of(@headers, $path);
    $code =~ s/^#.*$//mg;
    $code = expand($code, @macros);
    $code =~ s/($STRING)|\bAPR_\w+_FMT\b/$1 \/\/ '"d"'/ge;    # what follows a % in the string before it
    my (@found, @calls, @levels, $word);
    while ($code =~ /\G(?:\s+|($LITERAL)|'(?:[^'\\]|\\.)+'|(\w+)|(.))/gs) {
        my ($literal, $name, $other) = ($1, $2, $3);
        if (defined $literal) {
            my $line = 1 + (substr($code, 0, pos($code) - length $literal) =~ tr/\n//);
            push @found, {
                text  => unescape($literal),
                line  => $line,
                calls => [grep { defined } @calls],
                level => [grep { defined } @levels]->[-1],
            };
        } elsif (defined $name) {
            $word = $name;
            $levels[-1] //= $1 if @levels && $name =~ /^(?:APLOG|USERS_LOG)_(?!MARK)(\w+)$/;
            next;
        } elsif (defined $other && $other eq '(') {
            push @calls,  $word;
            push @levels, undef;
        } elsif (defined $other && $other eq ')') {
            pop @calls;
            pop @levels;
        }
        undef $word if defined $literal || defined $other;
    }
    return @found;
}

sub pattern_of ($text) {
    my @parts = split /(%%|%[-+ #0]*(?:\d+|\*)?(?:\.(?:\d+|\*))?(?:hh|h|ll|l|z|j)?[a-zA-Z])/, $text =~ s/\s+/ /gr =~ s/^ | $//gr;
    my $pattern = join '', map { $_ eq '%%' ? '%' : /^%/ ? '.*?' : quotemeta } @parts;
    return qr/$pattern/;
}

1;
