/*
 * Lockout: too many wrong secrets of a name from one address within UsersFailureWindow, and the
 * pair is refused whatever secret comes, until the window ends. The owner elsewhere is not. Counted
 * for names that nobody has as well, so that a refusal tells nothing of a name. The error log has
 * a line for each, up to ten a minute.
 */
#ifndef USERS_AUTH_LOCKOUT_H
#define USERS_AUTH_LOCKOUT_H

#include "auth/cache.h"
#include "http/refusal.h"

/* An attempt to prove a name by a secret. */
typedef struct {
    const char *kind;
    const char *name;
    unsigned char key[USERS_CACHE_KEY_LENGTH];
    bool counts;   /* false: failures are not remembered */
    bool followed; /* there were failures before it */
} users_attempt;

/* Hook post_config: the children of httpd count the lines of the log together. */
int users_lockout_start(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s);

/*
 * Begin an attempt. kind: what the name is one of, as the log says it. The address is
 * r->useragent_ip, which mod_remoteip sets. A 429 where the pair is locked out.
 */
users_refusal users_lockout_begin(request_rec *r, const char *kind, const char *name,
                                  users_attempt *attempt);

/* Is it locked out by now? Returns as users_lockout_begin(). */
users_refusal users_lockout_again(request_rec *r, users_attempt *attempt);

/*
 * The secret was wrong. Returns a 401 without a sentence, or as users_lockout_begin() where others
 * have failed so often in the meantime that this answer would be one too many.
 */
users_refusal users_lockout_failed(request_rec *r, const users_attempt *attempt);

/* The secret was right: earlier failures are forgotten. */
void users_lockout_succeeded(request_rec *r, const users_attempt *attempt);

#endif
