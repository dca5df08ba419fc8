/*
 * Concurrent requests share a trip: who finds every lane busy waits in a queue, and whoever
 * gets a lane takes all that wait along. Alone, a request runs at once: there is no timer.
 * Knows neither httpd nor SQL.
 */
#ifndef USERS_DB_BATCH_H
#define USERS_DB_BATCH_H

#include <apr_pools.h>
#include <apr_time.h>
#include <semaphore.h>
#include <stdbool.h>

#define USERS_BATCH_MAX 128 /* tickets of one trip */

typedef struct users_combiner users_combiner;

/* A request's part in a trip. On its requester's stack; the first three members are his. */
typedef struct users_ticket {
    const void *question; /* must outlive users_combine() */
    void *answer;         /* where the trip writes to */
    apr_time_t deadline;  /* until when it may wait in the queue (users_now()) */

    struct users_ticket *next; /* the rest is the combiner's */
    sem_t called;
    enum { USERS_TICKET_QUEUED, USERS_TICKET_TAKEN, USERS_TICKET_LEADS } state;
} users_ticket;

/*
 * A trip: answers all tickets before it returns, in bounded time. Runs on the thread of the first
 * one's requester, with no lock held.
 */
typedef void users_trip(void *context, users_ticket **tickets, int count);

/* lanes: how many trips may be under way at once, 1 or more. NULL where no lock could be had. */
users_combiner *users_combiner_create(apr_pool_t *pool, int lanes, users_trip *trip, void *context);

/*
 * Get a ticket answered, by a trip of this thread or of another one. Returns false where it was
 * still in the queue at its deadline: it has then left it, unanswered.
 */
bool users_combine(users_combiner *combiner, users_ticket *ticket);

#endif
