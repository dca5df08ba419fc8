-- What a look-up of sixteen tokens, with the accounts' documents, costs where both tables are partitioned by hash:
--
--   psql -d DATABASE -f t/bench/partitions.sql
--
-- after t/bench/seed.sql in the same database. Copies users.token and users.account into tables of 1, 4, 16 and 64
-- partitions in the schema "parted", times the look-up that the module shares among concurrent GETs, prepared and with
-- a generic plan as the module has it, and drops the schema. Prints microseconds a token, of three runs each.

\set ON_ERROR_STOP on
set client_min_messages = warning;
set plan_cache_mode = force_generic_plan;
set jit = off;
set random_page_cost = 1.1;
drop schema if exists parted cascade;
create schema parted;

create function parted.make(p_partitions integer) returns void
language plpgsql
as $$
begin
  execute format('create table parted.token_%s (like users.token) partition by hash (digest)', p_partitions);
  execute format('create table parted.account_%s (like users.account) partition by hash (id)', p_partitions);
  for n in 0 .. p_partitions - 1 loop
    execute format('create table parted.token_%1$s_%2$s partition of parted.token_%1$s for values with (modulus %1$s, remainder %2$s)', p_partitions, n);
    execute format('create table parted.account_%1$s_%2$s partition of parted.account_%1$s for values with (modulus %1$s, remainder %2$s)', p_partitions, n);
  end loop;
  execute format('insert into parted.token_%s select * from users.token', p_partitions);
  execute format('insert into parted.account_%s select * from users.account', p_partitions);
  execute format('alter table parted.token_%s add primary key (digest) include (application_id, user_id, scopes, expires_at, revoked_at)', p_partitions);
  execute format('alter table parted.account_%s add primary key (id)', p_partitions);
end
$$;
select parted.make(partitions) from unnest(array[1, 4, 16, 64]) as partitions \g /dev/null

-- The module's statement over the tables of a name: what its views do, but for the currency, plan and quotas.
create function parted.look_up(p_token text, p_account text) returns text
language sql
as $$
  select format('select t.application_id, t.user_id, array_to_string(t.scopes, '' ''), a.suspended_at is not null,
      a.document_head || a.document_middle || a.document_services, asked.number
    from unnest($1) with ordinality asked (digest, number)
    cross join lateral (select * from %s as token where digest = asked.digest and revoked_at is null
      and (expires_at is null or expires_at > now())) t
    left join lateral (select * from %s as account where id = t.user_id) a on true', p_token, p_account)
$$;

create table parted.asked as
select number, array_agg(digest) as digests
from (select digest, (row_number() over (order by random()) - 1) / 16 as number from users.token where user_id is not null) as shuffled
where number < 5000
group by number
having count(*) = 16;
vacuum analyze;

-- Microseconds a token, of a statement that is prepared under the name.
create function parted.time(p_name text) returns numeric
language plpgsql
as $$
declare
  v_began timestamptz;
  v_digests bytea[];
  v_calls integer := 0;
begin
  v_began := clock_timestamp();
  for v_digests in select digests from parted.asked loop
    execute format('execute %I (%L)', p_name, v_digests);
    v_calls := v_calls + 1;
  end loop;
  return round(extract(epoch from clock_timestamp() - v_began)::numeric * 1e6 / v_calls / 16, 2);
end
$$;

select format('prepare %I (bytea[]) as %s', name, parted.look_up(token, account))
from (
  values ('plain', 'users.token', 'users.account')
  union all
  select 'parted_' || n, 'parted.token_' || n, 'parted.account_' || n from unnest(array[1, 4, 16, 64]) as n
) as kind (name, token, account) \gexec

select name as "tables", parted.time(name) as warm_up, parted.time(name) as "us a token", parted.time(name) as again, parted.time(name) as "and again"
from unnest(array['plain', 'parted_1', 'parted_4', 'parted_16', 'parted_64']) as name;

analyze parted.asked;
drop schema parted cascade;
