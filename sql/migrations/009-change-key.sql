-- A nonce names one change alone. The index over them grows at its end, since they begin with the time
-- now; the one by account was written to at random, which costs the log a page each time.

alter table users.change
  drop constraint change_pkey,
  add constraint change_pkey primary key using index change_nonce;

comment on table users.change is
  'Changes that accounts'' owners made lately, so that none is made twice. One in twenty deletes some that are older '
  'than an hour: no first try hangs for longer. They can be deleted at any time.';
comment on column users.change.nonce is
  'what the web server named the change by: a UUID of version 7 (RFC 9562), the same when it repeats it';
