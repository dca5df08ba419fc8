/*
 * Tables of counts (core/failures.h) in memory that the children of httpd share and reloads keep. A
 * count's place is a keyed hash of what it is the count of: nothing pushes one out, nobody can aim
 * at a place, and those that share a place share its count. And the lines that the log has of them.
 */
#ifndef USERS_AUTH_COUNTS_H
#define USERS_AUTH_COUNTS_H

#include "core/quota.h"

#include <httpd.h>

/*
 * For a post_config hook: memory for a table under a name, zero at first, and the key for places.
 * Where the system has no shared memory each child has a copy of its own, which the log tells with
 * the directive that wants it. NULL: there is no randomness for a key, which the log tells, too.
 */
void *users_counts_memory(const server_rec *s, const char *directive, const char *name,
                          apr_size_t size);

/* The place that a text has among so many. */
apr_size_t users_counts_place(const char *text, apr_size_t places);

/* The level of one more line in the log that clients can cause at will. */
int users_counts_level(users_quota *lines);

/* A line on how many of those were left out in a minute that is over. what: happened so often. */
void users_counts_tell_left_out(const request_rec *r, users_quota *lines, const char *what);

#endif
