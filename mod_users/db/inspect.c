#include "db/inspect.h"

#include "core/clock.h"
#include "db/capacity.h"
#include "db/execute.h"
#include "db/result.h"

#include <apr_atomic.h>

/*
 * One row: how many connections PostgreSQL has for such sessions and which limit that is; the role;
 * the settings by which it would log what statements have for parameters; and those that a
 * superuser can set to 0 for the role, so that it does not. Reads and changes are SELECTs:
 * log_statement = mod logs neither. Settings without a unit stand in pg_settings alone.
 */
static const users_statement inspect = {
    USERS_INSPECT_SESSION, "inspect_session",
    "with setting as materialized (select name, setting as value from pg_settings),"
    " statements as (select string_agg(name || ' = ' || value, ', ' order by name) as logged"
    "  from setting where name = 'log_statement' and value = 'all'"
    "  or name = 'log_min_duration_statement' and value <> '-1'"
    "  or name = 'log_transaction_sample_rate' and value <> '0'"
    "  or name = 'log_min_duration_sample' and value <> '-1' and (select value <> '0' from setting"
    "   where name = 'log_statement_sample_rate')),"
    " leak as (select name, case name when 'log_parameter_max_length' then logged || ', ' else ''"
    "  end || name || ' = ' || value as why from setting, statements"
    "  where value <> '0' and (name = 'log_parameter_max_length' and logged is not null"
    "   or name = 'log_parameter_max_length_on_error')),"
    " reserved as (select sum(value::int) as connections from setting"
    "  where name in ('superuser_reserved_connections', 'reserved_connections')),"
    " allowed as ("
    "  select value::int - connections as connections,"
    "   format('max_connections = %s less %s reserved', value, connections) as because"
    "   from setting, reserved where name = 'max_connections'"
    "  union all select rolconnlimit, format('the connection limit of the role %I', rolname)"
    "   from pg_roles where rolname = session_user and rolconnlimit >= 0 and not rolsuper"
    "  union all select datconnlimit, format('the connection limit of the database %I', datname)"
    "   from pg_database where datname = current_database() and datconnlimit >= 0)"
    " select connections::bigint, because, format('%I', session_user),"
    "  (select string_agg(why, ', ' order by name) from leak),"
    "  (select string_agg(format('alter role %I set %s = 0', session_user, name), '; '"
    "   order by name) from leak)"
    " from allowed order by connections limit 1",
    0, .reads = true};

/* Whose turn is it? The answer is good for as many connections as httpd may open now. */
static bool is_due(struct users_noted *noted, apr_uint32_t demand)
{
    apr_uint32_t inspected = apr_atomic_read32(&noted->inspected);

    return inspected != demand &&
           apr_atomic_cas32(&noted->inspected, demand, inspected) == inspected;
}

static void judge(const users_witness *witness, const PGresult *row)
{
    apr_int64_t allowed = users_int8_at(row, 0, 0);
    const char *limit = users_text_at(row, 0, 1);
    const char *role = users_text_at(row, 0, 2);
    const char *leak = users_text_at(row, 0, 3);
    const char *cure = users_text_at(row, 0, 4);

    /* how many connections a pooler has is not PostgreSQL's to say */
    if (witness->settings->db_prepare && allowed > 0 && limit) {
        users_capacity_learn(witness, (apr_uint32_t)allowed, limit);
    }
    if (leak && cure && role) {
        users_log_at(witness->log, USERS_LOG_WARNING, 0,
                     "%s: PostgreSQL logs what clients send, personal data and passwords too, from "
                     "sessions of the role %s (%s): connect as mod_users, for which sql/role.sql "
                     "turns that off, by a map in pg_ident.conf; or have a superuser say: %s",
                     witness->name, role, leak, cure);
    }
}

void users_inspect(users_connection *connection)
{
    const users_db_settings *settings = connection->witness->settings;
    apr_time_t deadline = users_now() + settings->db_connect_timeout;
    PGresult *row;

    if (is_due(settings->noted, users_capacity_demand(settings->capacity)) &&
        users_execute(connection, &inspect, NULL, deadline, &row) == USERS_DB_OK) {
        if (PQntuples(row) == 1) {
            judge(connection->witness, row);
        }
        PQclear(row);
    }
}
