-- The contract's functions for PATCH. What contract.sql says of its functions holds here.

create or replace function users.forget_changes(p_rows integer) returns void
language plpgsql
as $$
declare
  -- The module's nonces begin with the time (RFC 9562 section 5.7): the oldest come first in the index.
  v_end constant uuid :=
    rpad(lpad(to_hex((extract(epoch from now() - interval '1 hour') * 1000)::bigint), 12, '0'), 32, '0');
begin
  delete from users.change where nonce = any (array(
    select nonce from users.change
    where nonce < v_end and created_at < now() - interval '1 hour'
    order by nonce limit p_rows
    for update skip locked)); -- who deletes the same does not wait
end
$$;
comment on function users.forget_changes is
  'Delete names of changes that nobody repeats any more, the oldest first, p_rows at most.';

create or replace function users_api.update_accounts(
  p_user_ids bigint[], p_fields jsonb[], p_requests jsonb[], p_if_match text[], p_nonces uuid[],
  p_tokens bytea[], p_credentials text[], p_clients text[])
returns table (number bigint, document json)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if random() < 0.05 then -- more than come meanwhile
    perform users.forget_changes(40 * cardinality(p_nonces));
  end if;

  return query
  with locked as ( -- in one order for all, and nobody waits: who would is left out
    select id from users.account where id = any (p_user_ids) order by id for no key update skip locked
  ), updated as (
    update users.account as a set -- the columns that the owner may change, and no other
      fname = case when c.fields ? 'fname' then c.fields ->> 'fname' else a.fname end,
      lname = case when c.fields ? 'lname' then c.fields ->> 'lname' else a.lname end,
      email = case when c.fields ? 'email' then c.fields ->> 'email' else a.email end,
      locale = case when c.fields ? 'locale' then c.fields ->> 'locale' else a.locale end,
      city = case when c.fields ? 'city' then c.fields ->> 'city' else a.city end,
      state = case when c.fields ? 'state' then c.fields ->> 'state' else a.state end,
      zip = case when c.fields ? 'zip' then c.fields ->> 'zip' else a.zip end,
      c_sftp_pass = case when c.fields ? 'c_sftp_pass' then (c.fields -> 'c_sftp_pass')::boolean else a.c_sftp_pass end,
      country = case when c.fields ? 'country' then c.fields ->> 'country' else a.country end,
      address1 = case when c.fields ? 'address1' then c.fields ->> 'address1' else a.address1 end,
      address2 = case when c.fields ? 'address2' then c.fields ->> 'address2' else a.address2 end,
      company_name = case when c.fields ? 'company_name' then c.fields ->> 'company_name' else a.company_name end,
      phone = case when c.fields ? 'phone' then c.fields ->> 'phone' else a.phone end,
      currency = case when c.fields ? 'currency' then c.fields ->> 'currency' else a.currency end,
      labels = case when c.request is null then a.labels
        else users.merged_labels(a.labels, c.request #> '{user,merge_labels}') end,
      updated_at = date_trunc('milliseconds', greatest(clock_timestamp(), a.updated_at + interval '1 ms'))
    from unnest(p_user_ids, p_fields, p_requests, p_if_match, p_nonces, p_tokens, p_credentials, p_clients)
      with ordinality as c (user_id, fields, request, if_match, nonce, token, credential, client, number)
    where a.id = c.user_id
      and a.id in (select id from locked)
      and (c.fields <> '{}' or c.request #> '{user,merge_labels}' is not null)
      and a.suspended_at is null
      and (c.token is null or exists (select from users_api.token where digest = c.token and user_id = a.id))
      -- what is seldom there is asked by functions, since a subquery costs each statement its preparation
      and (c.credential is null and c.client is null or users.is_live(a.id, null, c.credential, c.client))
      and (c.request is null and not c.fields ?| '{country,currency,locale}'
        or users.faults(c.fields, case when c.request is not null
          then users.merged_labels(a.labels, c.request #> '{user,merge_labels}') end) = '[]')
      and (c.if_match is null or users_api.entity_tag(users.document(a)) = any (string_to_array(c.if_match, ' ')))
    returning c.number, c.user_id, c.nonce, users.document(a) as document
  ), named as (
    insert into users.change (user_id, nonce)
    select updated.user_id, updated.nonce from updated where updated.nonce is not null
  )
  select updated.number, updated.document from updated;
end
$$;
comment on function users_api.update_accounts(
  bigint[], jsonb[], jsonb[], text[], uuid[], bytea[], text[], text[]) is
  'Change many accounts at once; the lists have an element for each change, whose meaning is that of '
  'users_api.update_account, but for p_if_match: the tags with a blank between them. Returns the changes that were made, '
  'by their number from 1 on, with the new document. What another transaction has locked, what is faulty, stale, absent '
  'or refused, and the second of two changes of one account is left out, and nothing is stored of it: '
  'users_api.update_account makes it, or says why not. That this function waits for nobody, and does not make a '
  'change twice, holds for lists that name new changes: a nonce that is known is an error (unique_violation), and so is '
  'an address that another account has.';

-- Apart from the one above, and not by it: what a statement costs to begin is what most of a change costs.
create or replace function users_api.update_accounts(
  p_user_ids bigint[], p_fields jsonb[], p_requests jsonb[], p_if_match text[], p_nonces uuid[],
  p_tokens bytea[], p_credentials text[], p_clients text[], p_notes jsonb[])
returns table (number bigint, document json)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if random() < 0.05 then
    perform users.forget_changes(40 * cardinality(p_nonces));
  end if;

  return query
  with locked as ( -- with what is there before
    select id, account as old from users.account where id = any (p_user_ids) order by id for no key update skip locked
  ), updated as (
    update users.account as a set -- as above
      fname = case when c.fields ? 'fname' then c.fields ->> 'fname' else a.fname end,
      lname = case when c.fields ? 'lname' then c.fields ->> 'lname' else a.lname end,
      email = case when c.fields ? 'email' then c.fields ->> 'email' else a.email end,
      locale = case when c.fields ? 'locale' then c.fields ->> 'locale' else a.locale end,
      city = case when c.fields ? 'city' then c.fields ->> 'city' else a.city end,
      state = case when c.fields ? 'state' then c.fields ->> 'state' else a.state end,
      zip = case when c.fields ? 'zip' then c.fields ->> 'zip' else a.zip end,
      c_sftp_pass = case when c.fields ? 'c_sftp_pass' then (c.fields -> 'c_sftp_pass')::boolean else a.c_sftp_pass end,
      country = case when c.fields ? 'country' then c.fields ->> 'country' else a.country end,
      address1 = case when c.fields ? 'address1' then c.fields ->> 'address1' else a.address1 end,
      address2 = case when c.fields ? 'address2' then c.fields ->> 'address2' else a.address2 end,
      company_name = case when c.fields ? 'company_name' then c.fields ->> 'company_name' else a.company_name end,
      phone = case when c.fields ? 'phone' then c.fields ->> 'phone' else a.phone end,
      currency = case when c.fields ? 'currency' then c.fields ->> 'currency' else a.currency end,
      labels = case when c.request is null then a.labels
        else users.merged_labels(a.labels, c.request #> '{user,merge_labels}') end,
      updated_at = date_trunc('milliseconds', greatest(clock_timestamp(), a.updated_at + interval '1 ms'))
    from (
      select c.*, locked.old
      from unnest(p_user_ids, p_fields, p_requests, p_if_match, p_nonces, p_tokens, p_credentials, p_clients, p_notes)
        with ordinality as c (user_id, fields, request, if_match, nonce, token, credential, client, note, number)
      join locked on locked.id = c.user_id
      offset 0 -- joined before an account is, lest PostgreSQL keeps a copy of each pair of rows that it tries
    ) as c
    where a.id = c.user_id
      and (c.fields <> '{}' or c.request #> '{user,merge_labels}' is not null)
      and a.suspended_at is null
      and (c.token is null or exists (select from users_api.token where digest = c.token and user_id = a.id))
      and (c.credential is null and c.client is null or users.is_live(a.id, null, c.credential, c.client))
      and (c.request is null and not c.fields ?| '{country,currency,locale}'
        or users.faults(c.fields, case when c.request is not null
          then users.merged_labels(a.labels, c.request #> '{user,merge_labels}') end) = '[]')
      and (c.if_match is null or users_api.entity_tag(users.document(a)) = any (string_to_array(c.if_match, ' ')))
    returning c.number, c.user_id, c.nonce, c.note, users.document(a) as document, array_remove(array[
        case when a.address1 is distinct from (c.old).address1 then 'address1' end,
        case when a.address2 is distinct from (c.old).address2 then 'address2' end,
        case when a.c_sftp_pass is distinct from (c.old).c_sftp_pass then 'c_sftp_pass' end,
        case when a.city is distinct from (c.old).city then 'city' end,
        case when a.company_name is distinct from (c.old).company_name then 'company_name' end,
        case when a.country is distinct from (c.old).country then 'country' end,
        case when a.currency is distinct from (c.old).currency then 'currency' end,
        case when a.email is distinct from (c.old).email then 'email' end,
        case when a.fname is distinct from (c.old).fname then 'fname' end,
        case when a.labels is distinct from (c.old).labels then 'labels' end,
        case when a.lname is distinct from (c.old).lname then 'lname' end,
        case when a.locale is distinct from (c.old).locale then 'locale' end,
        case when a.phone is distinct from (c.old).phone then 'phone' end,
        case when a.state is distinct from (c.old).state then 'state' end,
        case when a.zip is distinct from (c.old).zip then 'zip' end], null) as fields
  ), named as (
    insert into users.change (user_id, nonce)
    select updated.user_id, updated.nonce from updated where updated.nonce is not null
  ), audited as (
    insert into users.audit (action, user_id, caller_id, application_id, kind, address, trace, fields)
    select 'user.updated', user_id, (note ->> 'account')::bigint, (note ->> 'application')::bigint, note ->> 'kind',
      (note ->> 'address')::inet, note ->> 'trace', fields
    from updated where (note -> 'audit')::boolean
  ), told as (
    insert into users.event (type, user_id, fields)
    select 'user.updated', user_id, fields from updated where (note -> 'event')::boolean
  )
  select updated.number, updated.document from updated;
end
$$;
comment on function users_api.update_accounts(
  bigint[], jsonb[], jsonb[], text[], uuid[], bytea[], text[], text[], jsonb[]) is
  'The same with a note of each change, as of users_api.update_account.';

create or replace function users.judge_update(
  p_user_id bigint, p_fields jsonb, p_patch jsonb, p_if_match text[])
returns table (outcome text, faults jsonb)
language plpgsql
as $$
declare
  v_account users.account;
begin
  select * into v_account from users.account where id = p_user_id for no key update;
  if v_account.id is null or v_account.suspended_at is not null then
    outcome := 'absent';
  elsif p_if_match is not null and users_api.entity_tag(users.document(v_account)) <> all (p_if_match) then
    outcome := 'stale';
  else
    faults := users.faults(p_fields,
      case when p_patch is not null then users.merged_labels(v_account.labels, p_patch) end);
    if exists (
      select from users.account where lower(email collate "C") = lower((p_fields ->> 'email') collate "C")
        and id <> p_user_id
    ) then
      faults := faults || users.fault('email', 'has already been taken');
    end if;
    outcome := case when faults <> '[]' then 'invalid' end;
  end if;
  return next;
end
$$;
comment on function users.judge_update is
  'Why a change can''t be stored: outcome and faults as of users_api.update_account; outcome null: it can. The account is '
  'locked from then on.';

create or replace function users.is_live(p_user_id bigint, p_token bytea, p_credential text, p_client text)
returns boolean
language plpgsql stable
as $$
begin
  if p_token is not null then
    return exists (select from users_api.token where digest = p_token and user_id = p_user_id);
  elsif p_credential is not null then
    return exists (select from users_api.credential where username = p_credential and user_id = p_user_id);
  end if;
  return p_client is null or exists (select from users_api.application where client_id = p_client);
end
$$;
comment on function users.is_live is 'Does what let a request in still do so? See users_api.update_account.';

create or replace function users_api.update_account(
  p_user_id bigint, p_fields jsonb, p_request jsonb, p_if_match text[], p_store boolean, p_nonce uuid,
  p_token bytea, p_credential text, p_client text)
returns table (outcome text, faults jsonb, document json)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_empty constant boolean := p_fields = '{}' and p_request #> '{user,merge_labels}' is null;
begin
  -- As update_accounts does: the account first, its name next. In the other order this and a first try of it, which
  -- is still under way, would wait for each other.
  perform from users.account where id = p_user_id for no key update;
  -- Before anything is judged, since the first try has changed the tag.
  insert into users.change (user_id, nonce) values (p_user_id, p_nonce) on conflict do nothing;
  if not found then
    outcome := 'updated';
    document := (select account.document from users_api.account where user_id = p_user_id);
    return next;
    return;
  end if;

  if not users.is_live(p_user_id, p_token, p_credential, p_client) then
    outcome := 'ended';
  else
    select judged.outcome, judged.faults into outcome, faults
    from users.judge_update(p_user_id, p_fields, p_request #> '{user,merge_labels}', p_if_match) as judged;
    if outcome is null and not p_store then
      outcome := 'invalid';
    end if;
  end if;
  if outcome is null and v_empty then
    document := (select account.document from users_api.account where user_id = p_user_id);
  elsif outcome is null then
    begin
      document := (select made.document from users_api.update_accounts(array[p_user_id], array[p_fields], array[p_request],
        array[null::text], array[null::uuid], array[null::bytea], array[null::text], array[null::text]) as made);
    exception when unique_violation then -- the address went to another account meanwhile
      outcome := 'invalid';
      faults := faults || users.fault('email', 'has already been taken');
    end;
    if document is null and outcome is null then
      raise exception 'something keeps the account % from being changed', p_user_id
        using hint = 'Does a trigger of users.account return null?';
    end if;
  end if;

  if document is not null then
    outcome := 'updated';
  end if;
  if document is null or v_empty then -- a name is for what was stored
    delete from users.change where user_id = p_user_id and nonce = p_nonce;
  end if;
  return next;
end
$$;
comment on function users_api.update_account(bigint, jsonb, jsonb, text[], boolean, uuid, bytea, text, text) is
  'Change the account p_user_id. '
  'p_fields: the good ones of the request, normalised; p_request: the request itself, of which user.merge_labels counts, '
  'null where it has none; '
  'p_if_match: entity tags (opaque part) of which the present one must be one, null for no condition; '
  'p_store false: judge only, since the request is known to be faulty; '
  'p_nonce: a name of this change that no other has, by which it is made once: with one that was used within the hour '
  'nothing is judged or stored again, and the outcome is that of the first time; '
  'p_token (a digest), p_credential (a user name), p_client (a client_id): what let the request in, two of them null. '
  'outcome: ended (that does not let it in any more), absent (no such account, or suspended), stale (the condition failed), '
  'invalid (faults is a list of {field, text}, which may be empty; nothing is stored; UsersProbeLimit counts those where '
  'email "has already been taken"), updated (document is the new one).';

create or replace function users_api.update_account(
  p_user_id bigint, p_fields jsonb, p_request jsonb, p_if_match text[], p_store boolean, p_nonce uuid,
  p_token bytea, p_credential text, p_client text, p_note jsonb)
returns table (outcome text, faults jsonb, document json)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_stores constant boolean := p_store and (p_fields <> '{}' or p_request #> '{user,merge_labels}' is not null);
  v_taken boolean := false;
begin
  perform from users.account where id = p_user_id for no key update; -- a first try of it has ended then
  if v_stores and not exists (select from users.change where nonce = p_nonce) then
    begin
      document := (select made.document from users_api.update_accounts(array[p_user_id], array[p_fields], array[p_request],
        array[array_to_string(p_if_match, ' ')], array[p_nonce], array[p_token], array[p_credential], array[p_client],
        array[p_note]) as made);
    exception when unique_violation then
      v_taken := true;
    end;
    if document is not null then
      outcome := 'updated';
      return next;
      return;
    end if;
    p_store := false; -- what is not noted is not stored
  end if;
  select judged.outcome, judged.faults, judged.document into outcome, faults, document
  from users_api.update_account(
    p_user_id, p_fields, p_request, p_if_match, p_store, p_nonce, p_token, p_credential, p_client) as judged;
  if v_taken and outcome = 'invalid' and faults = '[]' then
    faults := jsonb_build_array(users.fault('email', 'has already been taken'));
  elsif v_stores and outcome = 'invalid' and faults = '[]' then
    raise exception 'something keeps the account % from being changed', p_user_id
      using hint = 'Does a trigger of users.account return null?';
  end if;
  return next;
end
$$;
comment on function users_api.update_account(
  bigint, jsonb, jsonb, text[], boolean, uuid, bytea, text, text, jsonb) is
  'The same, and where it stores something, p_note is written as well, once, as the change is made.';

-- As the module of 0.1.0 calls it.
create or replace function users_api.update_account(
  p_user_id bigint, p_fields jsonb, p_request jsonb, p_if_match text[], p_store boolean,
  p_nonce uuid default gen_random_uuid())
returns table (outcome text, faults jsonb, document json)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return query select * from users_api.update_account(
    p_user_id, p_fields, p_request, p_if_match, p_store, p_nonce, null::bytea, null::text, null::text);
end
$$;
comment on function users_api.update_account(bigint, jsonb, jsonb, text[], boolean, uuid) is
  'The same of before a change asked again what had let it in.';

-- PostgreSQL lets everybody execute a new function.
revoke execute on all functions in schema users, users_api from public;
