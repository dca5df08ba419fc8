/* From credentials to whom they belong. */
#ifndef USERS_AUTH_AUTHENTICATE_H
#define USERS_AUTH_AUTHENTICATE_H

#include "db/tokens.h"
#include "http/refusal.h"

/* What a request has to know of whom it is for. */
typedef enum {
    USERS_KNOW_OWNER,   /* who that is */
    USERS_KNOW_ACCOUNT, /* and the account's document, as it is now */
    USERS_KNOW_RECENT   /* and the document, as it was a moment ago: a replica may tell it */
} users_knowledge;

/*
 * WWW-Authenticate (RFC 6750 section 3, RFC 7617 section 2), and where the resource's metadata
 * are (RFC 9728 section 5.1). attributes: "" or ", error=…". basic: a name and password will do
 * too.
 */
void users_authenticate_challenge(request_rec *r, const char *attributes, bool basic);

/* The Authorization header field of a request to an account, as a token or API credentials. */
users_refusal users_authenticate_request(request_rec *r, users_knowledge wanted,
                                         users_principal *principal);

/* What another module has verified and set in variables (UsersTokenSource environment). */
users_refusal users_authenticate_environment(request_rec *r, users_knowledge wanted,
                                             users_principal *principal);

/*
 * API credentials. Wrong ones are a 401 without a challenge. The principal then has the scopes of
 * an account's owner.
 */
users_refusal users_authenticate_owner(request_rec *r, const char *name, const char *secret,
                                       users_knowledge wanted, users_principal *principal);

/* An application by its client_id and secret; wrong ones as above. */
users_refusal users_authenticate_application(request_rec *r, const char *client_id,
                                             const char *secret, users_application *application);

#endif
