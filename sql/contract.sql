-- The contract's functions: with the views of views.sql all that the module knows of the database.
-- Who has user tables already brings views and functions of these names over them, in place of
-- tables.sql, views.sql and this file.
--
-- Every upgrade runs this again, for which no table is locked, and while the module of the release
-- before still calls what it knows. So a function whose parameters or result change is a new one, an
-- overload, and the old one stays for one release.
--
-- There are no advisory locks and no session state, so it runs behind any pooler. Functions
-- run with their owner's rights, and their search_path is fixed since they do. Other settings they have as
-- the session does, and no result depends on them: no text literal holds a backslash, which
-- standard_conforming_strings decides about, and no time becomes text but by to_char().

create or replace function users_api.entity_tag(document json) returns text
language plpgsql stable strict set search_path = pg_catalog, pg_temp
as $$
begin
  return left(encode(sha256(convert_to(document::text, 'UTF8')), 'hex'), 32);
end
$$;
comment on function users_api.entity_tag is
  'The opaque part of the strong entity tag (RFC 9110 section 8.8.3) of a document: SHA-256, first 32 hex digits.';

-- What the changes share
--
-- All of it is plpgsql, whose plans a session keeps: a function in SQL that can't be inlined is parsed
-- anew by each statement that calls it.

create or replace function users.document(p_account users.account) returns json
language plpgsql stable
as $$
begin
  return concat(
    '{"user":', p_account.document_head,
    (select document from users.currency where code = p_account.currency),
    p_account.document_middle,
    (select document from users.billing_plan where id = p_account.billing_plan_id),
    p_account.document_services,
    ',"quota":{', (
      select string_agg(concat(document_head, current, ',"quota":', quota,
        ',"is_over":', to_json(current >= quota), ',"available":', quota - current, '}'), ',' order by kind)
      from (
        select kind, document_head, quota,
          coalesce((p_account.usage -> coalesce(counter, kind))::bigint, 0) as current
        from users.group_quota
        where group_id = p_account.group_id
      ) as quotas),
    '},"unprocessed_usage":', p_account.unprocessed_usage, '}}')::json;
end
$$;
comment on function users.document is
  'The document of a row of users.account, as the view users_api.account shows it; of a row that this very statement '
  'has changed, too, which a view can''t see yet.';

create or replace function users.fault(p_field text, p_text text) returns jsonb
language plpgsql immutable
as $$
begin
  return jsonb_build_object('field', p_field, 'text', p_text);
end
$$;
comment on function users.fault is 'One thing that is wrong with a request: a member of a list of faults.';

create or replace function users.is_known_locale(p_locale text) returns boolean
language plpgsql stable strict
as $$
declare
  v_language constant text := split_part(p_locale, '-', 1);
  v_script constant text := substring(p_locale from '-([A-Z][a-z]{3})');
  v_region constant text := substring(p_locale from '-([A-Z]{2}|[0-9]{3})$');
begin
  return p_locale = concat_ws('-', v_language, v_script, v_region)
    and exists (select from users.language where code = v_language)
    and (v_script is null or exists (select from users.script where code = v_script))
    and (v_region is null or exists (
      select from users.country where code = v_region union all select from users.area where code = v_region));
end
$$;
comment on function users.is_known_locale is
  'Is it a language that we know (en), perhaps with a script (zh-Hant), a region (pt-BR, es-419) or both that we know?';

create or replace function users.faults(p_fields jsonb, p_labels jsonb) returns jsonb
language plpgsql stable
as $$
declare
  v_faults jsonb := '[]'; -- a field that is absent or null compares as null, which is no fault
begin
  if p_fields ->> 'country' is not null then -- apart: a condition with a query in it runs that in any case
    if not exists (select from users.country where code = p_fields ->> 'country') then
      v_faults := v_faults || users.fault('country', 'is not a known country');
    end if;
  end if;
  if p_fields ->> 'currency' is not null then
    if not exists (select from users.currency where code = p_fields ->> 'currency') then
      v_faults := v_faults || users.fault('currency', 'is not a known currency');
    end if;
  end if;
  if not users.is_known_locale(p_fields ->> 'locale') then
    v_faults := v_faults || users.fault('locale', 'is not a known locale');
  end if;
  if octet_length(p_labels::text) > 16384 then
    v_faults := v_faults || users.fault('merge_labels', 'is too large (maximum is 16 KiB)');
  end if;
  return v_faults;
end
$$;
comment on function users.faults is
  'What is wrong with fields and labels, as far as any account is concerned. p_labels null: not to be judged.';

create or replace function users.merged_labels(p_labels jsonb, p_patch jsonb) returns jsonb
language plpgsql immutable
as $$
begin
  return (
    select coalesce(jsonb_object_agg(key, value), '{}')
    from jsonb_each(p_labels || case jsonb_typeof(p_patch) when 'object' then p_patch else '{}' end)
    where value <> 'null');
end
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
-- overwrite a column of the account. The nonces begin with the time, so that the index grows at its
-- end, and old ones go from its beginning. To end a token twice is to end it once. The first try may
-- still be running, or not even have begun, when the repeat comes: whichever is second waits for
-- the other, in the account's row or in a unique index, and then finds what it has done. A refusal
-- stores nothing, and a repeat is judged anew.
--
-- All of that wants the isolation level "read committed", in which a statement sees what those
-- before it have waited for; role.sql asks for it.
--
-- Where commits wait for a standby (synchronous_standby_names), a first try whose backend was ended while it waited is
-- there to be seen, and can be lost with the server. So a repeat that finds it writes something, too: then its own
-- commit waits, and what it tells has reached the standby.

create or replace function users.await_standby() returns void
language plpgsql
as $$
begin
  perform pg_logical_emit_message(true, 'mod_users', ''); -- nobody reads it
end
$$;
comment on function users.await_standby is
  'Have this transaction''s commit wait as if it had changed something, and so for all that was committed before it.';

-- What is written beside changes
--
-- Where UsersAudit or UsersEvents is on, each change brings a note, which the overloads with p_note and p_notes take
-- and write down in the same transaction; those without know nothing of it. A note is an object: audit and event, true
-- where it is to be written as that; for the audit account, application, kind, address and trace, as of users.audit; and
-- of a registration fields, the names that were given, with a blank between them.

create or replace function users.write_notes(
  p_action text, p_notes jsonb[], p_user_ids bigint[], p_fields text[]) returns void
language plpgsql
as $$
begin
  insert into users.audit (action, user_id, caller_id, application_id, kind, address, trace, fields)
  select p_action, user_id, (note ->> 'account')::bigint, (note ->> 'application')::bigint, note ->> 'kind',
    (note ->> 'address')::inet, note ->> 'trace', string_to_array(fields, ' ')
  from unnest(p_notes, p_user_ids, p_fields) as noted (note, user_id, fields)
  where (note -> 'audit')::boolean;
  if p_action <> 'credential.replaced' then -- the account is as it was
    insert into users.event (type, user_id, fields)
    select p_action, user_id, string_to_array(fields, ' ')
    from unnest(p_notes, p_user_ids, p_fields) as noted (note, user_id, fields)
    where (note -> 'event')::boolean;
  end if;
end
$$;
comment on function users.write_notes is
  'Write what was done to accounts into users.audit and users.event, as their notes ask for it. p_fields: names, with a '
  'blank between them, of an account each.';

-- PATCH

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

-- POST

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

-- Tokens

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
