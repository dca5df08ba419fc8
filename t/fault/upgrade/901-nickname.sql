-- Another member of the document, as a column that does not exist yet.

alter table users.account
  add column nickname text,
  alter column document_middle drop expression; -- the values stay

create function users.write_document() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  new.document_middle := ',"nickname":' || users.json(new.nickname)
    || ',"c_sftp_pass":' || new.c_sftp_pass::text
    || ',"zip":' || users.json(new.zip)
    || ',"vat":' || users.json(new.vat)
    || ',"state":' || users.json(new.state)
    || ',"locale":' || users.json(new.locale)
    || ',"created_at":' || users.json(new.created_at)
    || ',"updated_at":' || users.json(new.updated_at)
    || ',"billing_plan":';
  return new;
end
$$;
create trigger document before insert or update on users.account
  for each row execute function users.write_document();
