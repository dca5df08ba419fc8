create table users.audit (
  id bigint generated always as identity primary key,
  at timestamptz not null default now(),
  action text not null,
  user_id bigint not null,
  caller_id bigint,
  application_id bigint,
  kind text not null,
  address inet,
  trace text,
  fields text[] not null
);
create index audit_user_id on users.audit (user_id, id);
comment on table users.audit is
  'Who registered or changed which account through the API (UsersAudit), a row a change, written with it. No foreign keys: '
  'it outlives accounts and applications; usersctl purge deletes rows that are old.';
comment on column users.audit.action is
  'user.created, user.updated, or credential.replaced (a registration that an Idempotency-Key repeated)';
comment on column users.audit.user_id is 'the account that it was done to';
comment on column users.audit.caller_id is 'the account that did it; null: an application did, in its own name';
comment on column users.audit.application_id is
  'the application whose token let it in; null: it came with API credentials';
comment on column users.audit.kind is
  'what let it in: token, credential (API credentials), or client (a token that another module verified)';
comment on column users.audit.address is 'of the client, as httpd tells (mod_remoteip); null: not known';
comment on column users.audit.trace is 'the id of the trace (UsersTraceParent); null: none';
comment on column users.audit.fields is
  'names of what got another value or, of a registration, was given; never the values';

-- They tell of the audit, too: accounts.sql makes them anew, right after the migrations.
drop function if exists users_admin.remove_user(text, boolean);
drop function if exists users_admin.export_user(text);
