/* The table of figures, and what is counted in its words. */
#include "core/figures.h"

#include "unit.h"

#include <string.h>

/* Words that no figure has, or two have, would be counted in vain, or twice. */
static void every_word_has_one_series(void **state)
{
    const apr_uint64_t total[USERS_FIGURE_SIZE] = {0};
    users_series series = {.figure = NULL};
    const apr_uint64_t *next = total;

    (void)state;
    while (users_series_next(&series, total)) {
        assert_ptr_equal(series.words, next);
        next += series.figure->scale ? USERS_HISTOGRAM(series.figure->scale->count) : 1;
        for (int i = 0; i < 2; i++) {
            assert_int_equal(series.values[i] != NULL, series.figure->labels[i] != NULL);
        }
        assert_int_equal(series.figure->scale != NULL, series.figure->type == USERS_HISTOGRAM_TYPE);
        assert_true(series.figure->name[0] && series.figure->help[0]);
    }
    assert_ptr_equal(next, total + USERS_FIGURE_SIZE);
}

/* The series of a figure with these values; NULL: any. */
static users_series find(const apr_uint64_t *total, const char *name, const char *first,
                         const char *second)
{
    users_series series = {.figure = NULL};

    while (users_series_next(&series, total)) {
        if (strcmp(series.figure->name, name) == 0 &&
            (!first || strcmp(series.values[0], first) == 0) &&
            (!second || strcmp(series.values[1], second) == 0)) {
            return series;
        }
    }
    fail_msg("no %s", name);
    return series;
}

static apr_uint64_t value(users_figures *figures, const char *name, const char *first,
                          const char *second)
{
    apr_uint64_t total[USERS_FIGURE_SIZE] = {0};
    users_series series;

    users_figures_sum(figures, total);
    series = find(total, name, first, second);
    return users_series_value(&series);
}

static void requests_have_their_series(void **state)
{
    static const struct {
        int status;
        const char *shown;
        const char *class;
    } cases[] = {{200, "200", "2xx"},   {201, "201", "2xx"},   {304, "304", "3xx"},
                 {429, "429", "4xx"},   {504, "504", "5xx"},   {100, "other", "1xx"},
                 {226, "other", "2xx"}, {418, "other", "4xx"}, {599, "other", "5xx"},
                 {0, "other", "5xx"},   {600, "other", "5xx"}, {-3, "other", "5xx"}};

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        users_figures figures = {0};

        users_figures_request(&figures, USERS_UPDATE, cases[i].status, 300);
        assert_int_equal(value(&figures, "users_requests_total", "update", cases[i].shown), 1);
        assert_int_equal(
            value(&figures, "http_server_request_duration_seconds", "update", cases[i].class), 1);
    }
}

static void buckets_have_what_is_up_to_their_bounds(void **state)
{
    static const struct {
        apr_int64_t duration;
        int bucket;
        apr_uint64_t sum;
    } cases[] = {{-1, 0, 0},
                 {0, 0, 0},
                 {250, 0, 250},
                 {251, 1, 251},
                 {10000000, 14, 10000000},
                 {10000001, 15, 10000001}};

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        users_figures figures = {0};
        apr_uint64_t total[USERS_FIGURE_SIZE] = {0};
        users_series series;

        users_figures_request(&figures, USERS_SHOW, 200, cases[i].duration);
        users_figures_sum(&figures, total);
        series = find(total, "http_server_request_duration_seconds", "read", "2xx");
        for (int bucket = 0; bucket <= USERS_DURATION_BOUNDS; bucket++) {
            assert_int_equal(series.words[bucket], bucket == cases[i].bucket);
        }
        assert_int_equal(series.words[USERS_DURATION_BOUNDS + 1], cases[i].sum);
    }
}

static void what_an_ended_process_has_counted_is_kept(void **state)
{
    users_figures figures = {0};

    (void)state;
    users_figures_add(&figures, USERS_FIGURE_LOCKOUTS, 3);
    users_figures_add(&figures, USERS_FIGURE_POOL_OPEN + USERS_ROLE_REPLICA, 2);
    users_figures_note(&figures, USERS_FIGURE_AWAY, 1);
    users_figures_end(&figures);
    assert_int_equal(value(&figures, "users_lockouts_total", NULL, NULL), 3);
    assert_int_equal(value(&figures, "users_db_pool_open", "replica", NULL), 0);
    assert_int_equal(value(&figures, "users_db_outage_children", "primary", NULL), 0);
}

/* Another process's decrement may be read before this one's increment. */
static void a_gauge_is_never_below_zero(void **state)
{
    users_figures figures = {0};

    (void)state;
    users_figures_add(&figures, USERS_FIGURE_HASH_WAITING, -1);
    assert_int_equal(value(&figures, "users_hash_waiting", NULL, NULL), 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(every_word_has_one_series),
    cmocka_unit_test(requests_have_their_series),
    cmocka_unit_test(buckets_have_what_is_up_to_their_bounds),
    cmocka_unit_test(what_an_ended_process_has_counted_is_kept),
    cmocka_unit_test(a_gauge_is_never_below_zero),
};

UNIT_MAIN(tests)
