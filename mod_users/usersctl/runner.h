/*
 * Runs SQL that may need locks which the API has, too: nobody waits longer than 100 ms behind it.
 * Where it can't have a lock in that time it is undone, and tried again a second later.
 */
#ifndef USERS_RUNNER_H
#define USERS_RUNNER_H

#include "usersctl/scripts.h"

#include <apr_time.h>
#include <libpq-fe.h>

typedef struct {
    apr_pool_t *pool;
    PGconn *db;
    const char *owner;   /* of the tables, quoted; NULL: there are none */
    apr_time_t patience; /* apr_time_now(): until then locks are waited for */
} users_runner;

/*
 * Run a migration, in a transaction unless it can't be in one, and note it in users.migration.
 * All of these complain where they fail, but for a signal.
 */
users_exit users_runner_run(users_runner *r, const users_script *script);

/*
 * Run scripts in one transaction and note them together as name, with a digest in hexadecimal
 * (NULL: none).
 */
users_exit users_runner_run_together(users_runner *r, const char *name,
                                     const apr_array_header_t *scripts, const char *digest);

/* Run statements that need no lock. */
users_exit users_runner_execute(const users_runner *r, const char *sql);

/* One value of one row, in memory of the pool; NULL for null, for no row, and where it failed. */
users_exit users_runner_query(const users_runner *r, const char *sql, const char **value);

/* Tell what is wrong with a result, and in what. */
users_exit users_runner_complain(const users_runner *r, const char *name, const PGresult *result);

#endif
