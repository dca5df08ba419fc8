-- Text that is in an index gets a limit, since an index holds 2704 octets a row: 010 has found no longer one, and
-- 020 reads all rows. The three names of provider_account have 013's index.

-- Whoever reads a view locks it before the table. In the other order we would wait for each other.
lock table users_api.token, users_api.account, users_api.credential in access exclusive mode; -- the tables below them too

alter table users.token add constraint token_scopes_size check (pg_column_size(scopes) <= 2600) not valid;
alter table users.account
  add constraint account_email_length check (char_length(email) <= 255) not valid,
  add constraint account_external_id_length check (char_length(external_id) <= 255) not valid;
alter table users.credential
  add constraint credential_username_length check (char_length(username) <= 255) not valid;
alter table users.idempotency add constraint idempotency_key_length check (char_length(key) <= 255) not valid;
alter table users.application
  add constraint application_client_id_length check (char_length(client_id) <= 255) not valid;
alter table users.billing_plan add constraint billing_plan_name_length check (char_length(name) <= 255) not valid;
alter table users.account_group add constraint account_group_name_length check (char_length(name) <= 255) not valid;
alter table users.group_quota add constraint group_quota_kind_length check (char_length(kind) <= 255) not valid;

alter table users.provider_account
  drop constraint provider_account_pkey,
  alter column application_id set not null,
  alter column provider set not null,
  alter column provider_server set not null,
  alter column provider_username set not null;
-- Logical replication wants to name the rows that are deleted.
alter table users.provider_account replica identity full;

comment on column users.account.email is 'unique without regard to the case of ASCII letters';
