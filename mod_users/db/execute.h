/* Statements on behalf of requests: deadlines and repetition. Knows no SQL. */
#ifndef USERS_DB_EXECUTE_H
#define USERS_DB_EXECUTE_H

#include "db/batch.h"
#include "db/pool.h"

typedef struct users_replica users_replica; /* replica.c */

/* A database, of one child: a primary, or a replica of one. */
struct users_database {
    server_rec *server; /* the first that works with it, for the log */
    users_pool *pool;
    users_combiner *tokens; /* look-ups that share a trip; NULL: each makes its own */
    const users_settings *settings;
    users_replica *replica;         /* NULL: there is none */
    struct users_database *primary; /* of which this is the replica; NULL: it is none */
};

/* The primary that the server of a request works with; NULL where it could not be set up. */
static inline struct users_database *users_database_of(const request_rec *r)
{
    return users_settings_of(r->server)->database;
}

/*
 * Deadlines (users_now()). The database may work UsersRequestTimeout for a request, all statements,
 * waits and repetitions together; what the client takes to send a body is not counted.
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
users_limits users_limits_of(const request_rec *r, const struct users_database *database);
void users_limits_spend(const request_rec *r, const users_limits *l);

/*
 * Run a statement within these limits. On USERS_DB_OK *result is the caller's; otherwise it is
 * NULL.
 */
users_db_status users_run(struct users_database *database, const users_statement *statement,
                          const users_parameter *parameters, const users_limits *l,
                          PGresult **result);

/* Count a request that the database's absence had refused, whoever made its trip. */
void users_run_count(const struct users_database *database, users_db_status status);

/* Run for this request alone: *result lives as long as it does. database: NULL fails. */
users_db_status users_run_for(request_rec *r, struct users_database *database,
                              const users_statement *statement, const users_parameter *parameters,
                              PGresult **result);

/*
 * The same for a change that can be repeated under its name (sql/contract.sql). *settled: what came
 * of it was not heard at once. USERS_DB_UNKNOWN: nor found out in time.
 */
users_db_status users_run_change(request_rec *r, const users_statement *statement,
                                 const users_parameter *parameters, PGresult **result,
                                 bool *settled);

#endif
