-- The contract's functions for POST. What contract.sql says of its functions holds here.

create or replace function users.generated_email(p_username text, p_host_name text) returns text
language plpgsql volatile
as $$
begin
  -- RFC 5321 section 4.5.3.1: a local part of 64 octets, 254 for the whole (its erratum 1690).
  -- A dot is neither first nor doubled; the last character is a digit of the suffix.
  return left(
      regexp_replace(
        regexp_replace(p_username, '[^A-Za-z0-9.+-]+', '_', 'g'),
        '^[.]+|[.](?=[.])', '', 'g'),
      least(64, greatest(253 - octet_length(p_host_name), 13)) - 13)
    || '_' || left(translate(gen_random_uuid()::text, '-', ''), 12) -- these 48 bits are random
    || '@' || p_host_name;
end
$$;
comment on function users.generated_email is 'A valid address that no other account has: <p_username>_<12 hex digits>@<p_host_name>.';

create or replace function users.new_labels(p_fields jsonb, p_request jsonb) returns jsonb
language plpgsql immutable
as $$
declare
  -- Where the request is faulty a name may be missing, and null can't be a key.
  v_labels jsonb := jsonb_build_object(coalesce(p_fields ->> 'provider', ''),
    jsonb_build_object(coalesce(p_fields ->> 'provider_server', ''), p_fields ->> 'provider_username'));
begin
  if p_request ? 'labels' then
    v_labels := users.merged_labels(v_labels, p_request -> 'labels');
  end if;
  if p_request -> 'user' ? 'labels' then
    v_labels := users.merged_labels(v_labels, p_request #> '{user,labels}');
  end if;
  if p_request -> 'user' ? 'merge_labels' then
    v_labels := users.merged_labels(v_labels, p_request #> '{user,merge_labels}');
  end if;
  return v_labels;
end
$$;
comment on function users.new_labels is 'The labels of the account that a registration asks for.';

create or replace function users.store_accounts(
  p_application_ids bigint[], p_fields jsonb[], p_requests jsonb[], p_default_currencies text[],
  p_default_locales text[], p_host_names text[], p_usernames text[], p_secret_digests bytea[],
  p_tokens bytea[], p_clients text[])
returns table (number bigint, user_id bigint, credential_id bigint, is_first boolean, account json, labels jsonb)
language plpgsql
as $$
#variable_conflict use_column
begin
  return query
  with asked as (
    select r.*, nextval('users.account_id_seq') as id, -- by which what is stored is told apart
      coalesce(r.fields ->> 'email', users.generated_email(r.fields ->> 'provider_username', r.host_name)) as email,
      users.new_labels(r.fields, r.request) as labels
    from unnest(p_application_ids, p_fields, p_requests, p_default_currencies, p_default_locales, p_host_names,
        p_usernames, p_secret_digests, p_tokens, p_clients)
      with ordinality as r (application_id, fields, request, default_currency, default_locale, host_name,
        username, secret_digest, token, client, number)
    where (r.token is null
        or exists (select from users_api.token where digest = r.token and application_id = r.application_id))
      and (r.client is null or users.is_live(null, null, null, r.client))
      and (not r.fields ? 'country' or exists (select from users.country where code = r.fields ->> 'country'))
      and (not r.fields ? 'currency' or exists (select from users.currency where code = r.fields ->> 'currency'))
  ), made as (
    insert into users.account as a (
      id, application_id, external_id, fname, lname, email, locale, city, state, zip, c_sftp_pass,
      country, address1, address2, company_name, phone, currency, labels
    )
    select c.id, c.application_id, c.fields ->> 'external_id', c.fields ->> 'fname', c.fields ->> 'lname', c.email,
      case when users.is_known_locale(c.fields ->> 'locale') then c.fields ->> 'locale' else c.default_locale end,
      c.fields ->> 'city', c.fields ->> 'state', c.fields ->> 'zip', coalesce((c.fields -> 'c_sftp_pass')::boolean, false),
      coalesce(c.fields ->> 'country', 'US'), c.fields ->> 'address1', c.fields ->> 'address2',
      c.fields ->> 'company_name', c.fields ->> 'phone', coalesce(c.fields ->> 'currency', c.default_currency), c.labels
    from asked as c
    where octet_length(c.labels::text) <= 16384
    order by lower(c.email collate "C") -- in one order for all, lest two wait for each other
    on conflict (lower(email collate "C")) do nothing -- but only after a concurrent holder has committed
    returning a.*
  ), paired as (
    insert into users.provider_account (application_id, provider, provider_server, provider_username, user_id)
    select c.application_id, c.fields ->> 'provider', c.fields ->> 'provider_server', c.fields ->> 'provider_username', c.id
    from asked as c
    join made using (id)
    order by 1, 2, 3, 4 -- which is after all accounts, and in one order, too
    on conflict do nothing
    returning provider_account.user_id
  ), again as (
    insert into users.provider_account_later (application_id, provider, provider_server, provider_username, user_id)
    select c.application_id, c.fields ->> 'provider', c.fields ->> 'provider_server', c.fields ->> 'provider_username', c.id
    from asked as c
    join made using (id)
    where c.id not in (select paired.user_id from paired)
  ), let_in as (
    insert into users.credential (user_id, username, secret_digest)
    select c.id, c.username, c.secret_digest
    from asked as c
    join made using (id)
    returning credential.id, credential.user_id
  )
  select c.number, made.id, let_in.id, paired.user_id is not null,
    (select row_to_json(shown) from (select made.id, made.fname, made.lname, made.email, made.locale, made.currency,
      made.company_name, made.external_id) as shown),
    made.labels
  from asked as c
  join made using (id)
  join let_in on let_in.user_id = made.id
  left join paired on paired.user_id = made.id;
end
$$;
comment on function users.store_accounts is
  'Store new accounts, each with its pair and its credential, as of users_api.register_accounts; one without an address '
  'gets a generated one. Returns those that were stored; not those whose address is taken. is_first: the pair was new.';

create or replace function users.has_later_account(p_application_id bigint, p_fields jsonb) returns boolean
language plpgsql stable
as $$
begin
  return exists (
    select from users.provider_account_later
    where application_id = p_application_id -- by the index provider_account_later_name
      and sha256(replace(
        octet_length(provider)::text || ' ' || octet_length(provider_server)::text || ' '
        || provider || provider_server || provider_username, chr(92), chr(92) || chr(92))::bytea)
      = sha256(replace(
        octet_length(p_fields ->> 'provider')::text || ' ' || octet_length(p_fields ->> 'provider_server')::text || ' '
        || (p_fields ->> 'provider') || (p_fields ->> 'provider_server') || (p_fields ->> 'provider_username'),
        chr(92), chr(92) || chr(92))::bytea));
end
$$;
comment on function users.has_later_account is
  'Is there an account in provider_account_later for the provider''s user of p_fields? It may live when the first one is gone.';

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
  if exists (select from users.credential where username = p_username) then -- this is the repeat of a change, see above
    return v_key.user_id;
  end if;
  update users.credential set revoked_at = now()
  where id = v_key.credential_id and revoked_at is null
    and not exists (select from users.account where id = v_key.user_id and suspended_at is not null);
  if not found then -- a key undoes no revocation
    return null;
  end if;
  insert into users.credential (user_id, username, secret_digest)
  values (v_key.user_id, p_username, p_secret_digest)
  returning id into v_id;
  update users.idempotency set credential_id = v_id
  where application_id = p_application_id and key = p_key;
  return v_key.user_id;
end
$$;
comment on function users.replace_credential is
  'Give the account of an Idempotency-Key another credential in place of the last one, once; returns the account''s id. '
  'Null, and nothing is stored: the account is suspended, or somebody else has ended the last credential.';

create or replace function users.may_register(p_application_id bigint, p_token bytea, p_client text, p_username text)
returns boolean
language plpgsql stable
as $$
begin
  if p_token is not null then
    if exists (select from users_api.token where digest = p_token and application_id = p_application_id) then
      return true;
    end if;
  elsif users.is_live(null, null, null, p_client) then
    return true;
  end if;
  return exists (select from users.credential where username = p_username); -- it has been made already
end
$$;
comment on function users.may_register is 'Does what let a registration in still do so? See users_api.register_account.';

create or replace function users_api.register_account(
  p_application_id bigint, p_fields jsonb, p_request jsonb,
  p_default_currency text, p_default_locale text, p_host_name text, p_conflict boolean,
  p_username text, p_secret_digest bytea, p_idempotency_key text, p_store boolean,
  p_token bytea, p_client text)
returns table (outcome text, faults jsonb, account json, labels jsonb)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_fields jsonb := p_fields;
  v_user_id bigint;
  v_credential_id bigint;
  v_is_first boolean;
  v_constraint text;
begin
  faults := users.faults(p_fields - 'locale', users.new_labels(p_fields, p_request));
  if p_fields ->> 'external_id' is not null then
    if exists (
      select from users.account
      where application_id = p_application_id and external_id = p_fields ->> 'external_id'
    ) then
      faults := faults || users.fault('external_id', 'has already been taken');
    end if;
  end if;
  if not users.may_register(p_application_id, p_token, p_client, p_username) then
    outcome := 'ended';
  elsif not p_store then
    outcome := 'invalid';
  end if;
  if outcome is not null then
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
    v_user_id := users.replace_credential(p_application_id, p_idempotency_key, p_username, p_secret_digest);
    if v_user_id is null then
      outcome := 'revoked';
      return next;
      return;
    end if;
  elsif faults <> '[]' then
    outcome := 'invalid';
  else
    begin
      loop
        select user_id, credential_id, is_first into v_user_id, v_credential_id, v_is_first
        from users.store_accounts(array[p_application_id], array[v_fields], array[p_request], array[p_default_currency],
          array[p_default_locale], array[p_host_name], array[p_username], array[p_secret_digest],
          array[null::bytea], array[null::text]);
        exit when found;
        if v_fields ->> 'email' is null then
          raise exception 'something keeps an account from being made'
            using hint = 'Does a trigger of users.account return null?';
        end if;
        v_fields := v_fields - 'email'; -- it is taken
      end loop;
      if p_conflict and (not v_is_first or users.has_later_account(p_application_id, p_fields)) then
        raise unique_violation using constraint = 'provider_account_name';
      end if;
      outcome := 'created';
    exception when unique_violation then -- this block has stored nothing
      get stacked diagnostics v_constraint = constraint_name;
      case v_constraint
        when 'account_external_id' then -- taken since we looked
          outcome := 'invalid';
          faults := faults || users.fault('external_id', 'has already been taken');
        when 'provider_account_name', 'credential_username_key' then
          outcome := 'duplicate';
        else
          raise;
      end case;
    end;
  end if;

  -- What was in the way may have been the first try of this very registration.
  if outcome in ('invalid', 'duplicate') then
    select id, user_id into v_credential_id, v_user_id
    from users.credential
    where username = p_username;
    if found then
      outcome := 'created';
      perform users.await_standby();
    else
      delete from users.idempotency
      where application_id = p_application_id and key = p_idempotency_key;
      return next;
      return;
    end if;
  end if;
  if outcome = 'created' and p_idempotency_key is not null then
    update users.idempotency set user_id = v_user_id, credential_id = v_credential_id
    where application_id = p_application_id and key = p_idempotency_key;
  end if;

  account := (select row_to_json(shown) from (
    select id, fname, lname, email, locale, currency, company_name, external_id from users.account where id = v_user_id) as shown);
  labels := (select a.labels from users.account as a where id = v_user_id);
  return next;
end
$$;
comment on function users_api.register_account(
  bigint, jsonb, jsonb, text, text, text, boolean, text, bytea, text, boolean, bytea, text) is
  'Register an account for an application: account, provider_account (or provider_account_later) and credential, or nothing. '
  'p_fields: the good ones of the request, normalised; p_request: the request itself, of which labels, user.labels '
  'and user.merge_labels count, null where it has none of them and p_idempotency_key is null; '
  'p_default_*: where the request names none, or an unknown locale; '
  'p_host_name: the domain of generated addresses, 240 octets at most; '
  'p_conflict: a provider''s user that the application has registered before is a duplicate, and not another account; '
  'p_username, p_secret_digest: the new credential, the digest being SHA-256; the name is random, and with one that is '
  'known nothing is stored again: the outcome is that of the first time; p_idempotency_key: null for none; '
  'p_store false: judge only, since the request is known to be faulty; '
  'p_token (a digest), p_client (a client_id): what let the request in, one of them null. '
  'outcome: ended (that does not let it in any more); created; repeated (the account that this key made before, whose '
  'credential the new one replaces); revoked (that account is suspended, or somebody has ended its credential); duplicate, '
  'key_reused, under_way (nothing is stored; see users.claim_key); invalid (nothing is stored; faults, which counts only '
  'here, is a list of {field, text} and may be empty).';

create or replace function users_api.register_account(
  p_application_id bigint, p_fields jsonb, p_request jsonb,
  p_default_currency text, p_default_locale text, p_host_name text, p_conflict boolean,
  p_username text, p_secret_digest bytea, p_idempotency_key text, p_store boolean,
  p_token bytea, p_client text, p_note jsonb)
returns table (outcome text, faults jsonb, account json, labels jsonb)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform nextval('users.credential_id_seq'); -- see below
  select made.outcome, made.faults, made.account, made.labels into outcome, faults, account, labels
  from users_api.register_account(
    p_application_id, p_fields, p_request, p_default_currency, p_default_locale, p_host_name, p_conflict,
    p_username, p_secret_digest, p_idempotency_key, p_store, p_token, p_client) as made;
  if outcome in ('created', 'repeated') and exists (
    -- The credential has the number that this session drew last: it was made now, and not by a first try, which was noted.
    select from users.credential where username = p_username and id = currval('users.credential_id_seq')
  ) then
    perform users.write_notes(case outcome when 'created' then 'user.created' else 'credential.replaced' end,
      array[p_note], array[(account ->> 'id')::bigint], array[case outcome when 'created' then p_note ->> 'fields' else '' end]);
  end if;
  return next;
end
$$;
comment on function users_api.register_account(
  bigint, jsonb, jsonb, text, text, text, boolean, text, bytea, text, boolean, bytea, text, jsonb) is
  'The same, and where it stores something, p_note is written as well (users.write_notes): once, as it is stored.';

-- As the module of 0.1.0 calls it.
create or replace function users_api.register_account(
  p_application_id bigint, p_fields jsonb, p_request jsonb,
  p_default_currency text, p_default_locale text, p_host_name text, p_conflict boolean,
  p_username text, p_secret_digest bytea, p_idempotency_key text, p_store boolean)
returns table (outcome text, faults jsonb, account json, labels jsonb)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return query select case made.outcome when 'revoked' then 'duplicate' else made.outcome end,
    made.faults, made.account, made.labels
  from users_api.register_account(
    p_application_id, p_fields, p_request, p_default_currency, p_default_locale, p_host_name, p_conflict,
    p_username, p_secret_digest, p_idempotency_key, p_store, null::bytea, null::text) as made;
end
$$;
comment on function users_api.register_account(
  bigint, jsonb, jsonb, text, text, text, boolean, text, bytea, text, boolean) is
  'The same of before a registration asked again what had let it in.';

create or replace function users_api.register_accounts(
  p_application_ids bigint[], p_fields jsonb[], p_requests jsonb[], p_default_currencies text[],
  p_default_locales text[], p_host_names text[], p_usernames text[], p_secret_digests bytea[],
  p_tokens bytea[], p_clients text[])
returns table (number bigint, account json, labels jsonb)
language plpgsql security definer set search_path = pg_catalog, pg_temp
  set lock_timeout = '100ms' -- whoever waits for another transaction goes alone
as $$
begin
  return query select stored.number, stored.account, stored.labels
  from users.store_accounts(p_application_ids, p_fields, p_requests, p_default_currencies, p_default_locales,
    p_host_names, p_usernames, p_secret_digests, p_tokens, p_clients) as stored;
end
$$;
comment on function users_api.register_accounts(
  bigint[], jsonb[], jsonb[], text[], text[], text[], text[], bytea[], bytea[], text[]) is
  'Register many accounts at once, as users_api.update_accounts changes them: the lists have an element for each '
  'registration, whose meaning is that of users_api.register_account, and none has an Idempotency-Key, an external_id or '
  'p_conflict. Returns the accounts that were made, by the number of their registration from 1 on. What is faulty, or '
  'whose address is taken, is left out, and nothing is stored of it. It waits for no other transaction longer than '
  '100 ms: then, and where a credential''s name is known, it fails as a whole.';

create or replace function users_api.register_accounts(
  p_application_ids bigint[], p_fields jsonb[], p_requests jsonb[], p_default_currencies text[],
  p_default_locales text[], p_host_names text[], p_usernames text[], p_secret_digests bytea[],
  p_tokens bytea[], p_clients text[], p_notes jsonb[])
returns table (number bigint, account json, labels jsonb)
language plpgsql security definer set search_path = pg_catalog, pg_temp
  set lock_timeout = '100ms'
as $$
begin
  return query
  with made as materialized (
    select * from users.store_accounts(p_application_ids, p_fields, p_requests, p_default_currencies, p_default_locales,
      p_host_names, p_usernames, p_secret_digests, p_tokens, p_clients)
  ), written as (
    select users.write_notes('user.created', array_agg(p_notes[made.number]), array_agg(made.user_id),
      array_agg(p_notes[made.number] ->> 'fields'))
    from made
  )
  select made.number, made.account, made.labels from made, written;
end
$$;
comment on function users_api.register_accounts(
  bigint[], jsonb[], jsonb[], text[], text[], text[], text[], bytea[], bytea[], text[], jsonb[]) is
  'The same with a note of each registration, as of users_api.register_account.';

-- PostgreSQL lets everybody execute a new function.
revoke execute on all functions in schema users, users_api from public;
