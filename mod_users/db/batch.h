/*
 * Concurrent requests share a query: those that find as many in flight as may be wait in a queue,
 * and the next query answers all that wait. Alone, a request runs at once: there is no timer.
 * Knows neither httpd nor SQL.
 */
#ifndef USERS_DB_BATCH_H
#define USERS_DB_BATCH_H

#include "db/lanes.h"

#include <apr_pools.h>
#include <apr_time.h>
#include <semaphore.h>
#include <stdbool.h>

#define USERS_BATCH_MAX 128 /* waiters of one query */

typedef struct users_batcher users_batcher;

/* A request that wants an answer, on its own stack; the first four members are its own. */
typedef struct users_waiter {
    const void *question; /* must outlive users_batch_join() */
    void *answer;         /* where the query writes to */
    apr_time_t deadline;  /* until when it may wait in the queue (users_now()) */
    apr_time_t end;       /* until when it should be answered, for the query to know */

    struct users_waiter *next; /* the rest is the batcher's */
    sem_t called;
    enum { USERS_WAITER_QUEUED, USERS_WAITER_TAKEN, USERS_WAITER_LEADS } state;
} users_waiter;

/*
 * Answers all waiters before it returns, in bounded time. Runs on the thread of the first one, with
 * no lock held.
 */
typedef void users_batch_query(void *context, users_waiter **waiters, int count);

/*
 * limit: how many queries may be in flight, 1 or more; lanes: how many of all processes, NULL for
 * any number. NULL where no lock could be had.
 */
users_batcher *users_batcher_create(apr_pool_t *pool, int limit, users_lanes *lanes,
                                    users_batch_query *query, void *context);

/*
 * Get a waiter answered, by a query of this thread or of another one. Returns false where it was
 * still in the queue at its deadline: it has then left it, unanswered.
 */
bool users_batch_join(users_batcher *batcher, users_waiter *waiter);

#endif
