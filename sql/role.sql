-- The role that the web server logs in as. It can use the contract and nothing else: it owns
-- nothing and reads no table.
--
-- It has no password. Set one (\password mod_users) where pg_hba.conf asks for it; or, for
-- peer authentication through the local socket, make it a role of httpd's user:
--
--   create role "www-data" login in role mod_users;
--
-- whose settings are its own: repeat those below for it.

do $$
begin
  if not exists (select from pg_roles where rolname = 'mod_users') then
    create role mod_users login;
  end if;
end
$$;
comment on role mod_users is 'The web server''s module mod_users: uses the schema users_api';

-- The module asks for the same when it connects; this is for who comes through a pooler
-- that drops startup parameters.
alter role mod_users set plan_cache_mode = force_generic_plan; -- planning costs more than reading
alter role mod_users set jit = off;
alter role mod_users set random_page_cost = 1.1; -- else small tables are scanned for each account
alter role mod_users set default_transaction_isolation = 'read committed'; -- see contract.sql
alter role mod_users set statement_timeout = '5s';
alter role mod_users set lock_timeout = '4s';
alter role mod_users set idle_in_transaction_session_timeout = '10s';

-- Requests hold personal data, and a client may send back the password that it was given: keep
-- them out of the log even under log_statement = all. Only a superuser may say so.
do $$
begin
  alter role mod_users set log_parameter_max_length = 0;
  alter role mod_users set log_parameter_max_length_on_error = 0;
exception when insufficient_privilege then
  raise notice 'only a superuser can keep requests out of the log of statements';
end
$$;

grant usage on schema users_api to mod_users;
grant select on users_api.application, users_api.token, users_api.credential, users_api.account
  to mod_users;
grant execute on function users_api.entity_tag, users_api.update_account, users_api.register_account,
  users_api.issue_token, users_api.revoke_token, users_api.introspect_token
  to mod_users;

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
