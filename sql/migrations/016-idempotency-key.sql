--! index users.idempotency_key_c
create unique index concurrently idempotency_key_c on users.idempotency (application_id, key collate "C");
