/* Secrets do not stay in memory longer than what they were needed for. */
#ifndef USERS_CORE_WIPE_H
#define USERS_CORE_WIPE_H

#include <apr_pools.h>

/*
 * Clear memory of a pool when the pool is destroyed: its pages are used again, by others. For
 * whatever holds a password, a client secret or a token that was copied.
 */
void users_wipe_later(apr_pool_t *pool, const void *memory, apr_size_t size);

/* The same of a text; NULL is none. Returns it. */
const char *users_wipe_text_later(apr_pool_t *pool, const char *text);

#endif
