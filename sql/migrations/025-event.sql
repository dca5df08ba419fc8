-- The outbox of UsersEvents.

create table users.event (
  id bigint generated always as identity primary key,
  message_id uuid not null default gen_random_uuid(),
  type text not null,
  user_id bigint not null, -- of an account, whose existence nobody checks once more
  fields text[] not null,
  created_at timestamptz not null default now(),
  body text,
  attempts integer not null default 0,
  due_at timestamptz not null default now(),
  dead_at timestamptz,
  failure text
);
create index event_due_at on users.event (due_at, id) where dead_at is null;
create index event_user_id on users.event (user_id, id) where dead_at is null;
comment on table users.event is
  'Events that usersctl event deliver has not delivered yet, or has given up. What was delivered is deleted.';
comment on column users.event.id is
  'ascends in the order of an account''s changes, since it is drawn while the account''s row is locked';
comment on column users.event.message_id is
  'webhook-id; not the number, which a database that is restored from a backup would give to another event';
comment on column users.event.type is 'user.created or user.updated';
comment on column users.event.fields is 'names of what the request gave or changed, never values';
comment on column users.event.body is
  'what is sent, made when the event is first claimed and kept, so that a repeat is identical; null until then';
comment on column users.event.attempts is 'how often it was claimed; who has claimed it knows it by this number';
comment on column users.event.due_at is
  'not to be claimed before; the end of the lease while somebody sends it; of one that waits for an earlier one of its account: '
  'when to look again';
comment on column users.event.dead_at is 'since when it is given up, and later ones of its account go on; null: it is not';
comment on column users.event.failure is 'why the last attempt failed; null: none did';
