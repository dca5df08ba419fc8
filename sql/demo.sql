-- The demo's account, application and tokens, over an installed database:
--
--   psql -d DATABASE -v client_id=… -v client_secret=… -v read_token=… -v update_token=… \
--     -v full_token=… -v register_token=… -f sql/demo.sql
--
-- The variables are secrets in clear; what is stored are their digests. Running it again adds
-- what is new, so each run may bring new secrets.

\set ON_ERROR_STOP on
\encoding UTF8

begin;

insert into users.account
  (id, fname, lname, email, country, timezone, currency, locale, usage, created_at, updated_at)
values (1, 'John', 'Doe', 'john@example.com', 'US', 'America/Los_Angeles', 'USD', 'en',
  '{"container_images": 1}', '2019-04-04T07:36:50.637Z', '2019-09-19T19:16:07.155Z')
on conflict (id) do nothing;
-- The id above did not come from the sequence: it goes on after it.
select setval('users.account_id_seq', last_value) from users.account_id_seq \g /dev/null

insert into users.application (name, client_id, secret_digest, scopes)
values ('demo', :'client_id', sha256(convert_to(:'client_secret', 'UTF8')), '{public,register}')
on conflict (client_id) do update set secret_digest = excluded.secret_digest
  where application.secret_digest <> excluded.secret_digest;

select users_api.issue_token(application.id, user_id, digest, demo.scopes, null)
from (values
    (1, :'read_token', '{profile_read}'::text[]),
    (1, :'update_token', '{profile_update}'),
    (1, :'full_token', '{profile_read,profile_update}'),
    (null, :'register_token', '{register}')
  ) as demo (user_id, token, scopes)
cross join sha256(convert_to(token, 'UTF8')) as digest
join users.application on client_id = :'client_id'
where not exists (select from users.token where token.digest = digest.digest)
\g /dev/null

commit;
