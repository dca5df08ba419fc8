#include "db/turns.h"

#include "core/clock.h"

#include <apr_thread_cond.h>
#include <apr_thread_mutex.h>

/*
 * Who has had the turn for so long is stuck, since a change takes milliseconds, and so are its
 * successors until nobody waits. Before that any number may wait: honest changes that come at once
 * are all made.
 */
#define PATIENCE apr_time_from_msec(500)

struct users_turns {
    int most;
    int threads;

    apr_thread_mutex_t *mutex; /* guards what follows */
    apr_thread_cond_t *ended;  /* a turn has */
    users_turn *first;         /* those that have their turn */
    int waiting;
};

/* What keeps a change from its turn. */
typedef struct {
    apr_time_t stuck_at;
    int waiters; /* that may wait from then on */
} obstacle;

users_turns *users_turns_create(apr_pool_t *pool, int most, int threads)
{
    users_turns *turns = apr_pcalloc(pool, sizeof(*turns));
    apr_status_t status = apr_thread_mutex_create(&turns->mutex, APR_THREAD_MUTEX_DEFAULT, pool);

    turns->most = most;
    turns->threads = threads;
    if (status == APR_SUCCESS) {
        status = apr_thread_cond_create(&turns->ended, pool);
    }
    return status == APR_SUCCESS ? turns : NULL;
}

/* With the mutex held: is there one? Where all turns are taken it is the last to be stuck. */
static bool find_obstacle(const users_turns *turns, apr_int64_t account, obstacle *found)
{
    int taken = 0;

    *found = (obstacle){0, turns->threads / 2};
    for (const users_turn *turn = turns->first; turn; turn = turn->next) {
        if (account && turn->account == account) {
            *found = (obstacle){turn->stuck_at, turns->threads / 4};
            return true;
        }
        if (turn->stuck_at > found->stuck_at) {
            found->stuck_at = turn->stuck_at;
        }
        taken++;
    }
    return taken >= turns->most;
}

/* With the mutex held. */
static bool wait_for_turn(users_turns *turns, users_turn *turn, apr_time_t deadline)
{
    bool stuck = false;
    obstacle o;

    while (find_obstacle(turns, turn->account, &o)) {
        apr_time_t now = users_now();

        stuck = now >= o.stuck_at;
        if (now >= deadline || (stuck && turns->waiting > o.waiters)) {
            return false;
        }
        apr_thread_cond_timedwait(turns->ended, turns->mutex,
                                  (stuck || deadline < o.stuck_at ? deadline : o.stuck_at) - now);
    }
    turn->stuck_at = stuck ? 0 : users_now() + PATIENCE;
    return true;
}

bool users_turn_take(users_turns *turns, users_turn *turn, apr_int64_t account, apr_time_t deadline)
{
    bool taken;

    *turn = (users_turn){.account = account};
    apr_thread_mutex_lock(turns->mutex);
    turns->waiting++;
    taken = wait_for_turn(turns, turn, deadline);
    turns->waiting--;
    if (taken) {
        turn->next = turns->first;
        turns->first = turn;
    }
    apr_thread_mutex_unlock(turns->mutex);
    return taken;
}

void users_turn_end(users_turns *turns, users_turn *turn)
{
    users_turn **link = &turns->first;

    apr_thread_mutex_lock(turns->mutex);
    while (*link != turn) {
        link = &(*link)->next;
    }
    *link = turn->next;
    apr_thread_cond_broadcast(turns->ended);
    apr_thread_mutex_unlock(turns->mutex);
}
