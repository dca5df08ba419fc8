#include "db/execute.h"

#include "core/clock.h"
#include "db/capacity.h"
#include "db/connect.h"

#include <poll.h>
#include <string.h>

static const char *const status_names[] = {
    [USERS_DB_OK] = "done",
    [USERS_DB_BUSY] = "no connection in time",
    [USERS_DB_UNREACHABLE] = "no connection",
    [USERS_DB_LOST] = "connection lost",
    [USERS_DB_TIMEOUT] = "deadline exceeded",
    [USERS_DB_READ_ONLY] = "no changes taken",
    [USERS_DB_OUTDATED] = "prepared statement lost",
    [USERS_DB_LATE] = "given up by the server",
    [USERS_DB_CONFLICT] = "undone in favour of another",
    [USERS_DB_UNKNOWN] = "outcome unknown",
    [USERS_DB_ABSENT] = "no such function",
    [USERS_DB_DECLINED] = "declined to wait",
    [USERS_DB_FAILED] = "error",
};

const char *users_db_status_name(users_db_status status)
{
    return status_names[status];
}

/* A prepared statement has gone (DISCARD ALL), or does not fit a view that was replaced. */
static bool is_outdated(const char *state)
{
    return strcmp(state, "26000") == 0 || strcmp(state, "0A000") == 0;
}

/*
 * An optional function is not there, since the contract is an administrator's own or a version's
 * before; or it waits for nobody else.
 */
static users_db_status status_of_optional(const char *state)
{
    return strcmp(state, "42883") == 0   ? USERS_DB_ABSENT
           : strcmp(state, "55P03") == 0 ? USERS_DB_DECLINED
                                         : USERS_DB_OK;
}

/* The server is a standby, or an administrator lets nothing be changed. */
static bool is_read_only(const char *state)
{
    return strcmp(state, "25006") == 0;
}

/* It took too long, or waited too long for another transaction: statement_timeout, lock_timeout. */
static bool is_late(const char *state)
{
    return strcmp(state, "57014") == 0 || strcmp(state, "55P03") == 0;
}

/* A serialization failure or a deadlock. */
static bool is_conflict(const char *state)
{
    return strcmp(state, "40001") == 0 || strcmp(state, "40P01") == 0;
}

/*
 * A commit whose wait for a standby was cancelled counts as done, with a warning: it can be lost
 * with the server (PostgreSQL's syncrep.c). Other notices say nothing to us.
 */
static void hear_notice(void *connection, const PGresult *notice)
{
    const char *function = PQresultErrorField(notice, PG_DIAG_SOURCE_FUNCTION);

    if (function && strcmp(function, "SyncRepWaitForLSN") == 0) {
        ((users_connection *)connection)->is_unsafe = true;
    }
}

static users_db_status status_of(users_connection *connection, const users_statement *statement,
                                 const PGresult *result)
{
    const char *state = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;

    switch (PQresultStatus(result)) {
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
        return connection->is_unsafe ? USERS_DB_LOST : USERS_DB_OK;
    default:
        break;
    }
    if (PQstatus(connection->pg) == CONNECTION_BAD || !state || strncmp(state, "08", 2) == 0 ||
        strncmp(state, "57P0", 4) == 0) {
        return USERS_DB_LOST;
    }
    if (statement->optional && status_of_optional(state) != USERS_DB_OK) {
        return status_of_optional(state);
    }
    if (is_late(state)) {
        users_trouble_late(connection->witness, statement, state);
        return USERS_DB_LATE;
    }
    if (is_conflict(state)) {
        return USERS_DB_CONFLICT;
    }
    if (is_read_only(state)) {
        return USERS_DB_READ_ONLY;
    }
    if (is_outdated(state) && !connection->is_second) {
        return USERS_DB_OUTDATED;
    }
    connection->is_suspect = is_outdated(state) || strncmp(state, "XX", 2) == 0;
    users_trouble_refused(connection->witness, statement, result, PQuser(connection->pg));
    return USERS_DB_FAILED;
}

/*
 * Had a server that lives time to give the statement up, and to say so? It does at 9/10 of
 * db_timeout (connect.c); a request that has less time left proves nothing by its deadline.
 */
static bool is_proof(const users_connection *connection, apr_interval_time_t patience)
{
    return patience >= connection->witness->settings->db_timeout * 19 / 20;
}

/* Send what is queued and read the one result, by poll(): libpq's own waits know no deadline. */
static users_db_status finish(users_connection *connection, const users_statement *statement,
                              apr_time_t deadline, PGresult **result)
{
    PGconn *pg = connection->pg;
    PGresult *next;
    apr_time_t began = users_now();

    *result = NULL;
    for (;;) {
        int unsent = PQflush(pg);

        if (unsent < 0) {
            return USERS_DB_LOST;
        }
        while (!unsent && !PQisBusy(pg)) {
            next = PQgetResult(pg);
            if (!next) {
                return status_of(connection, statement, *result);
            }
            PQclear(*result);
            *result = next;
        }
        if (!users_socket_wait(pg, unsent ? POLLIN | POLLOUT : POLLIN, deadline)) {
            connection->is_silent = is_proof(connection, deadline - began);
            return USERS_DB_TIMEOUT;
        }
        if (!PQconsumeInput(pg)) {
            return USERS_DB_LOST;
        }
    }
}

static bool wants_preparing(const users_connection *connection, const users_statement *statement)
{
    return connection->witness->settings->db_prepare && statement->number != USERS_INSPECT_SESSION;
}

static users_db_status prepare(users_connection *connection, const users_statement *statement,
                               apr_time_t deadline)
{
    PGresult *result = NULL;
    users_db_status status = USERS_DB_LOST;

    if (!wants_preparing(connection, statement) || connection->prepared & 1u << statement->number) {
        return USERS_DB_OK;
    }
    if (PQsendPrepare(connection->pg, statement->name, statement->sql, 0, NULL)) {
        status = finish(connection, statement, deadline, &result);
    }
    PQclear(result);
    if (status == USERS_DB_OK) {
        connection->prepared |= 1u << statement->number;
    }
    return status;
}

static users_db_status execute(users_connection *connection, const users_statement *statement,
                               const users_parameter *parameters, apr_time_t deadline,
                               PGresult **result)
{
    const char *values[USERS_PARAMETERS_MAX];
    int lengths[USERS_PARAMETERS_MAX];
    int formats[USERS_PARAMETERS_MAX];
    int sent;

    for (int i = 0; i < statement->parameters; i++) {
        values[i] = parameters[i].value;
        lengths[i] = parameters[i].length;
        formats[i] = parameters[i].length > 0;
    }
    if (!wants_preparing(connection, statement)) {
        sent = PQsendQueryParams(connection->pg, statement->sql, statement->parameters, NULL,
                                 values, lengths, formats, 1);
    } else {
        sent = PQsendQueryPrepared(connection->pg, statement->name, statement->parameters, values,
                                   lengths, formats, 1);
    }
    return sent ? finish(connection, statement, deadline, result) : USERS_DB_LOST;
}

static users_db_status attempt(users_connection *connection, const users_statement *statement,
                               const users_parameter *parameters, apr_time_t deadline,
                               PGresult **result)
{
    users_db_status status;

    PQsetNoticeReceiver(connection->pg, hear_notice, connection);
    status = prepare(connection, statement, deadline);
    *result = NULL;
    if (status == USERS_DB_OK) {
        status = execute(connection, statement, parameters, deadline, result);
    }
    if (status != USERS_DB_OK) {
        PQclear(*result);
        *result = NULL;
    }
    return status;
}

/* Tell the log what came of a statement, unless it was refused with an error of its own. */
static void note(const users_connection *connection, const users_statement *statement,
                 users_db_status status)
{
    const users_witness *witness = connection->witness;

    if (status == USERS_DB_OK) {
        users_trouble_pass(witness, statement);
        users_capacity_pass(witness);
        return;
    }
    if (status == USERS_DB_TIMEOUT) {
        users_trouble_late(witness, statement, NULL);
    } else if (status == USERS_DB_READ_ONLY) {
        users_trouble_read_only(witness, statement);
    }
    users_log_at(witness->log, USERS_LOG_INFO, 0, "%s ended with: %s", statement->name,
                 status_names[status]);
}

users_db_status users_execute(users_connection *connection, const users_statement *statement,
                              const users_parameter *parameters, apr_time_t deadline,
                              PGresult **result)
{
    apr_time_t until = users_now() + connection->witness->settings->db_timeout;
    users_db_status status;

    if (until > deadline) {
        until = deadline;
    }
    connection->is_second = false;
    connection->is_silent = false;
    connection->is_suspect = false;
    connection->is_unsafe = false;
    status = attempt(connection, statement, parameters, until, result);
    if (status == USERS_DB_READ_ONLY || status == USERS_DB_OUTDATED) {
        status = users_connection_replace(connection, status == USERS_DB_READ_ONLY, until);
        if (status == USERS_DB_OK) {
            status = attempt(connection, statement, parameters, until, result);
        }
    }
    note(connection, statement, status);
    connection->answered |= status == USERS_DB_OK;
    if (status == USERS_DB_LOST || (status == USERS_DB_TIMEOUT && connection->is_silent)) {
        users_connection_lose(connection);
    } else if (status == USERS_DB_TIMEOUT || connection->is_suspect) {
        users_connection_close(connection);
    }
    return status;
}
