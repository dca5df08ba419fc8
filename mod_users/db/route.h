/*
 * A replica of a database (UsersDBReplica), which GET is served from. It lags behind: so it has to
 * be seen not to be more than UsersReplicaLag old, only what it admits counts, and who has just
 * changed something reads from the primary.
 */
#ifndef USERS_DB_ROUTE_H
#define USERS_DB_ROUTE_H

#include "db/execute.h"

/* Hook post_config: where the children of this host note who has changed something. */
int users_replica_start(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s);

/* The settings of the replica of these settings' database. Memory of pool. */
const users_settings *users_replica_settings(apr_pool_t *pool, const users_settings *settings);

/* Make a database the replica of a primary; NULL: of none. */
void users_replica_add(apr_pool_t *pchild, struct users_database *primary,
                       struct users_database *database);

/* Where a request is looked up, and until when (users_now()) that database's word counts. */
typedef struct {
    struct users_database *database; /* NULL: it could not be set up */
    apr_time_t until;
} users_route;

/*
 * The replica where the request may lag, there is one, and it is good; else the primary. Every so
 * often a request examines the replica first, which counts towards its UsersRequestTimeout.
 */
users_route users_replica_route(const request_rec *r, bool may_lag);

static inline bool users_is_replica(const struct users_database *database)
{
    return database && database->primary;
}

/*
 * What came of the look-up there. user: the account that was admitted, 0: none. Returns true where
 * the primary, to which the route then leads, has to be asked instead.
 */
bool users_replica_defers(users_route *route, users_db_status status, apr_int64_t user);

/* This user's account may have been changed: for UsersReplicaLag no replica is asked for it. */
void users_replica_note_change(const request_rec *r, apr_int64_t user);

#endif
