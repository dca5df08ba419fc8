/*
 * The same tokens and credentials for locations that are not the API's: AuthType Users, and
 * Require users-scope.
 */
#ifndef USERS_AUTH_GUARD_H
#define USERS_AUTH_GUARD_H

#include <httpd.h>

/* Has httpd know Require users-scope. pool: the configuration's. */
void users_guard_register(apr_pool_t *pool);

/* Hook check_user_id: under AuthType Users, finds who calls, or answers as the API does (DONE). */
int users_guard_authenticate(request_rec *r);

/*
 * Hook auth_checker, before mod_authz_core's: where that refuses whom we have found, answers 403.
 * Alone it would answer 401 (but for AuthzSendForbiddenOnFailure), and the client would try again.
 */
int users_guard_authorize(request_rec *r);

#endif
