/* Statements on behalf of requests: deadlines and repetition. Knows no SQL. */
#ifndef USERS_DB_RUN_H
#define USERS_DB_RUN_H

#include "db/batch.h"
#include "db/db.h"
#include "db/execute.h"

typedef struct users_replica users_replica; /* replica.h */
typedef struct users_changes users_changes; /* changes.c */
typedef struct users_turns users_turns;     /* turns.c */

/* A primary, or a replica of one. */
struct users_db {
    users_log log;    /* of the server, not of a request */
    const char *name; /* in the log */
    users_pool *pool;
    users_batcher *tokens;     /* look-ups that share a query; NULL: each has its own */
    users_changes *updates[2]; /* changes that share a commit, without a note and with one; NULL:
                                  each has its own */
    users_changes *registrations[2]; /* the same */
    users_turns *turns;              /* of changes that go alone */
    const users_db_settings *settings;
    users_replica *replicas; /* of this primary */
    int replica_count;
    apr_uint32_t turn;      /* of the replicas that are as busy as each other */
    users_db *primary;      /* of which this is a replica; NULL: it is none */
    users_replica *replica; /* the same of that replica */
};

/*
 * Deadlines (users_now()). A call has so much time left for all statements, waits and repetitions
 * together; what the client takes to send a body is not counted.
 */
typedef struct {
    apr_time_t began;
    apr_time_t connection; /* until then a connection must have been had */
    apr_time_t end;        /* of everything */
} users_limits;

/*
 * Those of a statement that begins now, half of what is left for a replica's, lest the primary
 * have no time to be asked after it; and count what it took, when it has ended.
 */
users_limits users_limits_of(const users_db_call *call, const users_db *db);
void users_limits_spend(users_db_call *call, const users_limits *l);

/*
 * Those of a statement for all of these waiters: it has the time of the one that has the most, and
 * db_timeout at most. Who has little left must not have it taken from all the others.
 */
users_limits users_limits_of_all(users_waiter **waiters, int count);

/*
 * Run a statement within these limits. On USERS_DB_OK *result is the caller's; otherwise it is
 * NULL.
 */
users_db_status users_run(users_db *db, const users_statement *statement,
                          const users_parameter *parameters, const users_limits *l,
                          PGresult **result);

/* Count a request that the lack of a database or of a connection had refused, whoever ran its
 * query.
 */
void users_run_count(const users_db *db, users_db_status status);

/* Run for this request alone: *result lives as long as its call. db: NULL fails. */
users_db_status users_run_for(users_db_call *call, users_db *db, const users_statement *statement,
                              const users_parameter *parameters, PGresult **result);

/*
 * The same for a change that can be repeated under its name (sql/contract.sql). *settled: what came
 * of it was not heard at once. USERS_DB_UNKNOWN: nor found out in time.
 */
users_db_status users_run_change(users_db_call *call, const users_statement *statement,
                                 const users_parameter *parameters, PGresult **result,
                                 bool *settled);

/*
 * Find out what became of a change that was not heard of: it may have been made, or not, or still
 * be under way.
 */
users_db_status users_run_settle(users_db_call *call, const users_statement *statement,
                                 const users_parameter *parameters, PGresult **result);

/* What a status is to those above: of a look-up, which does no harm, or of a change. */
users_outcome users_outcome_of_read(users_db_status status);
users_outcome users_outcome_of_change(users_db_status status);

#endif
