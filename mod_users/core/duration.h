/* Durations as directives name them. */
#ifndef USERS_DURATION_H
#define USERS_DURATION_H

#include <apr_pools.h>
#include <apr_time.h>
#include <stdbool.h>

/*
 * Read a whole number with a unit: ms, s, min or h in either case; without one it is seconds.
 * *duration: microseconds; *has_unit: whether a unit was named. False where it is anything else, or
 * longer than an apr_interval_time_t can hold.
 */
bool users_duration_parse(const char *text, apr_interval_time_t *duration, bool *has_unit);

/* The same in the largest unit that it is a whole number of, in memory of pool. Below 1ms it is 0.
 */
const char *users_duration_write(apr_interval_time_t duration, apr_pool_t *pool);

#endif
