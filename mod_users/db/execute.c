#include "db/execute.h"

#include "core/clock.h"

#include <apr_strings.h>
#include <http_log.h>

APLOG_USE_MODULE(users);

#define CONFLICT_REPEATS 3                       /* of a statement that the database undid */
#define FIRST_PAUSE      apr_time_from_msec(10)  /* between two questions what became of */
#define LONGEST_PAUSE    apr_time_from_msec(250) /* a change; it doubles */
#define TIME_SPENT       "users_time_spent"      /* key of a request's pool: interval */

users_limits users_limits_of(const request_rec *r, const struct users_database *database)
{
    const users_settings *settings = users_settings_of(r->server);
    apr_interval_time_t left = settings->request_timeout;
    apr_time_t now = users_now();
    void *spent = NULL;

    apr_pool_userdata_get(&spent, TIME_SPENT, r->pool);
    if (spent) {
        left -= *(apr_interval_time_t *)spent;
    }
    if (database && database->primary) {
        left /= 2;
    }
    return (users_limits){
        now, now + (left < settings->db_acquire_timeout ? left : settings->db_acquire_timeout),
        now + left};
}

void users_limits_spend(const request_rec *r, const users_limits *l)
{
    void *spent = NULL;

    apr_pool_userdata_get(&spent, TIME_SPENT, r->pool);
    if (!spent) {
        spent = apr_pcalloc(r->pool, sizeof(apr_interval_time_t));
        apr_pool_userdata_setn(spent, TIME_SPENT, NULL, r->pool);
    }
    *(apr_interval_time_t *)spent += users_now() - l->began;
}

/* Running */

static users_db_status run_once(struct users_database *database, const users_statement *statement,
                                const users_parameter *parameters, const users_limits *l,
                                PGresult **result, bool *was_idle)
{
    users_connection *connection;
    users_db_status status = users_pool_acquire(database->pool, l->connection, &connection);

    *result = NULL;
    *was_idle = false;
    if (status == USERS_DB_OK) {
        *was_idle = users_connection_was_idle(connection);
        status = users_connection_run(connection, statement, parameters, l->end, result);
        users_connection_release(connection);
    }
    return status;
}

/*
 * A connection that lay idle can have died unnoticed: then a read runs once more. The loss has
 * closed its idle siblings, so that is on a fresh one. What the database undid in favour of another
 * transaction runs again, a few times.
 */
users_db_status users_run(struct users_database *database, const users_statement *statement,
                          const users_parameter *parameters, const users_limits *l,
                          PGresult **result)
{
    bool was_idle;
    users_db_status status = run_once(database, statement, parameters, l, result, &was_idle);

    if (status == USERS_DB_LOST && was_idle && statement->reads) {
        status = run_once(database, statement, parameters, l, result, &was_idle);
    }
    for (int i = 0; status == USERS_DB_CONFLICT && i < CONFLICT_REPEATS; i++) {
        if (users_now() < l->end) {
            users_limits again = {.connection = l->end, .end = l->end};

            status = run_once(database, statement, parameters, &again, result, &was_idle);
        }
    }
    return status;
}

/*
 * Find out what became of a change that was not heard of, by repeating it: the functions of the
 * contract make a change of one name once, and tell a repeat what came of it. The repeat itself
 * can get lost, find no server, or wait in vain for the first try, which goes on: none of that
 * tells of the first try, and so the question is put until the time is over.
 */
static users_db_status settle(struct users_database *database, const users_statement *statement,
                              const users_parameter *parameters, apr_time_t end, PGresult **result)
{
    apr_interval_time_t pause = FIRST_PAUSE;
    users_limits l = {.connection = end, .end = end};

    for (;;) {
        users_db_status status = users_run(database, statement, parameters, &l, result);

        if (status == USERS_DB_OK || status == USERS_DB_INVALID) {
            return status;
        }
        if (users_now() + pause >= end) {
            return USERS_DB_UNKNOWN;
        }
        apr_sleep(pause);
        pause = 2 * pause < LONGEST_PAUSE ? 2 * pause : LONGEST_PAUSE;
    }
}

void users_run_count(const struct users_database *database, users_db_status status)
{
    if (status == USERS_DB_UNREACHABLE && !database->primary) {
        users_pool_count_refusal(database->pool);
    }
}

static apr_status_t clear_result(void *result)
{
    PQclear(result);
    return APR_SUCCESS;
}

users_db_status users_run_for(request_rec *r, struct users_database *database,
                              const users_statement *statement, const users_parameter *parameters,
                              PGresult **result)
{
    users_limits l = users_limits_of(r, database);
    users_db_status status;

    *result = NULL;
    if (!database) {
        return USERS_DB_FAILED;
    }
    status = users_run(database, statement, parameters, &l, result);
    users_limits_spend(r, &l);
    users_run_count(database, status);
    apr_pool_cleanup_register(r->pool, *result, clear_result, apr_pool_cleanup_null);
    return status;
}

users_db_status users_run_change(request_rec *r, const users_statement *statement,
                                 const users_parameter *parameters, PGresult **result,
                                 bool *settled)
{
    struct users_database *database = users_database_of(r);
    users_limits l = users_limits_of(r, database);
    users_db_status status = users_run_for(r, database, statement, parameters, result);

    *settled = status == USERS_DB_LOST || status == USERS_DB_TIMEOUT;
    if (*settled) {
        status = settle(database, statement, parameters, l.end, result);
        apr_pool_cleanup_register(r->pool, *result, clear_result, apr_pool_cleanup_null);
        ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r, "the outcome of %s was not heard, and %s",
                      statement->name,
                      status == USERS_DB_UNKNOWN ? "could not be found out in time" : "is settled");
    }
    return status;
}
