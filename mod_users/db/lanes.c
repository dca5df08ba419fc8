#include "db/lanes.h"

#include "core/clock.h"
#include "db/db.h"

#include <apr_atomic.h>

#define PAUSE    apr_time_from_msec(5)  /* with one lane, then with the next */
#define PATIENCE apr_time_from_msec(50) /* a statement takes a few */

struct users_lanes {
    int count;
    apr_uint32_t next; /* to wait for, of this process */
    struct {
        apr_proc_mutex_t *mutex;
    } lanes[];
};

users_lanes *users_db_lanes(apr_pool_t *pool, int count)
{
    users_lanes *lanes = apr_pcalloc(pool, sizeof(*lanes) + (size_t)count * sizeof(*lanes->lanes));

    lanes->count = count;
    for (int i = 0; i < count; i++) {
        if (apr_proc_mutex_create(&lanes->lanes[i].mutex, NULL, APR_LOCK_DEFAULT_TIMED, pool) !=
            APR_SUCCESS) {
            return NULL;
        }
    }
    return lanes;
}

void users_db_lanes_attach(users_lanes *lanes, apr_pool_t *pool)
{
    for (int i = 0; lanes && i < lanes->count; i++) {
        apr_proc_mutex_child_init(&lanes->lanes[i].mutex, NULL, pool);
    }
}

/* Try them all, from one on, each for so long. NULL: none came free, or (*status) one has failed.
 */
static apr_proc_mutex_t *go_round(const users_lanes *lanes, apr_uint32_t first,
                                  apr_interval_time_t pause, apr_status_t *status)
{
    for (int i = 0; i < lanes->count; i++) {
        apr_proc_mutex_t *lane =
            lanes->lanes[(first + (apr_uint32_t)i) % (apr_uint32_t)lanes->count].mutex;

        *status = pause ? apr_proc_mutex_timedlock(lane, pause) : apr_proc_mutex_trylock(lane);
        if (*status == APR_SUCCESS) {
            return lane;
        }
        if (!APR_STATUS_IS_EBUSY(*status) && !APR_STATUS_IS_TIMEUP(*status)) {
            return NULL;
        }
    }
    return NULL;
}

apr_proc_mutex_t *users_lanes_take(users_lanes *lanes)
{
    apr_time_t end = users_now() + PATIENCE;
    apr_interval_time_t pause = 0;
    apr_proc_mutex_t *lane = NULL;
    apr_status_t status = APR_EBUSY;

    while (lanes && !lane && (APR_STATUS_IS_EBUSY(status) || APR_STATUS_IS_TIMEUP(status)) &&
           users_now() < end) {
        lane = go_round(lanes, apr_atomic_inc32(&lanes->next), pause, &status);
        pause = PAUSE;
    }
    return lane;
}
