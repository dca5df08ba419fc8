-- The application and tokens that every test finds, over the demo's account. The variables are
-- those that Users::Test has as constants, in clear.

\set ON_ERROR_STOP on
\encoding UTF8

begin;

insert into users.application (name, client_id, secret_digest, scopes)
values ('demo', :'client_id', sha256(:'client_secret'), '{public,register}');

insert into users.token (digest, application_id, user_id, scopes)
select sha256(token::bytea), application.id, user_id, fixture.scopes
from (values
    (1, :'read_token', '{profile_read}'::text[]),
    (1, :'update_token', '{profile_update}'),
    (1, :'full_token', '{profile_read,profile_update}'),
    (null, :'register_token', '{register}')
  ) as fixture (user_id, token, scopes)
cross join users.application;

commit;
