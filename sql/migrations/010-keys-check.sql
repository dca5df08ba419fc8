-- What the files behind this one could not do: nothing is changed here.

do $$
declare
  v_table text;
  v_column text;
  v_found text;
begin
  select string_agg(line, '; ') into v_found from (
    select format('%s (ids %s)', lower(email collate "C"), string_agg(id::text, ', ' order by id)) as line
    from users.account
    group by lower(email collate "C")
    having count(*) > 1
    limit 5) as doubled;
  if v_found is not null then
    raise unique_violation using
      message = format('accounts have one address but for the case of its letters: %s', v_found),
      hint = 'Give all of them but one another address, and upgrade again.';
  end if;

  for v_table, v_column in values
    ('account', 'email'), ('account', 'external_id'), ('account_group', 'name'), ('application', 'client_id'),
    ('billing_plan', 'name'), ('credential', 'username'), ('group_quota', 'kind'), ('idempotency', 'key')
  loop
    execute format('select %I from users.%I where char_length(%1$I) > 255 limit 1', v_column, v_table) into v_found;
    if v_found is not null then
      raise string_data_right_truncation using
        message = format('users.%s.%s has values of more than 255 characters: %s…', v_table, v_column, left(v_found, 40)),
        hint = 'Shorten them, and upgrade again.';
    end if;
  end loop;

  -- The views are made anew in 017, and what is made of them is in the way.
  select string_agg(distinct format('%s', rewrite.ev_class::regclass), ', ') into v_found
  from pg_depend join pg_rewrite as rewrite on rewrite.oid = pg_depend.objid
  where pg_depend.classid = 'pg_rewrite'::regclass
    and refobjid in ('users_api.application'::regclass, 'users_api.credential'::regclass, 'users_api.account'::regclass)
    and rewrite.ev_class <> refobjid;
  if v_found is not null then
    raise dependent_objects_still_exist using
      message = format('views of your own are made of those of users_api: %s', v_found),
      hint = 'Drop them, upgrade again, and make them again.';
  end if;
end
$$;
