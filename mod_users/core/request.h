/* A request body: from bytes to JSON. */
#ifndef USERS_CORE_REQUEST_H
#define USERS_CORE_REQUEST_H

#include <jansson.h>
#include <stddef.h>

#define USERS_REQUEST_DEPTH 16 /* levels of arrays and objects */

/*
 * Parse the bytes of a body: UTF-8 JSON (RFC 8259) of any kind, without a byte order mark, trailing
 * bytes, duplicate keys, NUL characters or more than USERS_REQUEST_DEPTH levels. Returns a new
 * reference; NULL with a sentence for the client in *error (static text) where the body is no
 * such thing, or with NULL where memory ran out. Numbers must be zero as doubles only if they are
 * zero, and no larger than doubles or 64-bit integers; zeros with an exponent, or with more
 * decimals than PostgreSQL keeps, become a plain 0 in the bytes.
 */
json_t *users_request_load(char *bytes, size_t length, const char **error);

/* The same, where the body must be an object with an object "user". */
json_t *users_request_parse(char *bytes, size_t length, const char **error);

#endif
