# The module answers, and the seed's example is what user 1 sees.

use v5.36;
use JSON::PP ();
use Users::Test;

my $server = Users::Test->start;

my $answer = $server->request(GET => '/api/users', token => READ_TOKEN);
is $answer->{status}, 200, 'GET with a token';
is_deeply $answer->{json}{user}, {
    id           => 1,
    fname        => 'John',
    lname        => 'Doe',
    email        => 'john@example.com',
    phone        => undef,
    address1     => undef,
    address2     => undef,
    city         => undef,
    company_name => undef,
    country      => 'US',
    timezone     => 'America/Los_Angeles',
    currency     => { code => 'USD', symbol => '$' },
    c_sftp_pass  => JSON::PP::false,
    zip          => undef,
    vat          => undef,
    state        => undef,
    locale       => 'en',
    created_at   => '2019-04-04T07:36:50.637Z',
    updated_at   => '2019-09-19T19:16:07.155Z',
    billing_plan => { id => 1, name => 'default' },
    services     => {
        projects             => 0,
        containers           => 0,
        container_services   => 0,
        container_images     => 1,
        container_registries => 0,
        dns_zones            => 0,
    },
    quota => {
        containers => { current => 0, quota => 250, is_over => JSON::PP::false, available => 250 },
        cr         => { current => 0, quota => 20,  is_over => JSON::PP::false, available => 20 },
        dns_zones  => { current => 0, quota => 250, is_over => JSON::PP::false, available => 250 },
    },
    unprocessed_usage => 0,
}, 'the example account';
like $answer->{body}, qr/"unprocessed_usage"\s*:\s*0\.0\b/, 'a decimal keeps its digits';

$answer = $server->request(PATCH => '/api/users',
    token => FULL_TOKEN, json => { user => { city => 'Utrecht' } });
is $answer->{status}, 200, 'PATCH with a token';
is $answer->{json}{user}{city}, 'Utrecht', 'the change is in the answer';

$answer = $server->request(POST => '/api/users',
    token => REGISTER_TOKEN,
    json  => {
        user => {
            fname             => 'Jane',
            lname             => 'Roe',
            provider_server   => 'server.example',
            provider_username => 'jane',
        }
    });
is $answer->{status}, 201, 'POST with a token';
my $api = $answer->{json}{user}{api};

$answer = $server->request(GET => '/api/users', basic => [$api->@{qw(username password)}]);
is $answer->{status}, 200, 'GET with the new credentials';
is $answer->{json}{user}{fname}, 'Jane', 'shows the new account';

$answer = $server->request(GET => '/api/users');
is $answer->{status}, 401, 'GET without credentials';

done_testing;
