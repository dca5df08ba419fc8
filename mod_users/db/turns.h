/*
 * Changes that go alone take turns, since each may wait in PostgreSQL for somebody's lock: one of
 * an account at a time, and few at once. When they get no further, few threads wait behind them,
 * and the others are refused. Knows no SQL.
 */
#ifndef USERS_DB_TURNS_H
#define USERS_DB_TURNS_H

#include <apr_pools.h>
#include <apr_time.h>
#include <stdbool.h>

typedef struct users_turns users_turns;

/* A change, on its own stack. All of it is the turns' own. */
typedef struct users_turn {
    apr_int64_t account;     /* 0: none */
    apr_time_t stuck_at;     /* from then on it is (users_now()) */
    struct users_turn *next; /* of those that have their turn */
} users_turn;

/*
 * most: how many have their turn at once, 1 or more; threads: how many there are in this process.
 * NULL where no lock could be had.
 */
users_turns *users_turns_create(apr_pool_t *pool, int most, int threads);

/*
 * Wait for a turn until the deadline (users_now()). False where it did not come, or too many wait
 * for one that is stuck; else users_turn_end() gives it back.
 */
bool users_turn_take(users_turns *turns, users_turn *turn, apr_int64_t account,
                     apr_time_t deadline);
void users_turn_end(users_turns *turns, users_turn *turn);

#endif
