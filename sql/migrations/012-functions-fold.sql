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

-- 017 rewrites users.currency, which then is empty to each statement that began before (13.6 in PostgreSQL's manual).
-- The function of 0.1.0 reads by the snapshot of its caller, who may have waited for 017, and knows no currency
-- then, nor that none was named. A volatile one takes a snapshot of its own, when it has the lock.
create or replace function users.faults(p_fields jsonb, p_labels jsonb) returns jsonb
language plpgsql volatile
as $$
declare
  v_faults jsonb := '[]';
begin
  if p_fields ->> 'country' is not null
    and not exists (select from users.country where code = p_fields ->> 'country') then
    v_faults := v_faults || users.fault('country', 'is not a known country');
  end if;
  if p_fields ->> 'currency' is not null
    and not exists (select from users.currency where code = p_fields ->> 'currency') then
    v_faults := v_faults || users.fault('currency', 'is not a known currency');
  end if;
  if not users.is_known_locale(p_fields ->> 'locale') then
    v_faults := v_faults || users.fault('locale', 'is not a known locale');
  end if;
  if octet_length(p_labels::text) > 16384 then
    v_faults := v_faults || users.fault('merge_labels', 'is too large (maximum is 16 KiB)');
  end if;
  return v_faults;
end
$$;
