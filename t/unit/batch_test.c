/* The batcher alone, with threads: also built with ThreadSanitizer (make race). */
#include <semaphore.h>

static int wait_by_the_time_of_day(sem_t *semaphore, const struct timespec *until);
#define sem_timedwait wait_by_the_time_of_day
#include "db/batch.c" /* to see who waits in the queue */
#include "db/lanes.c"
#undef sem_timedwait

#include "unit.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

static atomic_int clock_steps; /* forward, each past the end of a wait; below 0 somebody waits on */

static int wait_by_the_time_of_day(sem_t *semaphore, const struct timespec *until)
{
    if (atomic_fetch_sub(&clock_steps, 1) > 0) {
        errno = ETIMEDOUT;
        return -1;
    }
    return sem_timedwait(semaphore, until);
}

/* A query that waits at a gate, so that a test decides when it ends. */
typedef struct {
    sem_t entered; /* posted as each query begins */
    sem_t gate;    /* each query takes one */
    int queries;
    int sizes[16]; /* waiters of each query */
} gated;

static void gated_query(void *context, users_waiter **waiters, int count)
{
    gated *g = context;

    g->sizes[g->queries++] = count;
    sem_post(&g->entered);
    sem_wait(&g->gate);
    for (int i = 0; i < count; i++) {
        *(int *)waiters[i]->answer = *(const int *)waiters[i]->question + 1;
    }
}

static users_batcher *gated_batcher(void **state, gated *g, int limit)
{
    *g = (gated){.queries = 0};
    sem_init(&g->entered, 0, 0);
    sem_init(&g->gate, 0, 0);
    return users_batcher_create(*state, limit, NULL, gated_query, g);
}

/* A thread that asks once. */
typedef struct {
    users_batcher *batcher;
    apr_interval_time_t patience;
    int question;
    int answer;
    bool answered;
    pthread_t thread;
} asker;

static void *ask(void *data)
{
    asker *a = data;
    users_waiter waiter = {
        .question = &a->question, .answer = &a->answer, .deadline = users_now() + a->patience};

    a->answered = users_batch_join(a->batcher, &waiter);
    return NULL;
}

static void start(asker *a, users_batcher *batcher, int question, apr_interval_time_t patience)
{
    *a = (asker){.batcher = batcher, .question = question, .patience = patience};
    assert_int_equal(pthread_create(&a->thread, NULL, ask, a), 0);
}

static void assert_answered(asker *a)
{
    pthread_join(a->thread, NULL);
    assert_true(a->answered);
    assert_int_equal(a->answer, a->question + 1);
}

static int queue_length(users_batcher *batcher)
{
    int length = 0;

    apr_thread_mutex_lock(batcher->mutex);
    for (users_waiter *t = batcher->first; t; t = t->next) {
        length++;
    }
    apr_thread_mutex_unlock(batcher->mutex);
    return length;
}

static void wait_for_queue(users_batcher *batcher, int length)
{
    while (queue_length(batcher) != length) {
        sched_yield();
    }
}

#define PATIENT apr_time_from_sec(600)

static void alone_runs_at_once(void **state)
{
    gated g;
    users_batcher *batcher = gated_batcher(state, &g, 1);
    int question = 41;
    int answer = 0;
    users_waiter waiter = {.question = &question, .answer = &answer};

    sem_post(&g.gate);
    assert_true(users_batch_join(batcher, &waiter));
    assert_int_equal(answer, 42);
    assert_int_equal(g.sizes[0], 1);
    assert_int_equal(batcher->in_flight, 0);
}

static void those_who_wait_share_the_next_query(void **state)
{
    gated g;
    users_batcher *batcher = gated_batcher(state, &g, 1);
    asker askers[6];

    start(&askers[0], batcher, 0, PATIENT);
    sem_wait(&g.entered);
    for (int i = 1; i < 6; i++) {
        start(&askers[i], batcher, 10 * i, PATIENT);
        wait_for_queue(batcher, i);
    }
    sem_post(&g.gate);
    sem_post(&g.gate);
    for (int i = 0; i < 6; i++) {
        assert_answered(&askers[i]);
    }
    assert_int_equal(g.queries, 2);
    assert_int_equal(g.sizes[1], 5);
    assert_int_equal(batcher->in_flight, 0);
}

static void queries_run_side_by_side(void **state)
{
    gated g;
    users_batcher *batcher = gated_batcher(state, &g, 2);
    asker askers[2];

    for (int i = 0; i < 2; i++) {
        start(&askers[i], batcher, i, PATIENT);
        sem_wait(&g.entered); /* though the other one has not ended */
    }
    sem_post(&g.gate);
    sem_post(&g.gate);
    for (int i = 0; i < 2; i++) {
        assert_answered(&askers[i]);
    }
}

static void a_query_has_an_upper_bound(void **state)
{
    enum { WAITING = USERS_BATCH_MAX + 3 };
    gated g;
    users_batcher *batcher = gated_batcher(state, &g, 1);
    asker askers[1 + WAITING];

    start(&askers[0], batcher, 0, PATIENT);
    sem_wait(&g.entered);
    for (int i = 1; i <= WAITING; i++) {
        start(&askers[i], batcher, i, PATIENT);
    }
    wait_for_queue(batcher, WAITING);
    for (int i = 0; i < 3; i++) {
        sem_post(&g.gate);
    }
    for (int i = 0; i <= WAITING; i++) {
        assert_answered(&askers[i]);
    }
    assert_int_equal(g.sizes[1], USERS_BATCH_MAX);
    assert_int_equal(g.sizes[2], WAITING - USERS_BATCH_MAX);
}

/* Wherever it stood in the queue, its neighbours are answered. */
static void who_waits_too_long_leaves_the_queue(void **state)
{
    for (int hasty = 1; hasty <= 3; hasty++) {
        gated g;
        users_batcher *batcher = gated_batcher(state, &g, 1);
        asker askers[5];

        start(&askers[0], batcher, 0, PATIENT);
        sem_wait(&g.entered);
        for (int i = 1; i <= 3; i++) {
            start(&askers[i], batcher, i, i == hasty ? apr_time_from_msec(50) : PATIENT);
        }
        pthread_join(askers[hasty].thread, NULL);
        assert_false(askers[hasty].answered);
        wait_for_queue(batcher, 2);
        start(&askers[4], batcher, 4, PATIENT); /* the queue's end is where it should be */
        wait_for_queue(batcher, 3);
        sem_post(&g.gate);
        sem_post(&g.gate);
        for (int i = 0; i <= 4; i++) {
            if (i != hasty) {
                assert_answered(&askers[i]);
            }
        }
        assert_int_equal(g.queries, 2);
    }
}

static void the_time_of_day_may_be_set(void **state)
{
    gated g;
    users_batcher *batcher = gated_batcher(state, &g, 1);
    asker askers[2];

    atomic_store(&clock_steps, 1);
    for (int i = 0; i < 2; i++) {
        start(&askers[i], batcher, i, PATIENT);
        if (i == 0) {
            sem_wait(&g.entered);
        }
    }
    while (atomic_load(&clock_steps) > 0 ||
           (atomic_load(&clock_steps) == 0 && queue_length(batcher) == 1)) {
        sched_yield(); /* until the second waits again, or has left the queue */
    }
    sem_post(&g.gate);
    sem_post(&g.gate);
    for (int i = 0; i < 2; i++) {
        assert_answered(&askers[i]);
    }
}

static void who_is_on_a_query_waits_for_its_end(void **state)
{
    gated g;
    users_batcher *batcher = gated_batcher(state, &g, 1);
    asker askers[3];

    for (int i = 0; i < 3; i++) {
        start(&askers[i], batcher, i, apr_time_from_msec(i == 0 ? 600000 : 200));
        if (i == 0) {
            sem_wait(&g.entered);
        }
    }
    wait_for_queue(batcher, 2);
    sem_post(&g.gate);
    sem_wait(&g.entered); /* both are on the second query now */
    for (apr_time_t end = users_now() + apr_time_from_msec(300); users_now() < end;) {
        sched_yield(); /* until their deadlines are past */
    }
    sem_post(&g.gate);
    for (int i = 0; i < 3; i++) {
        assert_answered(&askers[i]);
    }
}

/* Many threads, with queries that fail and requesters that give up: nobody is lost. */

enum { THREADS = 32, ROUNDS = 2000, FAILED = -1 };

static void random_query(void *unused, users_waiter **waiters, int count)
{
    unsigned seed = *(const unsigned *)waiters[0]->question;
    bool fails = rand_r(&seed) % 10 == 0;

    (void)unused;
    for (int turns = rand_r(&seed) % 20; turns > 0; turns--) {
        sched_yield();
    }
    for (int i = 0; i < count; i++) {
        *(long *)waiters[i]->answer = fails ? FAILED : 2L * *(const unsigned *)waiters[i]->question;
    }
}

typedef struct {
    users_batcher *batcher;
    unsigned seed;
    int answered, failed, gave_up, wrong;
    pthread_t thread;
} crowd;

static void *ask_often(void *data)
{
    crowd *c = data;

    for (int i = 0; i < ROUNDS; i++) {
        unsigned question = (unsigned)rand_r(&c->seed);
        long answer = -2;
        apr_interval_time_t patience = rand_r(&c->seed) % 4 ? PATIENT : rand_r(&c->seed) % 300;
        users_waiter waiter = {
            .question = &question, .answer = &answer, .deadline = users_now() + patience};

        if (!users_batch_join(c->batcher, &waiter)) {
            c->gave_up++;
            c->wrong += answer != -2;
        } else if (answer == FAILED) {
            c->failed++;
        } else {
            c->answered++;
            c->wrong += answer != 2L * question;
        }
    }
    return NULL;
}

static void nobody_is_lost_in_a_crowd(void **state)
{
    for (int limit = 1; limit <= 3; limit += 2) {
        users_batcher *batcher = users_batcher_create(*state, limit, NULL, random_query, NULL);
        crowd crowds[THREADS];
        int answered = 0;
        int failed = 0;
        int gave_up = 0;

        for (unsigned i = 0; i < THREADS; i++) {
            crowds[i] = (crowd){.batcher = batcher, .seed = i + 1};
            assert_int_equal(pthread_create(&crowds[i].thread, NULL, ask_often, &crowds[i]), 0);
        }
        for (int i = 0; i < THREADS; i++) {
            pthread_join(crowds[i].thread, NULL);
            assert_int_equal(crowds[i].wrong, 0);
            answered += crowds[i].answered;
            failed += crowds[i].failed;
            gave_up += crowds[i].gave_up;
        }
        assert_int_equal(answered + failed + gave_up, THREADS * ROUNDS);
        assert_true(answered > 0 && failed > 0 && gave_up > 0);
        assert_int_equal(batcher->in_flight, 0);
        assert_null(batcher->first);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(alone_runs_at_once),
    cmocka_unit_test(those_who_wait_share_the_next_query),
    cmocka_unit_test(queries_run_side_by_side),
    cmocka_unit_test(a_query_has_an_upper_bound),
    cmocka_unit_test(who_waits_too_long_leaves_the_queue),
    cmocka_unit_test(the_time_of_day_may_be_set),
    cmocka_unit_test(who_is_on_a_query_waits_for_its_end),
    cmocka_unit_test(nobody_is_lost_in_a_crowd),
};

UNIT_MAIN(tests)
