-- Text that is in an index gets the collation "C". Where a table may be large there is such an index already,
-- and only changes its name; the others are small. A view keeps the collation that a column of its own had, so
-- those that show one are made anew, with the rights that there were.

-- Whoever reads a view locks it before the table. In the other order we would wait for each other.
lock table users_api.account, users_api.credential, users_api.application in access exclusive mode; -- the tables below them too

select set_config('users.grants', coalesce(string_agg(
  format('grant %s on users_api.%I to %s%s', privilege_type, relname,
    case grantee when 0 then 'public' else grantee::regrole::text end,
    case when is_grantable then ' with grant option' else '' end), ';'), ''), true)
from pg_class, aclexplode(relacl)
where relnamespace = 'users_api'::regnamespace and relname in ('account', 'credential', 'application')
  and grantee <> relowner;
drop view users_api.account, users_api.credential, users_api.application;

alter table users.credential drop constraint credential_username_key;
drop index users.credential_hashed; -- 018 makes it again
alter table users.credential alter column username type text collate "C";
alter table users.credential add constraint credential_username_key unique using index credential_username_c;

alter table users.account drop constraint account_external_id;
alter table users.account alter column external_id type text collate "C";
alter table users.account add constraint account_external_id unique using index account_external_id_c;

alter table users.idempotency drop constraint idempotency_pkey;
alter table users.idempotency alter column key type text collate "C";
alter table users.idempotency add constraint idempotency_pkey primary key using index idempotency_key_c;

alter table users.migration alter column name type text collate "C";
alter table users.country alter column code type text collate "C";
alter table users.language alter column code type text collate "C";
alter table users.account_group alter column name type text collate "C";
alter table users.application alter column client_id type text collate "C";

-- of a generated column's own columns none can change
alter table users.currency drop column document;
alter table users.currency alter column code type text collate "C";
alter table users.currency add column document text not null generated always as (
  '{"code":' || users.json(code) || ',"symbol":' || users.json(symbol) || '}') stored;

alter table users.billing_plan drop column document;
alter table users.billing_plan alter column name type text collate "C";
alter table users.billing_plan add column document text not null generated always as (
  '{"id":' || id::text || ',"name":' || users.json(name) || '}') stored;

alter table users.group_quota drop column document_head;
alter table users.group_quota alter column kind type text collate "C";
alter table users.group_quota add column document_head text not null
  generated always as (users.json(kind) || ':{"current":') stored;

analyze users.country, users.currency, users.language, users.billing_plan, users.account_group, users.group_quota;

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

do $$
begin
  execute current_setting('users.grants');
end
$$;
