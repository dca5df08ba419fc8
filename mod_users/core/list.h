/* What the values of header fields are made of (RFC 9110 section 5.6). */
#ifndef USERS_CORE_LIST_H
#define USERS_CORE_LIST_H

#include "core/text.h"

#include <apr_pools.h>

const char *users_span_text(users_span text, apr_pool_t *pool);

/* Without the white space at both ends that section 5.6.3 calls optional. */
users_span users_trim_optional(users_span text);

/* Case-insensitive. */
bool users_span_is(users_span text, const char *word);

/*
 * Cut the next part, up to a separator that is not within a quoted string, off rest. False
 * where nothing is left. Parts may be empty (RFC 9110 section 5.6.1.2).
 */
bool users_list_next(users_span *rest, char separator, users_span *part);

bool users_is_token(users_span text);         /* section 5.6.2 */
bool users_is_quoted_string(users_span text); /* section 5.6.4 */

/* name [ BWS "=" BWS value ]; value is empty where there is none. */
typedef struct {
    users_span name;
    users_span value;
    bool well_formed; /* RFC 7240 section 2: a token, and a token or quoted string */
} users_pair;

users_pair users_pair_of(users_span part);

#endif
