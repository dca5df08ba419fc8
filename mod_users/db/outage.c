#include "db/outage.h"

#include "core/clock.h"
#include "core/episode.h"
#include "db/capacity.h"
#include "db/count.h"

#include <apr_general.h>
#include <apr_thread_mutex.h>

#define PAUSE_LEAST 50 /* milliseconds */
#define PAUSE_MOST  500

struct users_outage {
    const users_witness *witness;
    users_episode episode; /* counts the requests that were refused */

    apr_thread_mutex_t *mutex; /* guards what follows, and its beginning and end */
    bool told;                 /* the log has an error of it */
    apr_time_t probe_at;       /* not before */
    bool probing;
    apr_uint32_t pause; /* the longest that may come next, in milliseconds */
};

users_outage *users_outage_create(apr_pool_t *pool, const users_witness *witness)
{
    users_outage *outage = apr_pcalloc(pool, sizeof(*outage));

    outage->witness = witness;
    return apr_thread_mutex_create(&outage->mutex, APR_THREAD_MUTEX_DEFAULT, pool) == APR_SUCCESS
               ? outage
               : NULL;
}

bool users_outage_lasts(users_outage *outage)
{
    return users_episode_lasts(&outage->episode);
}

/* With the mutex held. */
static users_permit permit_now(users_outage *outage)
{
    if (!users_outage_lasts(outage)) {
        return USERS_MAY_CONNECT;
    }
    return outage->probing || users_now() < outage->probe_at ? USERS_MAY_NOT : USERS_MAY_PROBE;
}

bool users_outage_bars(users_outage *outage)
{
    bool bars;

    if (!users_outage_lasts(outage)) {
        return false;
    }
    apr_thread_mutex_lock(outage->mutex);
    bars = permit_now(outage) == USERS_MAY_NOT;
    apr_thread_mutex_unlock(outage->mutex);
    return bars;
}

users_permit users_outage_ask(users_outage *outage)
{
    users_permit permit;

    apr_thread_mutex_lock(outage->mutex);
    permit = permit_now(outage);
    outage->probing |= permit == USERS_MAY_PROBE;
    apr_thread_mutex_unlock(outage->mutex);
    return permit;
}

/* These with the mutex held. */

/* That PostgreSQL has no connection left is one thing for all children, and over as soon. */
static void tell_fault(users_outage *outage, const users_connect_fault *fault)
{
    const users_witness *witness = outage->witness;

    if (fault->full) {
        users_capacity_exhausted(witness, fault->reason);
    } else if (!outage->told) {
        outage->told = true;
        users_log_at(witness->log, USERS_LOG_ERR, 0, "%s can't be reached: %s", witness->name,
                     fault->reason);
    }
}

static void begin(users_outage *outage)
{
    users_episode_begin(&outage->episode);
    users_db_count(outage->witness->settings, USERS_FIGURE_OUTAGES, 1);
    outage->pause = PAUSE_LEAST;
    outage->told = false;
}

static void end(users_outage *outage)
{
    users_episode_summary summary;

    users_episode_end(&outage->episode, &summary);
    users_db_note(outage->witness->settings, USERS_FIGURE_AWAY, 0);
    users_log_at(outage->witness->log, outage->told ? USERS_LOG_WARNING : USERS_LOG_INFO, 0,
                 "%s is back after %.1f s, in which %u requests were refused",
                 outage->witness->name, summary.seconds, summary.count);
}

/* From the least pause to the longest; without randomness the least. */
static apr_uint32_t random_pause(apr_uint32_t longest)
{
    apr_uint32_t random;

    if (apr_generate_random_bytes((unsigned char *)&random, sizeof(random)) != APR_SUCCESS) {
        return PAUSE_LEAST;
    }
    return PAUSE_LEAST + random % (longest - PAUSE_LEAST + 1);
}

/* At random, so that the children of many hosts do not all come at once. */
static void put_off(users_outage *outage)
{
    outage->pause = outage->pause * 2 < PAUSE_MOST ? outage->pause * 2 : PAUSE_MOST;
    outage->probe_at = users_now() + apr_time_from_msec(random_pause(outage->pause));
}

void users_outage_tell(users_outage *outage, users_permit permit, users_connect_status status,
                       const users_connect_fault *fault)
{
    bool lasts;

    apr_thread_mutex_lock(outage->mutex);
    lasts = users_outage_lasts(outage);
    if (permit == USERS_MAY_PROBE) {
        outage->probing = false;
    }
    if (status == USERS_CONNECTED && lasts) {
        end(outage);
    } else if (status == USERS_CONNECT_FAILED) {
        if (!lasts) {
            begin(outage);
        }
        users_db_note(outage->witness->settings, USERS_FIGURE_AWAY, users_now());
        tell_fault(outage, fault);
        if (!lasts || permit == USERS_MAY_PROBE) {
            put_off(outage);
        }
    }
    apr_thread_mutex_unlock(outage->mutex);
}

void users_outage_count(users_outage *outage)
{
    users_episode_count(&outage->episode);
}
