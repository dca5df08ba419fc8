/* From credentials to whom they belong. */
#ifndef USERS_AUTH_AUTHENTICATE_H
#define USERS_AUTH_AUTHENTICATE_H

#include "db/db.h"
#include "http/refusal.h"

/*
 * WWW-Authenticate (RFC 6750 section 3, RFC 7617 section 2), and where the resource's metadata
 * are (RFC 9728 section 5.1). attributes: "" or ", error=…". basic: a name and password will do
 * too.
 */
void users_authenticate_challenge(request_rec *r, const char *attributes, bool basic);

/* The Authorization header field of a request to an account, as a token or API credentials. */
users_refusal users_authenticate_request(request_rec *r, users_db_call *call,
                                         users_knowledge wanted, users_principal *principal);

/* What another module has verified and set in variables (UsersTokenSource environment). */
users_refusal users_authenticate_environment(request_rec *r, users_db_call *call,
                                             users_knowledge wanted, users_principal *principal);

/*
 * API credentials. Wrong ones are a 401 without a challenge. The principal then has the scopes of
 * an account's owner.
 */
users_refusal users_authenticate_owner(request_rec *r, users_db_call *call, const char *name,
                                       const char *secret, users_knowledge wanted,
                                       users_principal *principal);

/* An application by its client_id and secret; wrong ones as above. */
users_refusal users_authenticate_application(request_rec *r, users_db_call *call,
                                             const char *client_id, const char *secret,
                                             users_application *application);

/* The 401 of a request that was let in by what has ended since. */
users_refusal users_authenticate_ended(request_rec *r, const users_principal *principal);

#endif
