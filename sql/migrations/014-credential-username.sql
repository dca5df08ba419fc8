--! index users.credential_username_c
create unique index concurrently credential_username_c on users.credential (username collate "C");
