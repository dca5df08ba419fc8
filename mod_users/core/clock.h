/* The clock of all deadlines: it only goes forward, whoever sets the time of day. */
#ifndef USERS_CORE_CLOCK_H
#define USERS_CORE_CLOCK_H

#include <apr_time.h>
#include <time.h>

/* Microseconds, above 0, since some moment, which can be the boot of the machine, just now. */
static inline apr_time_t users_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return apr_time_from_sec(now.tv_sec) + now.tv_nsec / 1000;
}

#endif
