/*
 * Primary or replica. A replica lags behind: so it has to be seen not to be more than replica_lag
 * old (replica.h), only what it admits counts, and whoever has just changed something reads from
 * the primary.
 */
#ifndef USERS_DB_ROUTE_H
#define USERS_DB_ROUTE_H

#include "db/run.h"

#define USERS_WRITERS_BITS 13

/* When users last changed something (users_now(); 0: never), in memory that processes share. */
struct users_writers {
    apr_uint64_t changed[1u << USERS_WRITERS_BITS];
};

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
 * Look up in a replica, where the knowledge that is wanted may lag and there is a good one, and in
 * the next where it fails; and in the primary, where none has a say.
 */
users_outcome users_route_look_up(users_db_call *call, users_knowledge wanted, users_look_up *find,
                                  void *look_up);

/* How many replicas a primary has, and each of them, by its number from 0 on. */
int users_route_replicas(const users_db *db);
users_db *users_route_replica(const users_db *db, int number);

/* Does GET read from this replica at the moment? */
bool users_route_is_good(const users_db *replica);

/* This user's account may have been changed: for replica_lag no replica is asked for it. */
void users_route_note_change(const users_db_call *call, apr_int64_t user);

#endif
