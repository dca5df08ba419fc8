/*
 * Limits of what its credentials let an account or an application do as often as it likes: to ask
 * which addresses others have (UsersProbeLimit), and to have tokens issued (UsersTokenRate). All
 * children of this host count together, over reloads. What is beyond is a 429 with Retry-After, and
 * the error log has a line when that begins, up to ten a minute.
 */
#ifndef USERS_AUTH_LIMIT_H
#define USERS_AUTH_LIMIT_H

#include "http/refusal.h"

/* Hook post_config. */
int users_limit_start(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s);

/* An application is about to have a token issued. */
users_refusal users_limit_token(request_rec *r, apr_int64_t application);

/* May this account (its id) be told of an address whether another has it? */
users_refusal users_limit_judge_probe(request_rec *r, apr_int64_t account);

/* Another has the address that it asked for. A 429 where that is not to be told any more. */
users_refusal users_limit_note_probe(request_rec *r, apr_int64_t account);

#endif
