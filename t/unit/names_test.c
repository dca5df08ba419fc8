/* Addresses of names, by a resolver that does as a test says: also with ThreadSanitizer (make
 * race). */
#include <netdb.h>
#include <pthread.h>
#include <time.h>

static int create_or_fail(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *data);
static int answer(const char *name, const char *service, const struct addrinfo *hints,
                  struct addrinfo **found);
static int tell_time(clockid_t clock, struct timespec *now);
static int wait_by_clock(pthread_cond_t *cond, pthread_mutex_t *mutex,
                         const struct timespec *until);
#define clock_gettime          tell_time
#define getaddrinfo            answer
#define pthread_cond_timedwait wait_by_clock
#define pthread_create         create_or_fail
#include "db/names.c"
#undef clock_gettime
#undef getaddrinfo
#undef pthread_cond_timedwait
#undef pthread_create

#include "unit.h"

#include <errno.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>

#define PATIENT apr_time_from_sec(600)
#define THREADS 8

static atomic_int ahead; /* seconds that the clock is */
static atomic_bool no_threads;
static atomic_int asked;
static atomic_int failure; /* what comes of a look-up, where it is not 0 */
static atomic_bool hangs;  /* until the gate opens */
static atomic_int last;    /* octet of the address */
static sem_t gate;

static int tell_time(clockid_t clock, struct timespec *now)
{
    int failed = clock_gettime(clock, now);

    now->tv_sec += atomic_load(&ahead);
    return failed;
}

static int wait_by_clock(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until)
{
    const struct timespec real = {until->tv_sec - atomic_load(&ahead), until->tv_nsec};

    return pthread_cond_timedwait(cond, mutex, &real);
}

static int create_or_fail(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *data)
{
    return atomic_load(&no_threads) ? EAGAIN : pthread_create(thread, attributes, start, data);
}

static int answer(const char *name, const char *service, const struct addrinfo *hints,
                  struct addrinfo **found)
{
    struct addrinfo numeric = *hints;
    char address[32];

    if (hints->ai_flags & AI_NUMERICHOST) {
        return getaddrinfo(name, service, hints, found);
    }
    atomic_fetch_add(&asked, 1);
    if (atomic_load(&hangs)) {
        sem_wait(&gate);
    }
    numeric.ai_flags = AI_NUMERICHOST;
    snprintf(address, sizeof(address), "127.0.0.%d", atomic_load(&last));
    return atomic_load(&failure) ? atomic_load(&failure)
                                 : getaddrinfo(address, service, &numeric, found);
}

static int set_up(void **state)
{
    (void)state;
    atomic_store(&ahead, 0);
    atomic_store(&no_threads, false);
    atomic_store(&asked, 0);
    atomic_store(&failure, 0);
    atomic_store(&hangs, false);
    atomic_store(&last, 1);
    return 0;
}

/* What there is of a name within so long. */
typedef struct {
    bool known;
    int error;
    users_addresses addresses;
} found_name;

static found_name find_within(users_host_name *name, apr_interval_time_t time)
{
    found_name found;
    apr_interval_time_t age;

    found.known =
        users_host_name_find(name, users_now() + time, &found.addresses, &found.error, &age);
    return found;
}

static void is_address(const found_name *found, const char *address)
{
    assert_true(found->known);
    assert_int_equal(found->addresses.count, 1);
    assert_string_equal(found->addresses.list[0], address);
}

static void wait_to_be_asked(int times)
{
    while (atomic_load(&asked) < times) {
        apr_sleep(apr_time_from_msec(1));
    }
}

static void wait_for(users_host_name *name, unsigned number)
{
    while (find_within(name, PATIENT).addresses.number < number) {
        apr_sleep(apr_time_from_msec(1));
    }
}

static void names_are_told_from_addresses(void **state)
{
    (void)state;
    assert_true(users_is_host_name("db.example"));
    assert_true(users_is_host_name("localhost"));
    assert_false(users_is_host_name("127.0.0.1"));
    assert_false(users_is_host_name("::1"));
    assert_false(users_is_host_name("/run/postgresql"));
    assert_false(users_is_host_name("@abstract"));
    assert_false(users_is_host_name(""));
    assert_false(users_is_host_name(NULL));
    assert_int_equal(atomic_load(&asked), 0);
}

static void an_answer_is_kept_for_a_while(void **state)
{
    users_host_name *name = users_host_name_create(*state, "db.test");
    found_name found;

    assert_int_equal(atomic_load(&asked), 0);
    for (int i = 0; i < 3; i++) {
        found = find_within(name, PATIENT);
        is_address(&found, "127.0.0.1");
        assert_int_equal(found.error, 0);
    }
    assert_int_equal(atomic_load(&asked), 1);
    atomic_store(&last, 2);
    atomic_fetch_add(&ahead, 20);
    found = find_within(name, PATIENT);
    is_address(&found, "127.0.0.1"); /* and another look-up begins */
    wait_for(name, 2);
    assert_int_equal(atomic_load(&asked), 2);
    atomic_store(&last, 3);
    atomic_fetch_add(&ahead, 31);
    wait_for(name, 3);
    found = find_within(name, PATIENT);
    is_address(&found, "127.0.0.3");
    assert_int_equal(atomic_load(&asked), 3);
}

static void doubt_has_it_looked_up(void **state)
{
    users_host_name *name = users_host_name_create(*state, "db.test");

    find_within(name, PATIENT);
    users_host_name_doubt(name);
    find_within(name, PATIENT);
    assert_int_equal(atomic_load(&asked), 1); /* a moment ago */
    atomic_fetch_add(&ahead, 2);
    find_within(name, PATIENT);
    assert_int_equal(atomic_load(&asked), 1);
    users_host_name_doubt(name);
    wait_for(name, 2);
    assert_int_equal(atomic_load(&asked), 2);
}

static void an_old_answer_outlives_failures(void **state)
{
    users_host_name *name = users_host_name_create(*state, "db.test");
    found_name found;

    find_within(name, PATIENT);
    atomic_store(&failure, EAI_AGAIN);
    atomic_fetch_add(&ahead, 31);
    for (int i = 0; i < 3; i++) {
        found = find_within(name, PATIENT);
        is_address(&found, "127.0.0.1");
        assert_int_not_equal(found.error, 0);
    }
    atomic_store(&failure, 0);
    atomic_fetch_add(&ahead, 31);
    wait_for(name, 2);
    assert_int_equal(find_within(name, PATIENT).error, 0);
}

static void silence_takes_half_a_second_once(void **state)
{
    users_host_name *name = users_host_name_create(*state, "db.test");
    apr_time_t before;
    found_name found;

    find_within(name, PATIENT);
    atomic_store(&hangs, true);
    atomic_fetch_add(&ahead, 31);
    before = users_now();
    for (int i = 0; i < 3; i++) {
        found = find_within(name, PATIENT);
        is_address(&found, "127.0.0.1");
        assert_int_equal(found.error, USERS_NAME_SILENT);
        assert_true(users_now() - before >= PATIENCE);
    }
    assert_true(users_now() - before < apr_time_from_sec(60));
    wait_to_be_asked(2);
    assert_int_equal(atomic_load(&asked), 2);
    atomic_store(&hangs, false);
    sem_post(&gate);
    wait_for(name, 2);
}

static void without_an_answer_there_is_nothing(void **state)
{
    users_host_name *name = users_host_name_create(*state, "db.test");
    found_name found;

    atomic_store(&failure, EAI_NONAME);
    found = find_within(name, PATIENT);
    assert_false(found.known);
    assert_int_equal(found.error, EAI_NONAME);
    atomic_store(&failure, 0);
    atomic_store(&no_threads, true);
    found = find_within(name, PATIENT);
    assert_false(found.known);
    assert_int_equal(found.error, USERS_NAME_NO_THREADS);
    atomic_store(&no_threads, false);
    atomic_store(&hangs, true);
    found = find_within(name, apr_time_from_msec(5));
    assert_false(found.known);
    wait_to_be_asked(2);
    atomic_store(&hangs, false);
    sem_post(&gate);
    found = find_within(name, PATIENT);
    is_address(&found, "127.0.0.1");
    assert_string_equal(users_host_name_text(name), "db.test");
    assert_string_not_equal(users_host_name_error(USERS_NAME_SILENT),
                            users_host_name_error(USERS_NAME_NO_THREADS));
    assert_string_equal(users_host_name_error(EAI_AGAIN), gai_strerror(EAI_AGAIN));
}

/* The thread that is left behind has the name to itself. */
static void an_end_waits_for_no_look_up(void **state)
{
    apr_pool_t *pool;
    users_host_name *name;

    apr_pool_create(&pool, *state);
    name = users_host_name_create(pool, "db.test");
    atomic_store(&hangs, true);
    find_within(name, apr_time_from_msec(5));
    apr_pool_destroy(pool);
    wait_to_be_asked(1);
    sem_post(&gate);
}

static void *ask_often(void *data)
{
    for (int i = 0; i < 1000; i++) {
        if (!find_within(data, PATIENT).known) {
            return NULL;
        }
        users_host_name_doubt(data);
        if (i % 100 == 0) {
            atomic_fetch_add(&ahead, 20);
        }
    }
    return data;
}

static void threads_share_it(void **state)
{
    users_host_name *name = users_host_name_create(*state, "db.test");
    pthread_t threads[THREADS];
    void *good;

    find_within(name, PATIENT);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, ask_often, name), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], &good);
        assert_ptr_equal(good, name);
    }
    assert_true(atomic_load(&asked) > 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(names_are_told_from_addresses, set_up),
        cmocka_unit_test_setup(an_answer_is_kept_for_a_while, set_up),
        cmocka_unit_test_setup(doubt_has_it_looked_up, set_up),
        cmocka_unit_test_setup(an_old_answer_outlives_failures, set_up),
        cmocka_unit_test_setup(silence_takes_half_a_second_once, set_up),
        cmocka_unit_test_setup(without_an_answer_there_is_nothing, set_up),
        cmocka_unit_test_setup(an_end_waits_for_no_look_up, set_up),
        cmocka_unit_test_setup(threads_share_it, set_up),
    };

    sem_init(&gate, 0, 0);
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, unit_begin, unit_end);
}
