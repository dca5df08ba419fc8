/*
 * An outage of the database: while it lasts nobody waits for a connection. One caller at a time
 * looks whether it is over, after a pause that grows from 50 to 500 ms. The log has a line at
 * its beginning and one at its end, but where PostgreSQL has no connection left: that is one
 * line for all children (capacity.h).
 */
#ifndef USERS_DB_OUTAGE_H
#define USERS_DB_OUTAGE_H

#include "db/connect.h"
#include "db/trouble.h"

#include <stdbool.h>

typedef struct users_outage users_outage;

typedef enum {
    USERS_MAY_CONNECT, /* no outage is known */
    USERS_MAY_PROBE,   /* this caller alone looks whether it is over */
    USERS_MAY_NOT      /* too soon, or another one is looking */
} users_permit;

/*
 * Of one database, none to begin with, in memory of pool. witness: who tells the log; it must live
 * as long. NULL where no lock could be had.
 */
users_outage *users_outage_create(apr_pool_t *pool, const users_witness *witness);

/* Is there one? Takes no lock. */
bool users_outage_lasts(users_outage *outage);

/* Would users_outage_ask() say no? */
bool users_outage_bars(users_outage *outage);

/* May the caller connect? Unless the answer is no, it tells the result by users_outage_tell(). */
users_permit users_outage_ask(users_outage *outage);

/* What came of connecting with this permit. fault: why every host has failed. */
void users_outage_tell(users_outage *outage, users_permit permit, users_connect_status status,
                       const users_connect_fault *fault);

/* A request was refused because of it. */
void users_outage_count(users_outage *outage);

#endif
