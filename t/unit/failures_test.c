/* Counts of failures: also built with ThreadSanitizer (make race). */
#include "core/clock.h"

static apr_time_t set_clock(void);
#define users_now set_clock
#include "core/failures.c"
#undef users_now

#include "unit.h"

#include <pthread.h>
#include <stdatomic.h>

static _Atomic apr_time_t now;

static apr_time_t set_clock(void)
{
    return atomic_load(&now);
}

#define WINDOW apr_time_from_sec(600)

static void a_window_begins_with_the_first_and_ends(void **state)
{
    users_failures failures = 0;
    users_failures_now known;

    (void)state;
    /* a machine that has just booted, and one that has been up for thirty years */
    for (int i = 0; i < 2; i++) {
        apr_time_t start = i ? apr_time_from_sec(30LL * 365 * 86400) : 1;

        atomic_store(&now, start);
        assert_int_equal(users_failures_read(&failures).count, 0);
        for (apr_uint32_t n = 1; n <= 3; n++) {
            known = users_failures_add(&failures, WINDOW);
            assert_int_equal(known.count, n);
            atomic_store(&now, start + n * apr_time_from_sec(100));
        }
        known = users_failures_read(&failures);
        assert_int_equal(known.count, 3);
        assert_in_range(known.left, apr_time_from_sec(300) - 1000, apr_time_from_sec(300));
        atomic_store(&now, start + WINDOW);
        assert_int_equal(users_failures_read(&failures).count, 0);
        assert_int_equal(users_failures_add(&failures, WINDOW).count, 1);
        users_failures_forget(&failures);
        assert_int_equal(failures, 0);
    }
}

static void a_count_has_an_end(void **state)
{
    users_failures failures = 0;

    (void)state;
    atomic_store(&now, 1);
    users_failures_add(&failures, WINDOW);
    failures |= COUNT_MOST;
    assert_int_equal(users_failures_add(&failures, WINDOW).count, COUNT_MOST);
    assert_in_range(users_failures_read(&failures).left, WINDOW - 1000, WINDOW);
}

enum { THREADS = 8, EACH = 20000 };

static users_failures together;
static atomic_int firsts;

static void *fail_often(void *unused)
{
    (void)unused;
    for (int i = 0; i < EACH; i++) {
        if (users_failures_add(&together, WINDOW).count == 10) {
            atomic_fetch_add(&firsts, 1);
        }
    }
    return NULL;
}

static void none_is_lost(void **state)
{
    pthread_t threads[THREADS];

    (void)state;
    atomic_store(&now, 1);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, fail_often, NULL), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(users_failures_read(&together).count, THREADS * EACH);
    assert_int_equal(firsts, 1); /* one thread was the tenth */
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_window_begins_with_the_first_and_ends),
    cmocka_unit_test(a_count_has_an_end),
    cmocka_unit_test(none_is_lost),
};

UNIT_MAIN(tests)
