#include "core/quota.h"

#include "core/clock.h"

#include <apr_atomic.h>

#define MINUTE apr_time_from_sec(60)

static bool is_over(users_quota *quota, apr_uint64_t *began)
{
    *began = apr_atomic_read64(&quota->began);
    return users_now() - (apr_time_t)*began >= MINUTE;
}

bool users_quota_take(users_quota *quota, apr_uint32_t limit)
{
    apr_uint64_t began;

    if (is_over(quota, &began) &&
        apr_atomic_cas64(&quota->began, (apr_uint64_t)users_now(), began) == began) {
        apr_atomic_set32(&quota->lines, 0);
    }
    if (apr_atomic_inc32(&quota->lines) < limit) {
        return true;
    }
    apr_atomic_inc32(&quota->left_out);
    return false;
}

apr_uint32_t users_quota_left_out(users_quota *quota)
{
    apr_uint64_t began;

    return apr_atomic_read32(&quota->left_out) && is_over(quota, &began)
               ? apr_atomic_xchg32(&quota->left_out, 0)
               : 0;
}
