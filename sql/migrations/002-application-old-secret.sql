-- An application may have an old client secret beside its own for a while.

-- Whoever reads the view locks it before the table. In the other order we would wait for each other.
lock table users_api.application in access exclusive mode; -- the table below it too

-- Nothing is rewritten, and to check the constraints is to read a small table.
alter table users.application
  add column old_secret_digest bytea check (octet_length(old_secret_digest) = 32),
  add column old_secret_expires_at timestamptz,
  add constraint application_old_secret check ((old_secret_digest is null) = (old_secret_expires_at is null));
comment on column users.application.old_secret_digest is
  'SHA-256 of the client secret before this one, where it stayed valid for a while; null: it did not';
comment on column users.application.old_secret_expires_at is 'from then on the old secret is wrong';

create or replace view users_api.application as
select id as application_id, client_id, secret_digest, scopes,
  coalesce(default_scopes, scopes) as default_scopes,
  case when old_secret_expires_at > now() then old_secret_digest end as old_secret_digest
from users.application
where revoked_at is null;
comment on view users_api.application is
  'OAuth 2.0 clients that are valid now. scopes: what it may get a token for in its own name; default_scopes: what it '
  'gets where its request names none; old_secret_digest: of a second secret that is valid now, null for none; a '
  'contract of one''s own need not have this column.';

-- What it returns has one column more: admin.sql, which runs next, makes it anew.
drop function users_admin.list_applications(integer);
