/* Connections to one database: acquire, connect, deadline, discard. Knows no statement. */
#ifndef USERS_DB_POOL_H
#define USERS_DB_POOL_H

#include "db/db.h"
#include "db/statement.h"

#include <libpq-fe.h>
#include <stdbool.h>

typedef struct users_pool users_pool;
typedef struct users_connection users_connection;

typedef enum {
    USERS_DB_OK,
    USERS_DB_BUSY,        /* no connection was free, or open, at the caller's deadline */
    USERS_DB_UNREACHABLE, /* no server could be connected to, now or a moment ago */
    USERS_DB_LOST,        /* the connection died under the statement: it may have run or not */
    USERS_DB_TIMEOUT,     /* the statement exceeded its deadline: it may have run or not */
    USERS_DB_READ_ONLY,   /* the server takes no changes, nor does another: nothing was done */
    USERS_DB_OUTDATED,    /* the session has lost what was prepared: nothing was done */
    USERS_DB_LATE,        /* the server gave the statement up: nothing was done */
    USERS_DB_CONFLICT,    /* undone in favour of another transaction: it can be tried again */
    USERS_DB_UNKNOWN,     /* a change (store.h) that was made or not: nobody can tell in time */
    USERS_DB_INVALID,     /* the database refused a value (SQLSTATE class 22): nothing was done */
    USERS_DB_FAILED       /* any other error: nothing was done, and it is in the log */
} users_db_status;

/* In a word, for the log. */
const char *users_db_status_name(users_db_status status);

/*
 * The connections of a child to the database of settings, which the log calls by name, none of
 * them open yet, in memory of pool, whose clean-up closes them. NULL, with a line in the log, where
 * memory or a lock could not be had.
 */
users_pool *users_pool_create(apr_pool_t *pool, const users_log *log,
                              const users_db_settings *settings, const char *name);

/*
 * Borrow an open connection: waits until the deadline (users_now()), connecting included. Returns
 * USERS_DB_OK, USERS_DB_BUSY or USERS_DB_UNREACHABLE. Whoever borrows gives it back, in the same
 * function, by users_connection_release(): nobody holds a connection while a client sends or reads.
 */
users_db_status users_pool_acquire(users_pool *pool, apr_time_t deadline,
                                   users_connection **connection);

/*
 * Is there no connection, and none to be had? Then users_pool_acquire() does not wait, but
 * for the one caller at a time that looks whether that is over. Takes no lock.
 */
bool users_pool_is_away(users_pool *pool);

/* A request was refused because of USERS_DB_UNREACHABLE: the log tells how many were. */
void users_pool_count_refusal(users_pool *pool);

/* Give it back. One that was lost, or is still in a transaction, is closed instead. */
void users_connection_release(users_connection *connection);

/*
 * Run a statement within UsersDBTimeout and before the deadline, as a transaction of its own. On
 * USERS_DB_OK *result is the caller's, to be cleared; otherwise it is NULL. Its columns are in
 * binary format, and what it did is committed. Where the server takes no changes, or the session
 * has lost what was prepared, it runs once more, in a fresh one.
 */
users_db_status users_connection_run(users_connection *connection, const users_statement *statement,
                                     const users_parameter *parameters, apr_time_t deadline,
                                     PGresult **result);

/* Was it open before it was borrowed, so that it may have died in the meantime? */
bool users_connection_was_idle(const users_connection *connection);

#endif
