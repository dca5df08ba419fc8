-- To read all rows takes no lock that anybody waits behind.

-- A token may have thousands of words that are few when repeats do not count: compressed they fit, but not into
-- a database that is restored from a dump.
update users.token set scopes = short.scopes
from (
  select digest, array(select word from unnest(scopes) with ordinality as scope (word, place)
    where word <> '' group by word order by min(place)) as scopes
  from users.token
  where octet_length(scopes::text) > 1500) as short
where token.digest = short.digest and token.scopes <> short.scopes and pg_column_size(short.scopes) <= 2600;

alter table users.token validate constraint token_scopes_size;
alter table users.account validate constraint account_email_length, validate constraint account_external_id_length;
alter table users.credential validate constraint credential_username_length;
alter table users.idempotency validate constraint idempotency_key_length;
alter table users.application validate constraint application_client_id_length;
alter table users.billing_plan validate constraint billing_plan_name_length;
alter table users.account_group validate constraint account_group_name_length;
alter table users.group_quota validate constraint group_quota_kind_length;
