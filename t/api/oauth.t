# A strict OAuth client (oauth4webapi, from npm) gets along without a workaround, over TLS.

use v5.36;
use Cwd            qw(abs_path);
use File::Basename qw(dirname);
use JSON::PP       ();
use Users::Test;
use Users::Test::Process qw(run);

my $SOURCE = $ENV{USERS_SRCDIR} // abs_path(dirname(__FILE__) . '/../..');
-d "$SOURCE/t/oauth/node_modules"
    or plan skip_all => "oauth4webapi is not there: npm ci --prefix $SOURCE/t/oauth";

# A name, an id and a secret that must be encoded on their way (RFC 6749 section 2.3.1).
my ($ID, $SECRET) = ('panel: +&', 's%c:r+t/&=');

my $server = Users::Test->new;
$server->sql(<<~SQL);
    insert into users.application (name, client_id, secret_digest, scopes)
    values ('panel', '$ID', sha256('$SECRET'), '{register,introspect}');
    insert into users.credential (user_id, username, secret_digest)
    values (1, 'john', sha256('johns password'));
    SQL

my $certificate = $server->dir . '/server';
system('openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost'
        . " -addext subjectAltName=IP:127.0.0.1 -keyout $certificate.key -out $certificate.crt 2>/dev/null")
    == 0
    or die "openssl makes no certificate\n";
$server->start(
    modules => ['ssl'],
    vhost   => "UsersPasswordGrant on\n" . OAUTH_ENDPOINTS . <<~CONF,
        SSLEngine on
        SSLCertificateFile $certificate.crt
        SSLCertificateKeyFile $certificate.key
        CONF
);
$server->allow_log(qr/\[ssl:warn\]/);    # a certificate of its own making

sub client ($resource) {
    local $ENV{NODE_EXTRA_CA_CERTS} = "$certificate.crt";
    my $input = $server->dir . '/input';
    open my $file, '>', $input or die "$input: $!\n";
    print $file JSON::PP::encode_json(
        { secret => $SECRET, name => 'john', password => 'johns password' });
    close $file;
    my ($status, $output, $error) = run(
        ['sh', '-c', 'exec node "$1" "$2" "$3" <"$4"', 'sh', "$SOURCE/t/oauth/client.mjs", $resource, $ID, $input],
        $server->dir . '/node');
    is $status, 0, 'the client is content' or diag($error);
    return JSON::PP::decode_json($output || '{}');
}

my $base  = 'https://127.0.0.1:' . $server->port;
my $found = client("$base/api/users");

is_deeply $found->{challenges}, [['bearer', 'invalid_token'], ['basic', undef]], 'it reads the challenges';
is $found->{metadata_url}, "$base/.well-known/oauth-protected-resource/api/users",
    'they tell where the metadata are';
is $found->{resource}{resource}, "$base/api/users", 'it discovers the resource';
is $found->{issuer}, $base, 'and the authorization server';
for my $method (qw(ClientSecretBasic ClientSecretPost)) {
    my $steps = $found->{$method};
    is $steps->{token}{scope},      'register introspect', "$method: a token";
    is $steps->{token}{token_type}, 'bearer',              "$method: of the type that it knows";
    ok $steps->{introspection}{active}, "$method: which is active";
    is $steps->{introspection}{client_id}, $ID, "$method: and the client's own";
    is $steps->{registered}{status}, 201, "$method: it registers";
    is_deeply $steps->{revoked}, { active => JSON::PP::false }, "$method: until it is revoked";
}
is $found->{read}{body}{user}{fname}, 'John', 'an owner\'s token reads the account';
is_deeply $found->{wrong}, ['WWWAuthenticateChallengeError', undef, 401], 'a wrong secret is a challenge';

done_testing;
