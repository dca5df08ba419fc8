#include "auth/guard.h"

#include "auth/authenticate.h"
#include "auth/caller.h"
#include "core/accept.h"
#include "core/scope.h"
#include "http/database.h"
#include "http/figures.h"
#include "http/reply.h"
#include "http/trace.h"

#include <apr_strings.h>
#include <http_core.h>
#include <http_request.h>
#include <mod_auth.h>

APLOG_USE_MODULE(users);

#define AUTH_TYPE "Users"

/* AuthType Users */

static int refuse(request_rec *r, users_refusal refused)
{
    users_accept accept = users_accept_parse(apr_table_get(r->headers_in, "Accept"), r->pool);

    return users_reply_refusal_early(r, &accept, refused);
}

int users_guard_authenticate(request_rec *r)
{
    const char *type = ap_auth_type(r);
    users_principal *principal;
    users_refusal refused;

    if (!type || strcasecmp(type, AUTH_TYPE) != 0) {
        return DECLINED;
    }
    if (users_caller_scopes(r)) { /* an endpoint's access checker has done it */
        return OK;
    }
    if (!users_database_get(r->server)) {
        users_log_request(r, APLOG_ERR, 0, "AuthType Users: there is no UsersDB for the server %s",
                          r->server->server_hostname);
    }
    principal = apr_pcalloc(r->pool, sizeof(*principal));
    refused = users_authenticate_request(r, users_database_call(r), USERS_KNOW_OWNER, principal);
    if (refused.status == OK && principal->suspended) {
        users_count(USERS_FIGURE_AUTH_FAILURES + USERS_AUTH_SUSPENDED);
        refused = users_refuse_as(HTTP_FORBIDDEN, USERS_CODE_ACCOUNT_SUSPENDED,
                                  "the account is suspended");
    }
    if (refused.status != OK) {
        return refuse(r, refused);
    }
    users_caller_publish(r, principal);
    return OK;
}

int users_guard_authorize(request_rec *r)
{
    static const char within[] = "users-within-require"; /* this hook is among those that it runs */
    const char *type = ap_auth_type(r);
    int status;

    if (!type || strcasecmp(type, AUTH_TYPE) != 0 || apr_table_get(r->notes, within)) {
        return DECLINED;
    }
    apr_table_setn(r->notes, within, "");
    status = ap_run_auth_checker(r);
    apr_table_unset(r->notes, within);
    return (status == HTTP_UNAUTHORIZED || status == HTTP_FORBIDDEN) && users_caller_scopes(r)
               ? refuse(r, users_caller_refuse_requirements(r))
               : status;
}

/* Require users-scope NAME … */

static const char *parse_scopes(cmd_parms *cmd, const char *line, const void **parsed)
{
    *parsed = users_scope_set(line, cmd->pool);
    return users_scope_is_valid(line)
               ? NULL
               : "Require users-scope wants one scope or more: words of printable ASCII without "
                 "quotes and backslashes (RFC 6749 section 3.3)";
}

/* Any of them will do, as of the names of other kinds of Require. */
static authz_status check_scopes(request_rec *r, const char *line, const void *parsed)
{
    const char *wanted = parsed;
    const char *scopes = users_caller_scopes(r);
    const char *word;

    (void)line;
    if (!r->user) {
        return AUTHZ_DENIED_NO_USER;
    }
    while (*(word = ap_getword_white(r->pool, &wanted))) {
        if (users_scope_contains(scopes, word)) {
            return AUTHZ_GRANTED;
        }
        users_caller_note_missing(r, word);
    }
    users_log_request(r, APLOG_TRACE2, 0, "'%s' has none of the scopes '%s'", scopes ? scopes : "",
                      (const char *)parsed);
    return AUTHZ_DENIED;
}

void users_guard_register(apr_pool_t *pool)
{
    static const authz_provider scope = {check_scopes, parse_scopes};

    ap_register_auth_provider(pool, AUTHZ_PROVIDER_GROUP, "users-scope", AUTHZ_PROVIDER_VERSION,
                              &scope, AP_AUTH_INTERNAL_PER_CONF);
}
