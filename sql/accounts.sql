-- What usersctl does to accounts: it finds, lists, makes, changes, removes and exports them. What admin.sql
-- says of its functions holds here.

-- An account by its names

create or replace function users_admin.user_names(p_user text) returns jsonb
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  v_names constant text := '(?:id|email|external_id|application|provider|provider_server|provider_username)=';
begin
  if p_user ~ '^[0-9]+$' then
    return jsonb_build_object('id', p_user);
  elsif p_user ~ ('^' || v_names) then
    return (select jsonb_object_agg(split_part(part, '=', 1), substr(part, strpos(part, '=') + 1))
      from regexp_split_to_table(p_user, ',(?=' || v_names || ')') as part);
  end if;
  return jsonb_build_object('email', p_user);
end
$$;
comment on function users_admin.user_names is
  'What a USER says, as the members that users_admin.find_user reads: an id, an e-mail address, or NAME=VALUE,NAME=VALUE.';

create or replace function users_admin.find_user(p_names jsonb, out user_id bigint, out fault text)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_id constant text := nullif(p_names ->> 'id', '');
  v_email constant text := nullif(p_names ->> 'email', '');
  v_external_id constant text := nullif(p_names ->> 'external_id', '');
  v_server constant text := nullif(p_names ->> 'provider_server', '');
  v_username constant text := nullif(p_names ->> 'provider_username', '');
  v_client_id constant text := nullif(p_names ->> 'application', '');
  v_provider text;
  v_name bytea;
  v_several boolean; -- applications
  v_ways integer;
  v_applications bigint[];
  v_found bigint[];
begin
  v_ways := num_nonnulls(v_id, v_email, v_external_id, coalesce(v_server, v_username));
  if v_ways = 0 then
    fault := 'no account is named: it takes id, email, external_id, or provider_server and provider_username';
  elsif v_ways > 1 then
    fault := 'the account is named in more than one way: one of id, email, external_id, or provider_server and '
      'provider_username is enough';
  elsif v_id is not null then
    if v_id ~ '^[0-9]{1,18}$' then
      user_id := (select id from users.account where id = v_id::bigint);
    end if;
  elsif v_email is not null then
    user_id := (select id from users.account where lower(email collate "C") = lower(v_email collate "C"));
    if user_id is null then -- a terminal may send decomposed characters; the API stores composed ones
      user_id := (select id from users.account where lower(email collate "C") = lower(normalize(v_email) collate "C"));
    end if;
  elsif v_external_id is null and num_nulls(v_server, v_username) > 0 then
    fault := 'a provider''s user has both a provider_server and a provider_username';
  end if;
  if fault is not null or coalesce(v_id, v_email) is not null then
    return;
  end if;

  if v_client_id is null then
    v_applications := array(select id from users.application);
  else
    v_applications := array(select id from users.application where client_id = v_client_id);
    if v_applications = '{}' then
      fault := format('there is no application %s', v_client_id);
      return;
    end if;
  end if;
  if v_external_id is not null then
    v_found := array(
      select id from users.account where application_id = any (v_applications) and external_id = v_external_id);
    if v_client_id is null then -- that of an application which is gone
      v_found := v_found || array(select id from users.account where application_id is null and external_id = v_external_id);
    end if;
  else -- by the indexes provider_account_name and provider_account_later_name
    v_provider := lower(coalesce(nullif(p_names ->> 'provider', ''), 'cpanel') collate "C");
    v_name := sha256(replace(
      octet_length(v_provider)::text || ' ' || octet_length(v_server)::text || ' '
      || v_provider || v_server || v_username, chr(92), chr(92) || chr(92))::bytea);
    v_found := array(
      (select first.user_id from users.provider_account as first
      where application_id = any (v_applications)
        and sha256(replace(
          octet_length(provider)::text || ' ' || octet_length(provider_server)::text || ' '
          || provider || provider_server || provider_username, chr(92), chr(92) || chr(92))::bytea) = v_name)
      union all
      (select later.user_id from users.provider_account_later as later
      where application_id = any (v_applications)
        and sha256(replace(
          octet_length(provider)::text || ' ' || octet_length(provider_server)::text || ' '
          || provider || provider_server || provider_username, chr(92), chr(92) || chr(92))::bytea) = v_name
      limit 11));
  end if;
  if cardinality(v_found) > 1 then
    v_several := (select count(distinct coalesce(application_id, 0)) > 1 from users.account where id = any (v_found));
    fault := format('%s accounts have this %s: %s%s',
      case when cardinality(v_found) > 10 then 'more than 10' else cardinality(v_found)::text end,
      case when v_external_id is null then 'provider_server and provider_username' else 'external_id' end,
      case when v_several then format('name its application, too, such as application=%s, or its id: ',
        (select coalesce(min(client_id), 'CLIENT_ID') from users.application
          where id in (select application_id from users.account where id = any (v_found))))
        else 'name its id: ' end,
      (select string_agg(id::text, ', ' order by id) from (select unnest(v_found) as id order by 1 limit 10) as ids));
  else
    user_id := v_found[1];
  end if;
end
$$;
comment on function users_admin.find_user is
  'The id of an account by p_names, an object with one of: id; email; external_id; provider_server and provider_username, '
  'perhaps with provider (cpanel). The last two belong to an application, which application (a client_id) names: it may be '
  'left out where one account alone has them. fault: why these are no names, or that several accounts have them, with the '
  'ids of up to ten; null and no user_id: there is no such account.';

-- Accounts

create or replace function users_admin.next_users(p_after bigint, p_newest boolean, p_rows integer)
returns table (last_id bigint)
language plpgsql stable set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_custom_plan
as $$
begin
  if p_newest then
    last_id := (select min(id) from (
      select id from users.account where p_after is null or id < p_after order by id desc limit p_rows) as ahead);
  else
    last_id := (select max(id) from (
      select id from users.account where p_after is null or id > p_after order by id limit p_rows) as ahead);
  end if;
  return next;
end
$$;
comment on function users_admin.next_users is
  'The last of the next p_rows accounts behind p_after (null: of the first ones), in the order of their ids; p_newest: of '
  'those before it, the other way round. Null: there are no more.';

create or replace function users_admin.list_users(
  p_filters jsonb, p_after bigint, p_last bigint, p_newest boolean, p_limit integer)
returns table (id bigint, email text, fname text, lname text, plan integer, "group" integer, country text,
  client_id text, external_id text, created_at timestamptz, suspended_at timestamptz)
language plpgsql stable set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_custom_plan -- which knows what is null
as $$
declare
  v_first constant bigint := case when p_newest then p_last else coalesce(p_after + 1, 0) end;
  v_end constant bigint := case when p_newest then coalesce(p_after - 1, 9223372036854775807) else p_last end;
  v_plan constant integer := users_admin.entitlement_id('billing_plan', p_filters ->> 'plan');
  v_group constant integer := users_admin.entitlement_id('account_group', p_filters ->> 'group');
  v_application constant bigint := users_admin.application_id(p_filters ->> 'application');
  v_country constant text := upper((p_filters ->> 'country') collate "C");
  v_domain constant text := lower((p_filters ->> 'domain') collate "C");
  v_since constant timestamptz := (p_filters ->> 'created_since')::timestamp at time zone 'UTC';
  v_suspended constant boolean := p_filters ? 'suspended';
begin
  return query
    select account.id, account.email, account.fname, account.lname, billing_plan_id, group_id, account.country,
      application.client_id, account.external_id,
      date_trunc('second', account.created_at), date_trunc('second', account.suspended_at)
    from users.account
    left join users.application on application.id = application_id
    where account.id between v_first and v_end
      and (v_plan is null or billing_plan_id = v_plan)
      and (v_group is null or group_id = v_group)
      and (v_application is null or application_id = v_application)
      and (v_country is null or account.country = v_country)
      and (v_domain is null or lower(substring(account.email from '@([^@]*)$') collate "C") = v_domain)
      and (v_since is null or account.created_at >= v_since)
      and (not v_suspended or account.suspended_at is not null)
    order by case when p_newest then -account.id else account.id end
    limit p_limit;
end
$$;
comment on function users_admin.list_users is
  'Accounts behind p_after as far as p_last (users_admin.next_users), in the order of their ids or the other way round, '
  'to which all filters apply: plan, group, application, country, domain (of the address), created_since (UTC), suspended.';

create or replace function users_admin.account_faults(p_fields jsonb) returns table (field text, fault text)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_faults jsonb := users.faults(p_fields, null);
begin
  if p_fields ? 'timezone' then
    if not exists (select from pg_timezone_names where name = p_fields ->> 'timezone') then
      v_faults := v_faults || users.fault('timezone', 'is not a known time zone');
    end if;
  end if;
  if not users_admin.is_amount(coalesce(p_fields ->> 'unprocessed_usage', '0')) then
    v_faults := v_faults || users.fault('unprocessed_usage', users_admin.amount_wanted());
  end if;
  return query select told ->> 'field', told ->> 'text' from jsonb_array_elements(v_faults) as told;
end
$$;
comment on function users_admin.account_faults is
  'What of fields, which usersctl has judged as far as that needs no database, can''t be in users.account.';

create or replace function users_admin.account_fields(p_fields jsonb) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_faults constant text := (select string_agg(field || ' ' || fault, '; ') from users_admin.account_faults(p_fields));
  v_columns jsonb := p_fields - '{plan,group,application,provider,provider_server,provider_username}'::text[];
begin
  if v_faults is not null then
    raise invalid_text_representation using message = v_faults;
  end if;
  if p_fields ? 'plan' then
    v_columns := v_columns
      || jsonb_build_object('billing_plan_id', users_admin.entitlement_id('billing_plan', p_fields ->> 'plan'));
  end if;
  if p_fields ? 'group' then
    v_columns := v_columns
      || jsonb_build_object('group_id', users_admin.entitlement_id('account_group', p_fields ->> 'group'));
  end if;
  if p_fields ? 'application' then
    v_columns := v_columns || jsonb_build_object('application_id', users_admin.application_id(p_fields ->> 'application'));
  end if;
  return v_columns;
end
$$;
comment on function users_admin.account_fields is
  'The columns of users.account that fields set, which usersctl has judged as far as that needs no database. Refuses the rest.';

create or replace function users_admin.raise_account_fault(p_constraint text) returns void
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
  raise unique_violation using message = case p_constraint
    when 'account_email_folded' then 'email has already been taken'
    when 'account_external_id' then 'external_id has already been taken in this application'
    else format('another row has the same %s', p_constraint)
  end;
end
$$;
comment on function users_admin.raise_account_fault is 'Refuse what breaks a unique constraint of users.account.';

create or replace function users_admin.set_user(p_user text, p_fields jsonb, p_labels jsonb)
returns table (id bigint, email text, updated_at timestamptz, outcome text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_id constant bigint := users_admin.user_id(p_user);
  v_columns jsonb := users_admin.account_fields(p_fields);
  v_account users.account;
  v_constraint text;
begin
  select * into v_account from users.account where account.id = v_id for no key update;
  if p_labels is not null then
    v_columns := v_columns || jsonb_build_object('labels', users.merged_labels(v_account.labels, p_labels));
    if octet_length((v_columns -> 'labels')::text) > 16384 then
      raise invalid_text_representation using message = 'merge_labels is too large (maximum is 16 KiB)';
    end if;
  end if;
  if v_columns ->> 'external_id' is not null and v_account.application_id is null and not v_columns ? 'application_id' then
    raise invalid_parameter_value using message = 'external_id needs an application, which gives it: application=CLIENT_ID';
  end if;
  v_columns := v_columns || jsonb_build_object('updated_at',
    date_trunc('milliseconds', greatest(clock_timestamp(), v_account.updated_at + interval '1 ms')));
  execute 'update users.account as a set '
    || (select string_agg(format('%1$I = f.%1$I', key), ', ') from jsonb_object_keys(v_columns) as key)
    || ' from jsonb_populate_record(null::users.account, $2) as f where a.id = $1'
    using v_id, v_columns;
  return query
    select account.id, account.email, account.updated_at, 'changed' from users.account where account.id = v_id;
exception when unique_violation then
  get stacked diagnostics v_constraint = constraint_name;
  perform users_admin.raise_account_fault(v_constraint);
end
$$;
comment on function users_admin.set_user is
  'Change fields of an account, and no others, whoever changes those meanwhile. p_fields: as of users_admin.account_fields; '
  'p_labels: merged into the labels as the API does, null: none.';

create or replace function users_admin.add_user(p_fields jsonb, p_labels jsonb)
returns table (id bigint, email text, fname text, lname text, client_id text, external_id text, created_at timestamptz)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_columns jsonb := '{"country": "US", "currency": "USD", "locale": "en"}' || users_admin.account_fields(p_fields);
  v_application_id constant bigint := v_columns ->> 'application_id';
  v_pair constant boolean := p_fields ? 'provider_server';
  v_id bigint;
  v_constraint text;
begin
  if v_application_id is null and (v_pair or v_columns ->> 'external_id' is not null) then
    raise invalid_parameter_value using message = format('%s needs an application, which gives it: application=CLIENT_ID',
      case when v_pair then 'provider_server' else 'external_id' end);
  end if;
  v_columns := v_columns || jsonb_build_object('labels', users.merged_labels(
    case when v_pair then users.new_labels(p_fields, '{}') else '{}' end, coalesce(p_labels, '{}')));
  if octet_length((v_columns -> 'labels')::text) > 16384 then
    raise invalid_text_representation using message = 'merge_labels is too large (maximum is 16 KiB)';
  end if;
  execute format('insert into users.account (%1$s) select %1$s from jsonb_populate_record(null::users.account, $1) returning id',
      (select string_agg(quote_ident(key), ', ') from jsonb_object_keys(v_columns) as key))
    into v_id using v_columns;
  if v_pair then
    insert into users.provider_account (application_id, provider, provider_server, provider_username, user_id)
    values (v_application_id, p_fields ->> 'provider', p_fields ->> 'provider_server', p_fields ->> 'provider_username', v_id)
    on conflict do nothing;
    if not found or users.has_later_account(v_application_id, p_fields) then
      raise unique_violation using message = 'provider_username has already been taken on this provider_server';
    end if;
  end if;
  return query
    select account.id, account.email, account.fname, account.lname, application.client_id, account.external_id,
      date_trunc('second', account.created_at)
    from users.account left join users.application on application.id = application_id
    where account.id = v_id;
exception when unique_violation then
  get stacked diagnostics v_constraint = constraint_name;
  if v_constraint = '' then -- our own
    raise;
  end if;
  perform users_admin.raise_account_fault(v_constraint);
end
$$;
comment on function users_admin.add_user is
  'Make an account, with the defaults that POST has and no credentials. p_fields: as of users_admin.account_fields, and a '
  'provider''s user; p_labels: null: none but that of the provider.';

create or replace function users_admin.remove_user(p_user text, p_really boolean)
returns table (id bigint, email text, unprocessed_usage numeric, tokens bigint, credentials bigint,
  provider_accounts bigint, idempotency_keys bigint, changes bigint, audit bigint, events bigint,
  kept text, outcome text)
language plpgsql set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_custom_plan
as $$
#variable_conflict use_column
declare
  v_id constant bigint := users_admin.user_id(p_user);
begin
  if p_really then -- in the order in which a registration that repeats a key, and a token's issue, take them
    perform from users.idempotency where user_id = v_id order by application_id, key for update;
    perform from users.credential where user_id = v_id order by credential.id for update;
    perform from users.account where account.id = v_id for update;
  end if;
  select account.id, account.email, account.unprocessed_usage into id, email, unprocessed_usage
  from users.account where account.id = v_id;
  tokens := (select count(*) from users.token where user_id = v_id);
  credentials := (select count(*) from users.credential where user_id = v_id);
  provider_accounts := (select count(*) from users.provider_account where user_id = v_id)
    + (select count(*) from users.provider_account_later where user_id = v_id);
  idempotency_keys := (select count(*) from users.idempotency where user_id = v_id);
  changes := (select count(*) from users.change where user_id = v_id);
  audit := (select count(*) from users.audit where user_id = v_id or caller_id = v_id);
  events := (select count(*) from users.event where user_id = v_id);
  kept := 'the id in access logs and in the audit; all of it in backups and archived WAL, until those are deleted';
  outcome := 'not removed';
  if p_really then
    delete from users.change where user_id = v_id;
    delete from users.event where id = any (array(
      select event.id from users.event where user_id = v_id order by event.id for update));
    update users.audit set address = null where (user_id = v_id or caller_id = v_id) and address is not null;
    delete from users.account where account.id = v_id; -- and, by foreign keys, the rest
    outcome := 'removed';
  end if;
  return next;
end
$$;
comment on function users_admin.remove_user is
  'Erase an account and all that is its own (GDPR article 17), for which the names of late changes, the events and the '
  'audit are read as a whole; what it did and what was done to it stays in the audit, without addresses; '
  'p_really false: only tell how many rows that are. kept: what it can''t reach.';

create or replace function users_admin.export_user(p_user text)
returns table (exported_at timestamptz, account jsonb, tokens jsonb, credentials jsonb, provider_accounts jsonb,
  idempotency_keys jsonb, changes jsonb, audit jsonb, events jsonb)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select now(),
    to_jsonb(account) - '{document_head,document_middle,document_services,application_id}'::text[]
      || jsonb_build_object('application', application.client_id, 'billing_plan', plan.name, 'group', account_group.name),
    (select coalesce(jsonb_agg(jsonb_build_object('application', a.client_id, 'scopes', t.scopes,
        'created_at', t.created_at, 'expires_at', t.expires_at, 'revoked_at', t.revoked_at) order by t.created_at), '[]')
      from users.token as t join users.application as a on a.id = t.application_id where t.user_id = account.id),
    (select coalesce(jsonb_agg(jsonb_build_object('username', username,
        'created_at', c.created_at, 'revoked_at', c.revoked_at) order by c.created_at), '[]')
      from users.credential as c where c.user_id = account.id),
    (select coalesce(jsonb_agg(jsonb_build_object('application', a.client_id, 'provider', provider,
        'provider_server', provider_server, 'provider_username', provider_username)), '[]')
      from (select * from users.provider_account union all select * from users.provider_account_later) as p
      join users.application as a on a.id = p.application_id where p.user_id = account.id),
    (select coalesce(jsonb_agg(jsonb_build_object('application', a.client_id, 'key', key, 'created_at', i.created_at)
        order by i.created_at), '[]')
      from users.idempotency as i join users.application as a on a.id = i.application_id where i.user_id = account.id),
    (select coalesce(jsonb_agg(jsonb_build_object('created_at', change.created_at) order by change.created_at), '[]')
      from users.change where change.user_id = account.id),
    (select coalesce(jsonb_agg(jsonb_build_object('at', audit.at, 'action', action, 'user_id', audit.user_id,
        'application', a.client_id, 'kind', kind, 'address', host(address), 'trace', trace, 'fields', fields) order by audit.id), '[]')
      from users.audit left join users.application as a on a.id = audit.application_id
      where audit.user_id = account.id or audit.caller_id = account.id),
    (select coalesce(jsonb_agg(jsonb_build_object('type', type, 'fields', fields, 'created_at', event.created_at)
        order by event.id), '[]')
      from users.event where event.user_id = account.id)
  from users.account
  join users.billing_plan as plan on plan.id = billing_plan_id
  join users.account_group on account_group.id = group_id
  left join users.application on application.id = account.application_id
  where account.id = users_admin.user_id(p_user)
$$;
comment on function users_admin.export_user is
  'All that there is of an account (GDPR articles 15 and 20), but no secret and no digest of one.';

revoke execute on all functions in schema users_admin from public;
