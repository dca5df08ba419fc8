-- Usage: how many of what an account has, and what it has accrued. usersctl usage and the panel
-- (schema users_panel) write it by the same rules, which are here. What admin.sql says of its
-- functions holds for those of users_admin.
--
-- Values are absolute: to store the same twice is to store it once. A change of usage leaves
-- updated_at, which tells when the owner's data changed; an account's entity tag changes with what GET shows.

create or replace function users_admin.is_count(p_text text) returns boolean
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce(p_text, '') ~ '^[0-9]{1,19}$' and p_text::numeric <= 9223372036854775807;
end
$$;
comment on function users_admin.is_count is 'Is it a whole number that fits into a bigint, and no less than 0?';

create or replace function users_admin.count_wanted() returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select 'must be a whole number from 0 to 9223372036854775807'
$$;
comment on function users_admin.count_wanted is 'What is_count wants, behind the name of a field.';

create or replace function users_admin.is_amount(p_text text) returns boolean
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
begin
  return coalesce(p_text, '') ~ '^-?[0-9]+([.][0-9]+)?$' and char_length(translate(p_text, '-.', '')) <= 38;
end
$$;
comment on function users_admin.is_amount is 'Is it a decimal number that everybody can read: without an exponent, of 38 digits at most?';

create or replace function users_admin.amount_wanted() returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select 'must be a decimal number of at most 38 digits'
$$;
comment on function users_admin.amount_wanted is 'What is_amount wants, behind the name of a field.';

create or replace function users_admin.usage_counters() returns text[]
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select array(
    select unnest('{projects,containers,container_services,container_images,container_registries,dns_zones}'::text[])
    union select coalesce(counter, kind) from users.group_quota)
$$;
comment on function users_admin.usage_counters is
  'The counters that GET can show: those of "services", and those that quotas name.';

create or replace function users_admin.judge_usage(
  p_values jsonb, p_counters text[], out usage jsonb, out unprocessed_usage numeric, out fault text)
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  v_name text;
  v_value text;
begin
  usage := '{}';
  for v_name, v_value in select key, value #>> '{}' from jsonb_each(p_values) loop
    if coalesce(v_value, '') = '' then -- an empty cell
      continue;
    elsif v_name = 'unprocessed_usage' then
      if users_admin.is_amount(v_value) then
        unprocessed_usage := v_value::numeric;
      else
        fault := concat_ws('; ', fault, v_name || ' ' || users_admin.amount_wanted());
      end if;
    elsif v_name <> all (p_counters) then
      fault := concat_ws('; ', fault, format('%s is no counter: they are %s and unprocessed_usage', v_name,
        (select string_agg(counter, ', ' order by counter) from unnest(p_counters) as counter)));
    elsif users_admin.is_count(v_value) then
      usage := usage || jsonb_build_object(v_name, v_value::bigint);
    else
      fault := concat_ws('; ', fault, v_name || ' ' || users_admin.count_wanted());
    end if;
  end loop;
  if fault is null and usage = '{}' and unprocessed_usage is null then
    fault := 'there is no value';
  end if;
end
$$;
comment on function users_admin.judge_usage is
  'What the members of an object set: counters, and unprocessed_usage. Numbers may be texts; null and empty are none. '
  'p_counters: users_admin.usage_counters(). fault: what is wrong, else null.';

create or replace function users_admin.judge_usage_line(
  p_line jsonb, p_counters text[],
  out user_id bigint, out usage jsonb, out unprocessed_usage numeric, out fault text)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_found record;
  v_judged record;
begin
  if coalesce(jsonb_typeof(p_line), '') <> 'object' then
    fault := 'it must be an object in JSON';
    return;
  end if;
  v_found := users_admin.find_user(p_line);
  v_judged := users_admin.judge_usage(
    p_line - '{id,email,external_id,application,provider,provider_server,provider_username}'::text[], p_counters);
  user_id := v_found.user_id;
  usage := v_judged.usage;
  unprocessed_usage := v_judged.unprocessed_usage;
  fault := nullif(concat_ws('; ',
    case when v_found.user_id is null then coalesce(v_found.fault, 'there is no such user') end, v_judged.fault), '');
end
$$;
comment on function users_admin.judge_usage_line is
  'What an object names, as of users_admin.find_user, and what it sets, as of users_admin.judge_usage.';

create or replace function users_admin.store_usage(p_user_ids bigint[], p_usage jsonb[], p_unprocessed_usage numeric[])
returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_changed bigint;
begin
  update users.account as a set
    usage = a.usage || c.usage,
    unprocessed_usage = coalesce(c.unprocessed_usage, a.unprocessed_usage)
  from unnest(p_user_ids, p_usage, p_unprocessed_usage) as c (user_id, usage, unprocessed_usage)
  where a.id = c.user_id
    and (not a.usage @> c.usage or a.unprocessed_usage::text <> c.unprocessed_usage::text);
  get diagnostics v_changed = row_count;
  return v_changed;
end
$$;
comment on function users_admin.store_usage is
  'Set usage of accounts, whose rows the caller has locked in the order of their ids. Returns how many have changed: '
  'unprocessed_usage changes with its digits, too.';

create or replace function users_admin.set_usage(p_user text, p_values jsonb)
returns table (id bigint, email text, usage jsonb, unprocessed_usage numeric, outcome text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_id constant bigint := users_admin.user_id(p_user);
  v_judged record;
begin
  v_judged := users_admin.judge_usage(p_values, users_admin.usage_counters());
  if v_judged.fault is not null then
    raise invalid_text_representation using message = v_judged.fault;
  end if;
  perform from users.account where account.id = v_id for no key update;
  outcome := case users_admin.store_usage(array[v_id], array[v_judged.usage], array[v_judged.unprocessed_usage])
    when 0 then 'unchanged' else 'changed' end;
  select account.id, account.email, account.usage, account.unprocessed_usage into id, email, usage, unprocessed_usage
  from users.account where account.id = v_id;
  return next;
end
$$;
comment on function users_admin.set_usage is
  'Set usage of an account. p_values: as of users_admin.judge_usage. outcome: changed, or unchanged where it was so already.';

-- An import
--
-- Its lines go into a temporary table, are judged as a whole, and then stored batch by batch. Nobody waits for
-- it longer than a batch takes, and it waits for nobody: accounts that are locked are left for later.

create or replace function users_admin.begin_usage_import() returns table (counter text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  create temporary table pg_temp.usage_line (line bigint, input jsonb, fault text);
  create temporary table pg_temp.usage_judged (
    line bigint, user_id bigint, usage jsonb, unprocessed_usage numeric, fault text);
  return query select unnest(users_admin.usage_counters());
end
$$;
comment on function users_admin.begin_usage_import is
  'Make the temporary tables of an import. Its lines are then copied into usage_line: input, or a fault.';

create or replace function users_admin.judge_usage_import(p_limit integer)
returns table (line bigint, fault text, faults bigint, lines bigint)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_counters constant text[] := users_admin.usage_counters();
begin
  insert into pg_temp.usage_judged (line, user_id, usage, unprocessed_usage, fault)
  select given.line, judged.user_id, judged.usage, judged.unprocessed_usage, coalesce(given.fault, judged.fault)
  from pg_temp.usage_line as given
  left join lateral users_admin.judge_usage_line(given.input, v_counters) as judged on given.fault is null;
  lines := (select count(*) from pg_temp.usage_line);
  truncate pg_temp.usage_line;

  update pg_temp.usage_judged as later set
    fault = format('it is about the account %s, as line %s is', later.user_id, earlier.line)
  from (
    select judged.user_id, min(judged.line) as line from pg_temp.usage_judged as judged
    where judged.user_id is not null and judged.fault is null
    group by judged.user_id having count(*) > 1
  ) as earlier
  where later.user_id = earlier.user_id and later.line > earlier.line and later.fault is null;

  faults := (select count(*) from pg_temp.usage_judged as judged where judged.fault is not null);
  if faults = 0 then
    alter table pg_temp.usage_judged add primary key (user_id);
    analyze pg_temp.usage_judged;
    return next;
  else
    return query select judged.line, judged.fault, faults, lines from pg_temp.usage_judged as judged
      where judged.fault is not null order by judged.line limit p_limit;
  end if;
end
$$;
comment on function users_admin.judge_usage_import is
  'Judge the lines of an import. Returns a row for each of the first p_limit that are faulty, with how many there are, and '
  'of how many; one row with 0 faults where all are good, and can be stored.';

create or replace function users_admin.store_usage_import(p_after bigint, p_rows integer)
returns table (last_id bigint, stored bigint, changed bigint)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_different bigint[];
  v_locked bigint[];
begin
  last_id := (select max(ahead.user_id) from (
    select judged.user_id from pg_temp.usage_judged as judged where judged.user_id > p_after
    order by judged.user_id limit p_rows) as ahead);
  -- What is there already is not locked: an import that is repeated writes nothing.
  v_different := array(
    select a.id from pg_temp.usage_judged as c join users.account as a on a.id = c.user_id
    where c.user_id > p_after and c.user_id <= last_id
      and (not a.usage @> c.usage or a.unprocessed_usage::text <> c.unprocessed_usage::text));
  v_locked := array(
    select account.id from users.account where account.id = any (v_different)
    order by account.id for no key update skip locked);
  changed := users_admin.store_usage(
    array(select judged.user_id from pg_temp.usage_judged as judged where judged.user_id = any (v_locked) order by 1),
    array(select judged.usage from pg_temp.usage_judged as judged where judged.user_id = any (v_locked)
      order by judged.user_id),
    array(select judged.unprocessed_usage from pg_temp.usage_judged as judged where judged.user_id = any (v_locked)
      order by judged.user_id));
  delete from pg_temp.usage_judged as judged
  where judged.user_id > p_after and judged.user_id <= last_id
    and (judged.user_id <> all (v_different) or judged.user_id = any (v_locked));
  get diagnostics stored = row_count;
  return next;
end
$$;
comment on function users_admin.store_usage_import is
  'Store the next p_rows lines of an import behind the account p_after. last_id: where to go on, null at the end; stored: '
  'how many are done, of which changed have changed something. Those whose accounts are locked are left: begin again at 0.';

-- The panel's own way

create schema if not exists users_panel;
comment on schema users_panel is 'How the panel writes usage (role mod_users_panel).';

create or replace function users_panel.set_usage(p_lines jsonb) returns bigint
language plpgsql security definer set search_path = pg_catalog, pg_temp
  set lock_timeout = '1s' -- of each row, while those before it are locked
as $$
declare
  v_lines constant jsonb := case jsonb_typeof(p_lines) when 'array' then p_lines else jsonb_build_array(p_lines) end;
  v_counters constant text[] := users_admin.usage_counters();
  v_user_ids bigint[] := '{}';
  v_usage jsonb[] := '{}';
  v_unprocessed_usage numeric[] := '{}';
  v_line jsonb;
  v_number bigint;
  v_judged record;
begin
  if jsonb_array_length(v_lines) > 1000 then
    raise invalid_parameter_value using message = 'at most 1000 accounts at once';
  end if;
  for v_line, v_number in select line, number from jsonb_array_elements(v_lines) with ordinality as given (line, number) loop
    v_judged := users_admin.judge_usage_line(v_line, v_counters);
    if v_judged.fault is null and v_judged.user_id = any (v_user_ids) then
      v_judged.fault := format('it is about the account %s, as element %s is', v_judged.user_id,
        array_position(v_user_ids, v_judged.user_id));
    end if;
    if v_judged.fault is not null then
      raise invalid_parameter_value using message = format('element %s: %s', v_number, v_judged.fault);
    end if;
    v_user_ids := array_append(v_user_ids, v_judged.user_id);
    v_usage := array_append(v_usage, v_judged.usage);
    v_unprocessed_usage := array_append(v_unprocessed_usage, v_judged.unprocessed_usage);
  end loop;
  perform from users.account where id = any (v_user_ids) order by id for no key update;
  return users_admin.store_usage(v_user_ids, v_usage, v_unprocessed_usage);
end
$$;
comment on function users_panel.set_usage is
  'Set usage of an account, or of up to 1000, all or none: {"id": 17, "projects": 3, "unprocessed_usage": 12.50}, or a list of '
  'such. An account is named by id; email; external_id; or provider_server and provider_username (provider: cpanel where it '
  'is missing), the last two with application, a client_id, where more than one has them; one that is several is faulty, and '
  'the message names the ids of up to ten. Values are absolute, and what is '
  'not named stays. Returns how many accounts have changed. Refuses (22023) what is faulty, with its number from 1 on; '
  '55P03: somebody holds an account for longer than a second, so try again.';

revoke execute on all functions in schema users_admin, users_panel from public;
