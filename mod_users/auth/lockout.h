/*
 * Lockout: too many wrong secrets of a name from one address (of IPv6, its /64) within
 * UsersFailureWindow, and the pair is refused until the window ends, whatever comes that somebody
 * could have guessed. The owner elsewhere is not, and no address is refused as a whole. Counted for
 * names that nobody has as well, so that a refusal tells nothing of a name. A secret that was
 * changed starts afresh: so whoever is locked out may see that the name's has changed, and no more.
 * The error log has a line for each, up to ten a minute.
 */
#ifndef USERS_AUTH_LOCKOUT_H
#define USERS_AUTH_LOCKOUT_H

#include "core/failures.h"
#include "db/db.h"
#include "http/refusal.h"

#include <stdbool.h>

/* An attempt to prove a name by a secret. */
typedef struct {
    const char *kind;
    const char *name;
    users_failures *failures; /* before it; NULL: they are not counted */
    apr_uint32_t most;        /* UsersMaxFailures */
} users_attempt;

/* Hook post_config: the children of httpd count together, and go on doing so over reloads. */
int users_lockout_start(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s);

/*
 * Begin an attempt. kind: what the name is one of, as the log says it. stored: the secret that
 * there is, NULL where nobody has the name. hashed: does a wrong one cost a hash? The address is
 * r->useragent_addr, which mod_remoteip sets.
 */
users_attempt users_lockout_begin(request_rec *r, const char *kind, const char *name,
                                  const users_secret *stored, bool hashed);

/* Is the pair locked out by now? attempt: of which failures and most alone are looked at. */
bool users_lockout_holds(const users_attempt *attempt);

/* A 429 where it is. */
users_refusal users_lockout_judge(request_rec *r, const users_attempt *attempt);

/*
 * The secret was wrong. Returns a 401 without a sentence, or a 429 where others have failed so
 * often in the meantime that this answer would be one too many.
 */
users_refusal users_lockout_failed(request_rec *r, const users_attempt *attempt);

/* The secret was right: earlier failures are forgotten. */
void users_lockout_succeeded(const users_attempt *attempt);

#endif
