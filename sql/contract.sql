-- The contract's functions: with the views of views.sql all that the module knows of the database. Here is what they
-- share; those of PATCH are in update.sql, those of POST in register.sql, those of tokens in tokens.sql.
-- Who has user tables already brings views and functions of these names over them, in place of
-- tables.sql, views.sql and these files.
--
-- Every upgrade runs them again, for which no table is locked, and while the module of the release
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

-- PostgreSQL lets everybody execute a new function.
revoke execute on all functions in schema users, users_api from public;
