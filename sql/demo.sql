-- The demo's account, over an installed database:
--
--   psql -d DATABASE -f sql/demo.sql
--
-- Running it again adds what is missing. Its application and tokens are for usersctl to make.

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

commit;
