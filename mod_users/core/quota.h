/*
 * How many lines a minute of one kind the log may have, for what clients can cause at will; the
 * rest is counted. No locks, and nothing but numbers: it may lie in memory that processes share.
 */
#ifndef USERS_CORE_QUOTA_H
#define USERS_CORE_QUOTA_H

#include <apr.h>
#include <stdbool.h>

/* Zero at first. */
typedef struct users_quota {
    apr_uint64_t began; /* users_now(): the minute */
    apr_uint32_t lines; /* in it */
    apr_uint32_t left_out;
} users_quota;

/* May there be another line? If not, it is counted. */
bool users_quota_take(users_quota *quota, apr_uint32_t limit);

/* How many lines were left out in a minute that is over: told once, and else 0. */
apr_uint32_t users_quota_left_out(users_quota *quota);

#endif
