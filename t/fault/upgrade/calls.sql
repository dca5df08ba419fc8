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
