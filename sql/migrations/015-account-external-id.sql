--! index users.account_external_id_c
create unique index concurrently account_external_id_c on users.account (application_id, external_id collate "C");
