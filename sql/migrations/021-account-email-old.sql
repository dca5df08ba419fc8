--! index users.account_email
drop index concurrently if exists users.account_email;
