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

create trigger ended after update of revoked_at on users.credential
  for each row when (old.revoked_at is null and new.revoked_at is not null) execute function users.end_tokens();
create trigger deleted after delete on users.credential
  for each row when (old.revoked_at is null) execute function users.end_tokens();
