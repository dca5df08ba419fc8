-- An application without default scopes of its own gets public, where it holds that, and not all.

-- Whoever reads the view locks it before the table. In the other order we would wait for each other.
lock table users_api.application in access exclusive mode; -- the table below it too

-- Those that there are keep what they got: the table is small.
update users.application set default_scopes = scopes where default_scopes is null and scopes <> '{}';

comment on column users.application.default_scopes is
  'those of them that a token gets whose request names none (RFC 6749 section 3.3); null: public where it is among '
  'them, else all';

create or replace view users_api.application as
select id as application_id, client_id, secret_digest, scopes,
  coalesce(default_scopes, case when 'public' = any (scopes) then '{public}' else scopes end) as default_scopes,
  case when old_secret_expires_at > now() then old_secret_digest end as old_secret_digest
from users.application
where revoked_at is null;
