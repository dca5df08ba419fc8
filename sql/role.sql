-- The role that the web server logs in as. It can use the contract and nothing else: it owns
-- nothing and reads no table.
--
-- It has no password. Set one (\password mod_users) where pg_hba.conf asks for it; or have
-- PostgreSQL let httpd's user in as this role, through the local socket without a password (peer
-- authentication), by a line in pg_ident.conf and one above all others in pg_hba.conf:
--
--   users  www-data  mod_users
--   local  users  mod_users  peer  map=users
--
-- A role of httpd's user's own, even if it is a member of this one, has none of its settings.

do $$
declare
  v_name text;
  v_value text;
  v_missing text := '';
begin
  if not exists (select from pg_roles where rolname = 'mod_users') then
    create role mod_users login;
    comment on role mod_users is 'The web server''s module mod_users: uses the schema users_api';
  end if;

  for v_name, v_value in values
    -- The module asks for these when it connects; here they are for who comes through a pooler
    -- that drops startup parameters.
    ('plan_cache_mode', 'force_generic_plan'), -- planning costs more than reading
    ('jit', 'off'),
    ('random_page_cost', '1.1'), -- else small tables are scanned for each account
    ('default_transaction_isolation', 'read committed'), -- see contract.sql
    ('statement_timeout', '5s'),
    ('lock_timeout', '4s'),
    ('idle_in_transaction_session_timeout', '10s'),
    -- Requests hold personal data, and a client may send back the password that it was given: keep
    -- them out of the log even under log_statement = all.
    ('log_parameter_max_length', '0'), -- which is a superuser's to set
    ('log_parameter_max_length_on_error', '0')
  loop
    -- From PostgreSQL 16 on the role can be changed only by who made it, by whom he lets, and by
    -- superusers: another administrator's database finds it as it should be.
    begin
      execute format('alter role mod_users set %I = %L', v_name, v_value);
    exception when insufficient_privilege then
      if not exists (
        select from pg_db_role_setting
        where setrole = 'mod_users'::regrole
          and setdatabase in (0, (select oid from pg_database where datname = current_database()))
          and v_name || '=' || v_value = any (setconfig)
      ) then
        v_missing := v_missing || format(' alter role mod_users set %I = %L;', v_name, v_value);
      end if;
    end;
  end loop;
  if v_missing <> '' then
    raise warning using
      message = format('the role mod_users lacks settings that %I may not give it', current_user),
      hint = 'As a superuser:' || v_missing;
  end if;
end
$$;

grant usage on schema users_api to mod_users;
grant select on users_api.application, users_api.token, users_api.credential, users_api.account
  to mod_users;
grant execute on all functions in schema users_api to mod_users;

-- Nobody but its owner makes functions in "public", which is on everybody's search_path. So it is in
-- databases made by PostgreSQL 15; those that came from an earlier one have it open.
do $$
begin
  if exists (
    select from pg_namespace, aclexplode(nspacl) as acl
    where nspname = 'public' and grantee = 0 and privilege_type = 'CREATE'
  ) then
    if (select pg_has_role(nspowner, 'USAGE') from pg_namespace where nspname = 'public') then
      revoke create on schema public from public;
    else
      raise warning 'everybody may create functions in the schema public of this database'
        using hint = 'As its owner: revoke create on schema public from public';
    end if;
  end if;
end
$$;
