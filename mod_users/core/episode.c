#include "core/episode.h"

#include "core/clock.h"

#include <apr_atomic.h>

bool users_episode_lasts(users_episode *episode)
{
    return apr_atomic_read32(&episode->lasts);
}

bool users_episode_begin(users_episode *episode)
{
    if (users_episode_lasts(episode) || apr_atomic_cas32(&episode->lasts, 1, 0) != 0) {
        return false;
    }
    apr_atomic_set32(&episode->count, 0);
    apr_atomic_set64(&episode->began, (apr_uint64_t)users_now());
    return true;
}

void users_episode_count(users_episode *episode)
{
    apr_atomic_inc32(&episode->count);
}

/* Add a bit, or take it away. Returns the subjects as they were. */
static apr_uint32_t change_subjects(users_episode *episode, apr_uint32_t bit, bool add)
{
    apr_uint32_t old;
    apr_uint32_t changed;

    do {
        old = apr_atomic_read32(&episode->subjects);
        changed = add ? old | bit : old & ~bit;
    } while (changed != old && apr_atomic_cas32(&episode->subjects, changed, old) != old);
    return old;
}

users_met users_episode_meet(users_episode *episode, unsigned subject)
{
    apr_uint32_t bit = 1u << subject;
    apr_uint32_t old;
    bool begins;

    apr_atomic_set64(&episode->met, (apr_uint64_t)users_now());
    old = change_subjects(episode, bit, true);
    begins = users_episode_begin(episode);
    users_episode_count(episode);
    if (begins) {
        return USERS_MET_FIRST;
    }
    return (old & bit) != 0 ? USERS_MET_AGAIN : USERS_MET_SUBJECT;
}

bool users_episode_pass(users_episode *episode, unsigned subject, apr_interval_time_t quiet,
                        users_episode_summary *summary)
{
    apr_uint32_t bit = 1u << subject;

    if (!users_episode_lasts(episode) || (change_subjects(episode, bit, false) & ~bit) != 0 ||
        users_now() - (apr_time_t)apr_atomic_read64(&episode->met) < quiet) {
        return false;
    }
    return users_episode_end(episode, summary);
}

bool users_episode_end(users_episode *episode, users_episode_summary *summary)
{
    apr_time_t began = (apr_time_t)apr_atomic_read64(&episode->began);

    summary->count = apr_atomic_read32(&episode->count);
    summary->seconds = (double)(users_now() - began) / APR_USEC_PER_SEC;
    return apr_atomic_cas32(&episode->lasts, 0, 1) == 1;
}
