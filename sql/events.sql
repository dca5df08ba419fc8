-- What usersctl does with events (users.event): it claims and delivers them, lists them and retries them. What
-- admin.sql says of its functions holds here.
--
-- Of an account only the oldest event that is neither delivered nor dead can be claimed; the later ones of the account
-- wait. A claim is a lease, committed before anything is sent: due_at is moved to its end, and whoever does not finish
-- the event by then has lost it to the next. An event that waits would be found at each look for due ones. So due_at
-- of one that was found is moved to that of the event that it waits for ("put off"), and finishing that one makes the
-- next of the account due at once.

create or replace function users_admin.claim_events(p_limit integer, p_lease interval)
returns table (id bigint, lease timestamptz, message_id uuid, user_id bigint, attempts integer, body text)
language plpgsql set search_path = pg_catalog, pg_temp
  set enable_seqscan = off -- which a table without statistics invites
  set lock_timeout = '5s' -- what is being sent waits meanwhile, and its lease is ten seconds longer than that may take
as $$
#variable_conflict use_column
declare
  v_look integer := p_limit;
  v_due bigint[];
  v_claimed boolean;
begin
  loop
    v_due := array(
      select id from users.event where dead_at is null and due_at <= now()
      order by due_at, id limit v_look for update skip locked);
    -- From here on the rows are locked and each statement sees what was committed before it: an account's earlier
    -- event has either gone, or whoever finishes it comes after this.
    return query
      update users.event set
        due_at = now() + p_lease,
        attempts = attempts + 1,
        body = coalesce(body, concat(
          '{"type":', to_json(type),
          ',"timestamp":"', to_char(timezone('UTC', created_at), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
          '","data":{"user_id":', user_id, ',"fields":', to_json(fields), ',"user":',
          coalesce((select (document -> 'user')::text from users_api.account where account.user_id = event.user_id), 'null'),
          '}}'))
      where id = any (array(
        select id from users.event
        where id = any (v_due) and not exists (
          select from users.event as earlier
          where earlier.user_id = event.user_id and earlier.dead_at is null and earlier.id < event.id)
        order by due_at, id limit p_limit))
      returning id, due_at, message_id, user_id, attempts, body;
    v_claimed := found;
    -- One that is being finished right now is locked: who waits for it stays due.
    update users.event set due_at = first.due_at
    from (
      select id, user_id, due_at from users.event where id = any (array(
        select (select min(id) from users.event as earlier where earlier.user_id = event.user_id and dead_at is null)
        from users.event where id = any (v_due)))
      for update skip locked) as first
    where event.id = any (v_due) and event.user_id = first.user_id and event.id <> first.id
      and event.due_at < first.due_at;
    exit when v_claimed or not found;
    v_look := least(2 * v_look, 1000);
  end loop;
end
$$;
comment on function users_admin.claim_events is
  'Claim events that are due, p_limit at most, for p_lease. lease: its end, by which finish_event knows the claim. body: '
  'what is to be sent, made here where it is the first claim. None: there is none that can be claimed now.';

create or replace function users_admin.finish_event(
  p_id bigint, p_lease timestamptz, p_failure text, p_delay interval, p_dead boolean)
returns table (finished boolean)
language plpgsql set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
  set lock_timeout = '5s'
as $$
#variable_conflict use_column
declare
  v_user_id bigint;
begin
  -- Where a crash undoes this the event is sent once more, which can happen in any case.
  perform set_config('synchronous_commit', 'off', true);
  if p_failure is null then
    delete from users.event where id = p_id and due_at = p_lease returning user_id into v_user_id;
  else
    update users.event set failure = p_failure, due_at = now() + p_delay, dead_at = case when p_dead then now() end
    where id = p_id and due_at = p_lease
    returning user_id into v_user_id;
  end if;
  finished := v_user_id is not null;
  -- The next of the account, unless it was claimed before and has a time of its own.
  if p_failure is null or p_dead then
    update users.event set due_at = now()
    where id = (select min(id) from users.event where user_id = v_user_id and dead_at is null)
      and attempts = 0 and due_at > now();
  end if;
  return next;
end
$$;
comment on function users_admin.finish_event is
  'End a claim. p_failure: why it was not delivered, null: it was; then the event is due again after p_delay, or dead. '
  'finished false: the lease was over and somebody else has claimed it, so nothing is done.';

create or replace function users_admin.event_state(p_event users.event) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select case when p_event.dead_at is not null then 'dead' when p_event.failure is not null then 'failing' else 'waiting' end
$$;
comment on function users_admin.event_state is
  'dead: given up; failing: an attempt failed, and another one follows; waiting: no attempt has failed.';

create or replace function users_admin.list_events(p_state text, p_after bigint, p_limit integer)
returns table (id bigint, state text, type text, user_id bigint, fields text, attempts integer, created_at timestamptz,
  due_at timestamptz, dead_at timestamptz, failure text, message_id uuid)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select id, users_admin.event_state(event), type, user_id, array_to_string(fields, ' '), attempts,
    date_trunc('second', created_at), case when dead_at is null then date_trunc('second', due_at) end,
    date_trunc('second', dead_at), failure, message_id
  from users.event
  where id > coalesce(p_after, 0) and users_admin.event_state(event) = coalesce(p_state, users_admin.event_state(event))
  order by id
  limit p_limit
$$;
comment on function users_admin.list_events is
  'The events that are not delivered, from the oldest on, behind p_after (null: all); p_state: of event_state (null: any).';

create or replace function users_admin.retry_events(p_ids text, p_failing text, p_dead text)
returns table (retried bigint)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_ids constant bigint[] := string_to_array(p_ids, ',');
  v_unknown constant bigint := (
    select min(wanted) from unnest(v_ids) as wanted where not exists (select from users.event where id = wanted));
begin
  if v_unknown is not null then
    raise no_data_found using message = format('there is no event %s: it may have been delivered', v_unknown);
  end if;
  update users.event set due_at = now(), dead_at = null, attempts = case when dead_at is null then attempts else 0 end
  where failure is not null and id = any (array(
    select id from users.event
    where id = any (v_ids) or p_dead is not null and dead_at is not null
      or p_failing is not null and dead_at is null and failure is not null
    order by id for update));
  get diagnostics retried = row_count;
  return next;
end
$$;
comment on function users_admin.retry_events is
  'Make events due now that have failed: those of p_ids, numbers with commas between them; where p_failing is not null '
  'those that wait for another attempt; where p_dead is not null the dead ones, whose attempts are counted anew.';

revoke execute on all functions in schema users_admin from public;
