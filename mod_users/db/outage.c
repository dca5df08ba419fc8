#include "db/outage.h"

#include "core/clock.h"

#include <apr_atomic.h>
#include <apr_general.h>
#include <apr_thread_mutex.h>

#define PAUSE_LEAST 50 /* milliseconds */
#define PAUSE_MOST  500

struct users_outage {
    const users_log *log;
    const char *name; /* in the log */
    apr_uint32_t lasts;
    apr_uint32_t refused;

    apr_thread_mutex_t *mutex; /* guards what follows, and the changes of lasts */
    apr_time_t since;
    apr_time_t probe_at; /* not before */
    bool probing;
    apr_uint32_t pause; /* the longest that may come next, in milliseconds */
};

users_outage *users_outage_create(apr_pool_t *pool, const users_log *log, const char *name)
{
    users_outage *outage = apr_pcalloc(pool, sizeof(*outage));

    outage->log = log;
    outage->name = name;
    return apr_thread_mutex_create(&outage->mutex, APR_THREAD_MUTEX_DEFAULT, pool) == APR_SUCCESS
               ? outage
               : NULL;
}

bool users_outage_lasts(users_outage *outage)
{
    return apr_atomic_read32(&outage->lasts);
}

/* With the mutex held. */
static users_permit permit_now(const users_outage *outage)
{
    if (!outage->lasts) {
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

/* These three with the mutex held. */

static void begin(users_outage *outage, const char *reason)
{
    outage->since = users_now();
    outage->pause = PAUSE_LEAST;
    apr_atomic_set32(&outage->refused, 0);
    apr_atomic_set32(&outage->lasts, 1);
    users_log_at(outage->log, USERS_LOG_ERR, 0, "%s can't be reached: %s", outage->name, reason);
}

static void end(users_outage *outage)
{
    apr_atomic_set32(&outage->lasts, 0);
    users_log_at(outage->log, USERS_LOG_WARNING, 0,
                 "%s is back after %.1f s, in which %u requests were refused", outage->name,
                 (double)(users_now() - outage->since) / APR_USEC_PER_SEC,
                 apr_atomic_read32(&outage->refused));
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
                       const char *reason)
{
    apr_thread_mutex_lock(outage->mutex);
    if (permit == USERS_MAY_PROBE) {
        outage->probing = false;
    }
    if (status == USERS_CONNECTED && outage->lasts) {
        end(outage);
    } else if (status == USERS_CONNECT_FAILED && !outage->lasts) {
        begin(outage, reason);
        put_off(outage);
    } else if (status == USERS_CONNECT_FAILED && permit == USERS_MAY_PROBE) {
        put_off(outage);
    }
    apr_thread_mutex_unlock(outage->mutex);
}

void users_outage_count(users_outage *outage)
{
    apr_atomic_inc32(&outage->refused);
}
