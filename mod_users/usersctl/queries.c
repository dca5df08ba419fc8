#include "usersctl/queries.h"

#include <stddef.h>

#define DATABASE "(select oid from pg_database where datname = current_database())"

/* The roles that the module connects as: $1, or each that may use the contract and is no owner. */
#define CLIENTS                                                                                    \
    "client as (select oid, rolname, rolsuper from pg_roles where rolname = $1 or $1 is null"      \
    " and rolcanlogin and not rolsuper and has_schema_privilege(oid, 'users_api', 'usage')"        \
    " and not pg_has_role(oid, (select nspowner from pg_namespace where nspname = 'users_api'),"   \
    " 'member'))"

/* Relations and functions of a role's reach that are not PostgreSQL's own. */
#define OURS "nspname !~ '^pg_' and nspname <> 'information_schema'"

const users_query users_queries_of_server[] = {
    {"version", 0,
     "select case when current_setting('server_version_num')::int >= 150000 then 'ok'"
     " else 'error' end, 'PostgreSQL ' || current_setting('server_version'),"
     " case when current_setting('server_version_num')::int < 150000"
     " then 'mod_users needs PostgreSQL 15 or later: upgrade the server (pg_upgrade)' end"},
    {"encoding", 0,
     "select case when encoding = 'UTF8' then 'ok' else 'error' end,"
     " format('the database is encoded in %s', encoding), case when encoding <> 'UTF8' then"
     " 'make one in UTF-8: createdb --encoding=UTF8 --template=template0' end"
     " from current_setting('server_encoding') as encoding"},
    {"primary", USERS_QUERY_PRIMARY,
     "select 'error', 'the server is a standby, which takes no changes',"
     " 'name all hosts in UsersDB and say target_session_attrs=read-write, or promote it'"
     " where pg_is_in_recovery()"
     " union all select 'error', 'transactions are read only by default"
     " (default_transaction_read_only)', 'alter system, alter database or alter role: set it to "
     "off'"
     " where current_setting('default_transaction_read_only') = 'on' and not pg_is_in_recovery()"
     " union all select 'ok', 'the server takes changes', null where not pg_is_in_recovery()"
     " and current_setting('default_transaction_read_only') = 'off'"},
    {"durability", 0,
     "select case when risk is null then 'ok' else 'warning' end,"
     " coalesce('a crash can lose what clients were told is stored: ' || risk,"
     " 'what is committed survives a crash'),"
     " case when risk is not null then 'set it to on,"
     " but for a database that may be lost' end"
     " from (select string_agg(name || ' = ' || setting, ', ' order by name) as risk"
     " from pg_settings where name in ('fsync', 'full_page_writes', 'synchronous_commit')"
     " and setting = 'off') as risks"},
    {"collation", 0,
     "with changed as (select format('the database (%s, now %s)', datcollversion,"
     " pg_database_collation_actual_version(oid)) as what,"
     " format('alter database %I refresh collation version', datname) as cure"
     " from pg_database where oid = " DATABASE
     " and datcollversion <> pg_database_collation_actual_version(oid)"
     " union all select format('the collation %s (%s, now %s)', oid::regcollation, collversion,"
     " pg_collation_actual_version(oid)),"
     " format('alter collation %s refresh version', oid::regcollation) from pg_collation"
     " where collversion <> pg_collation_actual_version(oid) and oid in (select attcollation from"
     " pg_attribute where attrelid >= 16384))"
     " select case when count(*) = 0 then 'ok' else 'warning' end,"
     " coalesce('the order of text has changed since indexes were built: '"
     " || string_agg(what, ', ' order by what), 'collations are of the version that indexes are"
     " of'), format('reindex database %I; ', current_database()) || string_agg(cure, '; ')"
     " from changed"},
    {"wraparound", 0,
     "select case when age > 1600000000 then 'error' when age > 2 * limit_age then 'warning'"
     " else 'ok' end, format('the oldest transaction that is not frozen is %s ago, of 2147483648"
     " that there are', age), case when age > 2 * limit_age then 'find what keeps vacuum from"
     " freezing: an old transaction, a replication slot, a prepared transaction; then vacuum"
     " (freeze) the database' end"
     " from (select greatest(age(datfrozenxid), mxid_age(datminmxid)) as age from pg_database"
     " where oid = " DATABASE ") as ages, (select setting::bigint as limit_age from pg_settings"
     " where name = 'autovacuum_freeze_max_age') as limits"},
    {.check = NULL}};

/* What the module names of the contract: see mod_users/db. */
#define COLUMNS                                                                                    \
    "(values ('token', 'digest'), ('token', 'application_id'), ('token', 'user_id'),"              \
    " ('token', 'scopes'), ('application', 'application_id'), ('application', 'client_id'),"       \
    " ('application', 'secret_digest'), ('application', 'scopes'),"                                \
    " ('application', 'default_scopes'), ('credential', 'username'), ('credential', 'user_id'),"   \
    " ('credential', 'secret_digest'), ('credential', 'secret_hash'), ('account', 'user_id'),"     \
    " ('account', 'suspended'), ('account', 'document'), ('account', 'application_id'),"           \
    " ('account', 'external_id')) as wanted (relation, name)"
/* The last four are for UsersAudit and UsersEvents. */
#define FUNCTIONS                                                                                  \
    "(select * from (values ('introspect_token', 1, 'error'), ('issue_token', 6, 'error'),"        \
    " ('register_account', 13, 'error'), ('revoke_token', 2, 'error'),"                            \
    " ('update_account', 9, 'error'), ('register_accounts', 10, 'warning'),"                       \
    " ('update_accounts', 8, 'warning')) as always union all select * from (values"                \
    " ('register_account', 14, 'error'), ('update_account', 10, 'error'),"                         \
    " ('register_accounts', 11, 'warning'), ('update_accounts', 9, 'warning')) as with_note"       \
    " where $7 is not null) as wanted (name, parameters, level)"
#define VIEWS "('token', 'application', 'credential', 'account')"

/* The indexes that tables.sql makes; those of a contract of one's own are nobody else's business.
 */
#define INDEXES                                                                                    \
    "(values ('account_email_folded'), ('account_external_id'), ('account_group_name_key'),"       \
    " ('account_group_pkey'), ('account_pkey'), ('application_client_id_key'),"                    \
    " ('application_pkey'), ('area_pkey'), ('audit_pkey'), ('audit_user_id'), "                    \
    "('billing_plan_name_key'), ('billing_plan_pkey'),"                                            \
    " ('change_pkey'), ('country_pkey'), ('credential_hashed'), ('credential_pkey'),"              \
    " ('credential_user_id'), ('credential_username_key'), ('currency_pkey'), ('event_due_at'), "  \
    "('event_pkey'), ('event_user_id'),"                                                           \
    " ('group_quota_pkey'), ('idempotency_credential_id'), ('idempotency_pkey'),"                  \
    " ('idempotency_user_id'), ('language_pkey'), ('migration_pkey'),"                             \
    " ('provider_account_later_name'), ('provider_account_later_pkey'),"                           \
    " ('provider_account_name'), ('provider_account_user_id'), ('script_pkey'),"                   \
    " ('token_application_id'), ('token_credential_id'), ('token_pkey'), ('token_user_id'))"       \
    " as wanted (name)"

#define UPGRADE "usersctl database status says what is missing, usersctl database upgrade brings it"

/* As the session has it where the module's role has connected, else as the role would. */
#define EFFECTIVE                                                                                  \
    "effective as (select client.oid, client.rolname, name, case when $1 is not null"              \
    " then current_setting(name, true) else coalesce((select substr(entry, length(name) + 2)"      \
    " from pg_db_role_setting, unnest(setconfig) as entry where setrole in (client.oid, 0)"        \
    " and setdatabase in (0, " DATABASE ") and split_part(entry, '=', 1) = name"                   \
    " order by setrole = 0, setdatabase = 0 limit 1),"                                             \
    " (select reset_val from pg_settings where pg_settings.name = setting.name),"                  \
    " current_setting(name, true)) end as value from client, unnest(array["                        \
    "'log_parameter_max_length', 'log_parameter_max_length_on_error', 'log_statement',"            \
    "'log_min_duration_statement', 'log_min_duration_sample', 'log_statement_sample_rate',"        \
    "'log_transaction_sample_rate', 'auto_explain.log_min_duration',"                              \
    "'auto_explain.log_parameter_max_length', 'pgaudit.log', 'pgaudit.log_parameter'])"            \
    " as setting (name))"

const users_query users_queries_of_contents[] = {
    {"contract", USERS_QUERY_CONTRACT,
     "with missing as (select 'error' as level, format('users_api.%s (%s)', relation, name) as what"
     " from " COLUMNS " where not exists (select from pg_attribute join pg_class on"
     " pg_class.oid = attrelid join pg_namespace on pg_namespace.oid = relnamespace"
     " where nspname = 'users_api' and relname = relation and attname = name)"
     " union all select level, format('users_api.%s() of %s parameters', name, parameters)"
     " from " FUNCTIONS " where not exists (select from pg_proc join pg_namespace on"
     " pg_namespace.oid = pronamespace where nspname = 'users_api' and proname = name"
     " and pronargs = parameters))"
     " select level, case level when 'error' then 'the module needs what is not there: '"
     " else 'concurrent changes share no statement without ' end"
     " || string_agg(what, ', ' order by what), '" UPGRADE "' from missing group by level"
     " union all select 'ok', 'all views and functions of users_api are there', null"
     " where not exists (select from missing)"},
    {"rights", USERS_QUERY_CONTRACT,
     "with " CLIENTS ", missing as ("
     " select rolname, 'usage on schema users_api' as what from client"
     " where not has_schema_privilege(client.oid, 'users_api', 'usage')"
     " union all select rolname, format('select on users_api.%I', relname)"
     " from client, pg_class join pg_namespace on pg_namespace.oid = relnamespace"
     " where nspname = 'users_api' and relname in " VIEWS
     " and not has_table_privilege(client.oid, pg_class.oid, 'select')"
     " union all select rolname, format('execute on function users_api.%I', proname)"
     " from client, pg_proc join pg_namespace on pg_namespace.oid = pronamespace join " FUNCTIONS
     " on name = proname and pronargs = parameters where nspname = 'users_api'"
     " and not has_function_privilege(client.oid, pg_proc.oid, 'execute'))"
     " select 'error', format('the role %I lacks: ', rolname)"
     " || string_agg(what, ', ' order by what),"
     " 'connect as mod_users, or have the owner grant it: sql/role.sql' from missing"
     " group by rolname"
     " union all select 'warning', 'no role but superusers and the owner may use the API''s"
     " functions', 'sql/role.sql makes one: usersctl database upgrade runs it' where not exists"
     " (select from client)"
     " union all select 'ok', format('the role %I has the rights that the module needs', rolname),"
     " null from client where rolname not in (select rolname from missing)"},
    {"role", USERS_QUERY_CONTRACT,
     "with " CLIENTS ", too_much as ("
     " select rolname, 'error' as level, 'is a superuser' as what from client where rolsuper"
     " union all select client.rolname, 'warning', 'has ' || array_to_string(array_remove(array["
     " case when rolcreaterole then 'createrole' end, case when rolcreatedb then 'createdb' end,"
     " case when rolreplication then 'replication' end,"
     " case when rolbypassrls then 'bypassrls' end], null), ', ')"
     " from client join pg_roles using (oid) where not client.rolsuper"
     " and (rolcreaterole or rolcreatedb or rolreplication or rolbypassrls)"
     " union all select rolname, 'warning', format('is a member of %I%s', role.name,"
     " case role.name when 'mod_users' then ', whose settings it does not have' end)"
     " from client, lateral (select rolname as name from pg_auth_members join pg_roles on"
     " pg_roles.oid = roleid where member = client.oid) as role where not rolsuper"
     " union all select rolname, 'warning', format('owns %s objects of this database', count(*))"
     " from client join pg_shdepend on refobjid = client.oid and refclassid = 'pg_authid'::regclass"
     " where deptype = 'o' and dbid in (0, " DATABASE ") and not rolsuper group by rolname)"
     " select level, format('the role %I that the module connects as %s', rolname, what),"
     " 'connect as mod_users, for which sql/role.sql takes care (pg_ident.conf)' from too_much"
     " union all select 'ok', format('the role %I is no superuser, owns nothing and is a member of"
     " no other', rolname), null from client where rolname not in (select rolname from too_much)"},
    {"privileges", USERS_QUERY_CONTRACT,
     "with " CLIENTS ", too_much as ("
     " select rolname, 'create schemas in this database' as what, format('revoke create on database"
     " %I from %I, public', current_database(), rolname) as cure from client"
     " where has_database_privilege(client.oid, " DATABASE ", 'create')"
     " union all select rolname, 'make temporary tables', format('revoke temporary on database %I"
     " from %I, public', current_database(), rolname) from client"
     " where has_database_privilege(client.oid, " DATABASE ", 'temporary')"
     " union all select rolname, format('make objects in the schema %I', nspname),"
     " format('revoke create on schema %I from %I, public', nspname, rolname)"
     " from client, pg_namespace where " OURS
     " and has_schema_privilege(client.oid, pg_namespace.oid, 'create')"
     " union all select rolname, 'make large objects', 'sql/role.sql as a superuser takes it from"
     " everybody' from client where has_function_privilege(client.oid,"
     " 'pg_catalog.lo_create(oid)', 'execute')"
     " union all select rolname, format('use the schema %I', nspname), format('revoke usage on"
     " schema %I from %I, public', nspname, rolname) from client, pg_namespace"
     " where nspname in ('users', 'users_admin')"
     " and has_schema_privilege(client.oid, pg_namespace.oid, 'usage')"
     " union all select rolname, format('reach %s tables, such as %s', count(*),"
     " min(format('%I.%I', nspname, relname))), format('revoke all on all tables in schema %I from"
     " %I, public', min(nspname), rolname)"
     " from client, pg_class join pg_namespace on pg_namespace.oid = relnamespace"
     " where " OURS " and relkind in ('r', 'v', 'm', 'p', 'f')"
     " and has_table_privilege(client.oid, pg_class.oid, case when nspname = 'users_api'"
     " and relname in " VIEWS " then 'insert, update, delete, truncate'"
     " else 'select, insert, update, delete, truncate' end) group by rolname)"
     " select 'warning', format('the role %I may do what the module never does: %s', rolname,"
     " string_agg(what, ', ' order by what)), string_agg(cure, '; ' order by what) from too_much"
     " where rolname not in (select rolname from client where rolsuper) group by rolname"
     " union all select 'ok', format('the role %I may do nothing else', rolname), null from client"
     " where not rolsuper and rolname not in (select rolname from too_much)"},
    {"log", USERS_QUERY_CONTRACT,
     "with " CLIENTS ", " EFFECTIVE ", role as (select rolname, jsonb_object_agg(name, value) as s"
     " from effective group by rolname),"
     " logging as (select rolname, s, s ->> 'log_statement' = 'all'"
     " or s ->> 'log_min_duration_statement' !~ '^-' or s ->> 'log_min_duration_sample' !~ '^-'"
     " and s ->> 'log_statement_sample_rate' !~ '^0([.]0*)?$'"
     " or s ->> 'log_transaction_sample_rate' !~ '^0([.]0*)?$' as logged from role),"
     " leak as (select rolname, format('the parameters of statements (log_parameter_max_length"
     " = %s)', s ->> 'log_parameter_max_length') as what, 'log_parameter_max_length = 0' as cure"
     " from logging where logged and s ->> 'log_parameter_max_length' !~ '^0'"
     " union all select rolname, format('the parameters of statements that fail"
     " (log_parameter_max_length_on_error = %s)', s ->> 'log_parameter_max_length_on_error'),"
     " 'log_parameter_max_length_on_error = 0' from logging"
     " where s ->> 'log_parameter_max_length_on_error' !~ '^0'"
     " union all select rolname, format('plans, by auto_explain (auto_explain.log_min_duration ="
     " %s)', s ->> 'auto_explain.log_min_duration'), 'auto_explain.log_min_duration = -1'"
     " from logging where s ->> 'auto_explain.log_min_duration' !~ '^-'"
     " and coalesce(s ->> 'auto_explain.log_parameter_max_length', '-1') !~ '^0'"
     " union all select rolname, 'the parameters of statements, by pgaudit"
     " (pgaudit.log_parameter = on)', 'pgaudit.log_parameter = off' from logging"
     " where s ->> 'pgaudit.log_parameter' in ('on', 'true', 'yes', '1')"
     " and s ->> 'pgaudit.log' not in ('', 'none'))"
     " select 'warning', format('what clients send, personal data and passwords too, can reach"
     " PostgreSQL''s log from the role %I: %s', rolname, string_agg(what, ', ' order by what)),"
     " 'connect as mod_users (sql/role.sql, pg_ident.conf), or as a superuser: '"
     " || string_agg(format('alter role %I set %s', rolname, cure), '; ' order by what)"
     " from leak group by rolname"
     " union all select 'ok', format('what clients send stays out of PostgreSQL''s log (role %I)',"
     " rolname), null from client where rolname not in (select rolname from leak)"},
    /* what the module asks for when it connects, or the role has: a pooler may drop the former */
    {"session", USERS_QUERY_CONTRACT,
     "with wrong as (select format('%s = %s', name, reset_val) as what,"
     " format('%s = %L', name, wanted) as cure from pg_settings join (values"
     " ('plan_cache_mode', 'force_generic_plan'),"
     " ('default_transaction_isolation', 'read committed')) as wanted (name, wanted) using (name)"
     " where reset_val <> wanted"
     " union all select format('%s = 0', name), format('%s = %L', name, wanted) from pg_settings"
     " join (values ('statement_timeout', '5s'), ('lock_timeout', '4s')) as wanted (name, wanted)"
     " using (name) where reset_val = '0')"
     " select case when count(*) = 0 then 'ok' else 'warning' end,"
     " coalesce('the module''s sessions lack settings that it relies on: '"
     " || string_agg(what, ', ' order by what), 'sessions have the settings that the module relies"
     " on'), string_agg(format('alter role %I set %s', $1, cure), '; ' order by what)"
     " from wrong where $1 is not null having $1 is not null"},
    {"reference", USERS_QUERY_TABLES | USERS_QUERY_ROWS,
     "with missing (what, cure) as ("
     " select 'countries', '' where not exists (select from users.country)"
     " union all select 'currencies', '' where not exists (select from users.currency)"
     " union all select 'languages', '' where not exists (select from users.language)"
     " union all select 'scripts', '' where not exists (select from users.script)"
     " union all select 'areas', '' where not exists (select from users.area)"
     " union all select 'the group 1', 'insert into users.account_group (id, name) values (1,"
     " ''default''); ' where not exists (select from users.account_group where id = 1)"
     " union all select 'the billing plan 1', 'insert into users.billing_plan (id, name) values (1,"
     " ''default''); ' where not exists (select from users.billing_plan where id = 1)"
     " union all select format('the country %s (UsersDefaultCountry)', code), '' from"
     " (select distinct unnest(string_to_array($2, ',')) as code) as named"
     " where code not in (select code from users.country)"
     " union all select format('the currency %s (UsersDefaultCurrency)', code), '' from"
     " (select distinct unnest(string_to_array($3, ',')) as code) as named"
     " where code not in (select code from users.currency)"
     " union all select format('the language of %s (UsersDefaultLocale)', code), '' from"
     " (select distinct unnest(string_to_array($4, ',')) as code) as named"
     " where split_part(code, '-', 1) not in (select code from users.language))"
     " select case when count(*) = 0 then 'ok' else 'error' end,"
     " coalesce('new accounts need what is not there: ' || string_agg(what, ', ' order by what),"
     " 'countries, currencies, languages, the group 1 and the billing plan 1 are there'),"
     " case when count(*) > 0 then string_agg(cure, '') || 'usersctl database upgrade brings the"
     " reference data' end from missing"},
    {"indexes", USERS_QUERY_TABLES,
     "with there as (select relname as name, indisvalid and indisready as valid from pg_index join"
     " pg_class on pg_class.oid = indexrelid join pg_namespace on pg_namespace.oid = relnamespace"
     " where nspname = 'users'),"
     " fault (what, cure) as (select format('%s is missing', name), 'usersctl database upgrade, if"
     " migrations are pending, else make what is missing as in sql/tables.sql, by create index"
     " concurrently' from " INDEXES " where name not in (select name from there)"
     " union all select format('%s is invalid', name),"
     " format('reindex index concurrently users.%I', name) from there where not valid)"
     " select case when count(*) = 0 then 'ok' else 'error' end,"
     " coalesce('an index does not do its work: ' || string_agg(what, ', ' order by what),"
     " 'all indexes are there and valid'), string_agg(distinct cure, '; ') from fault"},
    {"sequences", USERS_QUERY_TABLES | USERS_QUERY_ROWS,
     "select case when worst is null then 'ok' else 'warning' end,"
     " coalesce('a sequence has used more than four fifths of its numbers: ' || worst,"
     " 'the sequences have numbers left'),"
     " case when worst is not null then 'plan for another type of the column, or another range' end"
     " from (select string_agg(format('users.%I', sequencename), ', ') as worst from pg_sequences"
     " where schemaname = 'users' and last_value > max_value / 5 * 4) as sequences"},
    {"events", USERS_QUERY_TABLES | USERS_QUERY_ROWS | USERS_QUERY_PRIMARY,
     "with waiting as (select count(*) as events, min(created_at) as since from users.event"
     " where dead_at is null), dead as (select count(*) as events from users.event"
     " where dead_at is not null)"
     " select 'warning', format('%s events wait to be delivered, the oldest of them since %s',"
     " events, date_trunc('second', since)), 'see whether usersctl event deliver runs, and"
     " usersctl event list, which says why; without a receiver: UsersEvents off'"
     " from waiting where since < now() - interval '1 hour'"
     " union all select 'warning', format('%s events were given up', events),"
     " 'usersctl event list --state dead says why; usersctl event retry --dead, or usersctl purge"
     " deletes them after 30 days' from dead where events > 0"
     " union all select 'ok', format('%s events wait to be delivered, and none for an hour',"
     " waiting.events), null from waiting, dead where dead.events = 0"
     " and coalesce(since >= now() - interval '1 hour', true)"},
    {"vacuum", USERS_QUERY_TABLES | USERS_QUERY_PRIMARY,
     "with bloated as (select format('users.%I has %s dead rows beside %s live ones (last vacuum:"
     " %s)', relname, n_dead_tup, n_live_tup, coalesce(date_trunc('second',"
     " greatest(last_vacuum, last_autovacuum))::text, 'never')) as what,"
     " format('vacuum users.%I', relname) as cure from pg_stat_all_tables"
     " where schemaname = 'users' and n_dead_tup > 10000 and n_dead_tup > n_live_tup / 2)"
     " select 'warning', string_agg(what, ', ' order by what),"
     " 'find what keeps autovacuum from it (an old transaction, a replication slot, its settings);"
     " then ' || string_agg(cure, '; ' order by what) from bloated having count(*) > 0"
     " union all select 'warning', 'autovacuum is off', 'alter system set autovacuum = on'"
     " where current_setting('autovacuum') = 'off' or current_setting('track_counts') = 'off'"
     " union all select 'ok', 'dead rows are vacuumed', null where not exists (select from bloated)"
     " and current_setting('autovacuum') = 'on' and current_setting('track_counts') = 'on'"},
    {"size", USERS_QUERY_TABLES,
     "select 'ok', format('the database has %s', pg_size_pretty(pg_database_size(" DATABASE
     "))) || string_agg(format(', users.%I %s', relname,"
     " pg_size_pretty(pg_total_relation_size(pg_class.oid))), '' order by relname), null"
     " from pg_class join pg_namespace on pg_namespace.oid = relnamespace"
     " where nspname = 'users' and relname in ('account', 'token', 'credential', 'change',"
     " 'audit', 'event')"
     " and relkind = 'r'"},
    /* doc/manual/install.md: 1.3 GB a million */
    {"memory", USERS_QUERY_TABLES,
     "select case when wanted > has then 'warning' else 'ok' end,"
     " format('about %s accounts and their tokens take some %s, and shared_buffers are %s',"
     " accounts, pg_size_pretty(wanted), pg_size_pretty(has)), case when wanted > has then"
     " format('as far as the server''s memory goes: alter system set shared_buffers = ''%sMB'', and"
     " restart PostgreSQL', (wanted / 1048576)::bigint) end"
     " from (select greatest(reltuples, 0)::bigint as accounts,"
     " (greatest(reltuples, 0) * 1300)::bigint as wanted from pg_class join pg_namespace"
     " on pg_namespace.oid = relnamespace where nspname = 'users' and relname = 'account') as a,"
     " (select setting::bigint * current_setting('block_size')::bigint as has from pg_settings "
     "where name = 'shared_buffers') as b"},
    {"connections", USERS_QUERY_CONTRACT,
     "with " CLIENTS ", reserved as (select sum(setting::int) as connections from pg_settings"
     " where name in ('superuser_reserved_connections', 'reserved_connections')),"
     " allowed as (select setting::int - connections as connections,"
     " format('max_connections = %s less %s reserved', setting, connections) as because"
     " from pg_settings, reserved where name = 'max_connections'"
     " union all select rolconnlimit, format('the connection limit of the role %I', rolname)"
     " from pg_roles where oid in (select oid from client) and rolconnlimit >= 0 and not rolsuper"
     " union all select datconnlimit, format('the connection limit of the database %I', datname)"
     " from pg_database where oid = " DATABASE " and datconnlimit >= 0"
     " order by connections limit 1)"
     " select case when $5::bigint > connections then 'warning' else 'ok' end,"
     " case when $5 is not null then format('httpd may open %s connections (%s), and PostgreSQL"
     " allows %s (%s)', $5, $6, connections, because)"
     " else format('PostgreSQL allows %s connections (%s)', connections, because) end,"
     " case when $5::bigint > connections then 'lower MaxRequestWorkers or UsersDBMax, raise that"
     " limit, or put a pooler such as PgBouncer between' end from allowed"},
    {.check = NULL}};
