--! index users.change_nonce
create unique index concurrently change_nonce on users.change (nonce);
