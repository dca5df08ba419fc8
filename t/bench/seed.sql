-- Accounts to measure with:
--
--   psql -d DATABASE [-v accounts=3000000] -f t/bench/seed.sql
--
-- Account N has the address bench-N@example.com and the token bench-N (profile_read), which
-- never expires. Running it again, or with a larger number, adds only what is missing.

\set ON_ERROR_STOP on
\if :{?accounts}
\else
  \set accounts 100000
\endif

begin;

insert into users.application (name, client_id, secret_digest)
values ('bench', 'bench', sha256(convert_to(gen_random_uuid()::text, 'UTF8')))
on conflict (client_id) do nothing;

with added as (
  insert into users.account
    (fname, lname, email, city, country, timezone, currency, locale, unprocessed_usage, usage)
  select 'Bench', 'Number ' || n, email, 'Portland', 'US', 'America/Los_Angeles', 'USD', 'en', n % 1000 * 0.01,
    -- what a panel counts for an account that runs a few things
    jsonb_build_object('projects', 1 + n % 3, 'containers', 1 + n % 9,
      'container_services', 1 + n % 5, 'container_images', 1 + n % 2)
  from generate_series(1, :accounts) as n,
    format('bench-%s@example.com', n) as email
  where not exists (select from users.account where lower(account.email collate "C") = email.email)
  returning id, email
)
insert into users.token (digest, application_id, user_id, scopes)
select sha256(convert_to(split_part(email, '@', 1), 'UTF8')), application.id, added.id, '{profile_read}'
from added, users.application
where client_id = 'bench';

commit;

vacuum analyze users.account, users.token;
