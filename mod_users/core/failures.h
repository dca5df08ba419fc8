/*
 * How often something has failed within a window, which the first failure opens: one word for each
 * count, changed atomically, so that it may lie in memory that processes share.
 */
#ifndef USERS_CORE_FAILURES_H
#define USERS_CORE_FAILURES_H

#include <apr.h>
#include <apr_time.h>

/* A count. Zero: nothing has failed. */
typedef apr_uint64_t users_failures;

/* What there is of it now. */
typedef struct {
    apr_uint32_t count;
    apr_interval_time_t left; /* of its window, in microseconds */
} users_failures_now;

users_failures_now users_failures_read(users_failures *failures);

/* One more: returns what there is then. window: of a first one, up to a year. */
users_failures_now users_failures_add(users_failures *failures, apr_interval_time_t window);

void users_failures_forget(users_failures *failures);

#endif
