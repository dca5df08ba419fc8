/*
 * Primary or replica. A replica lags behind: so it has to be seen not to be more than replica_lag
 * old, only what it admits counts, and whoever has just changed something reads from the primary.
 */
#ifndef USERS_DB_ROUTE_H
#define USERS_DB_ROUTE_H

#include "db/run.h"

#define USERS_WRITERS_BITS 13

/* When users last changed something (users_now(); 0: never), in memory that processes share. */
struct users_writers {
    apr_uint64_t changed[1u << USERS_WRITERS_BITS];
};

/* Make a database the replica of a primary; NULL: of none. */
void users_route_add_replica(apr_pool_t *pool, users_db *primary, users_db *replica);

static inline bool users_is_replica(const users_db *db)
{
    return db && db->primary;
}

/*
 * Look something up in one database; NULL fails. *user: the account that is admitted there to read
 * itself, 0: none.
 */
typedef users_db_status users_look_up(users_db_call *call, users_db *db, void *look_up,
                                      apr_int64_t *user);

/* Whom a replica lets read; who would be refused, as far as it knows, counts as nobody. */
apr_int64_t users_route_admitted(bool found, const users_principal *principal);

/*
 * Look up in the replica, where the knowledge that is wanted may lag, there is one, and it is good;
 * and in the primary, where that has no say. Every so often a call examines the replica first,
 * which counts towards its time.
 */
users_outcome users_route_look_up(users_db_call *call, users_knowledge wanted, users_look_up *find,
                                  void *look_up);

/* The replica of a primary; NULL: there is none. */
users_db *users_route_replica(const users_db *primary);

/*
 * Does GET read from the replica at the moment, as it does from one that is good? It is examined
 * first where that is due.
 */
bool users_route_is_good(users_db_call *call);

/* This user's account may have been changed: for replica_lag no replica is asked for it. */
void users_route_note_change(const users_db_call *call, apr_int64_t user);

#endif
