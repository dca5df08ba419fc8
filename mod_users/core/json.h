/* JSON as text, and in memory of a pool. */
#ifndef USERS_CORE_JSON_H
#define USERS_CORE_JSON_H

#include <apr_pools.h>
#include <jansson.h>

/*
 * The text of an object or array, in memory of pool; NULL where memory ran out, or where json is
 * NULL. json_dumps() leaves names of members out when its buffer can't grow.
 */
const char *users_json_text(const json_t *json, apr_pool_t *pool);

/* PostgreSQL writes json, as text of jsonb, with so many octets or more. */
size_t users_json_least_length(const json_t *json);

/* Have a pool's clean-up give up our reference; json may be NULL. */
void users_json_free_with(apr_pool_t *pool, json_t *json);

#endif
