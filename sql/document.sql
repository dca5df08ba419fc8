-- How the stored parts of the answer to GET are written. A read only puts them together, which costs
-- a third of rendering them, and since each part is kept where its data is it can't be out of date.
--
-- tables.sql has generated columns of these functions, which run with the rights and in the session of
-- whoever changes a row: so every name in them is qualified, lest another schema of the search_path
-- holds a function or an operator that fits better. They are plpgsql because a function in SQL
-- that can't be inlined is parsed anew for each value; plpgsql is three times as fast here.
--
-- A generated column wants immutable functions. These are, though to_json() and to_char() are
-- not for every type that they take. Running this again replaces them and touches no table, so what
-- they return for a value must not change: see sql/migrations/README.

create schema if not exists users;
comment on schema users is
  'Accounts of the hosting panel. Owned by its administrators; the web server sees users_api only.';

create or replace function users.json(p_value text) returns text
language plpgsql immutable parallel safe
as $$
begin
  return coalesce(pg_catalog.to_json(p_value)::pg_catalog.text, 'null');
end
$$;
comment on function users.json(text) is 'A text in JSON (RFC 8259), or null.';

create or replace function users.json(p_value timestamptz) returns text
language plpgsql immutable strict parallel safe
as $$
begin
  return pg_catalog.to_char(pg_catalog.timezone('UTC', p_value), '"\""YYYY-MM-DD"T"HH24:MI:SS.MS"Z\""');
end
$$;
comment on function users.json(timestamptz) is 'A time in JSON: UTC, milliseconds (RFC 3339).';

create or replace function users.services(p_usage jsonb) returns text
language plpgsql immutable parallel safe
as $$
declare
  v_name pg_catalog.text;
  v_members pg_catalog.text;
begin
  foreach v_name in array array['projects', 'containers', 'container_services', 'container_images',
    'container_registries', 'dns_zones']
  loop
    v_members := pg_catalog.concat(v_members, case when v_members is not null then ',' end,
      '"', v_name, '":', coalesce((p_usage operator(pg_catalog.->>) v_name)::pg_catalog.int8, 0));
  end loop;
  return v_members;
end
$$;
comment on function users.services is 'The members of "services" for an account''s usage.';
