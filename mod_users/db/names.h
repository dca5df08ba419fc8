/*
 * The addresses of a server's host name. getaddrinfo() can block for minutes and can't be
 * cancelled: so threads of their own call it, and what they find is kept for half a minute. An
 * address that is too old is better than none: it goes on while the resolver fails or is silent.
 */
#ifndef USERS_DB_NAMES_H
#define USERS_DB_NAMES_H

#include <apr_pools.h>
#include <apr_time.h>
#include <stdbool.h>

#define USERS_ADDRESSES_MOST  16 /* of a name; those beyond are passed over */
#define USERS_ADDRESS_LENGTH  80 /* of IPv6, with the name of an interface behind it */
#define USERS_NAME_SILENT     (-1000)
#define USERS_NAME_NO_THREADS (-1001)

typedef struct users_host_name users_host_name;

/* In numeric form, in the resolver's order. */
typedef struct {
    unsigned number; /* of the look-up that found them: the first is 1 */
    unsigned count;
    char list[USERS_ADDRESSES_MOST][USERS_ADDRESS_LENGTH];
} users_addresses;

/* Is this the name of a host, which has to be looked up? An address, a path or nothing is none. */
bool users_is_host_name(const char *host);

/*
 * Nothing is looked up yet, and no thread begun. The clean-up of pool waits for no look-up: its
 * thread has a reference of its own. NULL without memory.
 */
users_host_name *users_host_name_create(apr_pool_t *pool, const char *text);

/* The name itself, for as long as there is it. */
const char *users_host_name_text(const users_host_name *name);

/*
 * Its addresses. Where none are known, that waits for the resolver until the deadline
 * (users_now()); where those that are known are due to be looked up, half a second at most, and
 * none while the resolver has been silent for longer than that. False where there are none.
 *
 * *error is 0 where they are good; else it says why they can't be had, or are old: getaddrinfo()'s,
 * USERS_NAME_SILENT, or USERS_NAME_NO_THREADS. *age: of those that are returned.
 */
bool users_host_name_find(users_host_name *name, apr_time_t deadline, users_addresses *addresses,
                          int *error, apr_interval_time_t *age);

/*
 * No server at its addresses was the right one. Unless they were found within the last second, they
 * are looked up before they are used again.
 */
void users_host_name_doubt(users_host_name *name);

/* What an error of users_host_name_find() means. */
const char *users_host_name_error(int error);

#endif
