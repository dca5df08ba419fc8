-- The contract's functions for tokens. What contract.sql says of its functions holds here.

create or replace function users.scope_set(p_scopes text[]) returns text[]
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
  return array(select scope from unnest(p_scopes) with ordinality as word (scope, place)
    where scope <> '' group by scope order by min(place));
end
$$;
comment on function users.scope_set is
  'Each of the words once (RFC 6749 section 3.3), in the order of the first ones; an empty list for null.';

create or replace function users_api.issue_token(
  p_application_id bigint, p_user_id bigint, p_digest bytea, p_scopes text[], p_expires_at timestamptz,
  p_credential text)
returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_credential_id bigint;
begin
  if p_credential is not null then
    select id into v_credential_id from users.credential
    where username = p_credential and user_id = p_user_id and revoked_at is null
    for share; -- whoever ends it waits, and then ends this token, too
    if not found then
      return false;
    end if;
  end if;
  insert into users.token (digest, application_id, user_id, scopes, expires_at, credential_id)
  select p_digest, application.id, p_user_id, users.scope_set(p_scopes), p_expires_at, v_credential_id
  from users.application
  where id = p_application_id
    and revoked_at is null
    and (p_user_id is not null or scopes @> p_scopes)
    and (p_user_id is null
      or exists (select from users.account where id = p_user_id and suspended_at is null))
  on conflict (digest) do update -- this is the repeat of a change, whose times its answer tells
    set created_at = excluded.created_at,
      expires_at = excluded.expires_at
    where token.application_id = excluded.application_id
      and token.user_id is not distinct from excluded.user_id
      and token.scopes = excluded.scopes
      and token.credential_id is not distinct from excluded.credential_id
      and token.revoked_at is null;
  return found;
end
$$;
comment on function users_api.issue_token(bigint, bigint, bytea, text[], timestamptz, text) is
  'Store a token by its SHA-256. p_user_id null: the application''s own token, which can have those scopes only that the '
  'application holds; p_expires_at null: never; p_credential: the user name of the API credentials that it is issued for '
  'and ends with, null for none. The token is random: one that is there, alive and alike, is that of the '
  'first time, and is valid from now on. False, and nothing is stored: there is no such application, account or credential, '
  'it is revoked or suspended, the application does not hold the scopes, or the digest is that of another token.';

-- As the module of 0.1.0 calls it.
create or replace function users_api.issue_token(
  p_application_id bigint, p_user_id bigint, p_digest bytea, p_scopes text[], p_expires_at timestamptz)
returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return users_api.issue_token(p_application_id, p_user_id, p_digest, p_scopes, p_expires_at, null);
end
$$;
comment on function users_api.issue_token(bigint, bigint, bytea, text[], timestamptz) is
  'The same of before a token ended with the credential that it was issued for.';

create or replace function users_api.revoke_token(p_application_id bigint, p_digest bytea) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update users.token set revoked_at = now()
  where digest = p_digest and application_id = p_application_id and revoked_at is null;
  if found then
    return true;
  elsif exists (select from users.token where digest = p_digest and application_id = p_application_id) then
    perform users.await_standby();
    return true;
  end if;
  return not exists (select from users.token where digest = p_digest);
end
$$;
comment on function users_api.revoke_token is
  'End a token of an application (RFC 7009). True also where there is no such token, or it has ended already; false, '
  'and nothing is changed: it is another application''s.';

create or replace function users_api.introspect_token(p_digest bytea) returns json
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select json_strip_nulls(json_build_object(
    'active', true,
    'scope', array_to_string(users.scope_set(token.scopes), ' '),
    'client_id', application.client_id,
    'username', account.email,
    'sub', coalesce(account.id::text, 'app:' || application.id),
    'exp', case when isfinite(token.expires_at) then floor(extract(epoch from token.expires_at)) end,
    'iat', case when isfinite(token.created_at) then floor(extract(epoch from token.created_at)) end,
    'token_type', 'Bearer'))
  from users.token
  join users.application on application.id = token.application_id
  left join users.account on account.id = token.user_id
  where token.digest = p_digest
    and token.revoked_at is null
    and application.revoked_at is null
    and (token.expires_at is null or token.expires_at > now())
    and account.suspended_at is null
$$;
comment on function users_api.introspect_token is
  'What RFC 7662 section 2.2 tells of a token: username is the account''s address, sub its id, or app:<id> for an '
  'application''s own token. Null: the token is not active; a suspended account''s is not.';

-- PostgreSQL lets everybody execute a new function.
revoke execute on all functions in schema users, users_api from public;
