-- What the present module calls that 0.1.0 did not have, over what it had: the load of a test.

create function users_api.update_account(
  p_user_id bigint, p_fields jsonb, p_request jsonb, p_if_match text[], p_store boolean, p_nonce uuid,
  p_token bytea, p_credential text, p_client text)
returns table (outcome text, faults jsonb, document json)
language sql security definer set search_path = pg_catalog, pg_temp
as $$
  select * from users_api.update_account(
    p_user_id, p_fields, coalesce(p_request, '{}'), p_if_match, p_store, p_nonce)
$$;

create function users_api.register_account(
  p_application_id bigint, p_fields jsonb, p_request jsonb,
  p_default_currency text, p_default_locale text, p_host_name text, p_conflict boolean,
  p_username text, p_secret_digest bytea, p_idempotency_key text, p_store boolean,
  p_token bytea, p_client text)
returns table (outcome text, faults jsonb, account json, labels jsonb)
language sql security definer set search_path = pg_catalog, pg_temp
as $$
  select * from users_api.register_account(
    p_application_id, p_fields, coalesce(p_request, '{}'), p_default_currency, p_default_locale, p_host_name,
    p_conflict, p_username, p_secret_digest, p_idempotency_key, p_store)
$$;

create function users_api.issue_token(
  p_application_id bigint, p_user_id bigint, p_digest bytea, p_scopes text[], p_expires_at timestamptz,
  p_credential text)
returns boolean
language sql security definer set search_path = pg_catalog, pg_temp
as $$
  select users_api.issue_token(p_application_id, p_user_id, p_digest, p_scopes, p_expires_at)
$$;
