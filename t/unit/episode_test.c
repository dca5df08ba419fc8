/* States that last and lines that are counted, by a clock that the tests set: episode.c, quota.c.
 */
#define USERS_CORE_CLOCK_H

#include <apr_time.h>

static apr_time_t now;

static apr_time_t users_now(void)
{
    return now;
}

#include "core/episode.c"
#include "core/quota.c"

#include "unit.h"

#define QUIET apr_time_from_sec(10)

/* A machine that has just been started has a clock that begins at 0. */
static const apr_time_t begins[] = {0, 1, APR_USEC_PER_SEC, 1000000 * APR_USEC_PER_SEC};

static void pass_time(int seconds)
{
    now += apr_time_from_sec(seconds);
}

static void begins_once_and_counts(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(begins); i++) {
        users_episode episode = {0};
        users_episode_summary summary;

        now = begins[i];
        assert_false(users_episode_pass(&episode, 0, QUIET, &summary));
        assert_int_equal(users_episode_meet(&episode, 0), USERS_MET_FIRST);
        for (int n = 0; n < 49; n++) {
            assert_int_equal(users_episode_meet(&episode, 0), USERS_MET_AGAIN);
        }
        assert_false(users_episode_pass(&episode, 0, QUIET, &summary));
        pass_time(9);
        assert_false(users_episode_pass(&episode, 0, QUIET, &summary));
        assert_int_equal(users_episode_meet(&episode, 0), USERS_MET_SUBJECT);
        pass_time(10);
        assert_true(users_episode_pass(&episode, 0, QUIET, &summary));
        assert_int_equal(summary.count, 51);
        assert_true(summary.seconds == 19.0);
        assert_false(users_episode_pass(&episode, 0, QUIET, &summary));
        assert_int_equal(users_episode_meet(&episode, 0), USERS_MET_FIRST);
    }
}

static void ends_when_no_subject_is_affected(void **state)
{
    users_episode episode = {0};
    users_episode_summary summary;

    (void)state;
    assert_int_equal(users_episode_meet(&episode, 0), USERS_MET_FIRST);
    assert_int_equal(users_episode_meet(&episode, 31), USERS_MET_SUBJECT);
    assert_int_equal(users_episode_meet(&episode, 31), USERS_MET_AGAIN);
    pass_time(100);
    assert_false(users_episode_pass(&episode, 0, QUIET, &summary));
    assert_false(users_episode_pass(&episode, 5, QUIET, &summary));
    assert_true(users_episode_pass(&episode, 31, QUIET, &summary));
    assert_int_equal(summary.count, 3);

    /* one that is well within the quiet need not be so again */
    users_episode_meet(&episode, 7);
    assert_false(users_episode_pass(&episode, 7, QUIET, &summary));
    pass_time(10);
    assert_true(users_episode_pass(&episode, 3, QUIET, &summary));
}

static void begins_and_ends_at_a_word(void **state)
{
    users_episode episode = {0};
    users_episode_summary summary;

    (void)state;
    users_episode_count(&episode); /* of nothing that lasts */
    assert_false(users_episode_lasts(&episode));
    assert_false(users_episode_end(&episode, &summary));
    assert_true(users_episode_begin(&episode));
    assert_false(users_episode_begin(&episode));
    assert_true(users_episode_lasts(&episode));
    users_episode_count(&episode);
    users_episode_count(&episode);
    pass_time(2);
    assert_true(users_episode_end(&episode, &summary));
    assert_int_equal(summary.count, 2);
    assert_true(summary.seconds == 2.0);
    assert_false(users_episode_lasts(&episode));
}

static void has_so_many_lines_a_minute(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(begins); i++) {
        users_quota quota = {0};

        now = begins[i];
        for (int minute = 0; minute < 3; minute++) {
            for (int n = 0; n < 10; n++) {
                assert_true(users_quota_take(&quota, 10));
            }
            for (int n = 0; n < 25; n++) {
                assert_false(users_quota_take(&quota, 10));
            }
            assert_int_equal(users_quota_left_out(&quota), 0);
            pass_time(60);
            assert_int_equal(users_quota_left_out(&quota), 25);
            assert_int_equal(users_quota_left_out(&quota), 0);
        }
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(begins_once_and_counts),
    cmocka_unit_test(ends_when_no_subject_is_affected),
    cmocka_unit_test(begins_and_ends_at_a_word),
    cmocka_unit_test(has_so_many_lines_a_minute),
};

UNIT_MAIN(tests)
