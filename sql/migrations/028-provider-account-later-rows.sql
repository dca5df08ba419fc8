--! batches
-- Which accounts were registered again is known by their labels alone, and owners can change those: an account is taken
-- for a later one only where its application has a first one of the same names.
do $$
declare
  v_after bigint := 0;
  v_last bigint;
begin
  loop
    v_last := (select max(id) from (select id from users.account where id > v_after order by id limit 10000) as ahead);
    exit when v_last is null;
    insert into users.provider_account_later (application_id, provider, provider_server, provider_username, user_id)
    select first.application_id, first.provider, first.provider_server, first.provider_username, account.id
    from users.account
    cross join lateral jsonb_each(labels) as provider
    cross join lateral jsonb_each_text(case jsonb_typeof(provider.value) when 'object' then provider.value else '{}' end) as server
    join users.provider_account as first on first.application_id = account.application_id
      and sha256(replace(
        octet_length(first.provider)::text || ' ' || octet_length(first.provider_server)::text || ' '
        || first.provider || first.provider_server || first.provider_username, chr(92), chr(92) || chr(92))::bytea)
      = sha256(replace(
        octet_length(provider.key)::text || ' ' || octet_length(server.key)::text || ' '
        || provider.key || server.key || server.value, chr(92), chr(92) || chr(92))::bytea)
    where account.id > v_after and account.id <= v_last
      and not exists (select from users.provider_account where user_id = account.id)
    for key share of account skip locked -- whoever holds it removes it
    on conflict do nothing;
    v_after := v_last;
    commit;
  end loop;
end
$$;
