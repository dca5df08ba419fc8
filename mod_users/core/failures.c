#include "core/failures.h"

#include "core/clock.h"

#include <apr_atomic.h>

/* The end of the window, in milliseconds of users_now(): 34 years' worth. Then the count. */
#define COUNT_BITS 24
#define COUNT_MOST ((1u << COUNT_BITS) - 1)

static users_failures_now unpack(users_failures word, apr_time_t now)
{
    apr_time_t end = (apr_time_t)(word >> COUNT_BITS) * 1000;

    if (end <= now) {
        return (users_failures_now){0, 0};
    }
    return (users_failures_now){(apr_uint32_t)(word & COUNT_MOST), end - now};
}

users_failures_now users_failures_read(users_failures *failures)
{
    return unpack(apr_atomic_read64(failures), users_now());
}

users_failures_now users_failures_add(users_failures *failures, apr_interval_time_t window)
{
    users_failures old;
    users_failures changed;
    apr_time_t now;

    do {
        now = users_now();
        old = apr_atomic_read64(failures);
        if (unpack(old, now).count == 0) {
            changed = (users_failures)((now + window) / 1000) << COUNT_BITS | 1;
        } else {
            changed = old + ((old & COUNT_MOST) < COUNT_MOST);
        }
    } while (apr_atomic_cas64(failures, changed, old) != old);
    return unpack(changed, now);
}

void users_failures_forget(users_failures *failures)
{
    if (apr_atomic_read64(failures)) {
        apr_atomic_set64(failures, 0);
    }
}
