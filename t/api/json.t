# The public test suite of JSON parsers, over HTTP: what is valid JSON can be a label's value and is
# stored as it is; what is not is refused, whether it is a value or the whole body.

use v5.36;
use Cwd            qw(abs_path);
use Encode         qw(decode_utf8);
use File::Basename qw(dirname);
use Users::Test;
use Users::Test::Process qw(slurp);

my $SOURCE = $ENV{USERS_SRCDIR} // abs_path(dirname(__FILE__) . '/../..');

# Valid, and refused on purpose: a key that comes twice, and U+0000, which PostgreSQL has no text with.
my %REFUSED = map { $_ => 1 } qw(y_object_duplicated_key y_object_duplicated_key_and_value
    y_object_escaped_null_in_key y_string_null_escape);

# name => bytes
my %suite = (
    # as long as the limit of a body lets them be
    n_structure_100000_opening_arrays => '[' x 60_000,
    n_structure_open_array_object     => '[{"":' x 12_000 . "\n",
    i_structure_500_nested_arrays     => '[' x 500 . ']' x 500,
);
for (grep { /^[^#]/ } split /\n/, slurp("$SOURCE/t/api/json-test-suite")) {
    my ($name, $bytes) = split /\t/, $_, 2;
    $suite{$name} = $bytes =~ s/\\(?:x([0-9a-f]{2})|\\)/defined $1 ? chr hex $1 : '\\'/ger;
}
is scalar keys %suite, 318, 'the cases are there';

my $server = Users::Test->start;

sub patch ($body) {
    return $server->request(PATCH => '/api/users', token => UPDATE_TOKEN,
        headers => ['Content-Type' => 'application/json'], body => $body)->{status};
}

sub label ($name) { return qq("$name":$suite{$name}) }
sub patch_label ($name) { return patch('{"user":{"merge_labels":{' . label($name) . '}}}') }

my @valid = grep { /^y/ && !$REFUSED{$_} } sort keys %suite;
is patch_label($_), 200, $_ for @valid;
my $labels = join ',', map { label($_) } grep { $suite{$_} ne 'null' } @valid;    # which removes a label
is $server->sql('select labels = $suite${' . decode_utf8($labels) . '}$suite$ from users.account where id = 1'), 't',
    'what is valid is stored';
for my $name (grep { /^[in]/ || $REFUSED{$_} } sort keys %suite) {
    is patch_label($name), 400, $name;
    is patch($suite{$name}), 400, '... as the whole body';
}

done_testing;
