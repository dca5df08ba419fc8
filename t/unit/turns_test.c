/* Turns alone, with threads and a clock of the test's own: also built with ThreadSanitizer (make
 * race). */
#include "core/clock.h"

#include <stdatomic.h>

static _Atomic apr_time_t pretended; /* stands still but where a test sets it */

static apr_time_t pretended_now(void)
{
    return atomic_load(&pretended);
}

#define users_now pretended_now
#include "db/turns.c" /* to see who waits */
#undef users_now

#include "unit.h"

#include <pthread.h>
#include <sched.h>

#define NEVER (apr_time_from_sec(1000000))
#define LATER (PATIENCE + 1)

typedef enum { WAITS, HAS, REFUSED, ENDED } progress;

/* A thread that wants a turn, and keeps it until it is told to end. */
typedef struct {
    users_turns *turns;
    apr_int64_t account;
    apr_time_t deadline;
    _Atomic progress progress;
    atomic_bool may_end;
    pthread_t thread;
} change;

static void *run(void *data)
{
    change *c = data;
    users_turn turn;

    if (!users_turn_take(c->turns, &turn, c->account, c->deadline)) {
        atomic_store(&c->progress, REFUSED);
        return NULL;
    }
    atomic_store(&c->progress, HAS);
    while (!atomic_load(&c->may_end)) {
        sched_yield();
    }
    users_turn_end(c->turns, &turn);
    atomic_store(&c->progress, ENDED);
    return NULL;
}

static void start(change *c, users_turns *turns, apr_int64_t account)
{
    *c = (change){.turns = turns, .account = account, .deadline = NEVER};
    assert_int_equal(pthread_create(&c->thread, NULL, run, c), 0);
}

static int count(change *changes, int number, progress wanted)
{
    int found = 0;

    for (int i = 0; i < number; i++) {
        found += atomic_load(&changes[i].progress) == wanted;
    }
    return found;
}

static void wait_for(change *changes, int number, progress wanted, int times)
{
    while (count(changes, number, wanted) != times) {
        sched_yield();
    }
}

static void wait_for_waiting(users_turns *turns, int waiting)
{
    int now;

    do {
        sched_yield();
        apr_thread_mutex_lock(turns->mutex);
        now = turns->waiting;
        apr_thread_mutex_unlock(turns->mutex);
    } while (now != waiting);
}

static void join_all(change *changes, int number)
{
    for (int i = 0; i < number; i++) {
        atomic_store(&changes[i].may_end, true);
    }
    for (int i = 0; i < number; i++) {
        pthread_join(changes[i].thread, NULL);
    }
}

static users_turns *begin(void **state, int most, int threads)
{
    users_turns *turns = users_turns_create(*state, most, threads);

    assert_non_null(turns);
    atomic_store(&pretended, 1);
    return turns;
}

static void an_account_has_one_turn(void **state)
{
    users_turns *turns = begin(state, 5, 64);
    change changes[4];

    for (int i = 0; i < 4; i++) {
        start(&changes[i], turns, i < 3 ? 7 : 8);
    }
    wait_for_waiting(turns, 2);
    wait_for(changes, 4, HAS, 2); /* one of each */
    assert_int_equal(atomic_load(&changes[3].progress), HAS);
    join_all(changes, 4);
    assert_int_equal(count(changes, 4, ENDED), 4);
    assert_null(turns->first);
}

static void few_have_a_turn_at_once(void **state)
{
    users_turns *turns = begin(state, 2, 64);
    change changes[9];

    for (int i = 0; i < 9; i++) {
        start(&changes[i], turns, 0);
    }
    wait_for_waiting(turns, 7);
    wait_for(changes, 9, HAS, 2);
    join_all(changes, 9);
    assert_int_equal(count(changes, 9, ENDED), 9);
}

/* More than may wait behind one that is stuck, but none is. */
static void while_they_move_all_wait(void **state)
{
    users_turns *turns = begin(state, 2, 16);
    change changes[40];

    for (int i = 0; i < 40; i++) {
        start(&changes[i], turns, i % 2 ? 7 : 8);
    }
    wait_for_waiting(turns, 38);
    atomic_store(&pretended, PATIENCE - 1);
    join_all(changes, 40);
    assert_int_equal(count(changes, 40, ENDED), 40);
}

static void behind_a_stuck_account_a_quarter_waits(void **state)
{
    users_turns *turns = begin(state, 2, 16);
    change changes[10];
    change other;

    for (int i = 0; i < 8; i++) {
        start(&changes[i], turns, 7);
    }
    wait_for_waiting(turns, 7);
    atomic_store(&pretended, LATER);
    wait_for(changes, 8, REFUSED, 3);
    wait_for_waiting(turns, 4);
    start(&changes[8], turns, 7);
    wait_for(changes, 9, REFUSED, 4); /* who comes then is refused at once */
    start(&other, turns, 8);
    wait_for(&other, 1, HAS, 1);

    for (int i = 0; i < 8; i++) { /* the next is stuck, too, from its beginning */
        if (atomic_load(&changes[i].progress) == HAS) {
            atomic_store(&changes[i].may_end, true);
        }
    }
    wait_for_waiting(turns, 3);
    wait_for(changes, 9, HAS, 1);
    start(&changes[9], turns, 7);
    wait_for_waiting(turns, 4);
    join_all(changes, 10);
    join_all(&other, 1);
    assert_int_equal(count(changes, 10, ENDED), 6);
    assert_int_equal(count(changes, 10, REFUSED), 4);
}

static void behind_stuck_ones_half_the_threads_wait(void **state)
{
    users_turns *turns = begin(state, 2, 16);
    change changes[13];

    for (int i = 0; i < 12; i++) {
        start(&changes[i], turns, 0);
    }
    wait_for_waiting(turns, 10);
    atomic_store(&pretended, LATER);
    wait_for(changes, 12, REFUSED, 2);
    start(&changes[12], turns, 0);
    wait_for(changes, 13, REFUSED, 3);
    join_all(changes, 13);
    assert_int_equal(count(changes, 13, ENDED), 10);
}

static void a_deadline_ends_the_wait(void **state)
{
    users_turns *turns = begin(state, 2, 16);
    change changes[2];

    start(&changes[0], turns, 7);
    wait_for(changes, 1, HAS, 1);
    changes[1] = (change){.turns = turns, .account = 7, .deadline = 1000};
    assert_int_equal(pthread_create(&changes[1].thread, NULL, run, &changes[1]), 0);
    wait_for_waiting(turns, 1);
    atomic_store(&pretended, 1000);
    wait_for(changes, 2, REFUSED, 1);
    join_all(changes, 2);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(an_account_has_one_turn),
    cmocka_unit_test(few_have_a_turn_at_once),
    cmocka_unit_test(while_they_move_all_wait),
    cmocka_unit_test(behind_a_stuck_account_a_quarter_waits),
    cmocka_unit_test(behind_stuck_ones_half_the_threads_wait),
    cmocka_unit_test(a_deadline_ends_the_wait),
};

UNIT_MAIN(tests)
