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

-- It makes no temporary table and no large object, which need no table of ours to fill a disk, and
-- whose names a function could take for others. PostgreSQL lets everybody make them, and takes such a
-- right from everybody or from nobody: so all roles lose it that have nothing in this database. Who owns
-- something here, or was granted something, keeps it by a grant of its own, and another role gets it
-- by:
--
--   grant temporary on database DATABASE to ROLE
--   grant execute on function lo_creat(integer), lo_create(oid), lo_from_bytea(oid, bytea) to ROLE
--
-- Once they are taken from everybody this is not done again. The functions are a superuser's to take.
do $$
declare
  v_makers constant text := 'lo_creat(integer), lo_create(oid), lo_from_bytea(oid, bytea)';
  v_database pg_database;
  v_others text;
begin
  select * into v_database from pg_database where datname = current_database();
  select string_agg(distinct quote_ident(rolname), ', ') into v_others
  from pg_shdepend join pg_roles on pg_roles.oid = refobjid
  where refclassid = 'pg_authid'::regclass and dbid = v_database.oid
    and rolname not in ('mod_users', 'mod_users_panel') and rolname !~ '^pg_' and not rolsuper;

  if exists (
    select from aclexplode(coalesce(v_database.datacl, acldefault('d', v_database.datdba)))
    where grantee = 0 and privilege_type = 'TEMPORARY'
  ) then
    if pg_has_role(v_database.datdba, 'USAGE') then
      if v_others is not null then
        execute format('grant temporary on database %I to %s', current_database(), v_others);
      end if;
      execute format('revoke temporary on database %I from public', current_database());
    else
      raise warning 'everybody may make temporary tables in this database, the role mod_users too'
        using hint = format('As its owner: revoke temporary on database %I from public;', current_database());
    end if;
  end if;

  if exists (
    select from pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner)))
    where pg_proc.oid in (
        'pg_catalog.lo_creat(integer)'::regprocedure, 'pg_catalog.lo_create(oid)'::regprocedure,
        'pg_catalog.lo_from_bytea(oid, bytea)'::regprocedure)
      and grantee = 0
  ) then
    if (select rolsuper from pg_roles where rolname = current_user) then
      if v_others is not null then
        execute format('grant execute on function %s to %s', v_makers, v_others);
      end if;
      execute format('revoke execute on function %s from public', v_makers);
    else
      raise warning 'everybody may make large objects in this database, the role mod_users too'
        using hint = format('As a superuser: revoke execute on function %s from public;', v_makers);
    end if;
  end if;
end
$$;
