/* JSON as text. */
#ifndef USERS_CORE_JSON_H
#define USERS_CORE_JSON_H

#include <apr_pools.h>
#include <jansson.h>

/*
 * The text of an object or array, in memory of pool; NULL where memory ran out, or where json is
 * NULL. json_dumps() leaves names of members out when its buffer can't grow.
 */
const char *users_json_text(const json_t *json, apr_pool_t *pool);

#endif
