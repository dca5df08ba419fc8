alter table users.token add column if not exists credential_id bigint;
comment on column users.token.credential_id is
  'the API credentials that it was issued for and ends with (RFC 6749 section 4.3); null: for none. No foreign key: '
  'credentials that were deleted have ended it';
