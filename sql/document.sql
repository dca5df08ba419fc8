-- What the tables call.
--
-- Most of it is how the answer to GET is written. Its parts that come from an account's own row are kept there, by a
-- trigger: a read then only puts them together, which costs a third of rendering them.
--
-- The trigger, and the functions of generated columns, run with the rights and in the session of whoever
-- changes a row: so every name in them is qualified, lest another schema of the search_path holds a
-- function or an operator that fits better. What they write depends on no other setting either. They are
-- plpgsql because a function in SQL that can't be inlined is parsed anew for each row. concat() takes
-- what it is given to pieces only once, where a chain of || would copy the text at each.
--
-- Running this again replaces them and touches no table, so what they write for a row must not
-- change: see sql/migrations/README.

create schema if not exists users;
comment on schema users is
  'Accounts of the hosting panel. Owned by its administrators; the web server sees users_api only.';

-- A generated column wants an immutable function. This is one, though to_json() is not for every type.
create or replace function users.json(p_value text) returns text
language plpgsql immutable parallel safe
as $$
begin
  return coalesce(pg_catalog.to_json(p_value)::pg_catalog.text, 'null');
end
$$;
comment on function users.json(text) is 'A text in JSON (RFC 8259), or null.';

create or replace function users.write_document() returns trigger
language plpgsql
as $$
begin
  new.document_head := pg_catalog.concat(
    '{"id":', new.id,
    ',"fname":', pg_catalog.to_json(new.fname),
    ',"lname":', pg_catalog.to_json(new.lname),
    ',"email":', pg_catalog.to_json(new.email),
    ',"phone":', coalesce(pg_catalog.to_json(new.phone), 'null'),
    ',"address1":', coalesce(pg_catalog.to_json(new.address1), 'null'),
    ',"address2":', coalesce(pg_catalog.to_json(new.address2), 'null'),
    ',"city":', coalesce(pg_catalog.to_json(new.city), 'null'),
    ',"company_name":', coalesce(pg_catalog.to_json(new.company_name), 'null'),
    ',"country":', pg_catalog.to_json(new.country),
    ',"timezone":', pg_catalog.to_json(new.timezone),
    ',"currency":');
  new.document_middle := pg_catalog.concat(
    ',"c_sftp_pass":', pg_catalog.to_json(new.c_sftp_pass),
    ',"zip":', coalesce(pg_catalog.to_json(new.zip), 'null'),
    ',"vat":', coalesce(pg_catalog.to_json(new.vat), 'null'),
    ',"state":', coalesce(pg_catalog.to_json(new.state), 'null'),
    ',"locale":', pg_catalog.to_json(new.locale),
    -- RFC 3339, UTC, milliseconds
    ',"created_at":"',
    pg_catalog.to_char(pg_catalog.timezone('UTC', new.created_at), 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    '","updated_at":"',
    pg_catalog.to_char(pg_catalog.timezone('UTC', new.updated_at), 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    '","billing_plan":');
  new.document_services := pg_catalog.concat(
    ',"services":{"projects":', coalesce((new.usage operator(pg_catalog.->) 'projects')::pg_catalog.int8, 0),
    ',"containers":', coalesce((new.usage operator(pg_catalog.->) 'containers')::pg_catalog.int8, 0),
    ',"container_services":', coalesce((new.usage operator(pg_catalog.->) 'container_services')::pg_catalog.int8, 0),
    ',"container_images":', coalesce((new.usage operator(pg_catalog.->) 'container_images')::pg_catalog.int8, 0),
    ',"container_registries":', coalesce((new.usage operator(pg_catalog.->) 'container_registries')::pg_catalog.int8, 0),
    ',"dns_zones":', coalesce((new.usage operator(pg_catalog.->) 'dns_zones')::pg_catalog.int8, 0),
    '}');
  return new;
end
$$;
comment on function users.write_document is 'Trigger of users.account: writes the parts of the document that stand in its row.';

-- API credentials end, by whatever statement, and so do their tokens.

create or replace function users.end_tokens() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update users.token set revoked_at = now() where credential_id = old.id and revoked_at is null;
  return null;
end
$$;
comment on function users.end_tokens is
  'Trigger of users.credential: ends the tokens that were issued for API credentials which end. It has its owner''s rights, '
  'since whoever may end a credential need not see tokens.';
