/* Where events are sent to: the file that usersctl event deliver --endpoint names. */
#ifndef USERS_ENDPOINT_H
#define USERS_ENDPOINT_H

#include "usersctl/output.h"

#include <apr_pools.h>
#include <stdbool.h>

#define USERS_ENDPOINT_SECRETS 2 /* the one, and another while they are rotated */

typedef struct {
    const unsigned char *key;
    apr_size_t length; /* octets */
} users_endpoint_secret;

typedef struct {
    const char *url;
    const char *ca_file; /* PEM; NULL: those that the system trusts */
    users_endpoint_secret secrets[USERS_ENDPOINT_SECRETS];
    int secret_count;   /* at least 1 */
    bool allow_http;    /* without TLS */
    bool allow_private; /* addresses that are not public */
} users_endpoint;

/*
 * Read the file, in memory of pool. Complains, with the number of the line, where something in it
 * is wrong or missing, and of a file that others than root and we may read or write.
 */
users_exit users_endpoint_read(apr_pool_t *pool, const char *path, users_endpoint *endpoint);

#endif
