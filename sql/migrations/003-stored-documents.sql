-- A trigger writes the stored parts of the document, in one go for a row, where generated columns called
-- a function for each value. What is stored stays: the trigger writes the same.

alter table users.account
  alter column document_head drop expression,
  alter column document_middle drop expression,
  alter column document_services drop expression;
drop function users.services;
drop function users.json(timestamptz);

create function users.write_document() returns trigger
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

-- Triggers fire in the order of their names: this one after an administrator's own, which may change a row.
create trigger zz_document before insert or update on users.account
  for each row execute function users.write_document();
comment on trigger zz_document on users.account is
  'writes what GET shows of the row; fires after other triggers, whose names must sort before its own';

-- The account is locked by the change itself, and nobody has to check that it is there.
alter table users.change drop constraint change_user_id_fkey;
