/* usersctl check, on one connection: the findings of a database. */
#ifndef USERS_EXAMINE_H
#define USERS_EXAMINE_H

#include "usersctl/commands.h"
#include "usersctl/findings.h"
#include "usersctl/queries.h"

#include <apr_time.h>
#include <libpq-fe.h>
#include <stdbool.h>

/* A connection, and what is known of it. */
typedef struct {
    users_findings *findings;
    users_invocation *invocation; /* whose --sql has this version's SQL */
    PGconn *pg;
    bool is_replica;                                /* UsersDBReplica's */
    bool is_modules;                                /* its role is the module's, whoever that is */
    bool knows_usage;                               /* it is known how the module uses it: */
    bool prepares;                                  /* UsersDBPrepare on */
    const char *parameters[USERS_QUERY_PARAMETERS]; /* but for the role; NULL: not known */
} users_examination;

/* Examine all. Stops where the connection is lost, or nothing more can be asked. */
void users_examine(users_examination *e);

/*
 * How far a replica is behind its primary. lag: what UsersReplicaLag permits, for which it is
 * waited, though not longer than some seconds.
 */
void users_examine_lag(users_examination *replica, PGconn *primary, apr_interval_time_t lag);

#endif
