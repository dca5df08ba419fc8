/* Does a secret prove a name? Without telling, by answer or by time, whether there is the name. */
#ifndef USERS_AUTH_VERIFY_H
#define USERS_AUTH_VERIFY_H

#include "auth/lockout.h"
#include "db/accounts.h"

/*
 * Verify what was given in an attempt to prove name, and count a failure. stored: how the secret
 * is kept where the name is known, or else what it is compared with in vain for as long.
 *
 * Returns OK; HTTP_UNAUTHORIZED: it is wrong; HTTP_TOO_MANY_REQUESTS: the pair is locked out by
 * now; HTTP_SERVICE_UNAVAILABLE: too many hashes are under way; these two set Retry-After; or
 * HTTP_INTERNAL_SERVER_ERROR: libcrypto fails.
 */
int users_secret_verify(request_rec *r, users_attempt *attempt, const char *name, const char *given,
                        bool known, const users_secret *stored);

/*
 * Is it known to be right, without hashing and without counting? For one that is hashed that takes
 * UsersCredentialCache.
 */
bool users_secret_is_known(request_rec *r, const char *given, const users_secret *stored);

#endif
