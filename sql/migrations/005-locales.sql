-- A locale may have a script, and an area of several countries for a region. reference.sql, which runs
-- after the migrations, fills these.

create table users.script (
  code text collate "C" primary key check (code ~ '^[A-Z][a-z]{3}$'),
  name text not null
);
comment on table users.script is 'Scripts that a locale may name after its language.';
comment on column users.script.code is 'ISO 15924';

create table users.area (
  code text collate "C" primary key check (code ~ '^[0-9]{3}$'),
  name text not null
);
comment on table users.area is 'Areas of several countries that a locale may end with in place of a country.';
comment on column users.area.code is 'UN M.49';

comment on column users.account.locale is
  'ISO 639-1 language, an optional script of ISO 15924, an optional region of ISO 3166-1 or UN M.49: en, pt-BR, es-419, zh-Hant';
