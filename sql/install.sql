-- Install or upgrade the database of mod_users:
--
--   psql -d DATABASE -f sql/install.sql
--
-- Needs PostgreSQL 13 or later and a database in UTF-8; the user who runs it owns the
-- result and must be able to create roles. It is one transaction. Running it again
-- adds what is missing, replaces views and functions, and leaves the data alone.

\set ON_ERROR_STOP on
\encoding UTF8

begin;
set local client_min_messages = warning; -- no notice for each thing that is there already

do $$
begin
  if current_setting('server_encoding') <> 'UTF8' then
    raise exception 'mod_users needs a database in UTF-8, not %', current_setting('server_encoding')
      using hint = 'createdb --encoding=UTF8 --template=template0 DATABASE';
  end if;
end
$$;

\ir tables.sql
\ir reference.sql
-- They stay below the size at which autovacuum would do it, and plans depend on it.
analyze users.country, users.currency, users.language, users.billing_plan, users.account_group,
  users.group_quota;
\ir views.sql
\ir contract.sql
\ir admin.sql
\ir role.sql

commit;
