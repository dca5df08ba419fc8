# All that tells a version tells the same one: configure.ac, CHANGELOG.md, and Debian's changelog.

use v5.36;
use Cwd            qw(abs_path);
use File::Basename qw(dirname);
use Test::More;

my $SOURCE = $ENV{USERS_SRCDIR} // abs_path(dirname(__FILE__) . '/../..');

# What a pattern finds first in a file.
sub find_in ($name, $pattern) {
    open my $file, '<', "$SOURCE/$name" or die "$name: $!\n";
    local $/;
    my ($found) = <$file> =~ $pattern;
    return $found;
}

my $version = find_in('configure.ac', qr/^AC_INIT\(\[mod_users\], \[([\d.]+)\]\)/m);
like $version, qr/\A\d+\.\d+\.\d+\z/, 'configure.ac has a version';
is find_in('CHANGELOG.md',     qr/^## \[([\d.]+)\] - \d{4}-\d\d-\d\d$/m), $version, 'CHANGELOG.md begins with it';
is find_in('debian/changelog', qr/\Amod-users \(([\d.]+)-\d+\) /),        $version, 'debian/changelog begins with it';

done_testing;
