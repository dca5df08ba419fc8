/*
 * A client of an OAuth endpoint: the parameters of its request, and who it is. Refusals have an
 * error of RFC 6749 section 5.2.
 */
#ifndef USERS_API_CLIENT_H
#define USERS_API_CLIENT_H

#include "auth/access.h"

#include <apr_hash.h>

users_refusal users_oauth_refuse(int status, const char *error, const char *description);

/* invalid_request */
users_refusal users_oauth_invalid(const char *description);

/* A failure that is not the client's, and has no error of its own yet. */
users_refusal users_oauth_unavailable(users_refusal refused);
users_refusal users_oauth_failure(request_rec *r, users_outcome outcome);

/*
 * The parameters of the body, form-encoded or JSON: const char * by name, in memory of r. known:
 * the names of this endpoint's, up to a NULL; others are ignored, whatever they are.
 */
users_refusal users_oauth_read(request_rec *r, const char *const *known, apr_hash_t **parameters);

/* NULL where there is none. */
const char *users_oauth_parameter(apr_hash_t *parameters, const char *name);

/* Who asks, by the header field or by the parameters: the logs then know, too. */
users_refusal users_oauth_authenticate(request_rec *r, users_db_call *call, apr_hash_t *parameters,
                                       users_application *application);

#endif
