/*
 * How many statements of all children, which requests share, a server works on at once. More of
 * them only wait for a processor there, and each child would stand still meanwhile.
 */
#ifndef USERS_DB_LANES_H
#define USERS_DB_LANES_H

#include <apr_pools.h>
#include <apr_proc_mutex.h>
#include <apr_time.h>
#include <stdbool.h>

typedef struct users_lanes users_lanes; /* users_db_lanes() */

/*
 * Wait until one is free, and take it; false where none was before the deadline (users_now()). The
 * same thread gives *lane back by apr_proc_mutex_unlock(). NULL: there is none to be given back,
 * since the lock has failed, or lanes is NULL. A process that ends with one gives it back, too.
 */
bool users_lanes_take(users_lanes *lanes, apr_time_t deadline, apr_proc_mutex_t **lane);

#endif
