#include "auth/caller.h"

#include "auth/authenticate.h"
#include "http/figures.h"

#include <apr_strings.h>

#define KEY "mod_users caller"

typedef struct {
    const char *user; /* r->user, as this module has set it */
    const char *scopes;
    const char *missing; /* scope that Require asked for first; NULL: none */
} caller;

/*
 * In the pool, which a request shares with those that it is redirected to inside httpd: they
 * inherit r->user. NULL: nobody, or r->user is of another module.
 */
static caller *caller_of(const request_rec *r)
{
    void *found = NULL;

    apr_pool_userdata_get(&found, KEY, r->pool);
    return found && r->user == ((caller *)found)->user ? found : NULL;
}

void users_caller_publish(request_rec *r, const users_principal *principal)
{
    const char *application = apr_psprintf(r->pool, "%" APR_INT64_T_FMT, principal->application);
    caller *known = apr_pcalloc(r->pool, sizeof(*known));

    if (principal->user) {
        r->user = apr_psprintf(r->pool, "%" APR_INT64_T_FMT, principal->user);
        apr_table_setn(r->subprocess_env, "USERS_ID", r->user);
    } else {
        r->user = apr_pstrcat(r->pool, "app:", application, NULL);
    }
    if (principal->application) {
        apr_table_setn(r->subprocess_env, "USERS_APPLICATION", application);
    }
    apr_table_setn(r->subprocess_env, "USERS_SCOPE", principal->scopes);

    known->user = r->user;
    known->scopes = principal->scopes;
    apr_pool_userdata_setn(known, KEY, NULL, r->pool);
}

const char *users_caller_scopes(const request_rec *r)
{
    const caller *known = caller_of(r);

    return known ? known->scopes : NULL;
}

void users_caller_note_missing(request_rec *r, const char *scope)
{
    caller *known = caller_of(r);

    if (known && !known->missing) {
        known->missing = scope;
    }
}

users_refusal users_caller_refuse_scope(request_rec *r, const char *scope)
{
    users_count(USERS_FIGURE_AUTH_FAILURES + USERS_AUTH_SCOPE);
    users_authenticate_challenge(
        r, apr_psprintf(r->pool, ", error=\"insufficient_scope\", scope=\"%s\"", scope), false);
    return users_refuse_as(HTTP_FORBIDDEN, USERS_CODE_INSUFFICIENT_SCOPE,
                           apr_psprintf(r->pool, "this needs the scope %s", scope));
}

users_refusal users_caller_refuse_requirements(request_rec *r)
{
    const caller *known = caller_of(r);

    return known && known->missing
               ? users_caller_refuse_scope(r, known->missing)
               : users_refuse(HTTP_FORBIDDEN,
                              "the configuration of the server does not permit this");
}
