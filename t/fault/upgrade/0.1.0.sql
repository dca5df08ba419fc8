-- The database of mod_users 0.1.0: its tables.sql, contract.sql, admin.sql and role.sql as they
-- were, but for the reference data, of which there is what the tests need.

-- The tables of a stand-alone installation. The module never reads them: it knows only the
-- views and functions of contract.sql.
--
-- Foreign keys that cascade have an index on their columns. Those to reference data have
-- none: its rows are hardly ever deleted, and each index would slow every registration.

create schema if not exists users;
comment on schema users is
  'Accounts of the hosting panel. Owned by its administrators; the web server sees users_api only.';

-- Parts of the answer to GET are kept where their data is, as generated columns: a read then only
-- puts them together, which costs a third of rendering them, and they can't be out of date.
-- A generated column wants immutable functions. These are, though to_json() and to_char() are
-- not for every type that they take.

create or replace function users.json(p_value text) returns text
language sql immutable parallel safe
as $$ select coalesce(to_json(p_value)::text, 'null') $$;
comment on function users.json(text) is 'A text in JSON (RFC 8259), or null.';

create or replace function users.json(p_value timestamptz) returns text
language sql immutable strict parallel safe
as $$ select to_char(p_value at time zone 'UTC', '"\""YYYY-MM-DD"T"HH24:MI:SS.MS"Z\""') $$;
comment on function users.json(timestamptz) is 'A time in JSON: UTC, milliseconds (RFC 3339).';

create or replace function users.services(p_usage jsonb) returns text
language sql immutable parallel safe
as $$
  select string_agg(users.json(name) || ':' || coalesce((p_usage ->> name)::bigint, 0), ',' order by place)
  from unnest(array['projects', 'containers', 'container_services', 'container_images',
    'container_registries', 'dns_zones']) with ordinality as service (name, place)
$$;
comment on function users.services is 'The members of "services" for an account''s usage.';

-- Reference data

create table if not exists users.country (
  code text primary key check (code ~ '^[A-Z]{2}$'),
  name text not null
);
comment on table users.country is 'Countries that an account may be in.';
comment on column users.country.code is 'ISO 3166-1 alpha-2';

create table if not exists users.currency (
  code text primary key check (code ~ '^[A-Z]{3}$'),
  name text not null,
  symbol text not null,
  document text not null generated always as (
    '{"code":' || users.json(code) || ',"symbol":' || users.json(symbol) || '}') stored
);
comment on table users.currency is 'Currencies that an account may be billed in.';
comment on column users.currency.code is 'ISO 4217';
comment on column users.currency.symbol is
  'as people write it ($, €, ¥), so not unique; the code where Unicode CLDR has no narrow symbol';

create table if not exists users.language (
  code text primary key check (code ~ '^[a-z]{2}$'),
  name text not null
);
comment on table users.language is 'Languages that a locale may begin with.';
comment on column users.language.code is 'ISO 639-1';

-- What an account is entitled to

create table if not exists users.billing_plan (
  id integer primary key,
  name text not null unique,
  document text not null generated always as (
    '{"id":' || id::text || ',"name":' || users.json(name) || '}') stored
);
comment on table users.billing_plan is 'Billing plans; administrators choose the ids.';

insert into users.billing_plan (id, name) values (1, 'default') on conflict do nothing;

create table if not exists users.account_group (
  id integer primary key,
  name text not null unique
);
comment on table users.account_group is 'Groups of accounts with the same quotas; administrators choose the ids.';

create table if not exists users.group_quota (
  group_id integer references users.account_group on update cascade on delete cascade,
  kind text,
  quota bigint not null check (quota >= 0),
  counter text,
  document_head text not null generated always as (users.json(kind) || ':{"current":') stored,
  primary key (group_id, kind)
);
comment on table users.group_quota is 'How many of a kind each account of a group may have.';
comment on column users.group_quota.kind is 'the name in the API, such as cr';
comment on column users.group_quota.counter is
  'which of account.usage is held against the quota, such as container_registries; null: that of the kind''s name';

-- The defaults come with the default group, once: an administrator who removes a quota
-- does not get it back with the next upgrade.
with default_group as (
  insert into users.account_group (id, name) values (1, 'default')
  on conflict do nothing
  returning id
)
insert into users.group_quota (group_id, kind, quota, counter)
select id, kind, quota, counter
from default_group,
  (values ('containers', 250, null), ('cr', 20, 'container_registries'), ('dns_zones', 250, null))
    as defaults (kind, quota, counter);

-- Who calls

create table if not exists users.application (
  id bigint generated always as identity primary key,
  name text not null,
  client_id text not null unique,
  secret_digest bytea not null check (octet_length(secret_digest) = 32),
  scopes text[] not null default '{}',
  created_at timestamptz not null default now(),
  revoked_at timestamptz
);
alter table users.application
  add column if not exists default_scopes text[] check (default_scopes <@ scopes);
comment on table users.application is 'OAuth 2.0 clients (RFC 6749 section 2).';
comment on column users.application.secret_digest is 'SHA-256 of the client secret';
comment on column users.application.scopes is 'what it may get a token for in its own name (client credentials)';
comment on column users.application.default_scopes is
  'those of them that a token gets whose request names none (RFC 6749 section 3.3); null: all';
comment on column users.application.revoked_at is 'from then on none of its tokens is valid; null: live';

create table if not exists users.account (
  id bigint generated by default as identity primary key,
  group_id integer not null default 1 references users.account_group,
  billing_plan_id integer not null default 1 references users.billing_plan,
  fname text not null,
  lname text not null,
  email text not null,
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
  external_id text,
  application_id bigint references users.application on delete set null,
  suspended_at timestamptz,
  -- the answer to GET, but for what stands in other tables
  document_head text not null generated always as (
    '{"id":' || id::text
    || ',"fname":' || users.json(fname)
    || ',"lname":' || users.json(lname)
    || ',"email":' || users.json(email)
    || ',"phone":' || users.json(phone)
    || ',"address1":' || users.json(address1)
    || ',"address2":' || users.json(address2)
    || ',"city":' || users.json(city)
    || ',"company_name":' || users.json(company_name)
    || ',"country":' || users.json(country)
    || ',"timezone":' || users.json(timezone)
    || ',"currency":') stored,
  document_middle text not null generated always as (
    ',"c_sftp_pass":' || c_sftp_pass::text
    || ',"zip":' || users.json(zip)
    || ',"vat":' || users.json(vat)
    || ',"state":' || users.json(state)
    || ',"locale":' || users.json(locale)
    || ',"created_at":' || users.json(created_at)
    || ',"updated_at":' || users.json(updated_at)
    || ',"billing_plan":') stored,
  document_services text not null generated always as (
    ',"services":{' || users.services(usage) || '}') stored,
  constraint account_external_id unique (application_id, external_id)
);
create unique index if not exists account_email on users.account (lower(email));
comment on table users.account is 'The users of the panel, one row each.';
comment on column users.account.email is 'unique without regard to case';
comment on column users.account.timezone is 'IANA time zone name';
comment on column users.account.c_sftp_pass is 'enable password login over SFTP on new projects';
comment on column users.account.vat is 'VAT identification number; set by administrators';
comment on column users.account.locale is 'ISO 639-1 language with an optional ISO 3166-1 region: en, pt-BR';
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

create table if not exists users.token (
  digest bytea check (octet_length(digest) = 32),
  application_id bigint not null references users.application on delete cascade,
  user_id bigint references users.account on delete cascade,
  scopes text[] not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  revoked_at timestamptz,
  -- all that a look-up wants: it need not visit the table
  primary key (digest) include (application_id, user_id, scopes, expires_at, revoked_at)
);
create index if not exists token_application_id on users.token (application_id);
create index if not exists token_user_id on users.token (user_id);
comment on table users.token is 'OAuth 2.0 bearer tokens (RFC 6750).';
comment on column users.token.digest is 'SHA-256 of the token, which itself is stored nowhere';
comment on column users.token.user_id is 'null: the application acts in its own name (client credentials)';
comment on column users.token.expires_at is 'null: never';
comment on column users.token.revoked_at is 'null: live';

create table if not exists users.credential (
  id bigint generated always as identity primary key,
  user_id bigint not null references users.account on delete cascade,
  username text not null unique,
  secret_digest bytea check (octet_length(secret_digest) = 32),
  secret_hash text,
  created_at timestamptz not null default now(),
  revoked_at timestamptz,
  check (num_nonnulls(secret_digest, secret_hash) = 1)
);
create index if not exists credential_user_id on users.credential (user_id);
create index if not exists credential_hashed on users.credential (username)
  where secret_hash is not null and revoked_at is null;
comment on table users.credential is 'API credentials for HTTP Basic authentication (RFC 7617).';
comment on column users.credential.secret_digest is 'SHA-256 of a generated password of 120 bits or more';
comment on column users.credential.secret_hash is
  'bcrypt or another hash that apr_password_validate() knows: passwords of an existing installation';
comment on column users.credential.revoked_at is 'null: live';

create table if not exists users.provider_account (
  application_id bigint references users.application on delete cascade,
  provider text,
  provider_server text,
  provider_username text,
  user_id bigint not null references users.account on delete cascade,
  primary key (application_id, provider, provider_server, provider_username)
);
create index if not exists provider_account_user_id on users.provider_account (user_id);
comment on table users.provider_account is
  'The account that was first registered for a user of a provider''s server (cPanel and the like).';
comment on column users.provider_account.provider is 'in lower case: cpanel';
comment on column users.provider_account.provider_server is 'URL or unique name; provider_username is unique within it';

create table if not exists users.idempotency (
  application_id bigint references users.application on delete cascade,
  key text,
  payload_digest bytea not null,
  user_id bigint references users.account on delete cascade,
  credential_id bigint references users.credential on delete set null,
  created_at timestamptz not null default now(),
  primary key (application_id, key)
);
create index if not exists idempotency_user_id on users.idempotency (user_id);
create index if not exists idempotency_credential_id on users.idempotency (credential_id);
comment on table users.idempotency is
  'Registrations by Idempotency-Key. Rows older than 24 hours mean nothing; usersctl purge deletes them.';
comment on column users.idempotency.payload_digest is 'SHA-256 of the request in the text form of jsonb';
comment on column users.idempotency.user_id is 'the account; null only within the transaction that registers it';
comment on column users.idempotency.credential_id is 'the credential that the last answer carried';

create table if not exists users.change (
  user_id bigint references users.account on delete cascade,
  nonce uuid,
  created_at timestamptz not null default now(),
  primary key (user_id, nonce)
);
comment on table users.change is
  'Changes that accounts'' owners made lately, so that none is made twice. A change that comes an hour after the last '
  'one, and one in a hundred besides, deletes the account''s rows older than an hour: no first try hangs for longer. They can be deleted at any time.';
comment on column users.change.nonce is 'what the web server named the change by: random, and the same when it repeats it';

insert into users.country (code, name) values ('US', 'United States'), ('NL', 'Netherlands');
insert into users.currency (code, name, symbol) values ('USD', 'US Dollar', '$'), ('EUR', 'Euro', '€');
insert into users.language (code, name) values ('en', 'English'), ('nl', 'Dutch');

-- The contract: all that the module knows of the database. Who has user tables already brings
-- views and functions of these names over them, in place of this file and tables.sql.
--
-- There are no advisory locks and no session state, so it runs behind any pooler. Functions
-- run with their owner's rights, and their search_path is fixed since they do.

create schema if not exists users_api;
comment on schema users_api is 'What the web server sees of the accounts (mod_users).';

-- Views

create or replace view users_api.token as
select token.digest, token.application_id, token.user_id, token.scopes, token.expires_at
from users.token
join users.application on application.id = token.application_id
where token.revoked_at is null
  and application.revoked_at is null
  and (token.expires_at is null or token.expires_at > now());
comment on view users_api.token is
  'Bearer tokens that are valid now, by the SHA-256 of the token. user_id null: an application''s own.';

create or replace view users_api.application as
select id as application_id, client_id, secret_digest, scopes,
  coalesce(default_scopes, scopes) as default_scopes
from users.application
where revoked_at is null;
comment on view users_api.application is
  'OAuth 2.0 clients that are valid now. scopes: what it may get a token for in its own name; default_scopes: what it '
  'gets where its request names none.';

create or replace view users_api.credential as
select username, user_id, secret_digest, secret_hash
from users.credential
where revoked_at is null;
comment on view users_api.credential is
  'API credentials that are valid now, each with secret_digest (SHA-256) or secret_hash (as in htpasswd).';

-- Twenty thousand reads a second come through here. The document is put together from the
-- parts that tables.sql keeps, and nothing of it is computed where only "suspended" is asked for.
create or replace view users_api.account as
select account.id as user_id,
  account.suspended_at is not null as suspended,
  ('{"user":' || account.document_head
    || (select document from users.currency where code = account.currency)
    || account.document_middle
    || (select document from users.billing_plan where id = account.billing_plan_id)
    || account.document_services
    || ',"quota":{' || coalesce((
      select string_agg(document_head || current || ',"quota":' || quota
        || ',"is_over":' || (current >= quota) || ',"available":' || (quota - current) || '}',
        ',' order by kind)
      from (
        select kind, document_head, quota,
          coalesce((account.usage -> coalesce(counter, kind))::bigint, 0) as current
        from users.group_quota
        where group_id = account.group_id
      ) as quotas), '')
    || '},"unprocessed_usage":' || account.unprocessed_usage || '}}')::json as document,
  account.application_id,
  account.external_id
from users.account;
comment on view users_api.account is
  'The answer to GET by account, {"user":{…}}, without blanks and with every key in its order. external_id is '
  'unique within the application_id that registered the account.';

create or replace function users_api.entity_tag(document json) returns text
language sql stable strict
as $$
  select left(encode(sha256(convert_to(document::text, 'UTF8')), 'hex'), 32)
$$;
comment on function users_api.entity_tag is
  'The opaque part of the strong entity tag (RFC 9110 section 8.8.3) of a document: SHA-256, first 32 hex digits.';

-- What the changes share

create or replace function users.fault(p_field text, p_text text) returns jsonb
language sql immutable
as $$
  select jsonb_build_object('field', p_field, 'text', p_text)
$$;
comment on function users.fault is 'One thing that is wrong with a request: a member of a list of faults.';

create or replace function users.is_known_locale(p_locale text) returns boolean
language sql stable strict
as $$
  select exists (select from users.language where code = split_part(p_locale, '-', 1))
    and (p_locale not like '%-%'
      or exists (select from users.country where code = split_part(p_locale, '-', 2)))
$$;
comment on function users.is_known_locale is
  'Is it a language that we know (en), or one with a region that we know (pt-BR)?';

create or replace function users.faults(p_fields jsonb, p_labels jsonb) returns jsonb
language sql stable
as $$
  select coalesce(jsonb_agg(fault), '[]')
  from (values -- a field that is absent or null compares as null, which is no fault
    ('country', 'is not a known country',
      p_fields ->> 'country' not in (select code from users.country)),
    ('currency', 'is not a known currency',
      p_fields ->> 'currency' not in (select code from users.currency)),
    ('locale', 'is not a known locale',
      not users.is_known_locale(p_fields ->> 'locale')),
    ('merge_labels', 'is too large (maximum is 16 KiB)',
      octet_length(p_labels::text) > 16384)
  ) as checks (field, text, failed)
  cross join users.fault(field, text) as fault
  where failed
$$;
comment on function users.faults is
  'What is wrong with fields and labels, as far as any account is concerned. p_labels null: not to be judged.';

create or replace function users.merged_labels(p_labels jsonb, p_patch jsonb) returns jsonb
language sql immutable
as $$
  select coalesce(jsonb_object_agg(key, value), '{}')
  from jsonb_each(p_labels || case jsonb_typeof(p_patch) when 'object' then p_patch else '{}' end)
  where value <> 'null'
$$;
comment on function users.merged_labels is
  'Labels in which each top-level key of p_patch has replaced the one of its name, or removed it by null.';

-- Changes
--
-- A connection can die, or not answer in time, between a change and the news of it. The module
-- then repeats the change on a new connection, and each function makes it once however often that
-- happens, and returns what became of it. What tells a repeat from another change is a name that
-- the module has made at random: for a registration that of its credential, which is unique
-- anyway and so costs nothing; for a token its digest, likewise; for an update a nonce in a row of
-- its own (users.change), since a later change may stand between a change and its repeat, and would
-- overwrite a column of the account. To end a token twice is to end it once. The first try may
-- still be running, or not even have begun, when the repeat comes: whichever is second waits for
-- the other, for a row or in a unique index, and then finds what it has done. A refusal stores
-- nothing, and a repeat is judged anew.
--
-- All of that wants the isolation level "read committed", in which a statement sees what those
-- before it have waited for; role.sql asks for it.

-- PATCH

-- It knew no nonce before; who calls it as before gets one.
drop function if exists users_api.update_account(bigint, jsonb, jsonb, text[], boolean);
create or replace function users_api.update_account(
  p_user_id bigint, p_fields jsonb, p_request jsonb, p_if_match text[], p_store boolean,
  p_nonce uuid default gen_random_uuid())
returns table (outcome text, faults jsonb, document json)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_taken constant jsonb := users.fault('email', 'has already been taken');
  v_patch constant jsonb := p_request #> '{user,merge_labels}';
  v_account users.account;
  v_labels jsonb;
begin
  select * into v_account from users.account where id = p_user_id for no key update;

  -- Looked for under the lock, and before anything is judged: the first try has changed the tag.
  if exists (select from users.change where user_id = p_user_id and nonce = p_nonce) then
    outcome := 'updated';
    document := (select account.document from users_api.account where user_id = p_user_id);
    return next;
    return;
  end if;

  if v_account.id is null or v_account.suspended_at is not null then
    outcome := 'absent';
    return next;
    return;
  end if;

  -- Judged under the lock: of two changes with one tag the second finds the first one's.
  if p_if_match is not null and not exists (
    select from users_api.account
    where user_id = p_user_id and users_api.entity_tag(account.document) = any (p_if_match)
  ) then
    outcome := 'stale';
    return next;
    return;
  end if;

  v_labels := users.merged_labels(v_account.labels, v_patch);
  v_account := jsonb_populate_record(v_account, p_fields);
  faults := users.faults(p_fields, case when v_patch is not null then v_labels end);
  if exists (
    select from users.account where lower(email) = lower(v_account.email) and id <> p_user_id
  ) then
    faults := faults || v_taken;
  end if;
  if not p_store or faults <> '[]' then
    outcome := 'invalid';
    return next;
    return;
  end if;

  if p_fields <> '{}' or v_patch is not null then
    begin
      update users.account set -- the columns that the owner may change, and no other
        fname = v_account.fname,
        lname = v_account.lname,
        email = v_account.email,
        locale = v_account.locale,
        city = v_account.city,
        state = v_account.state,
        zip = v_account.zip,
        c_sftp_pass = v_account.c_sftp_pass,
        country = v_account.country,
        address1 = v_account.address1,
        address2 = v_account.address2,
        company_name = v_account.company_name,
        phone = v_account.phone,
        currency = v_account.currency,
        labels = v_labels,
        updated_at = date_trunc('milliseconds', greatest(clock_timestamp(), updated_at + interval '1 ms'))
      where id = p_user_id;
    exception when unique_violation then -- the address went to another account meanwhile
      outcome := 'invalid';
      faults := faults || v_taken;
      return next;
      return;
    end;
    -- Not each time: of an account that changes all the time it would read an hour's rows.
    if v_account.updated_at < now() - interval '1 hour' or random() < 0.01 then
      delete from users.change where user_id = p_user_id and created_at < now() - interval '1 hour';
    end if;
    insert into users.change (user_id, nonce) values (p_user_id, p_nonce);
  end if;

  outcome := 'updated';
  document := (select account.document from users_api.account where user_id = p_user_id);
  return next;
end
$$;
comment on function users_api.update_account is
  'Change the account p_user_id. '
  'p_fields: the good ones of the request, normalised; p_request: the request itself, of which user.merge_labels counts; '
  'p_if_match: entity tags (opaque part) of which the present one must be one, null for no condition; '
  'p_store false: judge only, since the request is known to be faulty; '
  'p_nonce: a random name of this change: with one that was used on the account within the hour nothing is judged or '
  'stored again, and the outcome is that of the first time. '
  'outcome: absent (no such account, or suspended), stale (the condition failed), invalid (faults is a list of '
  '{field, text}, which may be empty; nothing is stored), updated (document is the new one).';

-- POST

create or replace function users.generated_email(p_username text, p_host_name text) returns text
language sql volatile
as $$
  -- RFC 5321 section 4.5.3.1: a local part of 64 octets, 254 for the whole (its erratum 1690).
  -- A dot is neither first nor doubled; the last character is a digit of the suffix.
  select left(
      regexp_replace(
        regexp_replace(p_username, '[^A-Za-z0-9.+-]+', '_', 'g'),
        '^\.+|\.(?=\.)', '', 'g'),
      least(64, greatest(253 - octet_length(p_host_name), 13)) - 13)
    || '_' || left(translate(gen_random_uuid()::text, '-', ''), 12) -- these 48 bits are random
    || '@' || p_host_name
$$;
comment on function users.generated_email is 'A valid address that no other account has: <p_username>_<12 hex digits>@<p_host_name>.';

create or replace function users.new_account(
  p_application_id bigint, p_fields jsonb, p_request jsonb,
  p_default_currency text, p_default_locale text) returns users.account
language plpgsql stable
as $$
declare
  -- Where the request is faulty a name may be missing, and null can't be a key.
  v_provider constant jsonb := jsonb_build_object(coalesce(p_fields ->> 'provider', ''),
    jsonb_build_object(coalesce(p_fields ->> 'provider_server', ''), p_fields ->> 'provider_username'));
  v_account users.account := jsonb_populate_record(null::users.account,
    jsonb_build_object('country', 'US', 'currency', p_default_currency, 'c_sftp_pass', false)
      || jsonb_strip_nulls(p_fields));
begin
  v_account.application_id := p_application_id;
  if not coalesce(users.is_known_locale(v_account.locale), false) then
    v_account.locale := p_default_locale;
  end if;
  v_account.labels := users.merged_labels(users.merged_labels(users.merged_labels(
    v_provider, p_request -> 'labels'), p_request #> '{user,labels}'), p_request #> '{user,merge_labels}');
  return v_account;
end
$$;
comment on function users.new_account is 'The account that a registration asks for, not stored and not judged yet.';

create or replace function users.insert_account(
  p_account users.account, p_username text, p_host_name text) returns bigint
language plpgsql
as $$
declare
  v_email text := coalesce(p_account.email, users.generated_email(p_username, p_host_name));
  v_id bigint;
begin
  loop
    insert into users.account (
      application_id, external_id, fname, lname, email, locale, city, state, zip, c_sftp_pass,
      country, address1, address2, company_name, phone, currency, labels
    ) values (
      p_account.application_id, p_account.external_id, p_account.fname, p_account.lname, v_email,
      p_account.locale, p_account.city, p_account.state, p_account.zip, p_account.c_sftp_pass,
      p_account.country, p_account.address1, p_account.address2, p_account.company_name,
      p_account.phone, p_account.currency, p_account.labels
    )
    on conflict (lower(email)) do nothing -- but only after a concurrent holder has committed
    returning id into v_id;
    if found then
      return v_id;
    end if;
    v_email := users.generated_email(p_username, p_host_name);
  end loop;
end
$$;
comment on function users.insert_account is
  'Store a new account, with a generated address where it has none or one that is taken; returns its id.';

create or replace function users.claim_key(
  p_application_id bigint, p_key text, p_payload_digest bytea) returns text
language plpgsql
as $$
begin
  -- Waits for a first request that is still under way. A row that the condition spares is
  -- locked all the same, so that repeats take turns.
  insert into users.idempotency as known (application_id, key, payload_digest)
  values (p_application_id, p_key, p_payload_digest)
  on conflict (application_id, key) do update
    set payload_digest = excluded.payload_digest,
      user_id = null,
      credential_id = null,
      created_at = excluded.created_at
    where known.created_at <= now() - interval '24 hours';
  if found then
    return 'new';
  end if;
  return case payload_digest when p_payload_digest then 'repeated' else 'key_reused' end
    from users.idempotency
    where application_id = p_application_id and key = p_key;
exception when lock_not_available then
  return 'under_way';
end
$$;
comment on function users.claim_key is
  'Take an Idempotency-Key for this transaction. new: it was free or older than 24 hours; repeated: a request with this '
  'payload had it; key_reused: one with another payload had it; under_way: one has it, and did not end within lock_timeout.';

create or replace function users.replace_credential(
  p_application_id bigint, p_key text, p_username text, p_secret_digest bytea) returns bigint
language plpgsql
as $$
declare
  v_key constant users.idempotency := (select known from users.idempotency as known
    where application_id = p_application_id and key = p_key);
  v_id bigint;
begin
  insert into users.credential (user_id, username, secret_digest)
  values (v_key.user_id, p_username, p_secret_digest)
  on conflict (username) do nothing -- this is the repeat of a change, see above
  returning id into v_id;
  if found then
    update users.credential set revoked_at = now() where id = v_key.credential_id and revoked_at is null;
    update users.idempotency set credential_id = v_id
    where application_id = p_application_id and key = p_key;
  end if;
  return v_key.user_id;
end
$$;
comment on function users.replace_credential is
  'Give the account of an Idempotency-Key another credential in place of the last one, once; returns the account''s id.';

create or replace function users_api.register_account(
  p_application_id bigint, p_fields jsonb, p_request jsonb,
  p_default_currency text, p_default_locale text, p_host_name text, p_conflict boolean,
  p_username text, p_secret_digest bytea, p_idempotency_key text, p_store boolean)
returns table (outcome text, faults jsonb, account json, labels jsonb)
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  v_taken constant jsonb := users.fault('external_id', 'has already been taken');
  v_account users.account := users.new_account(
    p_application_id, p_fields, p_request, p_default_currency, p_default_locale);
  v_credential_id bigint;
  v_constraint text;
begin
  faults := users.faults(p_fields - 'locale', v_account.labels);
  if exists (
    select from users.account
    where application_id = p_application_id and external_id = v_account.external_id
  ) then
    faults := faults || v_taken;
  end if;
  if not p_store then
    outcome := 'invalid';
    return next;
    return;
  end if;

  if p_idempotency_key is not null then
    outcome := users.claim_key(
      p_application_id, p_idempotency_key, sha256(convert_to(p_request::text, 'UTF8')));
  end if;
  if outcome in ('key_reused', 'under_way') then
    return next;
    return;
  elsif outcome = 'repeated' then
    v_account.id := users.replace_credential(
      p_application_id, p_idempotency_key, p_username, p_secret_digest);
  elsif faults <> '[]' then
    outcome := 'invalid';
  else
    begin
      v_account.id := users.insert_account(v_account, p_fields ->> 'provider_username', p_host_name);
      insert into users.provider_account
        (application_id, provider, provider_server, provider_username, user_id)
      values (p_application_id, p_fields ->> 'provider', p_fields ->> 'provider_server',
        p_fields ->> 'provider_username', v_account.id)
      on conflict do nothing;
      if p_conflict and not found then
        raise unique_violation using constraint = 'provider_account_pkey';
      end if;
      insert into users.credential (user_id, username, secret_digest)
      values (v_account.id, p_username, p_secret_digest)
      returning id into v_credential_id;
      outcome := 'created';
    exception when unique_violation then -- this block has stored nothing
      get stacked diagnostics v_constraint = constraint_name;
      case v_constraint
        when 'account_external_id' then -- taken since we looked
          outcome := 'invalid';
          faults := faults || v_taken;
        when 'provider_account_pkey', 'credential_username_key' then
          outcome := 'duplicate';
        else
          raise;
      end case;
    end;
  end if;

  -- What was in the way may have been the first try of this very registration.
  if outcome in ('invalid', 'duplicate') then
    select id, user_id into v_credential_id, v_account.id
    from users.credential
    where username = p_username;
    if found then
      outcome := 'created';
    else
      delete from users.idempotency
      where application_id = p_application_id and key = p_idempotency_key;
      return next;
      return;
    end if;
  end if;
  if outcome = 'created' then
    update users.idempotency set user_id = v_account.id, credential_id = v_credential_id
    where application_id = p_application_id and key = p_idempotency_key;
  end if;

  select stored.labels, (select row_to_json(shown) from (select
      id, fname, lname, email, locale, currency, company_name, external_id) shown)
    into labels, account
  from users.account as stored
  where id = v_account.id;
  return next;
end
$$;
comment on function users_api.register_account is
  'Register an account for an application: account, provider_account and credential, or nothing. '
  'p_fields: the good ones of the request, normalised; p_request: the request itself, of which labels, user.labels '
  'and user.merge_labels count; p_default_*: where the request names none, or an unknown locale; '
  'p_host_name: the domain of generated addresses, 240 octets at most; '
  'p_conflict: a provider''s user that the application has registered before is a duplicate, and not another account; '
  'p_username, p_secret_digest: the new credential, the digest being SHA-256; the name is random, and with one that is '
  'known nothing is stored again: the outcome is that of the first time; p_idempotency_key: null for none; '
  'p_store false: judge only, since the request is known to be faulty. '
  'outcome: created; repeated (the account that this key made before, whose credential the new one replaces); duplicate, '
  'key_reused, under_way (nothing is stored; see users.claim_key); invalid (nothing is stored; faults, which counts only '
  'here, is a list of {field, text} and may be empty).';

-- Tokens

-- It returned nothing before, and "replace" can't change that.
drop function if exists users_api.issue_token(bigint, bigint, bytea, text[], timestamptz);
create function users_api.issue_token(
  p_application_id bigint, p_user_id bigint, p_digest bytea, p_scopes text[], p_expires_at timestamptz)
returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  insert into users.token (digest, application_id, user_id, scopes, expires_at)
  select p_digest, application.id, p_user_id, p_scopes, p_expires_at
  from users.application
  where id = p_application_id
    and revoked_at is null
    and (p_user_id is not null or scopes @> p_scopes)
    and (p_user_id is null
      or exists (select from users.account where id = p_user_id and suspended_at is null))
  on conflict (digest) do update -- this is the repeat of a change, whose times its answer tells
    set created_at = excluded.created_at,
      expires_at = excluded.expires_at
    where token.application_id = excluded.application_id
      and token.user_id is not distinct from excluded.user_id
      and token.scopes = excluded.scopes
      and token.revoked_at is null;
  return found;
end
$$;
comment on function users_api.issue_token is
  'Store a token by its SHA-256. p_user_id null: the application''s own token, which can have those scopes only that the '
  'application holds; p_expires_at null: never. The token is random: one that is there, alive and alike, is that of the '
  'first time, and is valid from now on. False, and nothing is stored: there is no such application or account, it '
  'is revoked or suspended, the application does not hold the scopes, or the digest is that of another token.';

create or replace function users_api.revoke_token(p_application_id bigint, p_digest bytea) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  update users.token set revoked_at = now()
  where digest = p_digest and application_id = p_application_id and revoked_at is null;
  return found
    or not exists (select from users.token where digest = p_digest and application_id <> p_application_id);
end
$$;
comment on function users_api.revoke_token is
  'End a token of an application (RFC 7009). True also where there is no such token, or it has ended already; false, '
  'and nothing is changed: it is another application''s.';

create or replace function users_api.introspect_token(p_digest bytea) returns json
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
  select json_strip_nulls(json_build_object(
    'active', true,
    'scope', array_to_string(token.scopes, ' '),
    'client_id', application.client_id,
    'username', account.email,
    'sub', coalesce(account.id::text, 'app:' || application.id),
    'exp', floor(extract(epoch from token.expires_at)),
    'iat', floor(extract(epoch from token.created_at)),
    'token_type', 'Bearer'))
  from users.token
  join users.application on application.id = token.application_id
  left join users.account on account.id = token.user_id
  where token.digest = p_digest
    and token.revoked_at is null
    and application.revoked_at is null
    and (token.expires_at is null or token.expires_at > now())
    and account.suspended_at is null
$$;
comment on function users_api.introspect_token is
  'What RFC 7662 section 2.2 tells of a token: username is the account''s address, sub its id, or app:<id> for an '
  'application''s own token. Null: the token is not active; a suspended account''s is not.';

-- PostgreSQL lets everybody execute a new function.
revoke execute on all functions in schema users, users_api from public;
-- What usersctl does: the work of an administrator on the tables of a stand-alone installation.
--
-- These functions run with the rights of whoever calls them, the owner of the tables or a
-- superuser, and are granted to nobody. They get secrets as digests only. What they refuse is an
-- exception of class 22 or 23, or P0002 for what isn't there, and has changed nothing.
--
-- In a list p_limit is how many rows at most. USER is an id or an e-mail address.

create schema if not exists users_admin;
comment on schema users_admin is 'What an administrator does to the accounts, by usersctl.';

-- What they share

create or replace function users_admin.application_id(p_client_id text) returns bigint
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_id constant bigint := (select id from users.application where client_id = p_client_id);
begin
  if v_id is null and p_client_id is not null then
    raise no_data_found using message = format('there is no application %s', p_client_id);
  end if;
  return v_id;
end
$$;
comment on function users_admin.application_id is
  'The id of an application, revoked or not, by its client_id; null for null. Refuses one that there is not.';

create or replace function users_admin.user_id(p_user text) returns bigint
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
  v_id bigint;
begin
  if p_user ~ '^[0-9]{1,18}$' then
    v_id := (select id from users.account where id = p_user::bigint);
  else
    v_id := (select id from users.account where lower(email) = lower(p_user));
  end if;
  if v_id is null and p_user is not null then
    raise no_data_found using message = format('there is no user %s', p_user);
  end if;
  return v_id;
end
$$;
comment on function users_admin.user_id is
  'The id of an account by itself or by its e-mail address; null for null. Refuses one that there is not.';

create or replace function users_admin.scopes(p_scopes text) returns text[]
language sql immutable set search_path = pg_catalog, pg_temp
as $$
  select array_agg(scope order by place)
  from (
    select scope, min(place) as place
    from unnest(string_to_array(p_scopes, ' ')) with ordinality as word (scope, place)
    group by scope
  ) as scopes
$$;
comment on function users_admin.scopes is 'The words of a scope parameter (RFC 6749 section 3.3), each once.';

-- Applications

create or replace function users_admin.add_application(
  p_name text, p_client_id text, p_secret_digest bytea, p_scopes text, p_default_scopes text)
returns table (id bigint, name text, client_id text, scopes text, default_scopes text, created_at timestamptz)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  v_scopes constant text[] := coalesce(users_admin.scopes(p_scopes), '{}');
  v_default_scopes constant text[] := users_admin.scopes(p_default_scopes);
begin
  if not v_default_scopes <@ v_scopes then
    raise invalid_parameter_value using message = 'the default scopes must be among the scopes';
  end if;
  return query
    insert into users.application as added (name, client_id, secret_digest, scopes, default_scopes)
    values (p_name, p_client_id, p_secret_digest, v_scopes, v_default_scopes)
    on conflict (client_id) do nothing
    returning added.id, added.name, added.client_id, array_to_string(added.scopes, ' '),
      array_to_string(added.default_scopes, ' '), date_trunc('second', added.created_at);
  if not found then
    raise unique_violation using message = format('there is already an application %s', p_client_id);
  end if;
end
$$;
comment on function users_admin.add_application is
  'Make an application. p_secret_digest: SHA-256 of its client secret; p_scopes: null for none; '
  'p_default_scopes: among them, null for all.';

create or replace function users_admin.list_applications(p_limit integer)
returns table (id bigint, name text, client_id text, scopes text, default_scopes text, created_at timestamptz,
  revoked_at timestamptz)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select id, name, client_id, array_to_string(scopes, ' '), array_to_string(default_scopes, ' '),
    date_trunc('second', created_at), date_trunc('second', revoked_at)
  from users.application
  order by id
  limit p_limit
$$;
comment on function users_admin.list_applications is 'The applications in the order in which they were made.';

create or replace function users_admin.rotate_secret(p_client_id text, p_secret_digest bytea)
returns table (id bigint, name text, client_id text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    update users.application set secret_digest = p_secret_digest
    where application.id = users_admin.application_id(p_client_id) and revoked_at is null
    returning application.id, application.name, application.client_id;
  if not found then
    raise invalid_parameter_value using message = format('the application %s is removed', p_client_id);
  end if;
end
$$;
comment on function users_admin.rotate_secret is
  'Give an application another client secret in place of its own. Its tokens stay valid.';

create or replace function users_admin.remove_application(p_client_id text)
returns table (id bigint, name text, client_id text, outcome text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_id constant bigint := users_admin.application_id(p_client_id);
begin
  update users.application set revoked_at = now()
  where application.id = v_id and revoked_at is null;
  outcome := case when found then 'removed' else 'already removed' end;
  select application.id, application.name, application.client_id into id, name, client_id
  from users.application where application.id = v_id;
  return next;
end
$$;
comment on function users_admin.remove_application is
  'Revoke an application, and thereby all of its tokens. outcome: removed, already removed.';

-- Tokens

create or replace function users_admin.issue_token(
  p_digest bytea, p_client_id text, p_scopes text, p_user text, p_lifetime interval)
returns table (digest text, client_id text, user_id bigint, scopes text, expires_at timestamptz)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_application_id constant bigint := users_admin.application_id(p_client_id);
  v_user_id constant bigint := users_admin.user_id(p_user);
  v_scopes constant text[] := users_admin.scopes(p_scopes);
begin
  if users_api.issue_token(v_application_id, v_user_id, p_digest, v_scopes, now() + p_lifetime) then
    return query
      select encode(token.digest, 'hex'), p_client_id, token.user_id, array_to_string(token.scopes, ' '),
        date_trunc('second', token.expires_at)
      from users.token where token.digest = p_digest;
  elsif exists (select from users.application where id = v_application_id and revoked_at is not null) then
    raise invalid_parameter_value using message = format('the application %s is removed', p_client_id);
  elsif v_user_id is null then
    raise invalid_parameter_value
      using message = format('the application %s does not hold all of these scopes', p_client_id);
  else
    raise invalid_parameter_value using message = format('the user %s is suspended', p_user);
  end if;
end
$$;
comment on function users_admin.issue_token is
  'Store a token by its SHA-256. p_user null: the application''s own, for scopes that it holds; p_lifetime null: for ever.';

create or replace function users_admin.list_tokens(p_client_id text, p_user text, p_limit integer)
returns table (digest text, client_id text, user_id bigint, scopes text, created_at timestamptz,
  expires_at timestamptz, revoked_at timestamptz)
language plpgsql stable set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_custom_plan -- which knows what is null
as $$
declare
  v_application_id constant bigint := users_admin.application_id(p_client_id);
  v_user_id constant bigint := users_admin.user_id(p_user);
begin
  return query
    select encode(token.digest, 'hex'), application.client_id, token.user_id,
      array_to_string(token.scopes, ' '), date_trunc('second', token.created_at),
      date_trunc('second', token.expires_at), date_trunc('second', token.revoked_at)
    from users.token
    join users.application on application.id = token.application_id
    where (v_application_id is null or token.application_id = v_application_id)
      and (v_user_id is null or token.user_id = v_user_id)
    order by token.digest -- the only order that has an index
    limit p_limit;
end
$$;
comment on function users_admin.list_tokens is
  'Tokens, dead ones too, of an application, of a user, of both, or all (null), by their digests in hexadecimal.';

create or replace function users_admin.revoke_token(p_prefix text)
returns table (digest text, outcome text)
language plpgsql set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_custom_plan
as $$
declare
  v_first constant bytea := decode(rpad(p_prefix, 64, '0'), 'hex');
  v_last constant bytea := decode(rpad(p_prefix, 64, 'f'), 'hex');
  v_digests constant bytea[] := array(
    select token.digest from users.token
    where token.digest between v_first and v_last
    limit 2);
begin
  if cardinality(v_digests) = 0 then
    raise no_data_found using message = 'there is no such token';
  elsif cardinality(v_digests) > 1 then
    raise invalid_parameter_value
      using message = format('more than one token begins with %s: give more of its digest', p_prefix);
  end if;
  update users.token set revoked_at = now()
  where token.digest = v_digests[1] and revoked_at is null;
  outcome := case when found then 'revoked' else 'already revoked' end;
  digest := encode(v_digests[1], 'hex');
  return next;
end
$$;
comment on function users_admin.revoke_token is
  'End the one token whose digest begins with these hexadecimal digits. outcome: revoked, already revoked.';

create or replace function users_admin.revoke_tokens(p_client_id text, p_user text)
returns table (revoked bigint)
language plpgsql set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_custom_plan
as $$
declare
  v_application_id constant bigint := users_admin.application_id(p_client_id);
  v_user_id constant bigint := users_admin.user_id(p_user);
begin
  if v_application_id is null and v_user_id is null then
    raise invalid_parameter_value using message = 'neither an application nor a user is named';
  end if;
  update users.token set revoked_at = now()
  where (v_application_id is null or application_id = v_application_id)
    and (v_user_id is null or user_id = v_user_id)
    and revoked_at is null
    and (expires_at is null or expires_at > now());
  get diagnostics revoked = row_count;
  return next;
end
$$;
comment on function users_admin.revoke_tokens is
  'End all tokens of an application, of a user, or of a user with an application. revoked: how many were live.';

-- Credentials

create or replace function users_admin.add_credential(
  p_user text, p_username text, p_secret_digest bytea, p_secret_hash text)
returns table (user_id bigint, username text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  return query
    insert into users.credential as added (user_id, username, secret_digest, secret_hash)
    values (users_admin.user_id(p_user), p_username, p_secret_digest, p_secret_hash)
    on conflict on constraint credential_username_key do nothing
    returning added.user_id, added.username;
  if not found then
    raise unique_violation using message = format('there is already a credential %s', p_username);
  end if;
end
$$;
comment on function users_admin.add_credential is
  'Give a user API credentials. Either p_secret_digest, SHA-256 of a generated password, or p_secret_hash, of a password '
  'from elsewhere in a form that apr_password_validate() knows; null the other.';

create or replace function users_admin.list_credentials(p_user text, p_limit integer)
returns table (username text, user_id bigint, kind text, created_at timestamptz, revoked_at timestamptz)
language plpgsql stable set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_custom_plan
as $$
declare
  v_user_id constant bigint := users_admin.user_id(p_user);
begin
  return query
    select credential.username, credential.user_id,
      case when secret_hash is null then 'generated' else 'hash' end,
      date_trunc('second', credential.created_at), date_trunc('second', credential.revoked_at)
    from users.credential
    where v_user_id is null or credential.user_id = v_user_id
    order by credential.username
    limit p_limit;
end
$$;
comment on function users_admin.list_credentials is
  'API credentials, revoked ones too, of a user or of all (null). kind: generated, or hash for one taken over from elsewhere.';

create or replace function users_admin.revoke_credential(p_username text)
returns table (username text, user_id bigint, outcome text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  update users.credential set revoked_at = now()
  where credential.username = p_username and revoked_at is null;
  outcome := case when found then 'revoked' else 'already revoked' end;
  select credential.username, credential.user_id into username, user_id
  from users.credential where credential.username = p_username;
  if not found then
    raise no_data_found using message = format('there is no credential %s', p_username);
  end if;
  return next;
end
$$;
comment on function users_admin.revoke_credential is
  'End API credentials by their user name. outcome: revoked, already revoked.';

-- Users

create or replace function users_admin.show_user(p_user text)
returns table (id bigint, email text, fname text, lname text, company_name text, client_id text, external_id text,
  live_tokens bigint, live_credentials bigint, created_at timestamptz, updated_at timestamptz,
  suspended_at timestamptz)
language sql stable set search_path = pg_catalog, pg_temp
as $$
  select account.id, email, fname, lname, company_name, application.client_id, external_id,
    (select count(*) from users_api.token where user_id = account.id),
    (select count(*) from users_api.credential where user_id = account.id),
    date_trunc('second', account.created_at), date_trunc('second', updated_at),
    date_trunc('second', suspended_at)
  from users.account
  left join users.application on application.id = account.application_id
  where account.id = users_admin.user_id(p_user)
$$;
comment on function users_admin.show_user is
  'What an administrator wants to know of an account. client_id: the application that registered it.';

create or replace function users_admin.suspend_user(p_user text)
returns table (id bigint, email text, outcome text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_id constant bigint := users_admin.user_id(p_user);
begin
  update users.account set suspended_at = now()
  where account.id = v_id and suspended_at is null;
  outcome := case when found then 'suspended' else 'already suspended' end;
  select account.id, account.email into id, email from users.account where account.id = v_id;
  return next;
end
$$;
comment on function users_admin.suspend_user is
  'Have the owner of an account refused, whatever the credential. outcome: suspended, already suspended.';

create or replace function users_admin.resume_user(p_user text)
returns table (id bigint, email text, outcome text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  v_id constant bigint := users_admin.user_id(p_user);
begin
  update users.account set suspended_at = null
  where account.id = v_id and suspended_at is not null;
  outcome := case when found then 'resumed' else 'not suspended' end;
  select account.id, account.email into id, email from users.account where account.id = v_id;
  return next;
end
$$;
comment on function users_admin.resume_user is
  'End the suspension of an account. outcome: resumed, not suspended.';

-- Purging
--
-- A batch is a stretch of the table's pages, not of an index: the whole is one pass over the table
-- in the order in which it lies on disk, needs no index on times that every insert would pay for,
-- and writes each page once, where dead tokens in the order of their digests would be all over it.
-- A page that is half empty makes its batch smaller, so that a batch's time is bounded in any case.
-- The scan by a range of ctid is PostgreSQL 14's; before, each batch reads the whole table.

create or replace function users_admin.page_or_end(p_table regclass, p_page bigint) returns bigint
language sql volatile set search_path = pg_catalog, pg_temp
as $$
  select p_page where p_page < pg_relation_size(p_table) / current_setting('block_size')::bigint
$$;
comment on function users_admin.page_or_end is 'A page of a table, null where the table ends before it.';

create or replace function users_admin.purge_tokens(p_page bigint, p_rows integer, p_older_than interval)
returns table (next_page bigint, purged bigint)
language plpgsql set search_path = pg_catalog, pg_temp
  set enable_seqscan = off -- lest a batch reads the whole table
  set jit = off -- which those costs would start
as $$
declare
  v_dead_before constant timestamptz := now() - p_older_than;
  v_removed constant bigint[] := array(select id from users.application where revoked_at < v_dead_before);
  v_end constant bigint := p_page + greatest(p_rows / 50, 1); -- that many fit on a page
  v_from constant tid := format('(%s,0)', p_page);
  v_to constant tid := format('(%s,0)', v_end);
begin
  delete from users.token where ctid = any (array(
    select ctid from users.token
    where ctid >= v_from and ctid < v_to
      and (expires_at < v_dead_before or revoked_at < v_dead_before or application_id = any (v_removed))
    for update skip locked));
  get diagnostics purged = row_count;
  next_page := users_admin.page_or_end('users.token', v_end);
  return next;
end
$$;
comment on function users_admin.purge_tokens is
  'Delete the tokens that died (expired, revoked, or with their application) longer ago than p_older_than, among about '
  'p_rows from p_page of the table on; 0 is the first. next_page: where to go on, null at the end. One that someone has '
  'locked is left to the next time.';

create or replace function users_admin.purge_idempotency(p_page bigint, p_rows integer)
returns table (next_page bigint, purged bigint)
language plpgsql set search_path = pg_catalog, pg_temp
  set enable_seqscan = off -- lest a batch reads the whole table
  set jit = off -- which those costs would start
as $$
declare
  v_end constant bigint := p_page + greatest(p_rows / 50, 1); -- that many fit on a page
  v_from constant tid := format('(%s,0)', p_page);
  v_to constant tid := format('(%s,0)', v_end);
begin
  delete from users.idempotency where ctid = any (array(
    select ctid from users.idempotency
    where ctid >= v_from and ctid < v_to and created_at <= now() - interval '24 hours'
    for update skip locked));
  get diagnostics purged = row_count;
  next_page := users_admin.page_or_end('users.idempotency', v_end);
  return next;
end
$$;
comment on function users_admin.purge_idempotency is
  'Delete the records of Idempotency-Keys that mean nothing any more, as users_admin.purge_tokens does tokens.';

-- PostgreSQL lets everybody execute a new function.
revoke execute on all functions in schema users_admin from public;
-- The role that the web server logs in as. It can use the contract and nothing else: it owns
-- nothing and reads no table.
--
-- It has no password. Set one (\password mod_users) where pg_hba.conf asks for it; or, for
-- peer authentication through the local socket, make it a role of httpd's user:
--
--   create role "www-data" login in role mod_users;
--
-- whose settings are its own: repeat those below for it.

do $$
begin
  if not exists (select from pg_roles where rolname = 'mod_users') then
    create role mod_users login;
  end if;
end
$$;
comment on role mod_users is 'The web server''s module mod_users: uses the schema users_api';

-- The module asks for the same when it connects; this is for who comes through a pooler
-- that drops startup parameters.
alter role mod_users set plan_cache_mode = force_generic_plan; -- planning costs more than reading
alter role mod_users set jit = off;
alter role mod_users set random_page_cost = 1.1; -- else small tables are scanned for each account
alter role mod_users set default_transaction_isolation = 'read committed'; -- see contract.sql
alter role mod_users set statement_timeout = '5s';
alter role mod_users set lock_timeout = '4s';
alter role mod_users set idle_in_transaction_session_timeout = '10s';

-- Requests hold personal data, and a client may send back the password that it was given: keep
-- them out of the log even under log_statement = all. Only a superuser may say so.
do $$
begin
  alter role mod_users set log_parameter_max_length = 0;
  alter role mod_users set log_parameter_max_length_on_error = 0;
exception when insufficient_privilege then
  raise notice 'only a superuser can keep requests out of the log of statements';
end
$$;

grant usage on schema users_api to mod_users;
grant select on users_api.application, users_api.token, users_api.credential, users_api.account
  to mod_users;
grant execute on function users_api.entity_tag, users_api.update_account, users_api.register_account,
  users_api.issue_token, users_api.revoke_token, users_api.introspect_token
  to mod_users;
