/* The Accept header field. */
#ifndef USERS_CORE_ACCEPT_H
#define USERS_CORE_ACCEPT_H

#include <apr_pools.h>
#include <stdbool.h>

/* Accept (RFC 9110 section 12.5.1). */
typedef struct {
    bool acceptable;     /* application/json or application/problem+json will do */
    bool text;           /* text/plain will do */
    bool problem;        /* errors go out as application/problem+json (RFC 9457) */
    const char *version; /* the api_version parameter as sent; NULL where there is none */
    bool version_served; /* no version, or one that is served */
} users_accept;

/*
 * Read Accept. value: NULL where the request has none, which accepts everything. What
 * can't be read in it is passed over. version points into memory of pool.
 *
 * Errors go out as problem+json where it is named itself, with a weight (q) above zero and
 * not below that of application/json; a wildcard alone does not ask for it.
 */
users_accept users_accept_parse(const char *value, apr_pool_t *pool);

#endif
