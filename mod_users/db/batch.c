#include "db/batch.h"

#include "core/clock.h"

#include <apr_thread_mutex.h>
#include <errno.h>

struct users_combiner {
    int lanes;
    users_trip *trip;
    void *context;

    apr_thread_mutex_t *mutex; /* guards what follows, and each ticket's state */
    int busy;                  /* lanes under way */
    users_ticket *first;       /* the queue: empty unless every lane is busy */
    users_ticket **end;
};

users_combiner *users_combiner_create(apr_pool_t *pool, int lanes, users_trip *trip, void *context)
{
    users_combiner *combiner = apr_pcalloc(pool, sizeof(*combiner));

    combiner->lanes = lanes;
    combiner->trip = trip;
    combiner->context = context;
    combiner->end = &combiner->first;
    return apr_thread_mutex_create(&combiner->mutex, APR_THREAD_MUTEX_DEFAULT, pool) == APR_SUCCESS
               ? combiner
               : NULL;
}

/* The queue; all of these with the mutex held. */

static void enqueue(users_combiner *combiner, users_ticket *ticket)
{
    ticket->state = USERS_TICKET_QUEUED;
    ticket->next = NULL;
    *combiner->end = ticket;
    combiner->end = &ticket->next;
}

static users_ticket *dequeue(users_combiner *combiner)
{
    users_ticket *ticket = combiner->first;

    if (ticket) {
        combiner->first = ticket->next;
        if (!combiner->first) {
            combiner->end = &combiner->first;
        }
    }
    return ticket;
}

static void leave_queue(users_combiner *combiner, const users_ticket *ticket)
{
    users_ticket **link = &combiner->first;

    while (*link != ticket) {
        link = &(*link)->next;
    }
    *link = ticket->next;
    if (combiner->end == &ticket->next) {
        combiner->end = link;
    }
}

/* Leave the queue unless a trip has taken the ticket, or it is to lead one. */
static bool give_up(users_combiner *combiner, users_ticket *ticket)
{
    bool queued;

    apr_thread_mutex_lock(combiner->mutex);
    queued = ticket->state == USERS_TICKET_QUEUED;
    if (queued) {
        leave_queue(combiner, ticket);
    }
    apr_thread_mutex_unlock(combiner->mutex);
    return queued;
}

/*
 * Wait in the queue until another thread calls: the ticket is answered, or leads the next
 * trip. False where its deadline came first. Once a trip has taken the ticket its end is waited
 * for, since it will write to it.
 */
static bool wait_for_call(users_combiner *combiner, users_ticket *ticket)
{
    int failed;

    do { /* again after a signal, and where the time of day, which semaphores go by, was set */
        apr_time_t end = apr_time_now() + ticket->deadline - users_now();
        struct timespec until = {.tv_sec = apr_time_sec(end), .tv_nsec = apr_time_usec(end) * 1000};

        failed = sem_timedwait(&ticket->called, &until);
    } while (failed && (errno == EINTR || users_now() < ticket->deadline));
    if (failed && give_up(combiner, ticket)) {
        return false;
    }
    while (failed) {
        failed = sem_wait(&ticket->called);
    }
    return true;
}

/* Run a trip with this ticket and all that wait; then pass the lane on, or leave it. */
static void lead(users_combiner *combiner, users_ticket *ticket)
{
    users_ticket *tickets[USERS_BATCH_MAX];
    users_ticket *next;
    int count = 0;

    tickets[count++] = ticket;
    apr_thread_mutex_lock(combiner->mutex);
    while (count < USERS_BATCH_MAX && (next = dequeue(combiner))) {
        next->state = USERS_TICKET_TAKEN;
        tickets[count++] = next;
    }
    apr_thread_mutex_unlock(combiner->mutex);

    combiner->trip(combiner->context, tickets, count);

    apr_thread_mutex_lock(combiner->mutex);
    next = dequeue(combiner);
    if (next) {
        next->state = USERS_TICKET_LEADS;
    } else {
        combiner->busy--;
    }
    apr_thread_mutex_unlock(combiner->mutex);
    if (next) {
        sem_post(&next->called);
    }
    for (int i = 1; i < count; i++) {
        sem_post(&tickets[i]->called); /* from here on the ticket may be gone */
    }
}

bool users_combine(users_combiner *combiner, users_ticket *ticket)
{
    bool leads;
    bool called = true;

    apr_thread_mutex_lock(combiner->mutex);
    leads = combiner->busy < combiner->lanes;
    if (leads) {
        combiner->busy++;
    } else {
        sem_init(&ticket->called, 0, 0);
        enqueue(combiner, ticket);
    }
    apr_thread_mutex_unlock(combiner->mutex);

    if (!leads) {
        called = wait_for_call(combiner, ticket);
        leads = called && ticket->state == USERS_TICKET_LEADS;
        sem_destroy(&ticket->called);
    }
    if (leads) {
        lead(combiner, ticket);
    }
    return called;
}
