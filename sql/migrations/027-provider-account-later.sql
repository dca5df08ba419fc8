-- usersctl tells apart the accounts that were registered for the same user of a provider's server.

create table users.provider_account_later (
  application_id bigint not null references users.application on delete cascade,
  provider text not null,
  provider_server text not null,
  provider_username text not null,
  user_id bigint primary key references users.account on delete cascade
);
create index provider_account_later_name on users.provider_account_later (application_id, sha256(replace(
  octet_length(provider)::text || ' ' || octet_length(provider_server)::text || ' '
  || provider || provider_server || provider_username, chr(92), chr(92) || chr(92))::bytea));
comment on table users.provider_account_later is
  'The accounts that were registered for a user whom provider_account had already (UsersDuplicates create).';

comment on table users.provider_account is
  'An account that was registered for a user of a provider''s server (cPanel and the like), one for each of those users.';
