package Users::Test::Resolver;

=head1 NAME

Users::Test::Resolver - what the names of hosts stand for (t/fault/resolver.c)

=head1 SYNOPSIS

    my $resolver = Users::Test::Resolver->new($server->dir);
    local %ENV = (%ENV, $resolver->environment);
    $server->start(preload => $resolver->library);

    $resolver->set('db.test' => '127.0.0.1,127.0.0.2');

=head1 METHODS

C<set> says what comes of a look-up of each name: addresses, C<fails> or C<hangs>; one that it does not name
does not exist. C<asked> is how many look-ups there were of a name.

=cut

use v5.36;
use Cwd            qw(abs_path);
use File::Basename qw(dirname);
use Users::Test::Process qw(slurp);

my $SOURCE  = $ENV{USERS_SRCDIR}           // abs_path(dirname(__FILE__) . '/../../../..');
my $LIBRARY = $ENV{USERS_RESOLVER_LIBRARY} // "$SOURCE/t/fault/.libs/resolver.so";

sub new ($class, $dir) {
    -e $LIBRARY or die "$LIBRARY is missing: make t/fault/resolver.la\n";
    my $self = bless { path => "$dir/names" }, $class;
    open my $file, '>', "$self->{path}.asked" or die "$self->{path}.asked: $!\n";
    chmod 0666, "$self->{path}.asked";    # httpd's children are another user's
    $self->set;
    return $self;
}

sub library ($self) { $LIBRARY }

sub environment ($self) {
    return (USERS_RESOLVER => $self->{path});
}

# At once, whoever is reading.
sub set ($self, %names) {
    open my $file, '>', "$self->{path}.new" or die "$self->{path}.new: $!\n";
    print $file map { "$_ $names{$_}\n" } sort keys %names;
    close $file;
    rename "$self->{path}.new", $self->{path} or die "$self->{path}: $!\n";
}

sub asked ($self, $name) {
    return scalar grep { $_ eq $name } split /\n/, slurp("$self->{path}.asked");
}

1;
