# An administrator's accounts, without SQL: usersctl finds, lists, makes, changes, removes and exports them,
# and looks after plans, groups and quotas. GET shows what comes of it.

use v5.36;
use utf8;
use JSON::PP qw();
use Users::Test;
use Users::Test::Session;
use Users::Test::Usersctl;

binmode $_, ':utf8' for map { Test::More->builder->$_ } qw(output failure_output);

my $server   = Users::Test->start(vhost => "UsersDBTimeout 30s\nUsersRequestTimeout 60s");    # a change waits here and there
my $usersctl = Users::Test::Usersctl->new($server);

sub usersctl (@arguments) { $usersctl->run(@arguments) }
sub told     (@arguments) { $usersctl->told(@arguments) }

# Commands that end with a status and one line on standard error, and change nothing.
sub refuses (@cases) {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $before = data();
    for (@cases) {
        my ($is, $message, @arguments) = @$_;
        my ($status, $output, $error) = usersctl(@arguments);
        is "$status $output", "$is ", "'" . substr("@arguments", 0, 80) . "' is $is";
        like $error =~ s/\n\z//r, qr/\Ausersctl: [^\n]*$message[^\n]*\z/, '... and says why, in a line';
    }
    is data(), $before, 'nothing has changed';
}

sub data () {
    return join "\n", map { $server->sql("select row from users.$_ as row order by row::text") }
        qw(account provider_account provider_account_later billing_plan account_group group_quota token credential);
}

# The account of API credentials that a user is given.
my %pair;

sub user ($id) {
    my $made = $pair{$id} //= told(qw(credential add), $id);
    return $server->request(GET => '/api/users', basic => [@$made{qw(username password)}]);
}

told(qw(application add panel --client-id panel --scopes), 'public register');

# ---- Plans, groups, quotas -------------------------------------------------------------------

subtest 'plans and groups' => sub {
    is_deeply told(qw(plan list)), [{ id => 1, name => 'default' }], 'there is one plan';
    is_deeply told(qw(plan add 7 name=Gold)), { id => 7, name => 'Gold' }, 'another';
    is told(qw(user set 1 plan=Gold))->{outcome}, 'changed', 'an account has it by name';
    is_deeply user(1)->{json}{user}{billing_plan}, { id => 7, name => 'Gold' }, '... and shows it';
    my $tag = user(1)->{headers}{etag};
    is_deeply told('plan', 'set', 'Gold', 'name=Gold "+" 日本'), { id => 7, name => 'Gold "+" 日本' }, 'its name changes';
    is_deeply user(1)->{json}{user}{billing_plan}, { id => 7, name => 'Gold "+" 日本' }, '... in every document, at once';
    isnt user(1)->{headers}{etag}, $tag, '... with its tag';
    is_deeply told(qw(group add 2 name=Resellers)), { id => 2, name => 'Resellers' }, 'a group';
    is_deeply told(qw(group list)), [{ id => 1, name => 'default', quotas => 3 }, { id => 2, name => 'Resellers', quotas => 0 }],
        'groups say how many quotas they have';
    is_deeply told(qw(group set 2 name=Partners)), { id => 2, name => 'Partners' }, 'its name changes';
    is_deeply [map { scalar told($_, 'list', qw(--limit 2))->@* } qw(plan group)], [2, 2], 'lists';
    my ($status, $output, $error) = usersctl(qw(plan list --limit 1));
    like $error, qr/more than these 1/, '... have a limit';

    refuses(
        (map {
            my $kind = $_;
            ([2, qr/the id 7?x must be a number from 1/,     $kind, 'add', '7x', 'name=x'],
             [2, qr/the id 0 must be/,                       $kind, qw(add 0 name=x)],
             [2, qr/the id 9999999999 must be/,              $kind, qw(add 9999999999 name=x)],
             [1, qr/the id 1 is taken/,                      $kind, qw(add 1 name=x)],
             [1, qr/name is that of 1 already/,              $kind, qw(add 8 name=default)],
             [2, qr/name can't be blank/,                    $kind, qw(add 8 name=)],
             [2, qr/name must not be a number/,              $kind, qw(add 8 name=12)],
             [2, qr/name is too long/,                       $kind, qw(add 8), 'name=' . 'x' x 256],
             [2, qr/name can't have control/,                $kind, qw(add 8), "name=a\nb"],
             [2, qr/price is not a field of it: it takes name/, $kind, qw(add 8 name=x price=3)],
             [2, qr/$kind add needs FIELD=VALUE/,            $kind, qw(add 8)],
             [1, qr/there is no $kind nothing/,              $kind, qw(set nothing name=x)],
             [1, qr/there is no $kind 99/,                   $kind, qw(remove 99)],
             [1, qr/the $kind 1 is that of new accounts/,    $kind, qw(remove 1)])
        } qw(plan group)),
        [1, qr/accounts have the plan 7: usersctl user list --plan 7/, qw(plan remove 7)],
    );
    told(qw(user set 1 plan=1 group=2));
    is told(qw(plan remove 7))->{outcome}, 'removed', 'a plan that nobody has';
    refuses([1, qr/accounts have the group 2: usersctl user list --group 2/, qw(group remove 2)]);
};

subtest 'quotas' => sub {
    is_deeply user(1)->{json}{user}{quota}, {}, 'the group has none';
    is_deeply told(qw(quota add containers quota=9 --group Partners)),
        { group_id => 2, kind => 'containers', quota => 9, counter => 'containers' }, 'one';
    is_deeply told(qw(quota add mail quota=5 counter=mailboxes --group 2)),
        { group_id => 2, kind => 'mail', quota => 5, counter => 'mailboxes' }, '... and one with a counter of its own';
    is_deeply [map { $_->{kind} } told(qw(quota list --group 2))->@*], [qw(containers mail)], 'the list';
    is scalar told(qw(quota list))->@*, 5, '... of all';
    told(qw(usage set 1 mailboxes=5));
    is_deeply user(1)->{json}{user}{quota}{mail}, { current => 5, quota => 5, is_over => JSON::PP::true, available => 0 },
        'GET shows it';
    told(qw(quota set mail quota=6 --group 2));
    is user(1)->{json}{user}{quota}{mail}{available}, 1, '... and the next';
    told(qw(quota set mail counter= --group 2));
    is user(1)->{json}{user}{quota}{mail}{current}, 0, 'a counter of the kind\'s name';
    is told(qw(quota remove mail --group 2))->{outcome}, 'removed', 'without it';
    is_deeply [keys user(1)->{json}{user}{quota}->%*], ['containers'], '... GET does not show it';
    refuses(
        [1, qr/has a quota of containers already/, qw(quota add containers quota=1 --group 2)],
        [2, qr/quota must be a whole number/,     qw(quota add x counter=y --group 2)],
        [2, qr/quota must be/,                    qw(quota add x quota=-1 --group 2)],
        [2, qr/quota must be/,                    qw(quota set containers quota= --group 2)],
        [2, qr/counter is too long/,              qw(quota set containers --group 2), 'counter=' . 'x' x 256],
        [1, qr/has no quota of x/,                qw(quota set x quota=1 --group 2)],
        [1, qr/has no quota of x/,                qw(quota remove x --group 2)],
        [1, qr/there is no group nothing/,        qw(quota add x quota=1 --group nothing)],
        [1, qr/there is no group 99/,             qw(quota list --group 99)],
        [2, qr/kind is not a field of it/,        qw(quota set containers kind=x --group 2)],
        [2, qr/quota add needs --group/,          qw(quota add x quota=1)],
    );
    told(qw(user set 1 group=1));
    is told(qw(group remove 2))->{outcome}, 'removed', 'a group goes with its quotas';
    is scalar told(qw(quota list))->@*, 3, '... which are gone';
};

# ---- Accounts --------------------------------------------------------------------------------

my $jane;

subtest 'an account is made' => sub {
    $jane = told(qw(user add fname=Jane lname=Röe email=Jane@example.com city=Delft country=nl currency=eur locale=pt_br c_sftp_pass=1),
        'merge_labels={"tier":{"price":1.10}}', qw(vat=NL123 timezone=Europe/Amsterdam unprocessed_usage=12.500 external_id=4711
        application=panel provider_server=https://s.example:2087 provider_username=jane provider=CPanel group=1 plan=default));
    is $jane->{client_id}, 'panel', 'it says whose it is';
    my $user = user($jane->{id})->{json}{user};
    is_deeply [@$user{qw(fname lname email city country locale vat timezone c_sftp_pass)}],
        ['Jane', 'Röe', 'Jane@example.com', 'Delft', 'NL', 'pt-BR', 'NL123', 'Europe/Amsterdam', JSON::PP::true],
        'GET shows it, by the rules of the API';
    is $user->{currency}{code}, 'EUR', '... its currency';
    like user($jane->{id})->{body}, qr/"unprocessed_usage":12\.500\}/, '... every digit';
    is $server->sql("select labels from users.account where id = $jane->{id}"),
        '{"tier": {"price": 1.10}, "cpanel": {"https://s.example:2087": "jane"}}', 'its labels';
    my $bare = told(qw(user add fname=B lname=C email=b@example.com));
    is_deeply [@{ user($bare->{id})->{json}{user} }{qw(country locale phone)}], ['US', 'en', undef], 'what must be there is enough';
    my @new = qw(user add fname=B lname=C);
    refuses(
        [2, qr/fname can't be blank; lname can't be blank; email can't be blank$/, qw(user add city=x)],
        [2, qr/fname can't be blank; email is invalid; locale is not a known locale; c_sftp_pass must be a boolean; country is not a known country; currency is not a known currency; merge_labels must be an object in JSON; name is not a field$/,
            qw(user add fname= lname=x email=x country=xyz currency=e locale=foo c_sftp_pass=maybe merge_labels=3 name=x)],
        [2, qr/email can't be blank/,                        @new, 'email='],
        [2, qr/email is invalid; country is not a known country; currency is not a known currency; timezone is not a known time zone$/,
            @new, qw(email=x country=zz currency=qq timezone=x)],
        [2, qr/city is too long/,                            @new, 'email=c@example.com', 'city=' . 'x' x 256],
        [2, qr/merge_labels must be an object/,              @new, 'email=c@example.com', 'merge_labels={"a":1,"a":2}'],
        [2, qr/provider_username can't be blank/,            @new, 'email=c@example.com', 'provider_server=s'],
        [2, qr/plan can't be blank/,                         @new, 'email=c@example.com', 'plan='],
        [2, qr/id is not a field/,                           @new, 'email=c@example.com', 'id=9'],
        [2, qr/"fname" must be FIELD=VALUE/,                 qw(user add fname)],
        [1, qr/email has already been taken/,                @new, 'email=JANE@example.com'],
        [2, qr/country is not a known country; timezone is not a known time zone; unprocessed_usage must be a decimal number/,
            @new, qw(email=c@example.com country=XX timezone=Delft unprocessed_usage=1e3)],
        [1, qr/there is no plan 99/,                         @new, qw(email=c@example.com plan=99)],
        [1, qr/there is no group x/,                         @new, qw(email=c@example.com group=x)],
        [1, qr/there is no application x/,                   @new, qw(email=c@example.com application=x)],
        [1, qr/external_id needs an application/,            @new, qw(email=c@example.com external_id=1)],
        [1, qr/provider_server needs an application/,        @new, qw(email=c@example.com provider_server=s provider_username=u)],
        [1, qr/external_id has already been taken/,          @new, qw(email=c@example.com external_id=4711 application=panel)],
        [1, qr/provider_username has already been taken on this provider_server/,
            @new, qw(email=c@example.com application=panel provider_server=https://s.example:2087 provider_username=jane)],
        [2, qr/merge_labels is too large/,                   @new, 'email=c@example.com', 'merge_labels={"a":"' . 'x' x 16384 . '"}'],
    );
};

subtest 'an account is found' => sub {
    my $id = $jane->{id};
    is told(qw(user show), $_)->{id}, $id, $_ for $id, 'jane@EXAMPLE.com', "id=$id", 'email=jane@example.com', 'external_id=4711',
        'external_id=4711,application=panel', 'provider_server=https://s.example:2087,provider_username=jane',
        'provider=CPANEL,provider_username=jane,provider_server=https://s.example:2087,application=panel';
    told(qw(application add x --client-id second));
    my $other = told(qw(user add fname=J lname=R email=j2@example.com external_id=4711 application=second
        provider_server=https://s.example:2087 provider_username=jane));
    refuses(
        [1, qr/2 accounts have this external_id: name its application, too, such as application=panel/, qw(user show external_id=4711)],
        [1, qr/2 accounts have this provider_server and provider_username: name its application, too, such as application=panel, or its id: $id, $other->{id}$/,
            qw(user show provider_server=https://s.example:2087,provider_username=jane)],
        [1, qr/there is no user external_id=4712/,          qw(user show external_id=4712)],
        [1, qr/there is no user id=x/,                      qw(user show id=x)],
        [1, qr/there is no application third/,              qw(user show external_id=4711,application=third)],
        [1, qr/both a provider_server and a provider_username/, qw(user show provider_server=x)],
        [1, qr/no account is named/,                        qw(user show application=panel)],
        [1, qr/named in more than one way/,                 qw(user show id=1,email=john@example.com)],
        [1, qr/there is no user provider=plesk/,            qw(user show provider=plesk,provider_server=https://s.example:2087,provider_username=jane)],
        [2, qr/USER "  " must be 1 to 4096 octets/,         qw(user show), '  '],
    );
    is told(qw(user show external_id=4711,application=second))->{id}, $other->{id}, 'its application tells which';
    is scalar told(qw(credential list --user external_id=4711,application=second))->@*, 0, 'every command finds it so';
    $server->sql("update users.account set application_id = null where id = $other->{id}");
    refuses([1, qr/2 accounts have this external_id/, qw(user show external_id=4711)]);    # of a deleted application
    is told(qw(user remove --yes), $other->{id})->{outcome}, 'removed', 'it goes again';
};

subtest 'an account is changed' => sub {
    my $id     = $jane->{id};
    my $before = user($id)->{json}{user};
    is told(qw(user set external_id=4711 phone=+31 city= vat= locale=nl), 'merge_labels={"tier":null,"a":[1]}')->{outcome},
        'changed', 'several fields';
    my $after = user($id)->{json}{user};
    is_deeply [@$after{qw(phone city vat locale)}], ['+31', undef, undef, 'nl'], 'they are set and cleared';
    cmp_ok $after->{updated_at}, 'gt', $before->{updated_at}, 'updated_at moves';
    delete @$_{qw(phone city vat locale updated_at)} for $before, $after;
    is_deeply $after, $before, 'nothing else does';
    is $server->sql("select labels from users.account where id = $id"), '{"a": [1], "cpanel": {"https://s.example:2087": "jane"}}',
        'labels are merged';
    told(qw(user suspend), $id);
    is told(qw(user set), $id, 'city=Gouda')->{outcome}, 'changed', 'a suspended one, too';
    told(qw(user resume), $id);
    is told(qw(user set), $id, 'external_id=')->{outcome}, 'changed', 'without an external_id';
    is told(qw(user set), $id, 'external_id=4711')->{outcome}, 'changed', '... and with one';
    refuses(
        [2, qr/provider_server is not a field that can be changed/, qw(user set), $id, 'provider_server=x'],
        [2, qr/fname can't be blank; email is invalid/,             qw(user set), $id, 'fname= ', 'email=x'],
        [2, qr/updated_at is not a field that can be changed/,      qw(user set), $id, 'updated_at=2020-01-01'],
        [2, qr/user set needs FIELD=VALUE/,                         qw(user set), $id],
        [1, qr/email has already been taken/,                       qw(user set), $id, 'email=JOHN@example.com'],
        [2, qr/locale is not a known locale/,                       qw(user set), $id, 'locale=zz'],
        [1, qr/there is no user 99/,                                qw(user set 99 city=x)],
        [1, qr/external_id needs an application/,                   qw(user set 1 external_id=4711)],
        [1, qr/external_id has already been taken/,                 qw(user set 1 external_id=4711 application=panel)],
        [2, qr/merge_labels is too large/,                          qw(user set), $id, 'merge_labels={"b":"' . 'x' x 16384 . '"}'],
    );
};

subtest 'no change is lost' => sub {
    my $lock = Users::Test::Session->new($server);
    $lock->sql('begin; select from users.account where id = 1 for update');
    my @started = map { $usersctl->start('', qw(--json user set 1), $_) } 'city=Delft', 'state=ZH', 'merge_labels={"x":1}', 'merge_labels={"y":2}';
    my $client = $server->connect;
    $client->send(Users::Test::Client::compose(PATCH => '/api/users', token => FULL_TOKEN, json => { user => { zip => '2611' } }));
    wait_until(sub { $server->sql(q(select count(*) = 5 from pg_stat_activity where datname = 'users' and wait_event_type = 'Lock')) eq 't' },
        'all to wait');
    $lock->sql(q(update users.account set phone = '+31' where id = 1; commit));
    is +($usersctl->end($_))[0], 0, 'it is made' for @started;
    is $client->answer->{status}, 200, 'and a PATCH';
    is $server->sql('select city, state, zip, phone, labels @> \'{"x": 1, "y": 2}\' from users.account where id = 1'),
        'Delft|ZH|2611|+31|t', 'all are there';
};

subtest 'accounts are listed' => sub {
    $server->sql(<<~'SQL');
        insert into users.billing_plan (id, name) values (3, 'Silver');
        insert into users.account_group (id, name) values (3, 'Others');
        insert into users.account (id, application_id, external_id, fname, lname, email, country, currency, locale, billing_plan_id,
          group_id, created_at, suspended_at)
        select 2000 + n, case when n % 2 = 0 then (select id from users.application where client_id = 'panel') end, 'n' || n, 'John', 'Doe',
          n || case when n % 5 = 0 then '@Example.NET' else '@example.org' end,
          case when n % 3 = 0 then 'NL' else 'DE' end, 'EUR', 'nl', case when n % 7 = 0 then 3 else 1 end, case when n % 11 = 0 then 3 else 1 end,
          timestamptz '2020-01-01 00:00Z' + n * interval '1 day', case when n % 13 = 0 then now() end
        from generate_series(1, 400) as n;
        SQL
    my $ids  = sub (@options) { join ' ', map { $_->{id} } told(qw(user list --limit 1000), @options)->@* };
    my $those = sub ($where) { $server->sql("select coalesce(string_agg(id::text, ' ' order by id), '') from users.account where $where") };
    is $ids->(), $those->('true'), 'all of them, in the order of their ids';
    for (
        [['--plan', 'Silver'],            'billing_plan_id = 3'],
        [['--plan', '3'],                 'billing_plan_id = 3'],
        [['--group', 'Others'],           'group_id = 3'],
        [['--country', 'nl'],             q(country = 'NL')],
        [['--domain', 'example.net'],     q(email like '%@Example.NET')],
        [['--application', 'panel'],      q(application_id = (select id from users.application where client_id = 'panel'))],
        [['--suspended'],                 'suspended_at is not null'],
        [['--created-since', '2021-01-01'], q(created_at >= '2021-01-01 00:00Z')],
        [['--country', 'NL', '--plan', '3', '--domain', 'example.org'], q(country = 'NL' and billing_plan_id = 3 and email like '%@example.org')],
        [['--country', 'FR'],             'false'],
    ) {
        my ($options, $where) = @$_;
        is $ids->(@$options), $those->($where), "@$options";
        is $ids->(@$options, '--newest'), join(' ', reverse split / /, $those->($where)), '... the other way round';
    }
    for my $newest ([], ['--newest']) {
        my ($after, @pages, @seen) = ();
        do {
            my ($status, $output, $error) = usersctl(qw(--json user list --country NL --limit 50), @$newest, defined $after ? ('--after', $after) : ());
            push @seen, map { $_->{id} } JSON::PP->new->decode($output)->@*;
            push @pages, scalar JSON::PP->new->decode($output)->@*;
            ($after) = $error =~ /\Ausersctl: there are more: --after (\d+) goes on\n\z/;
        } while defined $after;
        my @all = split / /, $those->(q(country = 'NL'));
        is_deeply \@seen, @$newest ? [reverse @all] : \@all, "pages have all of them @$newest";
        is_deeply [@pages[0, 1]], [50, 50], '... so many each';
    }
    my ($status, $output, $error) = usersctl(qw(user list --plan 3 --limit 2));
    like $output, qr/\Aid +email +fname +lname +plan +group +country +client_id +external_id +created_at +suspended_at\n2007 .*\n2014 .*\n\z/,
        'a table';
    is $error, "usersctl: there are more: --after 2014 goes on\n", '... says where it goes on';
    is +(usersctl(qw(user list --after 999999)))[0], 0, 'behind the last one is nothing';
    my $before = data();
    for (
        [1, qr/there is no plan Bronze/,           qw(user list --plan Bronze)],
        [1, qr/there is no plan Bronze/,           qw(user list --after 999999 --plan Bronze)],
        [1, qr/there is no group 99/,              qw(user list --group 99)],
        [1, qr/there is no application x/,         qw(user list --application x)],
        (map { [2, qr/--created-since DATE "$_" must be a date such as 2026-01-31/, qw(user list --created-since), $_] }
            qw(2026-02-30 2026-13-01 2026-00-01 2026-01-00 2026-04-31 2026-02-29 1900-02-29 0000-01-01 2026-1-31 2026-01-3x)),
        [2, qr/DATE "2026-2-3" must be a date/,    qw(user list --created-since 2026-2-3)],
        [2, qr/DATE "2026-01-01x" must be/,        qw(user list --created-since 2026-01-01x)],
        [2, qr/COUNTRY "NLD" must be two letters/, qw(user list --country NLD)],
        [2, qr/ID "x" must be the id/,             qw(user list --after x)],
        [2, qr/--newest is of no use here/,        qw(plan list --newest)],
    ) {
        my ($is, $message, @arguments) = @$_;
        my ($status, undef, $error) = usersctl(@arguments);
        is $status, $is, "@arguments";
        like $error, $message, '... is told';
    }
};

# The stretches that a statement reads hold more accounts than a test has.
subtest 'a long list is read in stretches' => sub {
    $server->sql(<<~'SQL');
        create or replace function users_admin.next_users(p_after bigint, p_newest boolean, p_rows integer)
        returns table (last_id bigint) language sql as $$
          select case when p_newest then (select min(id) from (select id from users.account where p_after is null or id < p_after order by id desc limit 7) as a)
            else (select max(id) from (select id from users.account where p_after is null or id > p_after order by id limit 7) as a) end
        $$
        SQL
    for my $options ([], ['--newest'], ['--suspended'], [qw(--suspended --newest)], [qw(--country FR)], [qw(--plan 3 --limit 20)]) {
        my ($status, $output, $error) = usersctl(qw(--json user list), @$options);
        my ($limit) = "@$options" =~ /limit (\d+)/;
        my $where = "@$options" =~ /suspended/ ? 'suspended_at is not null' : "@$options" =~ /FR/ ? 'false' : "@$options" =~ /plan/ ? 'billing_plan_id = 3' : 'true';
        my $order = "@$options" =~ /newest/ ? 'desc' : 'asc';
        is join(' ', map { $_->{id} } JSON::PP->new->decode($output)->@*),
            $server->sql("select string_agg(id::text, ' ' order by id $order) from (select id from users.account where $where order by id $order limit @{[$limit // 100]}) as a"),
            "as a whole: @$options";
    }
    like +(usersctl(qw(user list --plan 3 --limit 50)))[1], qr/^2350 .* -\n/m, 'as a table, with what is null';
    $server->postgres->run_file('users', "$ENV{USERS_SRCDIR}/sql/accounts.sql");
};

subtest 'what is set is not in PostgreSQL\'s log' => sub {
    $server->sql("alter system set $_") for "log_statement = 'all'", 'log_parameter_max_length = -1',
        'log_parameter_max_length_on_error = -1';
    $server->sql('select pg_reload_conf()');
    wait_until(sub { told(qw(user show 1)); $server->postgres->log =~ /show_user.*\n.*parameters: \$1 = '1'/ }, 'the log to have parameters');
    told(qw(user set 1 city=Nowhereville));
    usersctl(qw(user set 1 city=Nowhereville country=XX));
    like $server->postgres->log, qr/users_admin\.set_user/, 'the log has the statement';
    unlike $server->postgres->log, qr/Nowhereville/, '... and not what it sets';
    $server->sql("alter system reset $_") for qw(log_statement log_parameter_max_length log_parameter_max_length_on_error);
    $server->sql('select pg_reload_conf()');
};

# ---- The end ---------------------------------------------------------------------------------

my $secret;

subtest 'an account is exported' => sub {
    my $id    = $jane->{id};
    $secret = told(qw(token issue --application panel --scopes), 'profile_read profile_update', '--user', $id);
    my $response = $server->request(
        PATCH => '/api/users',
        token => $secret->{token},
        json  => { user => { city => 'Delft' } }
    );
    is $response->{status}, 200, 'its owner changes it';
    told(qw(usage set), $id, 'projects=3', 'unprocessed_usage=12.500');
    $server->sql("insert into users.idempotency (application_id, key, payload_digest, user_id)
        select id, 'key-1', sha256('payload'), $id from users.application where client_id = 'panel'");
    my ($status, $output, $error) = usersctl(qw(user export), $id);
    is $status, 0, 'it is JSON, with --json or without';
    my $all = JSON::PP->new->decode($output);
    is_deeply [sort keys %$all], [qw(account audit changes credentials events exported_at idempotency_keys provider_accounts tokens)], 'its parts';
    my $account = $all->{account};
    is_deeply [@$account{qw(email city application group billing_plan external_id timezone)}],
        ['Jane@example.com', 'Delft', 'panel', 'default', 'default', '4711', 'Europe/Amsterdam'], 'the account';
    is_deeply $account->{labels}, { a => [1], cpanel => { 'https://s.example:2087' => 'jane' } }, 'its labels';
    is_deeply $account->{usage}, { projects => 3 }, 'its usage';
    like $output, qr/"unprocessed_usage": 12\.500[,}]/, '... every digit';
    is_deeply [map { "@{$_->{scopes}} $_->{application}" } $all->{tokens}->@*], ['profile_read profile_update panel'], 'its tokens';
    is_deeply [map { $_->{username} } $all->{credentials}->@*], [$pair{$id}{username}], 'its credentials';
    is_deeply $all->{provider_accounts},
        [{ application => 'panel', provider => 'cpanel', provider_server => 'https://s.example:2087', provider_username => 'jane' }],
        'its provider accounts';
    is_deeply [map { $_->{key} } $all->{idempotency_keys}->@*], ['key-1'], 'its keys';
    is scalar $all->{changes}->@*, 1, 'its changes';
    my %known = map { $_ => 1 } keys %$account, qw(document_head document_middle document_services application_id);
    is_deeply [grep { !$known{$_} } split /\n/, $server->sql(q(select attname from pg_attribute
        where attrelid = 'users.account'::regclass and attnum > 0 and not attisdropped))], [], 'no column is left out';
    unlike $output, qr/digest|hash|\\\\x|[0-9a-f]{64}|\Q$pair{$id}{password}\E|\Q$secret->{token}\E/, 'but no secret and no digest';
    refuses([1, qr/there is no user 99/, qw(user export 99)]);
};

# Tables that name accounts, and how many rows of each are of one. The audit outlives them: see audit.t.
sub left_of ($id) {
    my @columns = map { [split /\|/] } split /\n/, $server->sql(<<~'SQL');
        select attrelid::regclass, attname from pg_attribute join pg_class on pg_class.oid = attrelid
        where relnamespace = 'users'::regnamespace and relkind = 'r' and (attname = 'user_id' or relname = 'account' and attname = 'id')
          and relname not in ('audit', 'provider_account_later') -- see above
        SQL
    return join ' ', sort map { "$_->[0]:" . $server->sql("select count(*) from $_->[0] where $_->[1] = $id") } @columns;
}

subtest 'an account is removed' => sub {
    my $id = $jane->{id};
    $server->sql("insert into users.event (type, user_id, fields) values ('user.updated', $id, '{city}')");
    my $all = 'users.account:1 users.change:1 users.credential:1 users.event:1 users.idempotency:1 users.provider_account:1 users.token:1';
    is left_of($id), $all, 'all tables that name an account have it';
    my ($status, $output, $error) = usersctl(qw(--json user remove), $id);
    is $status, 1, 'without --yes';
    is $error, "usersctl: nothing is removed: --yes erases what this says\n", '... nothing is';
    my $would = JSON::PP->new->decode($output);
    is_deeply [@$would{qw(outcome tokens credentials provider_accounts idempotency_keys changes events)}], ['not removed', (1) x 6], '... it says what would be';
    like $output, qr/"unprocessed_usage":12\.500,/, '... and what was not billed';
    like $would->{kept}, qr/backups/, '... and what it can not reach';
    is left_of($id), $all, '... all is there';

    my %token = (token => $secret->{token});
    is $server->request(GET => '/api/users', %token)->{status}, 200, 'the token is valid';
    my $others = $server->sql("select row from users.account as row where id <> $id order by id");
    my $removed = told(qw(user remove external_id=4711 --yes));
    is $removed->{outcome}, 'removed', 'with --yes';
    is_deeply [@$removed{qw(tokens credentials provider_accounts idempotency_keys changes events)}], [(1) x 6], '... it says what was';
    is left_of($id), $all =~ s/1/0/gr, 'nothing is left of it';
    is $server->sql("select row from users.account as row order by id"), $others, 'the others are';
    is $server->request(GET => '/api/users', %token)->{status}, 401, 'its token is a 401';
    is user($id)->{status}, 401, '... and its credentials';
    refuses([1, qr/there is no user $id/, qw(user remove --yes), $id], [1, qr/there is no user 99/, qw(user remove 99)]);
    ok told(qw(user add fname=Jane lname=Roe email=jane@example.com))->{id} != $id, 'another gets its address, and not its id';
};

# Under UsersDuplicates create a provider's user has as many accounts as were registered for it.
subtest 'a provider\'s user that was registered again' => sub {
    my @pair = (provider_server => 'again.example', provider_username => 'jane');
    my $register = sub {
        return $server->request(POST => '/api/users', token => REGISTER_TOKEN, json => { user => { fname => 'Jane', lname => 'Roe', @pair } });
    };
    my @ids = map { $register->()->{json}{user}{id} } 1 .. 3;
    my $user = 'provider_server=again.example,provider_username=jane';
    my $several = sub ($n, @of) {
        my $ids = join ', ', sort { $a <=> $b } @of;
        return [1, qr/\Q$user\E: $n accounts have this provider_server and provider_username: name its id: $ids$/];
    };
    refuses(map { [$several->(3, @ids)->@*, @$_] } [qw(user show), $user], [qw(user suspend), $user], [qw(user resume), $user],
        [qw(user export), $user], [qw(user remove --yes), $user], [qw(user set), $user, 'city=Delft'], [qw(usage set), $user, 'projects=3'],
        [qw(credential add), $user], [qw(token revoke --user), $user]);
    my ($status, undef, $error) = $usersctl->run_with("provider_server,provider_username,projects\nagain.example,jane,3\n", qw(usage import));
    is $status, 2, 'an import refuses it, too';
    like $error, qr/line 2: 3 accounts have this provider_server/, '... and says why';
    is_deeply told(qw(user export), $ids[1])->{provider_accounts},
        [{ application => CLIENT_ID, provider => 'cpanel', @pair }], 'its export has each of them';

    my $removed = told(qw(user remove --yes), $ids[0]);
    is $removed->{provider_accounts}, 1, 'the first one is removed';
    refuses([$several->(2, @ids[1, 2])->@*, qw(user show), $user]);
    is told(qw(user remove --yes), $ids[1])->{provider_accounts}, 1, 'so is another';
    is told(qw(user show), $user)->{id}, $ids[2], 'the one that is left is found';
    refuses([1, qr/provider_username has already been taken/, qw(user add fname=J lname=R email=again@example.com),
        'application=' . CLIENT_ID, map { "$pair[$_]=$pair[$_ + 1]" } 0, 2]);
    $server->stop;
    $server->start(vhost => 'UsersDuplicates conflict');
    is $register->()->{status}, 409, '... and is in the way of another one, where UsersDuplicates says so';
    $server->stop;
    $server->start;

    push @ids, map { $register->()->{json}{user}{id} } 1 .. 10;
    my ($refused, $output, $message) = usersctl(qw(user show), $user);
    is $refused, 1, 'many of them are refused';
    is scalar(() = $message =~ /\b\d+(?=[,\n])/g), 10, '... with the ids of ten';
    like $message, qr/more than 10 accounts/, '... and it says so';
};

# Whoever repeats a key holds its row and wants the account; a token's issue holds the credential.
subtest 'removal and requests do not wait for each other in turn' => sub {
    my $made = told(qw(user add fname=Jane lname=Roe email=late@example.com));
    my $pair = told(qw(credential add), $made->{id});
    my $lock = Users::Test::Session->new($server);
    $lock->sql("begin; select from users.credential where user_id = $made->{id} for share");
    my $started = $usersctl->start('', qw(--json user remove --yes), $made->{id});
    $usersctl->wait_for_lock;
    $lock->sql("select from users.account where id = $made->{id} for key share");
    $lock->sql('commit');
    my ($status, $output, $error) = $usersctl->end($started);
    is "$status $error", '0 ', 'it waits, and then removes';
};

done_testing;
