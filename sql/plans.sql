-- What usersctl does to plans, groups and quotas. What admin.sql says of its functions holds here.
--
-- GET puts the name of a plan, and the quotas, into an account's document when it is asked for
-- (views.sql), so a change counts for all accounts at once and touches none.

-- Plans and groups, which have an id and a name

create or replace function users_admin.entitlement_id(p_table text, p_word text) returns integer
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_id integer;
begin
  if p_word ~ '^[0-9]{1,9}$' then
    execute format('select id from users.%I where id = $1', p_table) into v_id using p_word::integer;
  else
    execute format('select id from users.%I where name = $1', p_table) into v_id using p_word;
  end if;
  if v_id is null and p_word is not null then
    raise no_data_found using message = format('there is no %s %s',
      case p_table when 'billing_plan' then 'plan' else 'group' end, p_word);
  end if;
  return v_id;
end
$$;
comment on function users_admin.entitlement_id is
  'The id of a row of billing_plan or account_group by itself or by its name; null for null. Refuses one that there is not.';

create or replace function users_admin.only_fields(p_fields jsonb, variadic p_known text[]) returns void
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
  v_field constant text := (select min(field) from jsonb_object_keys(p_fields) as field where field <> all (p_known));
begin
  if v_field is not null then
    raise invalid_text_representation
      using message = format('%s is not a field of it: it takes %s', v_field, array_to_string(p_known, ' and '));
  end if;
end
$$;
comment on function users_admin.only_fields is 'Refuses fields other than the known ones.';

create or replace function users_admin.entitlement_name(p_table text, p_id integer, p_fields jsonb) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_name constant text := btrim(p_fields ->> 'name');
  v_other integer;
begin
  perform users_admin.only_fields(p_fields, 'name');
  if coalesce(v_name, '') = '' then
    raise invalid_text_representation using message = 'name can''t be blank';
  elsif char_length(v_name) > 255 then
    raise invalid_text_representation using message = 'name is too long (maximum is 255 characters)';
  elsif v_name ~ '[[:cntrl:]]' then
    raise invalid_text_representation using message = 'name can''t have control characters';
  elsif v_name ~ '^[0-9]+$' then
    raise invalid_text_representation using message = 'name must not be a number, since it would be taken for an id';
  end if;
  execute format('select id from users.%I where name = $1 and id <> $2', p_table) into v_other using v_name, p_id;
  if v_other is not null then
    raise unique_violation using message = format('name is that of %s already', v_other);
  end if;
  return v_name;
end
$$;
comment on function users_admin.entitlement_name is
  'The name that p_fields give the row p_id of billing_plan or account_group. Refuses a bad one, and one that another has.';

create or replace function users_admin.add_entitlement(p_table text, p_word text, p_fields jsonb)
returns table (id integer, name text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  if p_word !~ '^[1-9][0-9]{0,8}$' then
    raise invalid_text_representation using message = format('the id %s must be a number from 1 to 999999999', p_word);
  end if;
  id := p_word::integer;
  name := users_admin.entitlement_name(p_table, id, p_fields);
  execute format('insert into users.%I (id, name) values ($1, $2) on conflict (id) do nothing returning id', p_table)
    into id using id, name;
  if id is null then
    raise unique_violation using message = format('the id %s is taken already', p_word);
  end if;
  return next;
end
$$;
comment on function users_admin.add_entitlement is 'Make a row of billing_plan or account_group with an id of choice.';

create or replace function users_admin.set_entitlement(p_table text, p_word text, p_fields jsonb)
returns table (id integer, name text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  id := users_admin.entitlement_id(p_table, p_word);
  name := users_admin.entitlement_name(p_table, id, p_fields);
  execute format('update users.%I set name = $2 where id = $1', p_table) using id, name;
  return next;
end
$$;
comment on function users_admin.set_entitlement is
  'Give a row of billing_plan or account_group another name, which every account''s document shows from then on.';

create or replace function users_admin.remove_entitlement(p_table text, p_word text)
returns table (id integer, name text, outcome text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_kind constant text := case p_table when 'billing_plan' then 'plan' else 'group' end;
  v_column constant text := case p_table when 'billing_plan' then 'billing_plan_id' else 'group_id' end;
  v_used boolean;
begin
  id := users_admin.entitlement_id(p_table, p_word);
  if id::text = (
    select pg_get_expr(adbin, adrelid) from pg_attrdef
    join pg_attribute on attrelid = adrelid and attnum = adnum
    where adrelid = 'users.account'::regclass and attname = v_column
  ) then
    raise invalid_parameter_value using message = format('the %s %s is that of new accounts', v_kind, p_word);
  end if;
  execute format('select exists (select from users.account where %I = $1)', v_column) into v_used using id;
  if v_used then
    raise foreign_key_violation using message = format('accounts have the %1$s %2$s: usersctl user list --%1$s %2$s shows them',
      v_kind, p_word);
  end if;
  execute format('delete from users.%I where id = $1 returning name', p_table) into name using id;
  outcome := 'removed';
  return next;
exception when foreign_key_violation then
  if v_used then
    raise;
  end if;
  raise foreign_key_violation using message = format('an account was given the %s %s just now', v_kind, p_word);
end
$$;
comment on function users_admin.remove_entitlement is
  'Delete a row of billing_plan or account_group that no account has, for which all accounts are read; a group with its quotas.';

create or replace function users_admin.list_plans(p_limit integer) returns table (id integer, name text)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select id, name from users.billing_plan order by id limit p_limit
$$;
comment on function users_admin.list_plans is 'The billing plans.';

create or replace function users_admin.add_plan(p_plan text, p_fields jsonb) returns table (id integer, name text)
language sql set search_path = pg_catalog, pg_temp
as $$
  select id, name from users_admin.add_entitlement('billing_plan', p_plan, p_fields)
$$;
comment on function users_admin.add_plan is 'Make a billing plan. p_fields: name.';

create or replace function users_admin.set_plan(p_plan text, p_fields jsonb) returns table (id integer, name text)
language sql set search_path = pg_catalog, pg_temp
as $$
  select id, name from users_admin.set_entitlement('billing_plan', p_plan, p_fields)
$$;
comment on function users_admin.set_plan is 'Change a billing plan. p_fields: name.';

create or replace function users_admin.remove_plan(p_plan text) returns table (id integer, name text, outcome text)
language sql set search_path = pg_catalog, pg_temp
as $$
  select id, name, outcome from users_admin.remove_entitlement('billing_plan', p_plan)
$$;
comment on function users_admin.remove_plan is 'Delete a billing plan that no account has.';

create or replace function users_admin.list_groups(p_limit integer)
returns table (id integer, name text, quotas bigint)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select id, name, (select count(*) from users.group_quota where group_id = id)
  from users.account_group order by id limit p_limit
$$;
comment on function users_admin.list_groups is 'The groups. quotas: of how many kinds.';

create or replace function users_admin.add_group(p_group text, p_fields jsonb) returns table (id integer, name text)
language sql set search_path = pg_catalog, pg_temp
as $$
  select id, name from users_admin.add_entitlement('account_group', p_group, p_fields)
$$;
comment on function users_admin.add_group is 'Make a group, without quotas. p_fields: name.';

create or replace function users_admin.set_group(p_group text, p_fields jsonb) returns table (id integer, name text)
language sql set search_path = pg_catalog, pg_temp
as $$
  select id, name from users_admin.set_entitlement('account_group', p_group, p_fields)
$$;
comment on function users_admin.set_group is 'Change a group. p_fields: name.';

create or replace function users_admin.remove_group(p_group text) returns table (id integer, name text, outcome text)
language sql set search_path = pg_catalog, pg_temp
as $$
  select id, name, outcome from users_admin.remove_entitlement('account_group', p_group)
$$;
comment on function users_admin.remove_group is 'Delete a group that no account is in, and its quotas.';

-- Quotas

create or replace function users_admin.list_quotas(p_group text, p_limit integer)
returns table (group_id integer, kind text, quota bigint, counter text)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_group_id constant integer := users_admin.entitlement_id('account_group', p_group);
begin
  return query
    select group_quota.group_id, group_quota.kind, group_quota.quota, coalesce(group_quota.counter, group_quota.kind)
    from users.group_quota
    where v_group_id is null or group_quota.group_id = v_group_id
    order by group_quota.group_id, group_quota.kind
    limit p_limit;
end
$$;
comment on function users_admin.list_quotas is
  'The quotas of a group, or of all (null). counter: the name under which account.usage has what is held against it.';

create or replace function users_admin.set_quota(p_kind text, p_group text, p_fields jsonb, p_add boolean)
returns table (group_id integer, kind text, quota bigint, counter text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_group_id constant integer := users_admin.entitlement_id('account_group', p_group);
  v_quota constant text := p_fields ->> 'quota';
  v_counter constant text := nullif(p_fields ->> 'counter', '');
begin
  perform users_admin.only_fields(p_fields, 'quota', 'counter');
  if char_length(p_kind) > 255 then
    raise invalid_text_representation using message = 'the kind is too long (maximum is 255 characters)';
  elsif char_length(v_counter) > 255 then
    raise invalid_text_representation using message = 'counter is too long (maximum is 255 characters)';
  elsif (p_add or p_fields ? 'quota') and not users_admin.is_count(v_quota) then
    raise invalid_text_representation using message = 'quota ' || users_admin.count_wanted();
  end if;
  if p_add then
    return query
      insert into users.group_quota as added (group_id, kind, quota, counter)
      values (v_group_id, p_kind, v_quota::bigint, v_counter)
      on conflict (group_id, kind) do nothing
      returning added.group_id, added.kind, added.quota, coalesce(added.counter, added.kind);
    if not found then
      raise unique_violation using message = format('the group %s has a quota of %s already', p_group, p_kind);
    end if;
  else
    return query
      update users.group_quota as q set
        quota = case when p_fields ? 'quota' then v_quota::bigint else q.quota end,
        counter = case when p_fields ? 'counter' then v_counter else q.counter end
      where q.group_id = v_group_id and q.kind = p_kind
      returning q.group_id, q.kind, q.quota, coalesce(q.counter, q.kind);
    if not found then
      raise no_data_found using message = format('the group %s has no quota of %s', p_group, p_kind);
    end if;
  end if;
end
$$;
comment on function users_admin.set_quota(text, text, jsonb, boolean) is
  'Give a group a quota (p_add), or change the one that it has. p_fields: quota; counter, empty: that of the kind''s name.';

create or replace function users_admin.add_quota(p_kind text, p_group text, p_fields jsonb)
returns table (group_id integer, kind text, quota bigint, counter text)
language sql set search_path = pg_catalog, pg_temp
as $$
  select group_id, kind, quota, counter from users_admin.set_quota(p_kind, p_group, p_fields, true)
$$;
comment on function users_admin.add_quota is 'Give a group a quota of a kind. p_fields: as of set_quota.';

create or replace function users_admin.set_quota(p_kind text, p_group text, p_fields jsonb)
returns table (group_id integer, kind text, quota bigint, counter text)
language sql set search_path = pg_catalog, pg_temp
as $$
  select group_id, kind, quota, counter from users_admin.set_quota(p_kind, p_group, p_fields, false)
$$;
comment on function users_admin.set_quota(text, text, jsonb) is 'Change a quota of a group. p_fields: as of set_quota.';

create or replace function users_admin.remove_quota(p_kind text, p_group text)
returns table (group_id integer, kind text, outcome text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_group_id constant integer := users_admin.entitlement_id('account_group', p_group);
begin
  return query
    delete from users.group_quota as q where q.group_id = v_group_id and q.kind = p_kind
    returning q.group_id, q.kind, 'removed';
  if not found then
    raise no_data_found using message = format('the group %s has no quota of %s', p_group, p_kind);
  end if;
end
$$;
comment on function users_admin.remove_quota is
  'Take a quota from a group: GET no longer shows the kind, whose counters stay.';

revoke execute on all functions in schema users_admin from public;
