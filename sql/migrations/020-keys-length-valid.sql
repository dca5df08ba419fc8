-- To read all rows takes no lock that anybody waits behind.

alter table users.token validate constraint token_scopes_size;
alter table users.account validate constraint account_email_length, validate constraint account_external_id_length;
alter table users.credential validate constraint credential_username_length;
alter table users.idempotency validate constraint idempotency_key_length;
alter table users.application validate constraint application_client_id_length;
alter table users.billing_plan validate constraint billing_plan_name_length;
alter table users.account_group validate constraint account_group_name_length;
alter table users.group_quota validate constraint group_quota_kind_length;
