/* The lanes of all processes: how many are taken at once, and that none gets lost. */
#include "db/lanes.c"

#include "unit.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

/* NULL: none is free. */
static apr_proc_mutex_t *take(users_lanes *lanes, apr_time_t deadline)
{
    apr_proc_mutex_t *lane = NULL;
    bool taken = users_lanes_take(lanes, deadline, &lane);

    assert_int_equal(taken, lane != NULL);
    return lane;
}

#define SOON  (users_now() + apr_time_from_msec(20))
#define LATER (users_now() + apr_time_from_sec(20))

static void there_are_so_many(void **state)
{
    users_lanes *lanes = users_db_lanes(*state, 2);
    apr_proc_mutex_t *first = take(lanes, SOON);
    apr_proc_mutex_t *second = take(lanes, SOON);

    assert_non_null(first);
    assert_non_null(second);
    assert_ptr_not_equal(first, second);
    assert_null(take(lanes, SOON));
    assert_null(take(lanes, 0)); /* a deadline that has passed */
    apr_proc_mutex_unlock(first);
    first = take(lanes, SOON);
    assert_non_null(first);
    apr_proc_mutex_unlock(first);
    apr_proc_mutex_unlock(second);
    users_db_lanes_attach(NULL, *state);
    assert_true(users_lanes_take(NULL, 0, &first)); /* any number */
    assert_null(first);
}

/* Fork a child that takes a lane, and tells so; it never ends by itself. */
static pid_t fork_holder(users_lanes *lanes, apr_pool_t *pool)
{
    int pipes[2];
    char byte = 0;
    pid_t child;

    assert_int_equal(pipe(pipes), 0);
    child = fork();
    if (child == 0) {
        users_db_lanes_attach(lanes, pool);
        byte = take(lanes, LATER) != NULL;
        _exit(write(pipes[1], &byte, 1) == 1 ? pause() : 1);
    }
    assert_int_equal(read(pipes[0], &byte, 1), 1);
    assert_int_equal(byte, 1);
    close(pipes[0]);
    close(pipes[1]);
    return child;
}

static void a_holder_that_is_killed_loses_none(void **state)
{
    users_lanes *lanes = users_db_lanes(*state, 2);

    for (int i = 0; i < 10; i++) {
        pid_t holders[] = {fork_holder(lanes, *state), fork_holder(lanes, *state)};
        apr_proc_mutex_t *taken[2];

        assert_null(take(lanes, SOON));
        for (int j = 0; j < 2; j++) {
            kill(holders[j], SIGKILL);
            waitpid(holders[j], NULL, 0);
            taken[j] = take(lanes, LATER);
            assert_non_null(taken[j]);
        }
        apr_proc_mutex_unlock(taken[0]);
        apr_proc_mutex_unlock(taken[1]);
    }
}

/* Threads that take lanes all the time. */
typedef struct {
    users_lanes *lanes;
    atomic_int *held;
    int most;
    int failed;
} taker;

static void *take_often(void *data)
{
    taker *t = data;

    for (int i = 0; i < 2000; i++) {
        apr_proc_mutex_t *lane = take(t->lanes, LATER);
        int held;

        if (!lane) {
            t->failed++;
            continue;
        }
        held = atomic_fetch_add(t->held, 1) + 1;
        t->most = held > t->most ? held : t->most;
        atomic_fetch_sub(t->held, 1);
        apr_proc_mutex_unlock(lane);
    }
    return NULL;
}

static void threads_take_turns(void **state)
{
    atomic_int held = 0;
    pthread_t threads[8];
    taker takers[8];
    users_lanes *lanes = users_db_lanes(*state, 3);

    for (int i = 0; i < 8; i++) {
        takers[i] = (taker){.lanes = lanes, .held = &held};
        assert_int_equal(pthread_create(&threads[i], NULL, take_often, &takers[i]), 0);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
        assert_in_range(takers[i].most, 1, 3);
        assert_int_equal(takers[i].failed, 0);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(there_are_so_many),
    cmocka_unit_test(a_holder_that_is_killed_loses_none),
    cmocka_unit_test(threads_take_turns),
};

UNIT_MAIN(tests)
