--! batches
-- Has the trigger write again what is stored from before. Rows that are locked are left to another pass;
-- while there are such the last statement is lock_not_available, and the whole is tried again.
do $$
declare
  v_last bigint := 0;
  v_left bigint := 0;
begin
  while v_last is not null loop
    with batch as (
      select id, document_middle from users.account where id > v_last order by id limit 1000
    ), old as (
      select id from users.account
      where id in (select id from batch where document_middle not like ',"nickname":%')
      order by id for no key update skip locked
    ), written as (
      update users.account set nickname = nickname from old where account.id = old.id returning account.id
    )
    select (select max(id) from batch),
      v_left + (select count(*) from batch where document_middle not like ',"nickname":%') - (select count(*) from written)
      into v_last, v_left;
    commit;
  end loop;
  if v_left > 0 then
    raise lock_not_available using message = format('%s accounts are locked', v_left);
  end if;
end
$$;
