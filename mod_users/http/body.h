/* The body of a request. */
#ifndef USERS_HTTP_BODY_H
#define USERS_HTTP_BODY_H

#include "http/refusal.h"

#include <stdbool.h>

/* Is the request's content of this media type? Parameters are passed over. */
bool users_body_has_type(const request_rec *r, const char *type);

/*
 * Read the whole body, chunked or not, up to UsersMaxBody, into memory of the request. It ends in a
 * NUL that *length does not count; nothing is said of its encoding.
 */
users_refusal users_body_read(request_rec *r, char **text, apr_size_t *length);

#endif
