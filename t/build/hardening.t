# What the built module is made of: an attacker who finds a flaw should not find it easy to use.
# Where the user's own flags had a word, configure had none: USERS_TEST_HARDENING is what it chose.
# (_FORTIFY_SOURCE leaves no trace while the size of every buffer is known to the compiler.)

use v5.36;
use Cwd            qw(abs_path);
use File::Basename qw(dirname);
use Test::More;

my $SOURCE = $ENV{USERS_SRCDIR} // abs_path(dirname(__FILE__) . '/../..');
my $MODULE = $ENV{USERS_MODULE} // "$SOURCE/.libs/mod_users.so";
my $CHOSEN = $ENV{USERS_TEST_HARDENING} // '-fstack-protector-strong -Wl,-z,relro -Wl,-z,now';

sub output (@command) {
    open my $pipe, '-|', @command or die "$command[0]: $!\n";
    local $/;
    my $output = <$pipe>;
    close $pipe or die "@command: failed\n";
    return $output;
}

my $dynamic  = output(qw(readelf -W --dynamic), $MODULE);
my $segments = output(qw(readelf -W --segments), $MODULE);
my $symbols  = output(qw(readelf -W --dyn-syms), $MODULE);
my $code     = output(qw(objdump -d -j .text), $MODULE);

# Flag, what it does, how that shows.
my @flags = (
    ['-z,relro', 'what relocation has written is read-only', sub { $segments =~ /\bGNU_RELRO\b/ }],
    ['-z,now', '... the table of functions too',
        sub { $dynamic =~ /\(FLAGS\).*\bBIND_NOW\b/ && $dynamic =~ /\(FLAGS_1\).*\bNOW\b/ }],
    ['-z,noexecstack', 'nothing on the stack is code', sub { $segments =~ /\bGNU_STACK\b.* RW\s/ }],
    ['-fstack-protector-strong', 'a stack that was overrun is noticed',
        sub { $symbols =~ /\bUND __stack_chk_fail\b/ }],
    ['-fstack-clash-protection', 'no frame reaches past the end of the stack unnoticed',
        sub {
            # a frame larger than a page is probed; how that looks is known of this processor
            return 1 unless $code =~ /\bfile format elf64-x86-64\b/;
            return $code =~ /\bor[lq]\s+\$0x0,(?:0x[0-9a-f]+)?\(%rsp\)/;
        }],
    ['-fcf-protection', 'a function is entered at its beginning only',
        sub { 10 < grep { /\bendbr(?:32|64)\b/ } split /\n/, $code }],
);
for (@flags) {
    my ($flag, $effect, $shows) = @$_;
    SKIP: {
        skip "$flag is the user's or not known", 1 unless index("$CHOSEN ", "$flag ") >= 0;
        ok $shows->(), $effect;
    }
}
unlike $dynamic, qr/\bTEXTREL\b/, 'the code is the same wherever it is loaded';
unlike $segments, qr/^\s+LOAD\b.* RWE /m, 'no memory is writable and code';
is_deeply [sort $symbols =~ /\bDEFAULT\s+\d+ (\S+)/g], ['users_module'],
    'nothing but the module record can be seen from outside';

done_testing;
