#include "core/duration.h"

#include "unit.h"

static void reads_number_and_unit(void **state)
{
    static const struct {
        const char *text;
        apr_interval_time_t duration;
        bool has_unit;
    } rows[] = {
        {"0", 0, false},
        {"5", 5000000, false},
        {"007", 7000000, false},
        {"0ms", 0, true},
        {"500ms", 500000, true},
        {"5s", 5000000, true},
        {"2min", 120000000, true},
        {"1h", 3600000000, true},
        {"1H", 3600000000, true},
        {"2Min", 120000000, true},
        {"9223372036854775ms", 9223372036854775000, true},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        apr_interval_time_t duration = -1;
        bool has_unit = !rows[i].has_unit;
        if (!users_duration_parse(rows[i].text, &duration, &has_unit) ||
            duration != rows[i].duration || has_unit != rows[i].has_unit) {
            fail_msg("\"%s\" is %lld", rows[i].text, (long long)duration);
        }
    }
}

static void refuses_anything_else(void **state)
{
    static const char *const texts[] = {
        "",
        " ",
        "s",
        "soon",
        "-5s",
        "+5s",
        " 5s",
        "5 s",
        "5s ",
        "5seconds",
        "5sec",
        "5m",
        "5mi",
        "5d",
        "5ss",
        "1.5s",
        "1m1s",
        "5minutes",
        "5millis",
        "5hours",
        "0x5s",
        "5,s",
        "1e3s",
        "9223372036854775808ms",
        "5us",
        "5mins",
        "5msec",
        "99999999999999999999",
        "9223372036854776s",
    };
    (void)state;
    for (size_t i = 0; i < COUNT(texts); i++) {
        apr_interval_time_t duration;
        bool has_unit;
        if (users_duration_parse(texts[i], &duration, &has_unit)) {
            fail_msg("\"%s\" is taken", texts[i]);
        }
    }
}

static void writes_the_largest_unit(void **state)
{
    static const struct {
        apr_interval_time_t duration;
        const char *text;
    } rows[] = {
        {0, "0"},
        {999, "0"},
        {1000, "1ms"},
        {1500000, "1500ms"},
        {5000000, "5s"},
        {90000000, "90s"},
        {300000000, "5min"},
        {5400000000, "90min"},
        {7200000000, "2h"},
        {31536000000000, "8760h"},
    };
    apr_pool_t *pool = *state;

    for (size_t i = 0; i < COUNT(rows); i++) {
        assert_string_equal(users_duration_write(rows[i].duration, pool), rows[i].text);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(reads_number_and_unit),
    cmocka_unit_test(refuses_anything_else),
    cmocka_unit_test(writes_the_largest_unit),
};

UNIT_MAIN(tests)
