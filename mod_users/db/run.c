#include "db/run.h"

#include "core/clock.h"
#include "db/count.h"
#include "db/inspect.h"

#include <apr_strings.h>

#define CONFLICT_REPEATS 3                       /* of a statement that the database undid */
#define FIRST_PAUSE      apr_time_from_msec(10)  /* before a repeat; between those that ask what */
#define LONGEST_PAUSE    apr_time_from_msec(250) /* became of a change it doubles */

users_limits users_limits_of(const users_db_call *call, const users_db *db)
{
    apr_interval_time_t left = db && db->primary ? call->left / 2 : call->left;
    apr_interval_time_t acquire = db ? db->settings->db_acquire_timeout : 0;
    apr_time_t now = users_now();

    return (users_limits){now, now + (left < acquire ? left : acquire), now + left};
}

void users_limits_spend(users_db_call *call, const users_limits *l)
{
    call->left -= users_now() - l->began;
}

users_limits users_limits_of_all(users_waiter **waiters, int count)
{
    users_limits l = {.connection = waiters[0]->deadline, .end = waiters[0]->end};

    for (int i = 1; i < count; i++) {
        l.end = waiters[i]->end > l.end ? waiters[i]->end : l.end;
    }
    return l;
}

/* Running */

static users_pool_kind kind_of(const users_statement *statement)
{
    return statement->examines ? USERS_POOL_EXAMINE
           : statement->reads  ? USERS_POOL_READ
                               : USERS_POOL_CHANGE;
}

static users_db_status run_once(users_db *db, const users_statement *statement,
                                const users_parameter *parameters, const users_limits *l,
                                PGresult **result, bool *was_idle)
{
    users_connection *connection;
    users_db_status status =
        users_pool_acquire(db->pool, kind_of(statement), l->connection, &connection);

    *result = NULL;
    *was_idle = false;
    if (status == USERS_DB_OK) {
        *was_idle = connection->was_idle;
        status = users_now() < l->end /* else it would be lost for nothing */
                     ? users_execute(connection, statement, parameters, l->end, result)
                     : USERS_DB_LATE;
        if (status == USERS_DB_OK) {
            users_inspect(connection);
        }
        users_connection_release(connection);
    }
    return status;
}

/*
 * A connection that lay idle can have died unnoticed: then a read runs once more. The loss has
 * closed its idle siblings, so that is on a fresh one. What the database undid in favour of another
 * transaction runs again, a few times.
 */
users_db_status users_run(users_db *db, const users_statement *statement,
                          const users_parameter *parameters, const users_limits *l,
                          PGresult **result)
{
    bool was_idle;
    users_db_status status = run_once(db, statement, parameters, l, result, &was_idle);

    if (status == USERS_DB_LOST && was_idle && statement->reads) {
        status = run_once(db, statement, parameters, l, result, &was_idle);
    }
    for (int i = 0; status == USERS_DB_CONFLICT && i < CONFLICT_REPEATS; i++) {
        if (users_now() + FIRST_PAUSE < l->end) {
            users_limits again = {.connection = l->end, .end = l->end};

            apr_sleep(FIRST_PAUSE); /* lest it takes the other's lock again before that wakes up */
            status = run_once(db, statement, parameters, &again, result, &was_idle);
        }
    }
    return status;
}

/*
 * Find out what became of a change that was not heard of, by repeating it: the functions of the
 * contract make a change of one name once, and answer a repeat as they answered the first. The
 * repeat itself can get lost, find no server, or wait in vain for the first try, which goes on:
 * none of that says anything about the first, so it is repeated until the time is over.
 */
static users_db_status settle(users_db *db, const users_statement *statement,
                              const users_parameter *parameters, apr_time_t end, PGresult **result)
{
    apr_interval_time_t pause = FIRST_PAUSE;
    users_limits l = {.connection = end, .end = end};

    for (;;) {
        users_db_status status = users_run(db, statement, parameters, &l, result);

        if (status == USERS_DB_OK) {
            return status;
        }
        if (users_now() + pause >= end) {
            return USERS_DB_UNKNOWN;
        }
        apr_sleep(pause);
        pause = 2 * pause < LONGEST_PAUSE ? 2 * pause : LONGEST_PAUSE;
    }
}

void users_run_count(const users_db *db, users_db_status status)
{
    if (status == USERS_DB_UNREACHABLE && !db->primary) {
        users_pool_count_refusal(db->pool);
    }
    if (status == USERS_DB_BUSY) {
        users_db_count(db->settings, USERS_FIGURE_POOL_TIMEOUTS, 1);
    }
}

static apr_status_t clear_result(void *result)
{
    PQclear(result);
    return APR_SUCCESS;
}

users_db_status users_run_for(users_db_call *call, users_db *db, const users_statement *statement,
                              const users_parameter *parameters, PGresult **result)
{
    users_limits l = users_limits_of(call, db);
    users_db_status status;

    *result = NULL;
    if (!db) {
        return USERS_DB_FAILED;
    }
    status = users_run(db, statement, parameters, &l, result);
    users_limits_spend(call, &l);
    users_run_count(db, status);
    apr_pool_cleanup_register(call->pool, *result, clear_result, apr_pool_cleanup_null);
    users_log_at(&call->log, status ? USERS_LOG_INFO : USERS_LOG_TRACE2, 0,
                 "%s took %" APR_TIME_T_FMT " us: %s", statement->name, users_now() - l.began,
                 users_db_status_name(status));
    return status;
}

static users_db_status settle_for(users_db_call *call, const users_statement *statement,
                                  const users_parameter *parameters, apr_time_t end,
                                  PGresult **result)
{
    users_db_status status = settle(call->db, statement, parameters, end, result);
    bool unknown = status == USERS_DB_UNKNOWN;

    users_db_count_one(call->db->settings, USERS_FIGURE_UNHEARD + (unknown ? USERS_CHANGE_UNKNOWN
                                                                           : USERS_CHANGE_SETTLED));
    apr_pool_cleanup_register(call->pool, *result, clear_result, apr_pool_cleanup_null);
    users_log_at(&call->log, USERS_LOG_INFO, 0, "the outcome of %s was not heard, and %s",
                 statement->name, unknown ? "could not be found out in time" : "is settled");
    return status;
}

users_db_status users_run_settle(users_db_call *call, const users_statement *statement,
                                 const users_parameter *parameters, PGresult **result)
{
    users_limits l = users_limits_of(call, call->db);
    users_db_status status = settle_for(call, statement, parameters, l.end, result);

    users_limits_spend(call, &l);
    return status;
}

users_db_status users_run_change(users_db_call *call, const users_statement *statement,
                                 const users_parameter *parameters, PGresult **result,
                                 bool *settled)
{
    users_limits l = users_limits_of(call, call->db);
    users_db_status status = users_run_for(call, call->db, statement, parameters, result);

    *settled = status == USERS_DB_LOST || status == USERS_DB_TIMEOUT;
    return *settled ? settle_for(call, statement, parameters, l.end, result) : status;
}

users_outcome users_outcome_of_change(users_db_status status)
{
    switch (status) {
    case USERS_DB_OK:
        return USERS_OUTCOME_DONE;
    case USERS_DB_UNKNOWN:
        return USERS_OUTCOME_UNKNOWN;
    case USERS_DB_OUTDATED:
    case USERS_DB_FAILED:
        return USERS_OUTCOME_FAILED;
    default:
        return USERS_OUTCOME_UNAVAILABLE;
    }
}

users_outcome users_outcome_of_read(users_db_status status)
{
    return status == USERS_DB_TIMEOUT || status == USERS_DB_LATE ? USERS_OUTCOME_LATE
                                                                 : users_outcome_of_change(status);
}
