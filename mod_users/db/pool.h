/* Connections to one database: borrow, connect, discard. Knows no statement. */
#ifndef USERS_DB_POOL_H
#define USERS_DB_POOL_H

#include "db/db.h"
#include "db/trouble.h"

#include <libpq-fe.h>
#include <stdbool.h>

typedef struct users_pool users_pool;

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
    USERS_DB_UNKNOWN,  /* a change (run.h) that was made or not: that was not found out in time */
    USERS_DB_ABSENT,   /* the contract lacks an optional function: nothing was done */
    USERS_DB_DECLINED, /* the same function would have to wait: nothing was done */
    USERS_DB_FAILED    /* any other error: nothing was done, and it is in the log */
} users_db_status;

/* What a connection is wanted for. */
typedef enum {
    USERS_POOL_READ,
    USERS_POOL_CHANGE,  /* which may wait for a lock: one connection of several is never lent for it
                         */
    USERS_POOL_EXAMINE, /* which no request waits for: there is one connection more for it */
    USERS_POOL_KINDS
} users_pool_kind;

typedef struct users_connection {
    users_pool *pool;
    struct users_connection *next; /* while it is idle: the pool's list */
    apr_time_t idle_since;         /* users_now() */
    users_pool_kind kind;
    const users_witness *witness; /* the pool's */
    PGconn *pg;                   /* NULL until connected, and after a loss */
    apr_uint32_t host;
    unsigned generation;
    unsigned prepared; /* bit n: statement n is prepared here */
    bool was_idle;
    bool is_second;  /* opened in place of an unfit one, for the same statement */
    bool is_silent;  /* nothing came until after its server should have given the statement up */
    bool is_suspect; /* it failed by what may lie in the session */
    bool is_unsafe;  /* it has committed and did not wait for the standby that commits wait for */
    bool answered;   /* a statement, since it was borrowed */
} users_connection;

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
users_db_status users_pool_acquire(users_pool *pool, users_pool_kind kind, apr_time_t deadline,
                                   users_connection **connection);

/*
 * Is there no connection, and none to be had? Then users_pool_acquire() does not wait, but
 * for the one caller at a time that looks whether that is over. Takes no lock.
 */
bool users_pool_is_away(users_pool *pool);

/* The same, and it is not the caller's turn to look. */
bool users_pool_is_barred(users_pool *pool);

/*
 * The same for one that serves, and may do better elsewhere or anew: it stays where no other can be
 * had, and there is one connection more meanwhile.
 */
users_db_status users_connection_renew(users_connection *connection, apr_time_t deadline);

/*
 * Has a connection come back since then (users_now()) on which a statement was answered? While all
 * are in use, that tells a database that is busy from one that is silent.
 */
bool users_pool_answered_since(users_pool *pool, apr_time_t since);

/* A request was refused because of USERS_DB_UNREACHABLE: the log says how many were. */
void users_pool_count_refusal(users_pool *pool);

/* A request has waited for one in vain: the log is told. */
void users_pool_note_busy(users_pool *pool, users_pool_kind kind);

/* Give it back. One that was lost, or is still in a transaction, is closed instead. */
void users_connection_release(users_connection *connection);

/*
 * It was lost: what has become of its server or of the way there has happened to the idle ones,
 * too, which are closed when next borrowed. For no other reason: to connect costs PostgreSQL a
 * process.
 */
void users_connection_lose(users_connection *connection);

/* Close it, and no other. */
void users_connection_close(users_connection *connection);

/*
 * Open another connection in place of one that was unfit. pass_host:
 * its host is not the right one, and the next is tried first.
 */
users_db_status users_connection_replace(users_connection *connection, bool pass_host,
                                         apr_time_t deadline);

#endif
