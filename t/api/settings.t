# No setting that a role, a database or a session may have changes an answer of the API, or what it
# stores: a run of requests, of an administrator's SQL and of usersctl gives the same under each.

use v5.36;
use utf8;
use Cwd            qw(abs_path);
use File::Basename qw(dirname);
use Users::Test;
use Users::Test::Usersctl;

my $SOURCE = $ENV{USERS_SRCDIR} // abs_path(dirname(__FILE__) . '/../..');

# Settings of these kinds that PostgreSQL knows are tried with each value that they have.
my $KINDS = 'Locale and Formatting|Statement Behavior|Version and Platform Compatibility|Error Handling|Customized';

# But for those that are there to refuse changes, to leave triggers out, to end a session with an error and to
# tell more.
my @MEANT = qw(default_transaction_read_only session_replication_role exit_on_error client_min_messages);

# Values of settings that are no choice, as SQL has them.
my @VALUES = (
    DateStyle                => "'German, DMY'",
    DateStyle                => "'SQL, MDY'",
    DateStyle                => "'Postgres, YMD'",
    TimeZone                 => "'America/New_York'",
    TimeZone                 => "'Pacific/Apia'",
    TimeZone                 => "'Asia/Kolkata'",
    timezone_abbreviations   => "'India'",
    extra_float_digits       => '-15',
    extra_float_digits       => '3',
    client_encoding          => 'LATIN1',
    default_text_search_config => "'simple'",
    lc_messages              => "'C'",
    search_path              => "''",
    search_path              => 'hostile, public, pg_catalog',
    'plpgsql.variable_conflict' => 'use_variable',
    'plpgsql.variable_conflict' => 'use_column',
    'plpgsql.extra_errors'   => "'all'",
    plan_cache_mode          => 'force_generic_plan',
    plan_cache_mode          => 'force_custom_plan',
    jit                      => 'on',
);

my $server   = Users::Test->new;
my $usersctl = Users::Test::Usersctl->new($server);
$server->sql('create database installed', 'postgres');

# Functions of a schema that somebody has put before PostgreSQL's own.
sub plant ($database) {
    $server->sql(<<~'SQL', $database);
        create schema hostile;
        grant usage on schema hostile to public;
        do $do$ declare f text; begin
          foreach f in array '{lower(text),upper(text),to_json(text),concat(variadic text[]),octet_length(text),sha256(bytea)}'::text[]
          loop
            execute format('create function hostile.%s returns text language plpgsql as
              $$ begin raise exception ''a function of another schema''; end $$', f);
          end loop;
        end $do$
        SQL
}

# Without what the module asks for when it connects, as behind a pooler that drops it.
sub start ($database) {
    $server->start(site => <<~SITE);
        UsersDB "@{[$server->conninfo($database)]}"
        UsersDBPrepare off
        <Location /api/users>
          UsersEndpoint account
        </Location>
        @{[OAUTH_ENDPOINTS]}
        SITE
}

# What the run's answers have that is made by chance or by the clock.
sub stable ($text) {
    return $text
        =~ s/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/TIME/gr
        =~ s/(?<=_)[0-9a-f]{12}(?=\@)/HEX/gr
        =~ s/"(?:id|sub|exp|iat|created_at)":"?\K\d+/NUMBER/gr
        =~ s/"(?:username|password|access_token|token)":"\K[\w-]{20,}(?=")/SECRET/gr;
}

my @answers;

sub ask ($method, $path, %option) {
    my $answer = $server->request($method, $path, %option);
    push @answers, "$method $path $answer->{status} " . stable($answer->{body});
    return $answer;
}

sub change ($user, %option) {
    return ask(PATCH => '/api/users', token => FULL_TOKEN, json => { user => $user }, %option);
}

my %person = (fname => 'Jane', lname => "O'Neil \\ \"J\"", provider_server => 's.example', provider_username => '..j\\d\'"x');

sub register ($user = {}, @headers) {
    return ask(POST => '/api/users', token => REGISTER_TOKEN, headers => \@headers, json => { user => { %person, %$user } });
}

sub call_oauth ($endpoint, %form) {
    return ask(POST => "/api/oauth/$endpoint", basic => [CLIENT_ID, CLIENT_SECRET], form => [%form]);
}

# The run. Returns what came of it.
sub outcome ($database) {
    @answers = ();
    $server->sql(<<~'SQL', $database);
        delete from users.account where id > 1;
        delete from users.idempotency;
        delete from users.token where expires_at is not null;
        update users.application set scopes = '{public,register,introspect}';
        update users.account set fname = 'John', email = 'john@example.com', country = 'US', currency = 'USD', locale = 'en',
          city = null, address1 = null, zip = null, phone = null, company_name = null, state = '', c_sftp_pass = false,
          labels = '{}', vat = E'''"\\é', unprocessed_usage = 12.34567890123456789,
          usage = '{"projects": 3.0, "containers": 1e2, "dns_zones": 9223372036854775807.0}',
          created_at = '2019-04-04 07:36:50.637+00' where id = 1
        SQL
    my $etag = ask(GET => '/api/users', token => READ_TOKEN)->{headers}{etag};
    change({ city => 'Delft' }, headers => ['If-Match' => $etag]);
    change({ city => 'Leiden' }, headers => ['If-Match' => $etag]);
    change({
        fname => "Zoë \\ '' \" \x{1F600}", email => 'John.Doe@example.com', country => 'nl', currency => 'eur', locale => 'nl',
        address1 => '\\x41\\101', zip => '01.02.03', phone => 'NULL', company_name => '', state => undef, c_sftp_pass => \1,
    });
    ask(PATCH => '/api/users', token => FULL_TOKEN, headers => ['Content-Type' => 'application/json'],
        body => '{"user":{"merge_labels":{"n":[0.1,1e22,-0.0,100000000000000000.00000001],"\\\\\'\"":"\\\\x41","d":"2019-04-04","x":null}}}');
    register();
    register({ email => 'JOHN.DOE@example.com', external_id => '\\1', labels => { a => [1.5, "\\'"] } });
    register({ external_id => '\\1' });
    register({ email => 'key@example.com' }, 'Idempotency-Key' => '"\\\\key"') for 1, 2;
    my $api = register({ email => "new\@example.com", currency => 'JPY', city => "\\'\"" })->{json}{user}{api};
    my @basic = (basic => [$api->@{qw(username password)}]);
    ask(GET => '/api/users', @basic);
    change({ email => 'john.doe@EXAMPLE.com', country => 'ZZ', currency => 'ZZZ', locale => 'zz' }, token => undef, @basic);
    call_oauth('token', grant_type => 'client_credentials', scope => 'nothing');
    my $token = call_oauth('token', grant_type => 'client_credentials', scope => 'register public')->{json}{access_token};
    call_oauth('introspect', token => $_ // '') for $token, FULL_TOKEN;
    call_oauth($_, token => $token // '') for qw(revoke introspect);
    my @db = ('--db', "dbname=$database");
    for (['user', 'show', 'JOHN.DOE@example.com'], [qw(user show nobody@example.com)],
        # over a change to or from summer time, whenever this runs
        (map { [qw(token issue --application), CLIENT_ID, qw(--user 1 --scopes profile_read --expires), $_] } '91d', '182d', '273d'),
        [qw(purge --older-than 1d)]) {
        my ($status, $output, $error) = $usersctl->run(@db, '--json', @$_);
        push @answers, "usersctl @$_: $status " . stable($output =~ s/"\w+_at":"[^"]+"/TIME/gr =~ s/"digest":"\w+"//r) . $error;
    }
    push @answers, stable($server->sql(<<~'SQL', $database));
        select email, locale, labels::text, document_head, document_middle, document_services from users.account order by id;
        select key, encode(payload_digest, 'hex') from users.idempotency order by key;
        select scopes, mod(extract(epoch from expires_at - created_at), 86400) = 0
        from users.token where user_id = 1 and expires_at is not null order by expires_at
        SQL
    return [@answers];
}

# Give a database a setting, and so each session that begins.
sub set ($database, $name, $value) {
    $server->sql("alter $_ set $name = $value") for "database $database", "role mod_users in database $database";
}

sub reset_all ($database) {
    $server->sql("alter $_ reset all") for "database $database", "role mod_users in database $database";
}

sub reconnect () {
    $server->sql("select pg_terminate_backend(pid, 10000) from pg_stat_activity where usename = 'mod_users'");
}

sub differences ($got, $wanted) {
    for my $i (0 .. ($#$got > $#$wanted ? $#$got : $#$wanted)) {
        my ($is, $was) = map { $_->[$i] // '(nothing)' } $got, $wanted;
        return "$is\nin place of\n$was" if $is ne $was;
    }
    return '';
}

my $meant = join ', ', map { "'$_'" } @MEANT;
push @VALUES, map { split /\|/ } split /\n/, $server->sql(<<~SQL);
    select name, quote_literal(value) from pg_settings,
      unnest(case vartype when 'bool' then array[case setting when 'on' then 'off' else 'on' end] else enumvals end) as value
    where context in ('user', 'superuser') and category ~ '$KINDS' and name not in ($meant) and name !~ '^transaction_'
      and vartype in ('bool', 'enum') and value <> setting order by 1, 2
    SQL

plant('users');
start('users');
my $wanted = outcome('users');
my @refused = grep { / 5\d\d / || /^usersctl.*: 3 / } @$wanted;
is_deeply \@refused, [], 'under the defaults nothing fails';
is scalar(grep { / 20[01] / } @$wanted), 15, '... and most of it is done';

my @settings = @VALUES;
while (my ($name, $value) = splice @settings, 0, 2) {
    set('users', $name, $value);
    reconnect();
    is differences(eval { outcome('users') } // [$@], $wanted), '', "$name = $value";
    reset_all('users');
}
$server->stop;

# The last value of each, from the installation on.
my %last = @VALUES;
set('installed', $_, $last{$_}) for sort keys %last;
my ($status, undef, $error) = $usersctl->run(qw(--db installed --sql), "$SOURCE/sql", qw(database install));
is $status, 0, 'an installation under all of them at once' or diag $error;
$server->fill('installed');
plant('installed');
start('installed');
is differences(outcome('installed'), $wanted), '', 'a run in it';

done_testing;
