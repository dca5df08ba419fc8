# What the module judges by its form and the database by its tables has one sentence.

use v5.36;
use Users::Test;

my $server = Users::Test->start;

sub errors ($field, $value) {
    my $answer = $server->request(PATCH => '/api/users', token => FULL_TOKEN,
        json => { user => { $field => $value } });
    is $answer->{status}, 422, "$field '$value' is refused";
    return $answer->{json}{errors};
}

# A field, what has not its form, and what has, but is not there.
for (['country', 'USA', 'ZZ'], ['currency', 'dollars', 'ZZZ'], ['locale', 'english', 'zz']) {
    my ($field, $malformed, $unknown) = @$_;
    is_deeply errors($field, $unknown), errors($field, $malformed), '... whoever finds it out';
}

done_testing;
