-- What has been run of these files; tables.sql has it for new databases.

create table users.migration (
  name text primary key,
  digest bytea check (octet_length(digest) = 32),
  applied_at timestamptz not null default now()
);
comment on table users.migration is
  'What has been run here of sql/migrations, for usersctl database status and upgrade; and one row, "functions", for '
  'what every upgrade runs again.';
comment on column users.migration.digest is
  'SHA-256 of the functions, by which a later version tells that its own differ; null: not known';
