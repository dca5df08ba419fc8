-- The contract's views. Who has user tables already brings views of these names over them.
--
-- An installation makes them; from then on a migration changes them (sql/migrations), since to
-- replace a view takes a lock that waits for whoever reads it.

create schema if not exists users_api;
comment on schema users_api is 'What the web server sees of the accounts (mod_users).';

create view users_api.token as
select token.digest, token.application_id, token.user_id, token.scopes, token.expires_at
from users.token
join users.application on application.id = token.application_id
where token.revoked_at is null
  and application.revoked_at is null
  and (token.expires_at is null or token.expires_at > now());
comment on view users_api.token is
  'Bearer tokens that are valid now, by the SHA-256 of the token. user_id null: an application''s own.';

create view users_api.application as
select id as application_id, client_id, secret_digest, scopes,
  coalesce(default_scopes, case when 'public' = any (scopes) then '{public}' else scopes end) as default_scopes,
  case when old_secret_expires_at > now() then old_secret_digest end as old_secret_digest
from users.application
where revoked_at is null;
comment on view users_api.application is
  'OAuth 2.0 clients that are valid now. scopes: what it may get a token for in its own name; default_scopes: what it '
  'gets where its request names none; old_secret_digest: of a second secret that is valid now, null for none; a '
  'contract of one''s own need not have this column.';

create view users_api.credential as
select username, user_id, secret_digest, secret_hash
from users.credential
where revoked_at is null;
comment on view users_api.credential is
  'API credentials that are valid now, each with secret_digest (SHA-256) or secret_hash (as in htpasswd).';

-- Twenty thousand reads a second come through here. The document is put together from the
-- parts that tables.sql keeps, and nothing of it is computed where only "suspended" is asked for.
create view users_api.account as
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
