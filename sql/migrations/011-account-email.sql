--! index users.account_email_folded
create unique index concurrently account_email_folded on users.account (lower(email collate "C"));
