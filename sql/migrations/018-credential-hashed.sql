--! index users.credential_hashed
create index concurrently credential_hashed on users.credential (username)
  where secret_hash is not null and revoked_at is null;
