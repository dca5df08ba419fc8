#include "db/batch.h"

#include "core/clock.h"

#include <apr_thread_mutex.h>
#include <errno.h>

struct users_batcher {
    int limit;          /* of queries in flight */
    users_lanes *lanes; /* of which each takes one; NULL: they need none */
    users_batch_query *query;
    void *context;

    apr_thread_mutex_t *mutex; /* guards what follows, and each waiter's state */
    int in_flight;             /* queries */
    users_waiter *first;       /* the queue: empty unless the limit is reached */
    users_waiter **end;
};

users_batcher *users_batcher_create(apr_pool_t *pool, int limit, users_lanes *lanes,
                                    users_batch_query *query, void *context)
{
    users_batcher *batcher = apr_pcalloc(pool, sizeof(*batcher));

    batcher->limit = limit;
    batcher->lanes = lanes;
    batcher->query = query;
    batcher->context = context;
    batcher->end = &batcher->first;
    return apr_thread_mutex_create(&batcher->mutex, APR_THREAD_MUTEX_DEFAULT, pool) == APR_SUCCESS
               ? batcher
               : NULL;
}

/* The queue; all of these with the mutex held. */

static void enqueue(users_batcher *batcher, users_waiter *waiter)
{
    waiter->state = USERS_WAITER_QUEUED;
    waiter->next = NULL;
    *batcher->end = waiter;
    batcher->end = &waiter->next;
}

static users_waiter *dequeue(users_batcher *batcher)
{
    users_waiter *waiter = batcher->first;

    if (waiter) {
        batcher->first = waiter->next;
        if (!batcher->first) {
            batcher->end = &batcher->first;
        }
    }
    return waiter;
}

static void leave_queue(users_batcher *batcher, const users_waiter *waiter)
{
    users_waiter **link = &batcher->first;

    while (*link != waiter) {
        link = &(*link)->next;
    }
    *link = waiter->next;
    if (batcher->end == &waiter->next) {
        batcher->end = link;
    }
}

/* Leave the queue unless a query has taken the waiter, or it is to lead one. */
static bool give_up(users_batcher *batcher, users_waiter *waiter)
{
    bool queued;

    apr_thread_mutex_lock(batcher->mutex);
    queued = waiter->state == USERS_WAITER_QUEUED;
    if (queued) {
        leave_queue(batcher, waiter);
    }
    apr_thread_mutex_unlock(batcher->mutex);
    return queued;
}

/*
 * Wait in the queue until another thread calls: the waiter is answered, or leads the next
 * query. False where its deadline came first. Once a query has taken the waiter its end is waited
 * for, since it will write to it.
 */
static bool wait_for_call(users_batcher *batcher, users_waiter *waiter)
{
    int failed;

    do { /* again after a signal, and where the time of day, which semaphores go by, was set */
        apr_time_t end = apr_time_now() + waiter->deadline - users_now();
        struct timespec until = {.tv_sec = apr_time_sec(end), .tv_nsec = apr_time_usec(end) * 1000};

        failed = sem_timedwait(&waiter->called, &until);
    } while (failed && (errno == EINTR || users_now() < waiter->deadline));
    if (failed && give_up(batcher, waiter)) {
        return false;
    }
    while (failed) {
        failed = sem_wait(&waiter->called);
    }
    return true;
}

/* Have the next one lead a query, if any waits. */
static void pass_on(users_batcher *batcher)
{
    users_waiter *next;

    apr_thread_mutex_lock(batcher->mutex);
    next = dequeue(batcher);
    if (next) {
        next->state = USERS_WAITER_LEADS;
    } else {
        batcher->in_flight--;
    }
    apr_thread_mutex_unlock(batcher->mutex);
    if (next) {
        sem_post(&next->called);
    }
}

/* Take all that wait by now, as many as a query has room for, behind the one that is there. */
static int gather(users_batcher *batcher, users_waiter **waiters)
{
    users_waiter *next;
    int count = 1;

    apr_thread_mutex_lock(batcher->mutex);
    while (count < USERS_BATCH_MAX && (next = dequeue(batcher))) {
        next->state = USERS_WAITER_TAKEN;
        waiters[count++] = next;
    }
    apr_thread_mutex_unlock(batcher->mutex);
    return count;
}

/* Run a query for this waiter and all that wait when it has a lane. */
static void lead(users_batcher *batcher, users_waiter *waiter)
{
    users_waiter *waiters[USERS_BATCH_MAX] = {waiter};
    apr_proc_mutex_t *lane = users_lanes_take(batcher->lanes);
    int count = gather(batcher, waiters);

    batcher->query(batcher->context, waiters, count);
    if (lane) {
        apr_proc_mutex_unlock(lane);
    }
    pass_on(batcher);
    for (int i = 1; i < count; i++) {
        sem_post(&waiters[i]->called); /* from here on the waiter may be gone */
    }
}

bool users_batch_join(users_batcher *batcher, users_waiter *waiter)
{
    bool leads;
    bool answered = true;

    apr_thread_mutex_lock(batcher->mutex);
    leads = batcher->in_flight < batcher->limit;
    if (leads) {
        batcher->in_flight++;
    } else {
        sem_init(&waiter->called, 0, 0);
        enqueue(batcher, waiter);
    }
    apr_thread_mutex_unlock(batcher->mutex);

    if (!leads) {
        answered = wait_for_call(batcher, waiter);
        leads = answered && waiter->state == USERS_WAITER_LEADS;
        sem_destroy(&waiter->called);
    }
    if (leads) {
        lead(batcher, waiter);
    }
    return answered;
}
