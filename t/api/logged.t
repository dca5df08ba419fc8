# Does PostgreSQL log what clients send? The error log has a warning where it would, once for each start,
# with the role and what turns that off; and is silent where it would not.

use v5.36;
use Users::Test;

my $server = Users::Test->new;
my $dir    = $server->dir;
my $CANARY = 'canary-of-a-body';
my $WARNS  = qr/\[users:warn\] .*PostgreSQL logs what clients send/;

# As README has it for peer authentication: a member of mod_users, whose settings are its own.
my $PEER = 'www-data';
$server->sql(qq(create role "$PEER" login in role mod_users));
$server->postgres->let_in($PEER);

my $requests = 0;

# Start httpd with sessions of a role. Returns whether PostgreSQL's log has a body then, and the warnings.
sub try_role ($role, %option) {
    my $conninfo = $server->conninfo =~ s/user=\w+/user=$role/r;
    my $canary   = $CANARY . ++$requests;
    $server->stop if $server->pid;
    $server->start(vhost => "UsersDB \"$conninfo\"\n" . ($option{vhost} // ''));
    for my $n (1 .. 3) {
        my $answer = $server->request(PATCH => '/api/users', token => FULL_TOKEN,
            json => { user => $n == 2 && $option{fails} ? { city => $canary, fname => 'fail' } : { city => $canary } });
        is $answer->{status}, $n == 2 && $option{fails} ? 500 : 200, "PATCH $n";
    }
    my $logged = $server->postgres->log =~ /\b$canary\b/ ? 1 : 0;
    return ($logged, grep { $_ =~ $WARNS } $server->error_log);
}

# Settings of the whole server; what the role has of its own goes before.
sub set (@settings) {
    $server->sql('alter system reset all');
    $server->sql("alter system set $_") for @settings;
    $server->sql('select pg_reload_conf()');
    wait_until(sub {
        my %all = map { /^(\w+) = '?(.*?)'?$/ } @settings;
        return !grep { $server->sql("select setting from pg_settings where name = '$_'") ne $all{$_} } keys %all;
    }, 'the settings to count');
}

my %LOGS = (    # settings by which statements get into the log with what they have for parameters
    'all statements'    => [q(log_statement = 'all')],
    'slow ones'         => [q(log_min_duration_statement = '0')],
    'a sample'          => [q(log_min_duration_sample = '0'), q(log_statement_sample_rate = '1')],
    'some transactions' => [q(log_transaction_sample_rate = '1')],
);
my %DOES_NOT = (
    'a stock server'    => [],
    'changes alone'     => [q(log_statement = 'mod')],      # ours are SELECTs
    'an empty sample'   => [q(log_min_duration_sample = '0'), q(log_statement_sample_rate = '0')],
    'no parameters'     => [q(log_statement = 'all'), q(log_parameter_max_length = '0')],
);

for my $name (sort keys %LOGS) {
    subtest "PostgreSQL logs $name" => sub {
        set($LOGS{$name}->@*);
        my ($logged, @warnings) = try_role($PEER);
        is $logged, 1, "it does log a body from $PEER";
        is @warnings, 1, '... and the error log has a warning';
        my ($setting) = $LOGS{$name}[0] =~ /^(\w+)/;
        like $warnings[0], qr/the database users\@$dir\S*: .* from sessions of the role "$PEER" \($setting = \w+, log_parameter_max_length = -1\): connect as mod_users, .*pg_ident\.conf; or have a superuser say: alter role "$PEER" set log_parameter_max_length = 0$/,
            '... with the role, why, and the cure';
        $server->expect_log($WARNS);

        ($logged, @warnings) = try_role('mod_users');
        is $logged, 0, 'it logs none from mod_users';
        is @warnings, 0, '... without a warning';

        $server->sql(qq(alter role "$PEER" set log_parameter_max_length = 0));
        ($logged, @warnings) = try_role($PEER);
        is $logged, 0, "the cure keeps that of $PEER out";
        is @warnings, 0, '... and ends the warning';
        $server->sql(qq(alter role "$PEER" reset log_parameter_max_length));
    };
}

for my $name (sort keys %DOES_NOT) {
    subtest "PostgreSQL logs no body: $name" => sub {
        set($DOES_NOT{$name}->@*);
        for my $role ($PEER, 'mod_users') {
            my ($logged, @warnings) = try_role($role);
            is $logged, 0, "it logs no body from $role";
            is @warnings, 0, '... without a warning';
        }
    };
}

subtest 'PostgreSQL logs parameters of what fails' => sub {
    $server->sql(<<~'SQL');
        create function public.fail() returns trigger language plpgsql as
          $$ begin if new.fname = 'fail' then raise exception 'it fails'; end if; return new; end $$;
        create trigger fail before update on users.account for each row execute function public.fail();
        SQL
    set(q(log_parameter_max_length_on_error = '-1'));
    my ($logged, @warnings) = try_role($PEER, fails => 1);
    is $logged, 1, "it does log a body from $PEER";
    is @warnings, 1, '... and the error log has a warning';
    like $warnings[0], qr/the role "$PEER" \(log_parameter_max_length_on_error = -1\): .* say: alter role "$PEER" set log_parameter_max_length_on_error = 0$/,
        '... with the role, why, and the cure';
    $server->expect_log($WARNS);
    $server->expect_log(qr/refused update_accounts: P0001 it fails/);
    ($logged, @warnings) = try_role('mod_users', fails => 1);
    is $logged, 0, 'it logs none from mod_users';
    is @warnings, 0, '... without a warning';
    $server->expect_log(qr/refused update_accounts: P0001 it fails/);
};

subtest 'it is said once' => sub {
    set(q(log_statement = 'all'), q(log_parameter_max_length_on_error = '-1'));
    my (undef, @warnings) = try_role($PEER);
    like $warnings[0], qr/\(log_statement = all, log_parameter_max_length = -1, log_parameter_max_length_on_error = -1\): .* alter role "$PEER" set log_parameter_max_length = 0; alter role "$PEER" set log_parameter_max_length_on_error = 0$/,
        'both ways in one line';
    $server->expect_log($WARNS);
    $server->parallel(map { [GET => '/api/users', token => READ_TOKEN] } 1 .. 10);
    is scalar(grep { $_ =~ $WARNS } $server->error_log), 1, 'by one child';
    if (!$server->single_process) {
        $server->allow_log(qr/long lost child came home/);    # httpd's word on the restart
        $server->graceful;
        is $server->request(GET => '/api/users', token => READ_TOKEN)->{status}, 200, 'after a reload';
        is scalar(grep { $_ =~ $WARNS } $server->error_log), 1, '... it is not said again';
    }
    (undef, @warnings) = try_role($PEER, vhost => 'UsersDBPrepare off');
    is @warnings, 1, 'behind a pooler, too';
    $server->expect_log($WARNS);
};

done_testing;
