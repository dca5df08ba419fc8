/* The lanes of all processes: how many are taken at once, and that none gets lost. */
#include "db/lanes.c"

#include "unit.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

static void there_are_so_many(void **state)
{
    users_lanes *lanes = users_db_lanes(*state, 2);
    apr_proc_mutex_t *first = users_lanes_take(lanes);
    apr_proc_mutex_t *second = users_lanes_take(lanes);

    assert_non_null(first);
    assert_non_null(second);
    assert_ptr_not_equal(first, second);
    assert_null(users_lanes_take(lanes));
    apr_proc_mutex_unlock(first);
    first = users_lanes_take(lanes);
    assert_non_null(first);
    apr_proc_mutex_unlock(first);
    apr_proc_mutex_unlock(second);
    users_db_lanes_attach(NULL, *state);
    assert_null(users_lanes_take(NULL)); /* any number */
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
        byte = users_lanes_take(lanes) != NULL;
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

        assert_null(users_lanes_take(lanes));
        for (int j = 0; j < 2; j++) {
            kill(holders[j], SIGKILL);
            waitpid(holders[j], NULL, 0);
            taken[j] = users_lanes_take(lanes);
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
} taker;

static void *take_often(void *data)
{
    taker *t = data;

    for (int i = 0; i < 2000; i++) {
        apr_proc_mutex_t *lane = users_lanes_take(t->lanes);
        int held;

        if (!lane) {
            continue; /* a busy machine */
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
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(there_are_so_many),
    cmocka_unit_test(a_holder_that_is_killed_loses_none),
    cmocka_unit_test(threads_take_turns),
};

UNIT_MAIN(tests)
