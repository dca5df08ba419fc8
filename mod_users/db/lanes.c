#include "db/lanes.h"

#include "core/clock.h"
#include "db/db.h"

#include <apr_atomic.h>

struct users_lanes {
    int count;
    apr_uint32_t next; /* to wait for, of this process */
    apr_proc_mutex_t *lanes[];
};

users_lanes *users_db_lanes(apr_pool_t *pool, int count)
{
    users_lanes *lanes = apr_pcalloc(pool, sizeof(*lanes) + (size_t)count * sizeof(*lanes->lanes));

    lanes->count = count;
    for (int i = 0; i < count; i++) {
        if (apr_proc_mutex_create(&lanes->lanes[i], NULL, APR_LOCK_DEFAULT_TIMED, pool) !=
            APR_SUCCESS) {
            return NULL;
        }
    }
    return lanes;
}

void users_db_lanes_attach(users_lanes *lanes, apr_pool_t *pool)
{
    for (int i = 0; lanes && i < lanes->count; i++) {
        apr_proc_mutex_child_init(&lanes->lanes[i], NULL, pool);
    }
}

bool users_lanes_take(users_lanes *lanes, apr_time_t deadline, apr_proc_mutex_t **lane)
{
    apr_uint32_t first = lanes ? apr_atomic_inc32(&lanes->next) : 0;
    apr_interval_time_t left;
    apr_status_t status;

    for (int i = 0; lanes && i < lanes->count; i++) {
        *lane = lanes->lanes[(first + (apr_uint32_t)i) % (apr_uint32_t)lanes->count];
        if (apr_proc_mutex_trylock(*lane) == APR_SUCCESS) {
            return true;
        }
    }
    if (!lanes) {
        *lane = NULL;
        return true;
    }
    left = deadline - users_now();
    status = left > 0 ? apr_proc_mutex_timedlock(*lane, left) : APR_TIMEUP;
    if (status != APR_SUCCESS) {
        *lane = NULL;
    }
    return !APR_STATUS_IS_TIMEUP(status); /* one that has failed keeps nobody from working */
}
