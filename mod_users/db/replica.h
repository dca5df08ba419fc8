/*
 * How good a replica is: how old what it tells can be, as one process of the host finds out for
 * all of them.
 */
#ifndef USERS_DB_REPLICA_H
#define USERS_DB_REPLICA_H

#include "db/run.h"

/* A place in the log. After a failover the old timeline and the new one go on from the same place.
 */
typedef struct {
    apr_int64_t position;
    apr_int64_t timeline;
} users_place;

/* Where the primary was at a time: a replica that has come so far is no older than that. */
typedef struct {
    apr_time_t at; /* users_now() */
    users_place place;
} users_sample;

#define USERS_SAMPLES 4 /* in UsersReplicaLag */

/* What is known of a replica. In shared memory, zero at first. Times are users_now()'s. */
struct users_standing {
    apr_uint64_t good_until;   /* until then it is less than lag old */
    apr_uint64_t failed_until; /* a look-up has failed there: until then it is left alone */
    apr_uint64_t due;          /* when to examine it again */
    apr_uint32_t examiner;     /* the process that does, as long as it comes in time */
    apr_uint32_t told;         /* to the log: a lag_state */
    /* what follows is the examiner's: */
    users_sample samples[USERS_SAMPLES]; /* a ring */
    unsigned next;                       /* the oldest, or one that was never taken */
    apr_time_t sample_due;
    users_sample missed; /* the oldest that it was seen not to have passed; at 0: none */
};

/* A replica as this process uses it. */
struct users_replica {
    users_db *db;
    apr_interval_time_t lag;
    struct users_standing *standing;
    apr_uint32_t under_way; /* look-ups of this process */
};

/*
 * Until when (users_now()) what it tells counts, if a look-up may go there now; else 0. That is not
 * so where this process can't connect to it, either.
 */
apr_time_t users_replica_good_until(users_replica *replica);

/* A look-up has failed there: it is left alone for a while. */
void users_replica_distrust(users_replica *replica);

#endif
