--! index users.token_credential_id
create index concurrently token_credential_id on users.token (credential_id) where credential_id is not null;
