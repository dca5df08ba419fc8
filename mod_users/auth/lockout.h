/*
 * Lockout: too many wrong secrets of a name from one address within UsersFailureWindow, and the
 * pair is refused whatever secret comes, until the window ends. The owner elsewhere is not. Counted
 * for names that nobody has as well, so that a refusal tells nothing of a name.
 */
#ifndef USERS_AUTH_LOCKOUT_H
#define USERS_AUTH_LOCKOUT_H

#include "auth/cache.h"
#include "http/refusal.h"

/* An attempt to prove a name by a secret. */
typedef struct {
    unsigned char key[USERS_CACHE_KEY_LENGTH];
    bool counts;   /* false: failures are not remembered */
    bool followed; /* there were failures before it */
} users_attempt;

/*
 * Begin an attempt. kind: what the name is one of, a word. The address is r->useragent_ip, which
 * mod_remoteip sets. A 429 where the pair is locked out.
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
