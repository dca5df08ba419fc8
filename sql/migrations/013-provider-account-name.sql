--! index users.provider_account_name
create unique index concurrently provider_account_name on users.provider_account (application_id, sha256(replace(
  octet_length(provider)::text || ' ' || octet_length(provider_server)::text || ' '
  || provider || provider_server || provider_username, chr(92), chr(92) || chr(92))::bytea));
