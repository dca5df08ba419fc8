/* The body of a request. */
#ifndef USERS_HTTP_BODY_H
#define USERS_HTTP_BODY_H

#include "http/refusal.h"

#include <stdbool.h>

/* The media types that a body may have: of a change, of a registration, at an endpoint of OAuth. */
#define USERS_ACCEPT_PATCH      "application/json, application/merge-patch+json"
#define USERS_ACCEPT_POST       "application/json"
#define USERS_OAUTH_ACCEPT_POST "application/x-www-form-urlencoded, application/json"

/* Is the request's content of this media type? Parameters are passed over. */
bool users_body_has_type(const request_rec *r, const char *type);

/*
 * Read the whole body, chunked or not, up to UsersMaxBody, into memory of the request. It ends in a
 * NUL that *length does not count; nothing is said of its encoding.
 */
users_refusal users_body_read(request_rec *r, char **text, apr_size_t *length);

#endif
