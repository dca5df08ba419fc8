-- The functions of the release before know the other index by its expression, which goes in 021: until
-- they are replaced they know this one. A call that began before has ended when 013 is built.

do $$
declare
  v_function oid;
begin
  for v_function in
    select oid from pg_proc
    where pronamespace in ('users'::regnamespace, 'users_api'::regnamespace, 'users_admin'::regnamespace)
      and strpos(prosrc, 'lower(email)') > 0
  loop
    execute regexp_replace(
      replace(pg_get_functiondef(v_function), 'on conflict (lower(email))', 'on conflict (lower(email collate "C"))'),
      'lower[(]email[)] = lower[(]([^()]+)[)]',
      'lower(email collate "C") = lower((' || chr(92) || '1) collate "C")', 'g');
  end loop;
end
$$;
