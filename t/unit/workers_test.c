/* The threads for work that takes long, alone: also built with ThreadSanitizer (make race). */
#include <pthread.h>

static int create_or_fail(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *data);
#define pthread_create create_or_fail
#include "auth/workers.c"
#undef pthread_create

#include "unit.h"

#include <errno.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>

static atomic_bool no_threads; /* can be had */

static int create_or_fail(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *data)
{
    return atomic_load(&no_threads) ? EAGAIN : pthread_create(thread, attributes, start, data);
}

#define PATIENT apr_time_from_sec(600)

/* A job that waits at a gate, so that a test decides when it ends. In memory of its own. */
typedef struct {
    users_job job;
    sem_t *entered; /* posted as it begins */
    sem_t *gate;
    atomic_int *freed;
    apr_interval_time_t rest;
    int number;
} gated;

static sem_t entered;
static sem_t gate;
static atomic_int freed;
static atomic_int order[64]; /* the numbers of jobs, as they began */
static atomic_int begun;

static apr_interval_time_t enter(users_job *job)
{
    gated *g = (gated *)job;

    order[atomic_fetch_add(&begun, 1)] = g->number;
    sem_post(g->entered);
    sem_wait(g->gate);
    return g->rest;
}

static void count_freed(users_job *job)
{
    gated *g = (gated *)job;

    atomic_fetch_add(g->freed, 1);
    free(g);
}

static gated *make(apr_uint64_t owner, int number)
{
    gated *g = calloc(1, sizeof(*g));

    *g = (gated){.job = {.run = enter, .destroy = count_freed, .owner = owner},
                 .entered = &entered,
                 .gate = &gate,
                 .freed = &freed,
                 .number = number};
    return g;
}

/* A thread that has a job done. */
typedef struct {
    users_workers *workers;
    gated *job;
    apr_interval_time_t patience;
    users_work_end end;
    pthread_t thread;
} requester;

static void *request(void *data)
{
    requester *q = data;

    q->end = users_workers_run(q->workers, &q->job->job, users_now() + q->patience);
    users_workers_release(q->workers, &q->job->job);
    return NULL;
}

static unsigned queue_length(users_workers *workers)
{
    unsigned length;

    pthread_mutex_lock(&workers->mutex);
    length = workers->queued;
    pthread_mutex_unlock(&workers->mutex);
    return length;
}

static void wait_for_queue(users_workers *workers, unsigned length)
{
    while (queue_length(workers) != length) {
        sched_yield();
    }
}

static void wait_for(atomic_int *number, int value)
{
    while (atomic_load(number) != value) {
        sched_yield();
    }
}

static void start_with(requester *q, users_workers *workers, gated *job,
                       apr_interval_time_t patience)
{
    *q = (requester){.workers = workers, .job = job, .patience = patience};
    assert_int_equal(pthread_create(&q->thread, NULL, request, q), 0);
}

static void start(requester *q, users_workers *workers, apr_uint64_t owner, int number)
{
    start_with(q, workers, make(owner, number), PATIENT);
}

static users_work_end end_of(requester *q)
{
    pthread_join(q->thread, NULL);
    return q->end;
}

static int begin_test(void **state)
{
    static users_workers all[16]; /* each test its own: a thread of the last may have its still */
    static int used;

    assert_true(used < 16);
    *state = &all[used++];
    sem_init(&entered, 0, 0);
    sem_init(&gate, 0, 0);
    atomic_store(&freed, 0);
    atomic_store(&begun, 0);
    return 0;
}

/* The slots are taken by the first two, from whom others stand behind. */
static void fill_slots(users_workers *workers, requester *q, unsigned slots)
{
    for (unsigned i = 0; i < slots; i++) {
        start(&q[i], workers, 1000 + i, (int)i);
        sem_wait(&entered);
    }
}

static void open_gate(int times)
{
    for (; times > 0; times--) {
        sem_post(&gate);
    }
}

static void a_job_is_done_and_its_thread_kept(void **state)
{
    users_workers *workers = *state;

    users_workers_open(workers, 2, 4, NULL);
    for (int i = 0; i < 20; i++) {
        requester q;

        start(&q, workers, 1, 0);
        sem_wait(&entered);
        sem_post(&gate);
        assert_int_equal(end_of(&q), USERS_WORK_DONE);
    }
    assert_in_range(workers->started, 1, 2);
    assert_int_equal(workers->alive, workers->started);
    assert_true(users_workers_close(workers, PATIENT));
    assert_int_equal(freed, 20);
}

static void without_a_thread_it_is_refused(void **state)
{
    users_workers *workers = *state;
    requester q[3];

    users_workers_open(workers, 2, 4, NULL);
    atomic_store(&no_threads, true);
    start(&q[0], workers, 1, 0);
    assert_int_equal(end_of(&q[0]), USERS_WORK_REFUSED);
    atomic_store(&no_threads, false);
    start(&q[1], workers, 1, 1);
    sem_wait(&entered);
    atomic_store(&no_threads, true);
    start(&q[2], workers, 1, 2); /* the one that there is will do */
    wait_for_queue(workers, 1);
    open_gate(2);
    assert_int_equal(end_of(&q[1]), USERS_WORK_DONE);
    assert_int_equal(end_of(&q[2]), USERS_WORK_DONE);
    atomic_store(&no_threads, false);
    assert_true(users_workers_close(workers, PATIENT));
    assert_int_equal(freed, 3);
}

/* Both slots' jobs outlive their requesters, and end in this order. */
static void jobs_outlive_their_requesters(void **state)
{
    for (int first = 0; first < 2; first++) {
        users_workers *workers = *state;
        requester q[3];
        sem_t gates[2];
        gated *jobs[2];

        begin_test(state);
        users_workers_open(workers, 2, 4, NULL);
        for (int i = 0; i < 2; i++) {
            sem_init(&gates[i], 0, 0);
            jobs[i] = make((apr_uint64_t)i, i);
            jobs[i]->gate = &gates[i];
            start_with(&q[i], workers, jobs[i], apr_time_from_msec(30));
            sem_wait(&entered);
        }
        for (int i = 0; i < 2; i++) {
            assert_int_equal(end_of(&q[i]), USERS_WORK_LATE); /* though nobody ends their jobs */
        }
        assert_int_equal(freed, 0);
        start(&q[2], workers, 2, 2);
        wait_for_queue(workers, 1);
        sem_post(&gates[first]);
        wait_for(&freed, 1);
        sem_wait(&entered); /* the slot is another's now */
        sem_post(&gates[!first]);
        wait_for(&freed, 2);
        sem_post(&gate);
        assert_int_equal(end_of(&q[2]), USERS_WORK_DONE);
        assert_true(users_workers_close(workers, PATIENT));
        assert_int_equal(freed, 3);
    }
}

static void who_waits_too_long_leaves_the_queue(void **state)
{
    users_workers *workers = *state;
    requester q[4];

    users_workers_open(workers, 1, 4, NULL);
    fill_slots(workers, q, 1);
    start_with(&q[1], workers, make(1, 1), apr_time_from_msec(30));
    start(&q[2], workers, 2, 2);
    assert_int_equal(end_of(&q[1]), USERS_WORK_LATE);
    wait_for(&freed, 1);
    wait_for_queue(workers, 1);
    open_gate(2);
    assert_int_equal(end_of(&q[0]), USERS_WORK_DONE);
    assert_int_equal(end_of(&q[2]), USERS_WORK_DONE);
    assert_int_equal(begun, 2);
    assert_true(users_workers_close(workers, PATIENT));
}

/* Four of one owner's, then one each of two others: these are next but one. */
static void owners_take_turns(void **state)
{
    static const int expected[] = {0, 1, 5, 6, 2, 3, 4};
    users_workers *workers = *state;
    requester q[7];

    users_workers_open(workers, 1, 8, NULL);
    fill_slots(workers, q, 1);
    for (int i = 1; i < 7; i++) {
        start(&q[i], workers, i < 5 ? 1 : (apr_uint64_t)i, i);
        wait_for_queue(workers, (unsigned)i);
    }
    open_gate(7);
    for (int i = 0; i < 7; i++) {
        assert_int_equal(end_of(&q[i]), USERS_WORK_DONE);
        assert_int_equal(order[i], expected[i]);
    }
    assert_true(users_workers_close(workers, PATIENT));
}

/* Where the queue is full, whoever has the most of it is refused: the newest of its jobs. */
static void who_has_the_most_makes_room(void **state)
{
    users_workers *workers = *state;
    requester q[6];

    users_workers_open(workers, 1, 3, NULL);
    start(&q[0], workers, 1, 0);
    sem_wait(&entered);
    for (int i = 1; i < 4; i++) {
        start(&q[i], workers, 1, i);
        wait_for_queue(workers, (unsigned)i);
    }
    start(&q[4], workers, 1, 4); /* one too many */
    assert_int_equal(end_of(&q[4]), USERS_WORK_REFUSED);
    start(&q[5], workers, 2, 5);
    assert_int_equal(end_of(&q[3]), USERS_WORK_REFUSED);
    open_gate(4);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(end_of(&q[i]), USERS_WORK_DONE);
    }
    assert_int_equal(end_of(&q[5]), USERS_WORK_DONE);
    assert_int_equal(order[1], 5); /* whose owner had not had a turn */
    assert_true(users_workers_close(workers, PATIENT));
    assert_int_equal(freed, 6);
}

static void equals_do_not_push_each_other_out(void **state)
{
    users_workers *workers = *state;
    requester q[4];

    users_workers_open(workers, 1, 2, NULL);
    fill_slots(workers, q, 1);
    for (int i = 1; i < 3; i++) {
        start(&q[i], workers, (apr_uint64_t)i, i);
        wait_for_queue(workers, (unsigned)i);
    }
    start(&q[3], workers, 3, 3);
    assert_int_equal(end_of(&q[3]), USERS_WORK_REFUSED);
    open_gate(3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(end_of(&q[i]), USERS_WORK_DONE);
    }
    assert_true(users_workers_close(workers, PATIENT));
}

/* A job that was refused rest for its owner: others are not kept waiting. */
static void an_owner_rests_alone(void **state)
{
    users_workers *workers = *state;
    requester q[3];
    gated *wrong = make(1, 0);

    wrong->rest = apr_time_from_sec(4);
    users_workers_open(workers, 1, 4, NULL);
    start_with(&q[0], workers, wrong, PATIENT);
    sem_wait(&entered);
    start_with(&q[1], workers, make(1, 1), apr_time_from_msec(300));
    wait_for_queue(workers, 1);
    start(&q[2], workers, 2, 2);
    wait_for_queue(workers, 2);
    open_gate(2);
    assert_int_equal(end_of(&q[0]), USERS_WORK_DONE);
    assert_int_equal(end_of(&q[2]), USERS_WORK_DONE);
    assert_int_equal(end_of(&q[1]), USERS_WORK_LATE);
    assert_int_equal(order[1], 2);
    assert_true(users_workers_close(workers, PATIENT));
}

/* Many owners together get no more than one would. */
static void all_rest_where_many_would(void **state)
{
    users_workers *workers = *state;
    apr_time_t before = users_now();
    requester q;

    users_workers_open(workers, 1, 4, NULL);
    for (int i = 0; i < 6; i++) {
        gated *wrong = make((apr_uint64_t)i, i);

        wrong->rest = apr_time_from_sec(1);
        start_with(&q, workers, wrong, PATIENT);
        sem_wait(&entered);
        sem_post(&gate);
        assert_int_equal(end_of(&q), USERS_WORK_DONE);
    }
    start(&q, workers, 6, 6); /* though it has never come before */
    sem_wait(&entered);
    assert_true(users_now() >= before + apr_time_from_sec(6) - OWED_MOST);
    sem_post(&gate);
    assert_int_equal(end_of(&q), USERS_WORK_DONE);
    assert_true(users_workers_close(workers, PATIENT));
}

/* A graceful stop: what is queued is refused, what runs is waited for. */
static void an_end_waits_for_what_runs(void **state)
{
    users_workers *workers = *state;
    requester q[4];

    users_workers_open(workers, 2, 4, NULL);
    fill_slots(workers, q, 2);
    for (int i = 2; i < 4; i++) {
        start(&q[i], workers, (apr_uint64_t)i, i);
        wait_for_queue(workers, (unsigned)i - 1);
    }
    assert_false(users_workers_close(workers, apr_time_from_msec(30))); /* but not for ever */
    for (int i = 2; i < 4; i++) {
        assert_int_equal(end_of(&q[i]), USERS_WORK_REFUSED);
    }
    open_gate(2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(end_of(&q[i]), USERS_WORK_DONE);
    }
    wait_for(&freed, 4);
}

/* Requesters that have gone, and an end meanwhile. */
static void an_end_waits_for_what_nobody_waits_for(void **state)
{
    users_workers *workers = *state;
    requester q[2];

    users_workers_open(workers, 2, 4, NULL);
    for (int i = 0; i < 2; i++) {
        start_with(&q[i], workers, make((apr_uint64_t)i, i), apr_time_from_msec(30));
        sem_wait(&entered);
        assert_int_equal(end_of(&q[i]), USERS_WORK_LATE);
    }
    open_gate(2);
    assert_true(users_workers_close(workers, PATIENT));
    assert_int_equal(freed, 2);
}

/* Many threads, with requesters that give up, and an end in their midst: nobody is lost. */

enum { THREADS = 16, DONE_AT_LEAST = 2000 };

static atomic_int done_so_far;
static atomic_bool closed;

static apr_interval_time_t take_turns(users_job *job)
{
    gated *g = (gated *)job;

    for (int turns = g->number % 20; turns > 0; turns--) {
        sched_yield();
    }
    return g->number % 7 ? 0 : g->rest;
}

typedef struct {
    users_workers *workers;
    unsigned seed;
    int ends[3];
    pthread_t thread;
} crowd;

static void *ask_often(void *data)
{
    crowd *c = data;

    while (!atomic_load(&closed)) { /* and so once more while it closes */
        users_work_end end;
        gated *g = make((apr_uint64_t)rand_r(&c->seed) % 5, rand_r(&c->seed) % 100);
        apr_interval_time_t patience = rand_r(&c->seed) % 4 ? PATIENT : rand_r(&c->seed) % 300;

        g->job.run = take_turns;
        g->rest = 50; /* microseconds */
        end = users_workers_run(c->workers, &g->job, users_now() + patience);
        users_workers_release(c->workers, &g->job);
        c->ends[end]++;
        if (end == USERS_WORK_DONE) {
            atomic_fetch_add(&done_so_far, 1);
        } else {
            sched_yield();
        }
    }
    return NULL;
}

static void nobody_is_lost_in_a_crowd(void **state)
{
    for (unsigned limit = 1; limit <= 3; limit += 2) {
        users_workers *workers = *state;
        crowd crowds[THREADS];
        int all = 0;
        int done = 0;

        begin_test(state);
        atomic_store(&done_so_far, 0);
        atomic_store(&closed, false);
        users_workers_open(workers, limit, THREADS / 2, NULL);
        for (unsigned i = 0; i < THREADS; i++) {
            crowds[i] = (crowd){.workers = workers, .seed = i + 1};
            assert_int_equal(pthread_create(&crowds[i].thread, NULL, ask_often, &crowds[i]), 0);
        }
        while (atomic_load(&done_so_far) < DONE_AT_LEAST) {
            sched_yield();
        }
        assert_true(users_workers_close(workers, PATIENT));
        atomic_store(&closed, true);
        for (int i = 0; i < THREADS; i++) {
            pthread_join(crowds[i].thread, NULL);
            done += crowds[i].ends[USERS_WORK_DONE];
            all += crowds[i].ends[USERS_WORK_DONE] + crowds[i].ends[USERS_WORK_REFUSED] +
                   crowds[i].ends[USERS_WORK_LATE];
        }
        assert_int_equal(done, done_so_far);
        assert_true(done < all);
        assert_int_equal(freed, all);
        assert_null(workers->first);
        assert_int_equal(workers->queued, 0);
    }
}

#define TEST(name) cmocka_unit_test_setup(name, begin_test)
static const struct CMUnitTest tests[] = {
    TEST(a_job_is_done_and_its_thread_kept),
    TEST(without_a_thread_it_is_refused),
    TEST(jobs_outlive_their_requesters),
    TEST(who_waits_too_long_leaves_the_queue),
    TEST(owners_take_turns),
    TEST(who_has_the_most_makes_room),
    TEST(equals_do_not_push_each_other_out),
    TEST(an_owner_rests_alone),
    TEST(all_rest_where_many_would),
    TEST(an_end_waits_for_what_runs),
    TEST(an_end_waits_for_what_nobody_waits_for),
    TEST(nobody_is_lost_in_a_crowd),
};

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
