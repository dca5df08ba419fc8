-- What usersctl does: the work of an administrator on the tables of a stand-alone installation.
--
-- These functions run with the rights of whoever calls them, the owner of the tables or a
-- superuser, and are granted to nobody. They get secrets as digests only. What they refuse is an
-- exception of class 22 or 23, or P0002 for what isn't there, and has changed nothing; 22P02: a FIELD=VALUE can't
-- be right, whatever the database holds of other things.
--
-- In a list p_limit is how many rows at most. USER is what users_admin.user_names (accounts.sql) reads: an id, an
-- e-mail address or another name of an account.

create schema if not exists users_admin;
comment on schema users_admin is 'What an administrator does to the accounts, by usersctl.';

-- What they share

create or replace function users_admin.application_id(p_client_id text) returns bigint
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_id constant bigint := (select id from users.application where client_id = p_client_id);
begin
  if v_id is null and p_client_id is not null then
    raise no_data_found using message = format('there is no application %s', p_client_id);
  end if;
  return v_id;
end
$$;
comment on function users_admin.application_id is
  'The id of an application, revoked or not, by its client_id; null for null. Refuses one that there is not.';

create or replace function users_admin.user_id(p_user text) returns bigint
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_found record;
begin
  if p_user is null then
    return null;
  end if;
  v_found := users_admin.find_user(users_admin.user_names(p_user));
  if v_found.fault is not null then
    raise invalid_parameter_value using message = format('%s: %s', p_user, v_found.fault);
  elsif v_found.user_id is null then
    raise no_data_found using message = format('there is no user %s', p_user);
  end if;
  return v_found.user_id;
end
$$;
comment on function users_admin.user_id is
  'The id of an account by one of its names; null for null. Refuses one that there is not, and one that is several.';

create or replace function users_admin.scopes(p_scopes text) returns text[]
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select case when p_scopes is not null then users.scope_set(string_to_array(p_scopes, ' ')) end
$$;
comment on function users_admin.scopes is
  'The words of a scope parameter (RFC 6749 section 3.3), each once; null for null.';

create or replace function users_admin.unknown_scopes(p_scopes text[]) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_known constant text[] := '{profile_read,profile_update,register,introspect,public}';
  v_unknown constant text[] := array(
    select scope from unnest(p_scopes) with ordinality as word (scope, place)
    where scope <> all (v_known)
      and not exists (select from users.application where revoked_at is null and scope = any (scopes))
    order by place);
begin
  return case when v_unknown <> '{}' then format('unknown scope %s: the API knows %s, and no application holds it',
    array_to_string(v_unknown, ', '), array_to_string(v_known, ', ')) end;
end
$$;
comment on function users_admin.unknown_scopes is
  'A sentence about those scopes that are neither the API''s nor held by a live application; null where there is none.';

create or replace function users_admin.time_in(p_interval interval) returns timestamptz
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select (now() at time zone 'UTC' + p_interval) at time zone 'UTC'
$$;
comment on function users_admin.time_in is
  'The time after that interval from now on, whose days have 24 hours, be there summer time in the session''s time zone; '
  'null for null.';

-- Applications

create or replace function users_admin.add_application(
  p_name text, p_client_id text, p_secret_digest bytea, p_scopes text, p_default_scopes text)
returns table (id bigint, name text, client_id text, scopes text, default_scopes text, created_at timestamptz)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_scopes constant text[] := coalesce(users_admin.scopes(p_scopes), '{}');
  v_default_scopes constant text[] := users_admin.scopes(p_default_scopes);
  v_unknown constant text := users_admin.unknown_scopes(v_scopes);
begin
  if not v_default_scopes <@ v_scopes then
    raise invalid_parameter_value using message = 'the default scopes must be among the scopes';
  end if;
  return query
    insert into users.application as added (name, client_id, secret_digest, scopes, default_scopes)
    values (p_name, p_client_id, p_secret_digest, v_scopes, v_default_scopes)
    on conflict (client_id) do nothing
    returning added.id, added.name, added.client_id, array_to_string(added.scopes, ' '),
      array_to_string(added.default_scopes, ' '), date_trunc('second', added.created_at);
  if not found then
    raise unique_violation using message = format('there is already an application %s', p_client_id);
  end if;
  if v_unknown is not null then -- other services may ask for scopes of their own, so it may be right
    raise warning '% but this one', v_unknown;
  end if;
end
$$;
comment on function users_admin.add_application is
  'Make an application. p_secret_digest: SHA-256 of its client secret; p_scopes: null for none; '
  'p_default_scopes: among them, null for public where that is among them, else for all. Warns of scopes that nobody knows yet.';

create or replace function users_admin.list_applications(p_limit integer)
returns table (id bigint, name text, client_id text, scopes text, default_scopes text, created_at timestamptz,
  revoked_at timestamptz, old_secret_expires_at timestamptz)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select id, name, client_id, array_to_string(scopes, ' '), array_to_string(default_scopes, ' '),
    date_trunc('second', created_at), date_trunc('second', revoked_at),
    case when revoked_at is null and old_secret_expires_at > now()
      then date_trunc('second', old_secret_expires_at) end
  from users.application
  order by id
  limit p_limit
$$;
comment on function users_admin.list_applications is
  'The applications in the order in which they were made. old_secret_expires_at: null where there is no old secret any more.';

create or replace function users_admin.rotate_secret(
  p_client_id text, p_secret_digest bytea, p_keep_old interval)
returns table (id bigint, name text, client_id text, old_secret_expires_at timestamptz)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_id constant bigint := users_admin.application_id(p_client_id);
  v_before users.application;
begin
  select * into v_before from users.application where application.id = v_id for no key update;
  if v_before.revoked_at is not null then
    raise invalid_parameter_value using message = format('the application %s is removed', p_client_id);
  end if;
  if v_before.old_secret_expires_at > now() then
    raise warning '%', format('the old secret that %s has, valid until %s, ends now: one old secret is kept at most',
      p_client_id, date_trunc('second', v_before.old_secret_expires_at));
  end if;
  return query
    update users.application set
      secret_digest = p_secret_digest,
      old_secret_digest = case when p_keep_old is not null then v_before.secret_digest end,
      old_secret_expires_at = users_admin.time_in(p_keep_old)
    where application.id = v_id
    returning application.id, application.name, application.client_id,
      date_trunc('second', application.old_secret_expires_at);
end
$$;
comment on function users_admin.rotate_secret(text, bytea, interval) is
  'Give an application another client secret in place of its own, which stays valid for p_keep_old, null: ends now. One '
  'that was kept so before ends now. Its tokens stay valid.';

create or replace function users_admin.rotate_secret(p_client_id text, p_secret_digest bytea)
returns table (id bigint, name text, client_id text)
language sql set search_path = pg_catalog, pg_temp
as $$
  select id, name, client_id from users_admin.rotate_secret(p_client_id, p_secret_digest, null)
$$;
comment on function users_admin.rotate_secret(text, bytea) is 'The same for usersctl 0.1.0, which keeps no old secret.';

create or replace function users_admin.remove_application(p_client_id text)
returns table (id bigint, name text, client_id text, outcome text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_id constant bigint := users_admin.application_id(p_client_id);
begin
  update users.application set revoked_at = now()
  where application.id = v_id and revoked_at is null;
  outcome := case when found then 'removed' else 'already removed' end;
  select application.id, application.name, application.client_id into id, name, client_id
  from users.application where application.id = v_id;
  return next;
end
$$;
comment on function users_admin.remove_application is
  'Revoke an application, and thereby all of its tokens. outcome: removed, already removed.';

-- Tokens

create or replace function users_admin.issue_token(
  p_digest bytea, p_client_id text, p_scopes text, p_user text, p_lifetime interval)
returns table (digest text, client_id text, user_id bigint, scopes text, expires_at timestamptz)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_application_id constant bigint := users_admin.application_id(p_client_id);
  v_user_id constant bigint := users_admin.user_id(p_user);
  v_scopes constant text[] := users_admin.scopes(p_scopes);
  v_unknown constant text := users_admin.unknown_scopes(v_scopes);
  v_issued boolean;
  v_constraint text;
begin
  if v_unknown is not null then
    raise invalid_parameter_value using message = v_unknown;
  end if;
  begin
    v_issued := users_api.issue_token(v_application_id, v_user_id, p_digest, v_scopes, users_admin.time_in(p_lifetime),
      null);
  exception when check_violation then
    get stacked diagnostics v_constraint = constraint_name;
    if v_constraint <> 'token_scopes_size' then
      raise;
    end if;
    raise invalid_parameter_value using message =
      'the scopes are too long for a token, which holds at most 100 words, 1500 characters in all';
  end;
  if v_issued then
    return query
      select encode(token.digest, 'hex'), p_client_id, token.user_id, array_to_string(token.scopes, ' '),
        date_trunc('second', token.expires_at)
      from users.token where token.digest = p_digest;
  elsif exists (select from users.application where id = v_application_id and revoked_at is not null) then
    raise invalid_parameter_value using message = format('the application %s is removed', p_client_id);
  elsif v_user_id is null then
    raise invalid_parameter_value
      using message = format('the application %s does not hold the scope %s', p_client_id, (
        select word
        from users.application, unnest(v_scopes) as word
        where application.id = v_application_id and word <> all (application.scopes)
        limit 1));
  else
    raise invalid_parameter_value using message = format('the user %s is suspended', p_user);
  end if;
end
$$;
comment on function users_admin.issue_token is
  'Store a token by its SHA-256. p_scopes: known ones (users_admin.unknown_scopes); p_user null: the application''s own, '
  'for scopes that it holds; p_lifetime null: for ever.';

create or replace function users_admin.list_tokens(p_client_id text, p_user text, p_limit integer)
returns table (digest text, client_id text, user_id bigint, scopes text, created_at timestamptz,
  expires_at timestamptz, revoked_at timestamptz)
language plpgsql stable set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_custom_plan -- which knows what is null
as $$
declare
  v_application_id constant bigint := users_admin.application_id(p_client_id);
  v_user_id constant bigint := users_admin.user_id(p_user);
begin
  return query
    select encode(token.digest, 'hex'), application.client_id, token.user_id,
      array_to_string(token.scopes, ' '), date_trunc('second', token.created_at),
      date_trunc('second', token.expires_at), date_trunc('second', token.revoked_at)
    from users.token
    join users.application on application.id = token.application_id
    where (v_application_id is null or token.application_id = v_application_id)
      and (v_user_id is null or token.user_id = v_user_id)
    order by token.digest -- the only order that has an index
    limit p_limit;
end
$$;
comment on function users_admin.list_tokens is
  'Tokens, dead ones too, of an application, of a user, of both, or all (null), by their digests in hexadecimal.';

create or replace function users_admin.revoke_token(p_prefix text)
returns table (digest text, outcome text)
language plpgsql set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_custom_plan
as $$
declare
  v_first constant bytea := decode(rpad(p_prefix, 64, '0'), 'hex');
  v_last constant bytea := decode(rpad(p_prefix, 64, 'f'), 'hex');
  v_digests constant bytea[] := array(
    select token.digest from users.token
    where token.digest between v_first and v_last
    limit 2);
begin
  if cardinality(v_digests) = 0 then
    raise no_data_found using message = 'there is no such token';
  elsif cardinality(v_digests) > 1 then
    raise invalid_parameter_value
      using message = format('more than one token begins with %s: give more of its digest', p_prefix);
  end if;
  update users.token set revoked_at = now()
  where token.digest = v_digests[1] and revoked_at is null;
  outcome := case when found then 'revoked' else 'already revoked' end;
  digest := encode(v_digests[1], 'hex');
  return next;
end
$$;
comment on function users_admin.revoke_token is
  'End the one token whose digest begins with these hexadecimal digits. outcome: revoked, already revoked.';

create or replace function users_admin.revoke_tokens(p_client_id text, p_user text)
returns table (revoked bigint)
language plpgsql set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_custom_plan
as $$
declare
  v_application_id constant bigint := users_admin.application_id(p_client_id);
  v_user_id constant bigint := users_admin.user_id(p_user);
begin
  if v_application_id is null and v_user_id is null then
    raise invalid_parameter_value using message = 'neither an application nor a user is named';
  end if;
  update users.token set revoked_at = now()
  where (v_application_id is null or application_id = v_application_id)
    and (v_user_id is null or user_id = v_user_id)
    and revoked_at is null
    and (expires_at is null or expires_at > now());
  get diagnostics revoked = row_count;
  return next;
end
$$;
comment on function users_admin.revoke_tokens is
  'End all tokens of an application, of a user, or of a user with an application. revoked: how many were live.';

-- Credentials

create or replace function users_admin.add_credential(
  p_user text, p_username text, p_secret_digest bytea, p_secret_hash text)
returns table (user_id bigint, username text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    insert into users.credential as added (user_id, username, secret_digest, secret_hash)
    values (users_admin.user_id(p_user), p_username, p_secret_digest, p_secret_hash)
    on conflict on constraint credential_username_key do nothing
    returning added.user_id, added.username;
  if not found then
    raise unique_violation using message = format('there is already a credential %s', p_username);
  end if;
end
$$;
comment on function users_admin.add_credential is
  'Give a user API credentials. Either p_secret_digest, SHA-256 of a generated password, or p_secret_hash, of a password '
  'from elsewhere in a form that apr_password_validate() knows; null the other.';

create or replace function users_admin.list_credentials(p_user text, p_limit integer)
returns table (username text, user_id bigint, kind text, created_at timestamptz, revoked_at timestamptz)
language plpgsql stable set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_custom_plan
as $$
declare
  v_user_id constant bigint := users_admin.user_id(p_user);
begin
  return query
    select credential.username, credential.user_id,
      case when secret_hash is null then 'generated' else 'hash' end,
      date_trunc('second', credential.created_at), date_trunc('second', credential.revoked_at)
    from users.credential
    where v_user_id is null or credential.user_id = v_user_id
    order by credential.username
    limit p_limit;
end
$$;
comment on function users_admin.list_credentials is
  'API credentials, revoked ones too, of a user or of all (null). kind: generated, or hash for one taken over from elsewhere.';

create or replace function users_admin.revoke_credential(p_username text)
returns table (username text, user_id bigint, outcome text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  update users.credential set revoked_at = now()
  where credential.username = p_username and revoked_at is null;
  outcome := case when found then 'revoked' else 'already revoked' end;
  select credential.username, credential.user_id into username, user_id
  from users.credential where credential.username = p_username;
  if not found then
    raise no_data_found using message = format('there is no credential %s', p_username);
  end if;
  return next;
end
$$;
comment on function users_admin.revoke_credential is
  'End API credentials by their user name, and the tokens that were issued for them. outcome: revoked, already revoked.';

-- Users

create or replace function users_admin.show_user(p_user text)
returns table (id bigint, email text, fname text, lname text, company_name text, client_id text, external_id text,
  live_tokens bigint, live_credentials bigint, created_at timestamptz, updated_at timestamptz,
  suspended_at timestamptz)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select account.id, email, fname, lname, company_name, application.client_id, external_id,
    (select count(*) from users_api.token where user_id = account.id),
    (select count(*) from users_api.credential where user_id = account.id),
    date_trunc('second', account.created_at), date_trunc('second', updated_at),
    date_trunc('second', suspended_at)
  from users.account
  left join users.application on application.id = account.application_id
  where account.id = users_admin.user_id(p_user)
$$;
comment on function users_admin.show_user is
  'What an administrator wants to know of an account. client_id: the application that registered it.';

create or replace function users_admin.suspend_user(p_user text)
returns table (id bigint, email text, outcome text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_id constant bigint := users_admin.user_id(p_user);
begin
  update users.account set suspended_at = now()
  where account.id = v_id and suspended_at is null;
  outcome := case when found then 'suspended' else 'already suspended' end;
  select account.id, account.email into id, email from users.account where account.id = v_id;
  return next;
end
$$;
comment on function users_admin.suspend_user is
  'Have the owner of an account refused, whatever the credential. outcome: suspended, already suspended.';

create or replace function users_admin.resume_user(p_user text)
returns table (id bigint, email text, outcome text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_id constant bigint := users_admin.user_id(p_user);
begin
  update users.account set suspended_at = null
  where account.id = v_id and suspended_at is not null;
  outcome := case when found then 'resumed' else 'not suspended' end;
  select account.id, account.email into id, email from users.account where account.id = v_id;
  return next;
end
$$;
comment on function users_admin.resume_user is
  'End the suspension of an account. outcome: resumed, not suspended.';

-- Purging
--
-- A batch is a stretch of the table's pages, not of an index: the whole is one pass over the table
-- in the order in which it lies on disk, needs no index on times that every insert would pay for,
-- and writes each page once, where dead tokens in the order of their digests would be all over it.
-- A page that is half empty makes its batch smaller, so that a batch's time is bounded in any case.

create or replace function users_admin.page_or_end(p_table regclass, p_page bigint) returns bigint
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select p_page where p_page < pg_relation_size(p_table) / current_setting('block_size')::bigint
$$;
comment on function users_admin.page_or_end is 'A page of a table, null where the table ends before it.';

create or replace function users_admin.purge(p_table text, p_page bigint, p_rows integer, p_older_than interval)
returns table (next_page bigint, purged bigint)
language plpgsql set search_path = pg_catalog, pg_temp
  set enable_seqscan = off -- lest a batch reads the whole table
  set jit = off -- which those costs would start
as $$
declare
  v_end constant bigint := p_page + greatest(p_rows / 50, 1); -- that many fit on a page
  v_dead constant text := case p_table
    when 'token' then 'expires_at < $3 or revoked_at < $3
      or application_id = any (array(select id from users.application where revoked_at < $3))'
    when 'credential' then 'revoked_at < $3'
    when 'idempotency' then $condition$created_at <= now() - interval '24 hours'$condition$
    when 'change' then $condition$created_at <= now() - interval '1 hour'$condition$
    when 'audit' then 'at < $3'
    when 'event' then 'dead_at < $3'
  end;
begin
  if v_dead is null then
    raise invalid_parameter_value using message = format('there is nothing to purge in %s', p_table);
  end if;
  execute format('delete from users.%1$I where ctid = any (array(
      select ctid from users.%1$I where ctid >= $1 and ctid < $2 and (%2$s) for update skip locked))', p_table, v_dead)
    using format('(%s,0)', p_page)::tid, format('(%s,0)', v_end)::tid, users_admin.time_in(-p_older_than);
  get diagnostics purged = row_count;
  next_page := users_admin.page_or_end(format('users.%I', p_table)::regclass, v_end);
  return next;
end
$$;
comment on function users_admin.purge is
  'Delete what is dead of a table, among about p_rows from p_page of it on; 0 is the first. p_table: token (expired, revoked, '
  'or of a removed application), credential (revoked) or event (dead), all for longer than p_older_than; audit (written '
  'before that); idempotency (older than 24 '
  'hours) or change (older than an hour), whose rows then mean nothing. next_page: where to go on, null at the end. A row '
  'that someone has locked is left to the next time.';

create or replace function users_admin.purge_tokens(p_page bigint, p_rows integer, p_older_than interval)
returns table (next_page bigint, purged bigint)
language sql set search_path = pg_catalog, pg_temp
as $$
  select next_page, purged from users_admin.purge('token', p_page, p_rows, p_older_than)
$$;
comment on function users_admin.purge_tokens is 'The same for usersctl 0.1.0.';

create or replace function users_admin.purge_idempotency(p_page bigint, p_rows integer)
returns table (next_page bigint, purged bigint)
language sql set search_path = pg_catalog, pg_temp
as $$
  select next_page, purged from users_admin.purge('idempotency', p_page, p_rows, null)
$$;
comment on function users_admin.purge_idempotency is 'The same for usersctl 0.1.0.';

-- The audit

create or replace function users_admin.next_audit(p_after bigint, p_newest boolean, p_rows integer)
returns table (last_id bigint)
language plpgsql stable set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_custom_plan
as $$
begin
  if p_newest then
    last_id := (select min(id) from (
      select id from users.audit where p_after is null or id < p_after order by id desc limit p_rows) as ahead);
  else
    last_id := (select max(id) from (
      select id from users.audit where p_after is null or id > p_after order by id limit p_rows) as ahead);
  end if;
  return next;
end
$$;
comment on function users_admin.next_audit is 'The same of users.audit as users_admin.next_users of accounts.';

create or replace function users_admin.list_audit(
  p_filters jsonb, p_after bigint, p_last bigint, p_newest boolean, p_limit integer)
returns table (id bigint, at timestamptz, action text, user_id bigint, caller_id bigint, client_id text, kind text,
  address text, trace text, fields text)
language plpgsql stable set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_custom_plan -- which knows what is null
as $$
declare
  v_first constant bigint := case when p_newest then p_last else coalesce(p_after + 1, 0) end;
  v_end constant bigint := case when p_newest then coalesce(p_after - 1, 9223372036854775807) else p_last end;
  v_user_id constant bigint := case when p_filters ->> 'user' ~ '^[0-9]{1,18}$' then (p_filters ->> 'user')::bigint
    else users_admin.user_id(p_filters ->> 'user') end; -- an id may be that of an account that is gone
  v_application constant bigint := users_admin.application_id(p_filters ->> 'application');
  v_action constant text := p_filters ->> 'action';
  v_since constant timestamptz := (p_filters ->> 'since')::timestamp at time zone 'UTC';
  v_until constant timestamptz := ((p_filters ->> 'until')::date + 1)::timestamp at time zone 'UTC';
begin
  return query
    select audit.id, date_trunc('milliseconds', audit.at), audit.action, audit.user_id, audit.caller_id,
      application.client_id, audit.kind, host(audit.address), audit.trace, array_to_string(audit.fields, ' ')
    from users.audit
    left join users.application on application.id = audit.application_id
    where audit.id between v_first and v_end
      and (v_user_id is null or audit.user_id = v_user_id)
      and (v_application is null or audit.application_id = v_application)
      and (v_action is null or audit.action = v_action)
      and (v_since is null or audit.at >= v_since)
      and (v_until is null or audit.at < v_until)
    order by case when p_newest then -audit.id else audit.id end
    limit p_limit;
end
$$;
comment on function users_admin.list_audit is
  'Rows of users.audit behind p_after as far as p_last (users_admin.next_audit), in the order of their ids or the other way '
  'round, to which all filters apply: user, application, action, since and until (days, UTC).';

-- What PostgreSQL's log gets

create or replace function users_admin.logged_roles() returns table (role text)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  with setting (name) as (values ('log_parameter_max_length'), ('log_parameter_max_length_on_error'), ('log_statement'),
    ('log_min_duration_statement'), ('log_min_duration_sample'), ('log_transaction_sample_rate')),
  client (oid, name) as (
    select oid, rolname from pg_roles
    where rolcanlogin and not rolsuper and has_schema_privilege(oid, 'users_api', 'usage')
      and oid <> (select nspowner from pg_namespace where nspname = 'users_api')
  ),
  -- the role's own settings win over the database's, and those for both over either
  effective (role, name, value) as (
    select client.name, setting.name, coalesce((
        select split_part(entry, '=', 2) from pg_db_role_setting, unnest(setconfig) as entry
        where setrole in (client.oid, 0)
          and setdatabase in (0, (select oid from pg_database where datname = current_database()))
          and split_part(entry, '=', 1) = setting.name
        order by setrole = 0, setdatabase = 0
        limit 1),
      (select reset_val from pg_settings where name = setting.name))
    from client, setting
  ),
  client_setting (role, settings) as (
    select role, jsonb_object_agg(name, value) from effective group by role
  )
  select role from client_setting
  where settings ->> 'log_parameter_max_length_on_error' !~ '^0'
    or settings ->> 'log_parameter_max_length' !~ '^0' and (
      settings ->> 'log_statement' = 'all'
      or settings ->> 'log_min_duration_statement' !~ '^-'
      or settings ->> 'log_min_duration_sample' !~ '^-'
      or settings ->> 'log_transaction_sample_rate' !~ '^0([.]0*)?$')
  order by role
$$;
comment on function users_admin.logged_roles is
  'Roles that may use the API''s functions and whose parameters, which hold what clients send, PostgreSQL logs: with '
  'statements or with errors.';

-- PostgreSQL lets everybody execute a new function.
revoke execute on all functions in schema users_admin from public;
