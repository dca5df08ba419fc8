-- The contract's functions: with the views of views.sql all that the module knows of the database.
-- Who has user tables already brings views and functions of these names over them, in place of
-- tables.sql, views.sql and this file.
--
-- Every upgrade runs this again, for which no table is locked, and while the module of the release
-- before still calls what it knows. So a function whose parameters or result change is a new one, an
-- overload, and the old one stays for one release.
--
-- There are no advisory locks and no session state, so it runs behind any pooler. Functions
-- run with their owner's rights, and their search_path is fixed since they do.

create or replace function users_api.entity_tag(document json) returns text
language sql stable strict
as $$
  select left(encode(sha256(convert_to(document::text, 'UTF8')), 'hex'), 32)
$$;
comment on function users_api.entity_tag is
  'The opaque part of the strong entity tag (RFC 9110 section 8.8.3) of a document: SHA-256, first 32 hex digits.';

-- What the changes share

create or replace function users.fault(p_field text, p_text text) returns jsonb
language sql immutable
as $$
  select jsonb_build_object('field', p_field, 'text', p_text)
$$;
comment on function users.fault is 'One thing that is wrong with a request: a member of a list of faults.';

create or replace function users.is_known_locale(p_locale text) returns boolean
language sql stable strict
as $$
  select exists (select from users.language where code = split_part(p_locale, '-', 1))
    and (p_locale not like '%-%'
      or exists (select from users.country where code = split_part(p_locale, '-', 2)))
$$;
comment on function users.is_known_locale is
  'Is it a language that we know (en), or one with a region that we know (pt-BR)?';

create or replace function users.faults(p_fields jsonb, p_labels jsonb) returns jsonb
language sql stable
as $$
  select coalesce(jsonb_agg(fault), '[]')
  from (values -- a field that is absent or null compares as null, which is no fault
    ('country', 'is not a known country',
      p_fields ->> 'country' not in (select code from users.country)),
    ('currency', 'is not a known currency',
      p_fields ->> 'currency' not in (select code from users.currency)),
    ('locale', 'is not a known locale',
      not users.is_known_locale(p_fields ->> 'locale')),
    ('merge_labels', 'is too large (maximum is 16 KiB)',
      octet_length(p_labels::text) > 16384)
  ) as checks (field, text, failed)
  cross join users.fault(field, text) as fault
  where failed
$$;
comment on function users.faults is
  'What is wrong with fields and labels, as far as any account is concerned. p_labels null: not to be judged.';

create or replace function users.merged_labels(p_labels jsonb, p_patch jsonb) returns jsonb
language sql immutable
as $$
  select coalesce(jsonb_object_agg(key, value), '{}')
  from jsonb_each(p_labels || case jsonb_typeof(p_patch) when 'object' then p_patch else '{}' end)
  where value <> 'null'
$$;
comment on function users.merged_labels is
  'Labels in which each top-level key of p_patch has replaced the one of its name, or removed it by null.';

-- Changes
--
-- A connection can die, or not answer in time, between a change and the news of it. The module
-- then repeats the change on a new connection, and each function makes it once however often that
-- happens, and returns what became of it. What tells a repeat from another change is a name that
-- the module has made at random: for a registration that of its credential, which is unique
-- anyway and so costs nothing; for a token its digest, likewise; for an update a nonce in a row of
-- its own (users.change), since a later change may stand between a change and its repeat, and would
-- overwrite a column of the account. To end a token twice is to end it once. The first try may
-- still be running, or not even have begun, when the repeat comes: whichever is second waits for
-- the other, for a row or in a unique index, and then finds what it has done. A refusal stores
-- nothing, and a repeat is judged anew.
--
-- All of that wants the isolation level "read committed", in which a statement sees what those
-- before it have waited for; role.sql asks for it.

-- PATCH

create or replace function users_api.update_account(
  p_user_id bigint, p_fields jsonb, p_request jsonb, p_if_match text[], p_store boolean,
  p_nonce uuid default gen_random_uuid())
returns table (outcome text, faults jsonb, document json)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_taken constant jsonb := users.fault('email', 'has already been taken');
  v_patch constant jsonb := p_request #> '{user,merge_labels}';
  v_account users.account;
  v_labels jsonb;
begin
  select * into v_account from users.account where id = p_user_id for no key update;

  -- Looked for under the lock, and before anything is judged: the first try has changed the tag.
  if exists (select from users.change where user_id = p_user_id and nonce = p_nonce) then
    outcome := 'updated';
    document := (select account.document from users_api.account where user_id = p_user_id);
    return next;
    return;
  end if;

  if v_account.id is null or v_account.suspended_at is not null then
    outcome := 'absent';
    return next;
    return;
  end if;

  -- Judged under the lock: of two changes with one tag the second finds the first one's.
  if p_if_match is not null and not exists (
    select from users_api.account
    where user_id = p_user_id and users_api.entity_tag(account.document) = any (p_if_match)
  ) then
    outcome := 'stale';
    return next;
    return;
  end if;

  v_labels := users.merged_labels(v_account.labels, v_patch);
  v_account := jsonb_populate_record(v_account, p_fields);
  faults := users.faults(p_fields, case when v_patch is not null then v_labels end);
  if exists (
    select from users.account where lower(email) = lower(v_account.email) and id <> p_user_id
  ) then
    faults := faults || v_taken;
  end if;
  if not p_store or faults <> '[]' then
    outcome := 'invalid';
    return next;
    return;
  end if;

  if p_fields <> '{}' or v_patch is not null then
    begin
      update users.account set -- the columns that the owner may change, and no other
        fname = v_account.fname,
        lname = v_account.lname,
        email = v_account.email,
        locale = v_account.locale,
        city = v_account.city,
        state = v_account.state,
        zip = v_account.zip,
        c_sftp_pass = v_account.c_sftp_pass,
        country = v_account.country,
        address1 = v_account.address1,
        address2 = v_account.address2,
        company_name = v_account.company_name,
        phone = v_account.phone,
        currency = v_account.currency,
        labels = v_labels,
        updated_at = date_trunc('milliseconds', greatest(clock_timestamp(), updated_at + interval '1 ms'))
      where id = p_user_id;
    exception when unique_violation then -- the address went to another account meanwhile
      outcome := 'invalid';
      faults := faults || v_taken;
      return next;
      return;
    end;
    -- Not each time: of an account that changes all the time it would read an hour's rows.
    if v_account.updated_at < now() - interval '1 hour' or random() < 0.01 then
      delete from users.change where user_id = p_user_id and created_at < now() - interval '1 hour';
    end if;
    insert into users.change (user_id, nonce) values (p_user_id, p_nonce);
  end if;

  outcome := 'updated';
  document := (select account.document from users_api.account where user_id = p_user_id);
  return next;
end
$$;
comment on function users_api.update_account is
  'Change the account p_user_id. '
  'p_fields: the good ones of the request, normalised; p_request: the request itself, of which user.merge_labels counts; '
  'p_if_match: entity tags (opaque part) of which the present one must be one, null for no condition; '
  'p_store false: judge only, since the request is known to be faulty; '
  'p_nonce: a random name of this change: with one that was used on the account within the hour nothing is judged or '
  'stored again, and the outcome is that of the first time. '
  'outcome: absent (no such account, or suspended), stale (the condition failed), invalid (faults is a list of '
  '{field, text}, which may be empty; nothing is stored), updated (document is the new one).';

-- POST

create or replace function users.generated_email(p_username text, p_host_name text) returns text
language sql volatile
as $$
  -- RFC 5321 section 4.5.3.1: a local part of 64 octets, 254 for the whole (its erratum 1690).
  -- A dot is neither first nor doubled; the last character is a digit of the suffix.
  select left(
      regexp_replace(
        regexp_replace(p_username, '[^A-Za-z0-9.+-]+', '_', 'g'),
        '^\.+|\.(?=\.)', '', 'g'),
      least(64, greatest(253 - octet_length(p_host_name), 13)) - 13)
    || '_' || left(translate(gen_random_uuid()::text, '-', ''), 12) -- these 48 bits are random
    || '@' || p_host_name
$$;
comment on function users.generated_email is 'A valid address that no other account has: <p_username>_<12 hex digits>@<p_host_name>.';

create or replace function users.new_account(
  p_application_id bigint, p_fields jsonb, p_request jsonb,
  p_default_currency text, p_default_locale text) returns users.account
language plpgsql stable
as $$
declare
  -- Where the request is faulty a name may be missing, and null can't be a key.
  v_provider constant jsonb := jsonb_build_object(coalesce(p_fields ->> 'provider', ''),
    jsonb_build_object(coalesce(p_fields ->> 'provider_server', ''), p_fields ->> 'provider_username'));
  v_account users.account := jsonb_populate_record(null::users.account,
    jsonb_build_object('country', 'US', 'currency', p_default_currency, 'c_sftp_pass', false)
      || jsonb_strip_nulls(p_fields));
begin
  v_account.application_id := p_application_id;
  if not coalesce(users.is_known_locale(v_account.locale), false) then
    v_account.locale := p_default_locale;
  end if;
  v_account.labels := users.merged_labels(users.merged_labels(users.merged_labels(
    v_provider, p_request -> 'labels'), p_request #> '{user,labels}'), p_request #> '{user,merge_labels}');
  return v_account;
end
$$;
comment on function users.new_account is 'The account that a registration asks for, not stored and not judged yet.';

create or replace function users.insert_account(
  p_account users.account, p_username text, p_host_name text) returns bigint
language plpgsql
as $$
declare
  v_email text := coalesce(p_account.email, users.generated_email(p_username, p_host_name));
  v_id bigint;
begin
  loop
    insert into users.account (
      application_id, external_id, fname, lname, email, locale, city, state, zip, c_sftp_pass,
      country, address1, address2, company_name, phone, currency, labels
    ) values (
      p_account.application_id, p_account.external_id, p_account.fname, p_account.lname, v_email,
      p_account.locale, p_account.city, p_account.state, p_account.zip, p_account.c_sftp_pass,
      p_account.country, p_account.address1, p_account.address2, p_account.company_name,
      p_account.phone, p_account.currency, p_account.labels
    )
    on conflict (lower(email)) do nothing -- but only after a concurrent holder has committed
    returning id into v_id;
    if found then
      return v_id;
    end if;
    v_email := users.generated_email(p_username, p_host_name);
  end loop;
end
$$;
comment on function users.insert_account is
  'Store a new account, with a generated address where it has none or one that is taken; returns its id.';

create or replace function users.claim_key(
  p_application_id bigint, p_key text, p_payload_digest bytea) returns text
language plpgsql
as $$
begin
  -- Waits for a first request that is still under way. A row that the condition spares is
  -- locked all the same, so that repeats take turns.
  insert into users.idempotency as known (application_id, key, payload_digest)
  values (p_application_id, p_key, p_payload_digest)
  on conflict (application_id, key) do update
    set payload_digest = excluded.payload_digest,
      user_id = null,
      credential_id = null,
      created_at = excluded.created_at
    where known.created_at <= now() - interval '24 hours';
  if found then
    return 'new';
  end if;
  return case payload_digest when p_payload_digest then 'repeated' else 'key_reused' end
    from users.idempotency
    where application_id = p_application_id and key = p_key;
exception when lock_not_available then
  return 'under_way';
end
$$;
comment on function users.claim_key is
  'Take an Idempotency-Key for this transaction. new: it was free or older than 24 hours; repeated: a request with this '
  'payload had it; key_reused: one with another payload had it; under_way: one has it, and did not end within lock_timeout.';

create or replace function users.replace_credential(
  p_application_id bigint, p_key text, p_username text, p_secret_digest bytea) returns bigint
language plpgsql
as $$
declare
  v_key constant users.idempotency := (select known from users.idempotency as known
    where application_id = p_application_id and key = p_key);
  v_id bigint;
begin
  insert into users.credential (user_id, username, secret_digest)
  values (v_key.user_id, p_username, p_secret_digest)
  on conflict (username) do nothing -- this is the repeat of a change, see above
  returning id into v_id;
  if found then
    update users.credential set revoked_at = now() where id = v_key.credential_id and revoked_at is null;
    update users.idempotency set credential_id = v_id
    where application_id = p_application_id and key = p_key;
  end if;
  return v_key.user_id;
end
$$;
comment on function users.replace_credential is
  'Give the account of an Idempotency-Key another credential in place of the last one, once; returns the account''s id.';

create or replace function users_api.register_account(
  p_application_id bigint, p_fields jsonb, p_request jsonb,
  p_default_currency text, p_default_locale text, p_host_name text, p_conflict boolean,
  p_username text, p_secret_digest bytea, p_idempotency_key text, p_store boolean)
returns table (outcome text, faults jsonb, account json, labels jsonb)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_taken constant jsonb := users.fault('external_id', 'has already been taken');
  v_account users.account := users.new_account(
    p_application_id, p_fields, p_request, p_default_currency, p_default_locale);
  v_credential_id bigint;
  v_constraint text;
begin
  faults := users.faults(p_fields - 'locale', v_account.labels);
  if exists (
    select from users.account
    where application_id = p_application_id and external_id = v_account.external_id
  ) then
    faults := faults || v_taken;
  end if;
  if not p_store then
    outcome := 'invalid';
    return next;
    return;
  end if;

  if p_idempotency_key is not null then
    outcome := users.claim_key(
      p_application_id, p_idempotency_key, sha256(convert_to(p_request::text, 'UTF8')));
  end if;
  if outcome in ('key_reused', 'under_way') then
    return next;
    return;
  elsif outcome = 'repeated' then
    v_account.id := users.replace_credential(
      p_application_id, p_idempotency_key, p_username, p_secret_digest);
  elsif faults <> '[]' then
    outcome := 'invalid';
  else
    begin
      v_account.id := users.insert_account(v_account, p_fields ->> 'provider_username', p_host_name);
      insert into users.provider_account
        (application_id, provider, provider_server, provider_username, user_id)
      values (p_application_id, p_fields ->> 'provider', p_fields ->> 'provider_server',
        p_fields ->> 'provider_username', v_account.id)
      on conflict do nothing;
      if p_conflict and not found then
        raise unique_violation using constraint = 'provider_account_pkey';
      end if;
      insert into users.credential (user_id, username, secret_digest)
      values (v_account.id, p_username, p_secret_digest)
      returning id into v_credential_id;
      outcome := 'created';
    exception when unique_violation then -- this block has stored nothing
      get stacked diagnostics v_constraint = constraint_name;
      case v_constraint
        when 'account_external_id' then -- taken since we looked
          outcome := 'invalid';
          faults := faults || v_taken;
        when 'provider_account_pkey', 'credential_username_key' then
          outcome := 'duplicate';
        else
          raise;
      end case;
    end;
  end if;

  -- What was in the way may have been the first try of this very registration.
  if outcome in ('invalid', 'duplicate') then
    select id, user_id into v_credential_id, v_account.id
    from users.credential
    where username = p_username;
    if found then
      outcome := 'created';
    else
      delete from users.idempotency
      where application_id = p_application_id and key = p_idempotency_key;
      return next;
      return;
    end if;
  end if;
  if outcome = 'created' then
    update users.idempotency set user_id = v_account.id, credential_id = v_credential_id
    where application_id = p_application_id and key = p_idempotency_key;
  end if;

  select stored.labels, (select row_to_json(shown) from (select
      id, fname, lname, email, locale, currency, company_name, external_id) shown)
    into labels, account
  from users.account as stored
  where id = v_account.id;
  return next;
end
$$;
comment on function users_api.register_account is
  'Register an account for an application: account, provider_account and credential, or nothing. '
  'p_fields: the good ones of the request, normalised; p_request: the request itself, of which labels, user.labels '
  'and user.merge_labels count; p_default_*: where the request names none, or an unknown locale; '
  'p_host_name: the domain of generated addresses, 240 octets at most; '
  'p_conflict: a provider''s user that the application has registered before is a duplicate, and not another account; '
  'p_username, p_secret_digest: the new credential, the digest being SHA-256; the name is random, and with one that is '
  'known nothing is stored again: the outcome is that of the first time; p_idempotency_key: null for none; '
  'p_store false: judge only, since the request is known to be faulty. '
  'outcome: created; repeated (the account that this key made before, whose credential the new one replaces); duplicate, '
  'key_reused, under_way (nothing is stored; see users.claim_key); invalid (nothing is stored; faults, which counts only '
  'here, is a list of {field, text} and may be empty).';

-- Tokens

create or replace function users_api.issue_token(
  p_application_id bigint, p_user_id bigint, p_digest bytea, p_scopes text[], p_expires_at timestamptz)
returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  insert into users.token (digest, application_id, user_id, scopes, expires_at)
  select p_digest, application.id, p_user_id, p_scopes, p_expires_at
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
      and token.revoked_at is null;
  return found;
end
$$;
comment on function users_api.issue_token is
  'Store a token by its SHA-256. p_user_id null: the application''s own token, which can have those scopes only that the '
  'application holds; p_expires_at null: never. The token is random: one that is there, alive and alike, is that of the '
  'first time, and is valid from now on. False, and nothing is stored: there is no such application or account, it '
  'is revoked or suspended, the application does not hold the scopes, or the digest is that of another token.';

create or replace function users_api.revoke_token(p_application_id bigint, p_digest bytea) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update users.token set revoked_at = now()
  where digest = p_digest and application_id = p_application_id and revoked_at is null;
  return found
    or not exists (select from users.token where digest = p_digest and application_id <> p_application_id);
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
    'scope', array_to_string(token.scopes, ' '),
    'client_id', application.client_id,
    'username', account.email,
    'sub', coalesce(account.id::text, 'app:' || application.id),
    'exp', floor(extract(epoch from token.expires_at)),
    'iat', floor(extract(epoch from token.created_at)),
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
