/*
 * How many statements of all children, which requests share, a server works on at once. More of
 * them only wait for a processor there, and each child would stand still meanwhile.
 */
#ifndef USERS_DB_LANES_H
#define USERS_DB_LANES_H

#include <apr_pools.h>
#include <apr_proc_mutex.h>

typedef struct users_lanes users_lanes; /* users_db_lanes() */

/*
 * Take one, or wait until one is free, but not for long: if statements take their time there is
 * something else than too many of them, and who waits goes without. The same thread gives it back
 * by apr_proc_mutex_unlock(). NULL: there is none to be given back, since none was free in time,
 * the lock has failed, or lanes is NULL. A process that ends with one gives it back, too.
 */
apr_proc_mutex_t *users_lanes_take(users_lanes *lanes);

#endif
