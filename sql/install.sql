-- Make the database of mod_users, as usersctl database install does:
--
--   psql -d DATABASE -f sql/install.sql
--
-- Needs PostgreSQL 15 or later and a database in UTF-8 without an earlier version, which
-- usersctl database upgrade turns into this one. The user who runs it owns the result and must
-- be able to create roles. It is one transaction.

\set ON_ERROR_STOP on
\encoding UTF8

begin;
set local client_min_messages = warning;

do $$
begin
  if current_setting('server_version_num')::integer < 150000 then
    raise exception 'mod_users needs PostgreSQL 15 or later, not %', current_setting('server_version');
  end if;
  if current_setting('server_encoding') <> 'UTF8' then
    raise exception 'mod_users needs a database in UTF-8, not %', current_setting('server_encoding')
      using hint = 'createdb --encoding=UTF8 --template=template0 DATABASE';
  end if;
  if to_regnamespace('users') is not null then
    raise exception 'the database % has a schema "users" already', current_database()
      using hint = format('To upgrade an earlier version: usersctl --db %s database upgrade', current_database());
  end if;
end
$$;

\ir document.sql
\ir tables.sql
\ir views.sql
\ir reference.sql
-- They stay below the size at which autovacuum would do it, and plans depend on it.
analyze users.country, users.currency, users.language, users.script, users.area, users.billing_plan,
  users.account_group, users.group_quota;
\ir contract.sql
\ir update.sql
\ir register.sql
\ir tokens.sql
\ir admin.sql
\ir accounts.sql
\ir plans.sql
\ir usage.sql
\ir events.sql
\ir role.sql
\ir panel.sql

commit;
