/* The request header fields but for Authorization and Accept. */
#ifndef USERS_CORE_HEADER_H
#define USERS_CORE_HEADER_H

#include <apr_pools.h>
#include <apr_tables.h>
#include <stdbool.h>

/* If-Match, If-None-Match (RFC 9110 sections 13.1.1, 13.1.2). */
typedef struct {
    bool any;                 /* "*" */
    apr_array_header_t *tags; /* const char *: the strong tags' opaque text without quotes and
                                 without the -gzip or -br of a compressing filter */
    apr_array_header_t *weak; /* the same of the weak ones */
} users_entity_tags;

/* Read a list of entity tags into memory of pool. NULL where value is malformed. */
const users_entity_tags *users_entity_tags_parse(const char *value, apr_pool_t *pool);

/* Does the list name the current tag (opaque text, no quotes; NULL: unknown)? weakly:
 * section 8.8.3.2. */
bool users_entity_tags_match(const users_entity_tags *tags, const char *current, bool weakly);

/* Prefer (RFC 7240). Preferences that we do not know, or cannot read, are ignored (section 2). */
typedef struct {
    bool minimal; /* return=minimal */
    bool strict;  /* handling=strict */
} users_prefer;

/* value: NULL where the request has none. */
users_prefer users_prefer_parse(const char *value);

/*
 * Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): a quoted string (RFC 9651
 * section 3.3.3), or its bare text as clients in the field send it: 1 to 255 visible ASCII
 * characters without quote, comma or backslash. Returns the text in memory of pool, NULL
 * where value is malformed.
 */
const char *users_idempotency_key_parse(const char *value, apr_pool_t *pool);

#define USERS_TRACE_LENGTH 32 /* hexadecimal digits of a trace id */

/*
 * traceparent (W3C Trace Context, level 1): the trace id in memory of pool; NULL where value is
 * malformed, as where several header fields were joined to one. Versions above 00 may have more
 * behind what 00 has.
 */
const char *users_traceparent_parse(const char *value, apr_pool_t *pool);

#endif
