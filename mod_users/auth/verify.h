/* Does a secret prove a name? Without telling, by answer or by time, whether there is the name. */
#ifndef USERS_AUTH_VERIFY_H
#define USERS_AUTH_VERIFY_H

#include "db/db.h"
#include "http/refusal.h"

/*
 * Verify what was given to prove a name, and count a failure. kind: what the name is one of, as the
 * log says it. stored: how the secret is kept where the name is known, and whose hash it is
 * compared with in vain, for as long, where it has none.
 *
 * A 401 without a sentence where it is wrong; a 429 where name and address are locked out, unless
 * it is a generated one and right: nobody guesses one of those. A 503 where too many hashes are
 * under way; a 500 where libcrypto fails.
 */
users_refusal users_verify_secret(request_rec *r, const char *kind, const char *name,
                                  const char *given, bool known, const users_secret *stored);

/*
 * Is it known to be right, without hashing and without counting? For one that is hashed that takes
 * UsersCredentialCache.
 */
bool users_verify_is_known(request_rec *r, const char *given, const users_secret *stored);

#endif
