/*
 * What the children share for a while: a socache provider (UsersCache), under httpd's mutex
 * "users-cache" where the provider wants one. A cache may forget; it never makes a request fail.
 */
#ifndef USERS_AUTH_CACHE_H
#define USERS_AUTH_CACHE_H

#include <httpd.h>

#include <stdbool.h>

#define USERS_CACHE_KEY_LENGTH 32 /* octets: a SHA-256 digest or MAC */

/* Hook pre_config: names the mutex, so that the directive Mutex can configure it. */
int users_cache_prepare(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp);

/* Hook check_config: is there such a provider, where a setting needs one? */
int users_cache_check(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s);

/* Hook post_config: opens the cache, one for all servers. */
int users_cache_start(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s);

/* Hook child_init. */
void users_cache_open(apr_pool_t *pchild, server_rec *s);

/* Is there a cache? Without one nothing below may be called. */
bool users_cache_is_open(void);

/*
 * An octet string of a server's process that nobody outside of it knows, made anew at each start
 * and restart: a key for what must not be computed elsewhere. USERS_CACHE_KEY_LENGTH octets.
 */
const unsigned char *users_cache_secret(void);

/* The value kept under a key, of exactly this many octets. False where there is none. */
bool users_cache_get(request_rec *r, const unsigned char key[USERS_CACHE_KEY_LENGTH], void *value,
                     unsigned length);

/* Keep a value until a time. */
void users_cache_put(request_rec *r, const unsigned char key[USERS_CACHE_KEY_LENGTH],
                     const void *value, unsigned length, apr_time_t until);

#endif
