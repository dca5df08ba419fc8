-- The tables of a stand-alone installation, in an empty database; sql/migrations turns those of an
-- earlier version into these. The module never reads them: it knows only the views and functions of
-- views.sql and of contract.sql and its like. Parts of the answer to GET are kept in the tables: see document.sql.
--
-- Foreign keys that cascade have an index on their columns. Those to reference data have
-- none: its rows are hardly ever deleted, and each index would slow every registration.
--
-- Text that is in an index has the collation "C": no locale judges who is who, and no upgrade of ICU or
-- the C library, by which an order of text changes, breaks the index. It has a limit, since an index holds
-- 2704 octets a row.

create table users.migration (
  name text collate "C" primary key,
  digest bytea check (octet_length(digest) = 32),
  applied_at timestamptz not null default now()
);
comment on table users.migration is
  'What has been run here of sql/migrations, for usersctl database status and upgrade; and one row, "functions", for '
  'what every upgrade runs again.';
comment on column users.migration.digest is
  'SHA-256 of the functions, by which a later version tells that its own differ; null: not known';

-- The tables below are what these make of an earlier version's.
insert into users.migration (name) values
  ('001-migration'),
  ('002-application-old-secret'),
  ('003-stored-documents'),
  ('004-default-scopes'),
  ('005-locales'),
  ('008-change-nonce'),
  ('009-change-key'),
  ('010-keys-check'),
  ('011-account-email'),
  ('012-functions-fold'),
  ('013-provider-account-name'),
  ('014-credential-username'),
  ('015-account-external-id'),
  ('016-idempotency-key'),
  ('017-keys-collate'),
  ('018-credential-hashed'),
  ('019-keys-length'),
  ('020-keys-length-valid'),
  ('021-account-email-old'),
  ('022-token-credential'),
  ('023-token-credential-id'),
  ('024-credential-ended'),
  ('025-event'),
  ('026-audit'),
  ('027-provider-account-later'),
  ('028-provider-account-later-rows'),
  ('functions');

-- Reference data

create table users.country (
  code text collate "C" primary key check (code ~ '^[A-Z]{2}$'),
  name text not null
);
comment on table users.country is 'Countries that an account may be in.';
comment on column users.country.code is 'ISO 3166-1 alpha-2';

create table users.currency (
  code text collate "C" primary key check (code ~ '^[A-Z]{3}$'),
  name text not null,
  symbol text not null,
  document text not null generated always as (
    '{"code":' || users.json(code) || ',"symbol":' || users.json(symbol) || '}') stored
);
comment on table users.currency is 'Currencies that an account may be billed in.';
comment on column users.currency.code is 'ISO 4217';
comment on column users.currency.symbol is
  'as people write it ($, €, ¥), so not unique; the code where Unicode CLDR has no narrow symbol';

create table users.language (
  code text collate "C" primary key check (code ~ '^[a-z]{2}$'),
  name text not null
);
comment on table users.language is 'Languages that a locale may begin with.';
comment on column users.language.code is 'ISO 639-1';

create table users.script (
  code text collate "C" primary key check (code ~ '^[A-Z][a-z]{3}$'),
  name text not null
);
comment on table users.script is 'Scripts that a locale may name after its language.';
comment on column users.script.code is 'ISO 15924';

create table users.area (
  code text collate "C" primary key check (code ~ '^[0-9]{3}$'),
  name text not null
);
comment on table users.area is 'Areas of several countries that a locale may end with in place of a country.';
comment on column users.area.code is 'UN M.49';

-- What an account is entitled to

create table users.billing_plan (
  id integer primary key,
  name text collate "C" not null unique constraint billing_plan_name_length check (char_length(name) <= 255),
  document text not null generated always as (
    '{"id":' || id::text || ',"name":' || users.json(name) || '}') stored
);
comment on table users.billing_plan is 'Billing plans; administrators choose the ids.';

insert into users.billing_plan (id, name) values (1, 'default');

create table users.account_group (
  id integer primary key,
  name text collate "C" not null unique constraint account_group_name_length check (char_length(name) <= 255)
);
comment on table users.account_group is 'Groups of accounts with the same quotas; administrators choose the ids.';

create table users.group_quota (
  group_id integer references users.account_group on update cascade on delete cascade,
  kind text collate "C" constraint group_quota_kind_length check (char_length(kind) <= 255),
  quota bigint not null check (quota >= 0),
  counter text,
  document_head text not null generated always as (users.json(kind) || ':{"current":') stored,
  primary key (group_id, kind)
);
comment on table users.group_quota is 'How many of a kind each account of a group may have.';
comment on column users.group_quota.kind is 'the name in the API, such as cr';
comment on column users.group_quota.counter is
  'which of account.usage is held against the quota, such as container_registries; null: that of the kind''s name';

insert into users.account_group (id, name) values (1, 'default');
insert into users.group_quota (group_id, kind, quota, counter) values
  (1, 'containers', 250, null),
  (1, 'cr', 20, 'container_registries'),
  (1, 'dns_zones', 250, null);

-- Who calls

create table users.application (
  id bigint generated always as identity primary key,
  name text not null,
  client_id text collate "C" not null unique
    constraint application_client_id_length check (char_length(client_id) <= 255),
  secret_digest bytea not null check (octet_length(secret_digest) = 32),
  scopes text[] not null default '{}',
  created_at timestamptz not null default now(),
  revoked_at timestamptz,
  default_scopes text[] check (default_scopes <@ scopes),
  old_secret_digest bytea check (octet_length(old_secret_digest) = 32),
  old_secret_expires_at timestamptz,
  constraint application_old_secret check ((old_secret_digest is null) = (old_secret_expires_at is null))
);
comment on table users.application is 'OAuth 2.0 clients (RFC 6749 section 2).';
comment on column users.application.secret_digest is 'SHA-256 of the client secret';
comment on column users.application.scopes is 'what it may get a token for in its own name (client credentials)';
comment on column users.application.default_scopes is
  'those of them that a token gets whose request names none (RFC 6749 section 3.3); null: public where it is among '
  'them, else all';
comment on column users.application.revoked_at is 'from then on none of its tokens is valid; null: live';
comment on column users.application.old_secret_digest is
  'SHA-256 of the client secret before this one, where it stayed valid for a while; null: it did not';
comment on column users.application.old_secret_expires_at is 'from then on the old secret is wrong';

create table users.account (
  id bigint generated by default as identity primary key,
  group_id integer not null default 1 references users.account_group,
  billing_plan_id integer not null default 1 references users.billing_plan,
  fname text not null,
  lname text not null,
  email text not null constraint account_email_length check (char_length(email) <= 255),
  phone text,
  address1 text,
  address2 text,
  city text,
  company_name text,
  country text not null references users.country,
  timezone text not null default 'UTC',
  currency text not null references users.currency,
  c_sftp_pass boolean not null default false,
  zip text,
  vat text,
  state text,
  locale text not null,
  created_at timestamptz(3) not null default current_timestamp,
  updated_at timestamptz(3) not null default current_timestamp,
  unprocessed_usage numeric not null default 0.0
    check (unprocessed_usage - unprocessed_usage = 0), -- JSON has no NaN and no infinity
  usage jsonb not null default '{}' check (
    jsonb_typeof(usage) = 'object'
    and not usage @? '$.* ? (@.type() != "number" || @ < 0 || @ != @.floor() || @ > 9223372036854775807)'),
  labels jsonb not null default '{}' check (jsonb_typeof(labels) = 'object'),
  external_id text collate "C" constraint account_external_id_length check (char_length(external_id) <= 255),
  application_id bigint references users.application on delete set null,
  suspended_at timestamptz,
  -- the answer to GET, but for what stands in other tables: a trigger writes these
  document_head text not null,
  document_middle text not null,
  document_services text not null,
  constraint account_external_id unique (application_id, external_id)
);
-- lower() as of this collation knows ASCII letters only.
create unique index account_email_folded on users.account (lower(email collate "C"));
-- Triggers fire in the order of their names: this one after an administrator's own, which may change a row.
create trigger zz_document before insert or update on users.account
  for each row execute function users.write_document();
comment on trigger zz_document on users.account is
  'writes what GET shows of the row; fires after other triggers, whose names must sort before its own';
comment on table users.account is 'The users of the panel, one row each.';
comment on column users.account.email is 'unique without regard to the case of ASCII letters';
comment on column users.account.timezone is 'IANA time zone name';
comment on column users.account.c_sftp_pass is 'enable password login over SFTP on new projects';
comment on column users.account.vat is 'VAT identification number; set by administrators';
comment on column users.account.locale is
  'ISO 639-1 language, an optional script of ISO 15924, an optional region of ISO 3166-1 or UN M.49: en, pt-BR, es-419, zh-Hant';
comment on column users.account.updated_at is
  'milliseconds, and later with every change made through users_api, so that each has an entity tag of its own';
comment on column users.account.unprocessed_usage is
  'accrued in the account''s currency, but not yet transferred to the billing system; shown with all its digits';
comment on column users.account.usage is
  'how many of what it has now, written by the panel: usage || ''{"projects": 3}''; whole numbers by name: projects, '
  'containers, container_services, container_images, container_registries, dns_zones, or a group_quota.counter of an '
  'administrator''s; what is missing is 0';
comment on column users.account.labels is 'the owner''s and the registering application''s; 16 KiB at most';
comment on column users.account.external_id is 'the registering application''s own name for the account';
comment on column users.account.application_id is 'which application registered the account; null: none';
comment on column users.account.suspended_at is 'since when the owner is refused; null: not suspended';

create table users.token (
  digest bytea check (octet_length(digest) = 32),
  application_id bigint not null references users.application on delete cascade,
  user_id bigint references users.account on delete cascade,
  scopes text[] not null constraint token_scopes_size check (pg_column_size(scopes) <= 2600), -- of an index row's 2704 octets
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  revoked_at timestamptz,
  credential_id bigint,
  -- all that a look-up wants: it need not visit the table
  primary key (digest) include (application_id, user_id, scopes, expires_at, revoked_at)
);
create index token_application_id on users.token (application_id);
create index token_user_id on users.token (user_id);
create index token_credential_id on users.token (credential_id) where credential_id is not null;
comment on table users.token is 'OAuth 2.0 bearer tokens (RFC 6750).';
comment on column users.token.digest is 'SHA-256 of the token, which itself is stored nowhere';
comment on column users.token.user_id is 'null: the application acts in its own name (client credentials)';
comment on column users.token.expires_at is 'null: never';
comment on column users.token.revoked_at is 'null: live';
comment on column users.token.credential_id is
  'the API credentials that it was issued for and ends with (RFC 6749 section 4.3); null: for none. No foreign key: '
  'credentials that were deleted have ended it';

create table users.credential (
  id bigint generated always as identity primary key,
  user_id bigint not null references users.account on delete cascade,
  username text collate "C" not null unique
    constraint credential_username_length check (char_length(username) <= 255),
  secret_digest bytea check (octet_length(secret_digest) = 32),
  secret_hash text,
  created_at timestamptz not null default now(),
  revoked_at timestamptz,
  check (num_nonnulls(secret_digest, secret_hash) = 1)
);
create index credential_user_id on users.credential (user_id);
create index credential_hashed on users.credential (username)
  where secret_hash is not null and revoked_at is null;
create trigger ended after update of revoked_at on users.credential
  for each row when (old.revoked_at is null and new.revoked_at is not null) execute function users.end_tokens();
create trigger deleted after delete on users.credential
  for each row when (old.revoked_at is null) execute function users.end_tokens();
comment on table users.credential is 'API credentials for HTTP Basic authentication (RFC 7617).';
comment on column users.credential.secret_digest is 'SHA-256 of a generated password of 120 bits or more';
comment on column users.credential.secret_hash is
  'bcrypt or another hash that apr_password_validate() knows: passwords of an existing installation';
comment on column users.credential.revoked_at is 'null: live';

create table users.provider_account (
  application_id bigint not null references users.application on delete cascade,
  provider text not null,
  provider_server text not null,
  provider_username text not null,
  user_id bigint not null references users.account on delete cascade
);
-- The three together can be longer than an index row. The lengths tell them from others that make the same text;
-- the cast, which is immutable as convert_to() is not, wants backslashes (92) doubled.
create unique index provider_account_name on users.provider_account (application_id, sha256(replace(
  octet_length(provider)::text || ' ' || octet_length(provider_server)::text || ' '
  || provider || provider_server || provider_username, chr(92), chr(92) || chr(92))::bytea));
-- Logical replication wants to name the rows that are deleted, and there is no primary key.
alter table users.provider_account replica identity full;
create index provider_account_user_id on users.provider_account (user_id);
comment on table users.provider_account is
  'An account that was registered for a user of a provider''s server (cPanel and the like), one for each of those users.';
comment on column users.provider_account.provider is 'in lower case: cpanel';
comment on column users.provider_account.provider_server is 'URL or unique name; provider_username is unique within it';

create table users.provider_account_later (
  application_id bigint not null references users.application on delete cascade,
  provider text not null,
  provider_server text not null,
  provider_username text not null,
  user_id bigint primary key references users.account on delete cascade
);
create index provider_account_later_name on users.provider_account_later (application_id, sha256(replace(
  octet_length(provider)::text || ' ' || octet_length(provider_server)::text || ' '
  || provider || provider_server || provider_username, chr(92), chr(92) || chr(92))::bytea));
comment on table users.provider_account_later is
  'The accounts that were registered for a user whom provider_account had already (UsersDuplicates create).';

create table users.idempotency (
  application_id bigint references users.application on delete cascade,
  key text collate "C" constraint idempotency_key_length check (char_length(key) <= 255),
  payload_digest bytea not null,
  user_id bigint references users.account on delete cascade,
  credential_id bigint references users.credential on delete set null,
  created_at timestamptz not null default now(),
  primary key (application_id, key)
);
create index idempotency_user_id on users.idempotency (user_id);
create index idempotency_credential_id on users.idempotency (credential_id);
comment on table users.idempotency is
  'Registrations by Idempotency-Key. Rows older than 24 hours mean nothing; usersctl purge deletes them.';
comment on column users.idempotency.payload_digest is 'SHA-256 of the request in the text form of jsonb';
comment on column users.idempotency.user_id is 'the account; null only within the transaction that registers it';
comment on column users.idempotency.credential_id is 'the credential that the last answer carried';

create table users.change (
  user_id bigint not null, -- of an account, whose existence nobody checks once more
  nonce uuid primary key,
  created_at timestamptz not null default now()
);
comment on table users.change is
  'Changes that accounts'' owners made lately, so that none is made twice. One in twenty deletes some that are older '
  'than an hour: no first try hangs for longer. They can be deleted at any time.';
comment on column users.change.nonce is
  'what the web server named the change by: a UUID of version 7 (RFC 9562), the same when it repeats it';

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
