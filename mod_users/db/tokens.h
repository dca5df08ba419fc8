/* The statements of the contract for OAuth: applications, and the tokens that they ask for. */
#ifndef USERS_DB_TOKENS_H
#define USERS_DB_TOKENS_H

#include "db/accounts.h"

/*
 * What another module has verified (UsersTokenSource environment): user is the external_id or id
 * of an account of UsersTokenApplication, or NULL. *found is false where there is no such
 * application; without such an account the principal has no user. Its scopes are NULL.
 */
users_db_status users_grant_find_external(request_rec *r, struct users_database *database,
                                          const char *user, bool with_document, bool *found,
                                          users_principal *principal);

/* An OAuth client. Memory of the request. */
typedef struct {
    apr_int64_t id;
    const char *scopes;         /* what it holds */
    const char *default_scopes; /* what it gets where it asks for none */
} users_application;

/* Look up the live application of this client_id, as users_store_find_credential() does. */
users_db_status users_grant_find_application(request_rec *r, const char *client_id, bool *found,
                                             users_application *application, users_secret *secret);

/*
 * Store a token by its digest, valid from now on for UsersTokenLifetime. user: 0 for the
 * application's own. *created_at: seconds since 1970, by the database's clock. *issued is false
 * where the application, its scopes or the account have gone in the meantime. The token must be
 * random: its digest is the name of the change.
 */
users_db_status users_grant_issue_token(request_rec *r, apr_int64_t application, apr_int64_t user,
                                        const unsigned char digest[USERS_DIGEST_LENGTH],
                                        const char *scopes, bool *issued, apr_int64_t *created_at);

/* End a token of an application, if there is it. *foreign: it is another's, and goes on. */
users_db_status users_grant_revoke_token(request_rec *r, apr_int64_t application,
                                         const unsigned char digest[USERS_DIGEST_LENGTH],
                                         bool *foreign);

/* What RFC 7662 section 2.2 tells of a token, as JSON; *document is NULL where it is not active. */
users_db_status users_grant_introspect_token(request_rec *r,
                                             const unsigned char digest[USERS_DIGEST_LENGTH],
                                             const char **document);

#endif
