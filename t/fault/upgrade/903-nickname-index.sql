--! index users.account_nickname
create index concurrently account_nickname on users.account (nickname);
