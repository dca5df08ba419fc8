-- The role that the panel logs in as. It can write usage (usage.sql) and nothing else: it owns nothing,
-- reads and writes no table, and is no other role.
--
--   psql -U mod_users_panel -d users
--   select users_panel.set_usage('{"email": "jane@example.com", "projects": 3, "unprocessed_usage": 12.50}');
--
-- It has no password, as mod_users has none: see role.sql for both ways to let it in. What it sends can reach
-- PostgreSQL's log, as any statement can, but holds no secret.

do $$
begin
  if not exists (select from pg_roles where rolname = 'mod_users_panel') then
    create role mod_users_panel login;
    comment on role mod_users_panel is 'The panel: writes usage by the schema users_panel';
  end if;
exception when insufficient_privilege then -- an upgrade goes on without it
  raise warning '% may not make the role mod_users_panel, by which the panel writes usage', current_user
    using hint = 'As a superuser: create role mod_users_panel login; then usersctl database upgrade';
end
$$;

do $$
begin
  if exists (select from pg_roles where rolname = 'mod_users_panel') then
    grant usage on schema users_panel to mod_users_panel;
    grant execute on function users_panel.set_usage(jsonb) to mod_users_panel;
  end if;
end
$$;
