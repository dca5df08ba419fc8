#include "auth/access.h"

#include "auth/authenticate.h"
#include "auth/caller.h"
#include "config/settings.h"
#include "core/clock.h"
#include "core/scope.h"
#include "http/body.h"
#include "http/cors.h"
#include "http/database.h"
#include "http/figures.h"
#include "http/reply.h"
#include "http/trace.h"

#include <apr_strings.h>
#include <http_core.h>
#include <http_log.h>
#include <http_request.h>

APLOG_USE_MODULE(users);

/* What the hook found, in the request_config of the request that it judged. */
typedef struct {
    users_refusal refusal; /* none: admitted */
    bool pending;          /* the principal is judged in fixups: until then nobody is admitted */
    bool needs_user;       /* Require asks for one, and nobody else would find one */
    apr_time_t began;      /* users_now() */
    users_admission admission;
} verdict;

static const struct {
    users_endpoint endpoint;
    int method;       /* HEAD is GET to httpd */
    const char *name; /* of the method, for Allow */
    users_operation operation;
    const char *scope; /* NULL: anyone may, as far as this hook is concerned */
} operations[] = {
    {USERS_ENDPOINT_ACCOUNT, M_GET, "GET, HEAD", USERS_SHOW, USERS_SCOPE_READ},
    {USERS_ENDPOINT_ACCOUNT, M_PATCH, "PATCH", USERS_UPDATE, USERS_SCOPE_UPDATE},
    {USERS_ENDPOINT_ACCOUNT, M_POST, "POST", USERS_REGISTER, USERS_SCOPE_REGISTER},
    {USERS_ENDPOINT_ACCOUNT, M_OPTIONS, "OPTIONS", USERS_OPTIONS, NULL},
    /* their handler reads the client's credentials, which the body may hold */
    {USERS_ENDPOINT_TOKEN, M_POST, "POST", USERS_ISSUE, NULL},
    {USERS_ENDPOINT_TOKEN, M_OPTIONS, "OPTIONS", USERS_OPTIONS, NULL},
    {USERS_ENDPOINT_REVOKE, M_POST, "POST", USERS_REVOKE, NULL},
    {USERS_ENDPOINT_REVOKE, M_OPTIONS, "OPTIONS", USERS_OPTIONS, NULL},
    {USERS_ENDPOINT_INTROSPECT, M_POST, "POST", USERS_INTROSPECT, NULL},
    {USERS_ENDPOINT_INTROSPECT, M_OPTIONS, "OPTIONS", USERS_OPTIONS, NULL},
    {USERS_ENDPOINT_METADATA, M_GET, "GET, HEAD", USERS_DESCRIBE, NULL},
    {USERS_ENDPOINT_METADATA, M_OPTIONS, "OPTIONS", USERS_OPTIONS, NULL},
    {USERS_ENDPOINT_OPENAPI, M_GET, "GET, HEAD", USERS_DESCRIBE, NULL},
    {USERS_ENDPOINT_OPENAPI, M_OPTIONS, "OPTIONS", USERS_OPTIONS, NULL},
    {USERS_ENDPOINT_HEALTH, M_GET, "GET, HEAD", USERS_CHECK, NULL},
    {USERS_ENDPOINT_HEALTH, M_OPTIONS, "OPTIONS", USERS_OPTIONS, NULL},
    {USERS_ENDPOINT_METRICS, M_GET, "GET, HEAD", USERS_MEASURE, NULL},
    {USERS_ENDPOINT_METRICS, M_OPTIONS, "OPTIONS", USERS_OPTIONS, NULL},
};
#define OPERATIONS (sizeof(operations) / sizeof(*operations))

const char *users_access_allow(const request_rec *r)
{
    const char *allow = "";

    for (size_t i = 0; i < OPERATIONS; i++) {
        if (operations[i].endpoint == users_location_of(r)->endpoint) {
            allow = apr_pstrcat(r->pool, allow, *allow ? ", " : "", operations[i].name, NULL);
        }
    }
    return allow;
}

/* Each of these judges one part of a request. */

static users_refusal judge_target(request_rec *r, users_admission *admission)
{
    const users_location *location = users_location_of(r);

    if (strcmp(r->uri, location->path) != 0) {
        return users_refuse(HTTP_NOT_FOUND, "there is nothing at this path");
    }
    if (r->method_number == M_INVALID) {
        return users_refuse(HTTP_NOT_IMPLEMENTED, "the method is not known");
    }
    for (size_t i = 0; i < OPERATIONS; i++) {
        if (operations[i].endpoint == location->endpoint &&
            operations[i].method == r->method_number) {
            admission->operation = operations[i].operation;
            admission->scope = operations[i].scope;
            return users_pass();
        }
    }
    apr_table_setn(r->err_headers_out, "Allow", users_access_allow(r));
    return users_refuse(HTTP_METHOD_NOT_ALLOWED, "the method is not allowed here");
}

static users_refusal refuse_malformed(request_rec *r, const char *name)
{
    return users_refuse_as(HTTP_BAD_REQUEST, USERS_CODE_MALFORMED_HEADER,
                           apr_psprintf(r->pool, "the header field %s is malformed", name));
}

static users_refusal judge_conditional(request_rec *r, const char *name,
                                       const users_entity_tags **tags)
{
    const char *value = apr_table_get(r->headers_in, name);

    *tags = value ? users_entity_tags_parse(value, r->pool) : NULL;
    return value && !*tags ? refuse_malformed(r, name) : users_pass();
}

static users_refusal judge_headers(request_rec *r, users_admission *admission)
{
    const char *key = apr_table_get(r->headers_in, "Idempotency-Key");
    users_refusal refused = judge_conditional(r, "If-Match", &admission->if_match);

    if (refused.status == OK) {
        refused = judge_conditional(r, "If-None-Match", &admission->if_none_match);
    }
    if (refused.status != OK) {
        return refused;
    }
    admission->prefer = users_prefer_parse(apr_table_get(r->headers_in, "Prefer"));
    admission->idempotency_key = key ? users_idempotency_key_parse(key, r->pool) : NULL;
    if (key && !admission->idempotency_key) {
        return refuse_malformed(r, "Idempotency-Key");
    }
    return users_pass();
}

/* Are the answers of such an endpoint representations with a tag? */
static bool reads_conditions(users_endpoint endpoint)
{
    return endpoint == USERS_ENDPOINT_ACCOUNT || endpoint == USERS_ENDPOINT_OPENAPI;
}

/*
 * Require. mod_authz_core judges it after every access checker, too late: a forbidden address could
 * test credentials. *needs_user: it can't say yet. Under "Satisfy Any" the credential alone may do,
 * but figures and health checks want none: there httpd asks nobody else once we have admitted a
 * request.
 */
static users_refusal judge_requirements(request_rec *r, users_operation operation, bool *needs_user)
{
    bool any = ap_satisfies(r) == SATISFY_ANY;
    bool may_prove = operation != USERS_MEASURE && operation != USERS_CHECK;
    int status = any && may_prove ? OK : ap_run_access_checker_ex(r);

    *needs_user = status == DECLINED;
    return status == OK || (status == DECLINED && !any) ? users_pass()
                                                        : users_caller_refuse_requirements(r);
}

/* True if another module verifies tokens; its result exists only after access_checker. */
static bool is_external(const request_rec *r)
{
    return users_settings_of(r->server)->token_source == USERS_TOKENS_ENVIRONMENT;
}

/* On GET the account comes with the look-up; so it does where If-None-Match needs its tag. */
static users_knowledge wanted_for(const users_admission *admission)
{
    if (admission->operation == USERS_SHOW) {
        return USERS_KNOW_RECENT;
    }
    return admission->operation == USERS_UPDATE && admission->if_none_match ? USERS_KNOW_ACCOUNT
                                                                            : USERS_KNOW_OWNER;
}

static users_refusal judge_scope(request_rec *r, users_admission *admission)
{
    const users_principal *principal = &admission->principal;
    const char *scope = admission->scope;

    users_log_request(r, APLOG_TRACE2, 0,
                      "user %" APR_INT64_T_FMT "%s, application %" APR_INT64_T_FMT
                      ", has the scopes '%s' and needs %s",
                      principal->user, principal->suspended ? ", suspended" : "",
                      principal->application, principal->scopes, scope);
    if (principal->suspended) {
        users_count(USERS_FIGURE_AUTH_FAILURES + USERS_AUTH_SUSPENDED);
        return users_refuse_as(HTTP_FORBIDDEN, USERS_CODE_ACCOUNT_SUSPENDED,
                               "the account is suspended");
    }
    if (!users_access_permits(principal, scope)) {
        return users_caller_refuse_scope(r, scope);
    }
    if (admission->operation != USERS_REGISTER &&
        (!principal->user || (wanted_for(admission) != USERS_KNOW_OWNER && !principal->document))) {
        return users_refuse_as(HTTP_FORBIDDEN, USERS_CODE_NO_ACCOUNT,
                               "the token belongs to no account");
    }
    return users_pass();
}

static users_refusal judge_principal(request_rec *r, users_admission *admission)
{
    users_knowledge wanted = wanted_for(admission);
    users_principal *principal = &admission->principal;
    users_refusal refused =
        is_external(r) ? users_authenticate_environment(r, admission->call, wanted, principal)
                       : users_authenticate_request(r, admission->call, wanted, principal);

    if (refused.status == OK) {
        refused = judge_scope(r, admission);
    }
    if (refused.status == OK) {
        users_caller_publish(r, principal);
    }
    return refused;
}

/*
 * The order of judgement: the target, malformed header fields, the server's own restrictions, the
 * credential, its rights.
 */
static void judge(request_rec *r, verdict *found)
{
    users_admission *admission = &found->admission;
    bool needs_user = false;

    admission->call = users_database_call(r);
    admission->accept = users_accept_parse(apr_table_get(r->headers_in, "Accept"), r->pool);
    found->refusal = judge_target(r, admission);
    if (found->refusal.status == OK && reads_conditions(users_location_of(r)->endpoint)) {
        found->refusal = judge_headers(r, admission);
    }
    if (found->refusal.status == OK) {
        found->refusal = judge_requirements(r, admission->operation, &needs_user);
    }
    if (found->refusal.status == OK && !admission->scope) {
        found->needs_user = needs_user && !ap_auth_type(r); /* else another module asks for one */
        if (found->needs_user && admission->operation != USERS_OPTIONS) {
            found->refusal = users_caller_refuse_requirements(r);
        }
    }
    if (found->refusal.status != OK || !admission->scope) {
        return;
    }
    found->pending = is_external(r);
    found->refusal = found->pending
                         ? users_refuse(HTTP_FORBIDDEN, "nobody has verified the access token")
                         : judge_principal(r, admission);
    if (found->refusal.status == OK && needs_user) {
        found->refusal = judge_requirements(r, admission->operation, &needs_user);
    }
}

/* Answer with the refusal; 403 where the hook never saw the request. */
static int refuse(request_rec *r)
{
    const verdict *found = ap_get_module_config(r->request_config, &users_module);
    users_refusal refused = users_refuse(HTTP_FORBIDDEN, "this is not the way to the API");
    users_accept accept;

    if (found) {
        refused = found->refusal;
        accept = found->admission.accept;
    } else {
        accept = users_accept_parse(apr_table_get(r->headers_in, "Accept"), r->pool);
        users_log_request(r, APLOG_ERR, 0, "%s reached %s without its access checker: refused",
                          r->uri, r->handler);
    }
    return r->main ? refused.status : users_reply_refusal(r, &accept, refused);
}

int users_access_reply_options(request_rec *r)
{
    const char *patch = NULL;
    const char *post = NULL;

    switch (users_location_of(r)->endpoint) {
    case USERS_ENDPOINT_ACCOUNT:
        patch = USERS_ACCEPT_PATCH;
        post = USERS_ACCEPT_POST;
        break;
    case USERS_ENDPOINT_TOKEN:
    case USERS_ENDPOINT_REVOKE:
    case USERS_ENDPOINT_INTROSPECT:
        post = USERS_OAUTH_ACCEPT_POST;
        break;
    default:
        break;
    }
    return users_reply_options(r, users_access_allow(r), patch, post);
}

/*
 * OPTIONS has no credentials. A handler answers it, but for two that nobody behind this hook shall
 * ask for any: a browser's question whether a page may send a request, and one where only a user
 * would satisfy Require. Whoever sends the request itself is asked.
 */
static int answer_options(request_rec *r, bool needs_user)
{
    bool is_preflight = users_cors_is_preflight(r);

    if (!is_preflight && !needs_user) {
        return OK;
    }
    ap_run_insert_filter(r); /* httpd does this only for handlers */
    if (is_preflight) {
        users_cors_permit(r, users_access_allow(r));
    }
    return users_reply_early(users_access_reply_options(r));
}

/* What the hook returns after its judgement. undecided: httpd may still refuse what we admit. */
static int finish(request_rec *r, const verdict *found, bool undecided)
{
    if (found->refusal.status == OK) {
        return found->admission.operation == USERS_OPTIONS ? answer_options(r, found->needs_user)
                                                           : OK;
    }
    /*
     * Inside another page there is no answer of our own; and under "Satisfy Any" httpd has
     * not decided yet: it may still refuse, with an answer of its own.
     */
    if (r->main || undecided) {
        users_log_request(r, APLOG_TRACE2, 0, "%d is left to httpd: %s", found->refusal.status,
                          found->refusal.sentence);
        return found->refusal.status;
    }
    return users_reply_refusal_early(r, &found->admission.accept, found->refusal);
}

int users_access_check(request_rec *r)
{
    verdict *found;

    if (!users_location_of(r)->endpoint) {
        return DECLINED;
    }
    found = apr_pcalloc(r->pool, sizeof(*found));
    found->began = users_now();
    ap_set_module_config(r->request_config, &users_module, found);
    judge(r, found);
    return found->pending ? OK : finish(r, found, ap_satisfies(r) == SATISFY_ANY);
}

int users_access_complete(request_rec *r)
{
    verdict *found = ap_get_module_config(r->request_config, &users_module);

    if (!found || !found->pending) {
        return DECLINED;
    }
    found->pending = false;
    found->refusal = judge_principal(r, &found->admission);
    return finish(r, found, false);
}

/* The status is the access log's %>s: of an internal redirect, if there was one. */
int users_access_count(request_rec *r)
{
    const verdict *found = NULL;
    int status = r->status;

    for (; r; r = r->next) {
        const verdict *each = ap_get_module_config(r->request_config, &users_module);

        if (each) {
            found = each;
        }
        status = r->status;
    }
    if (found) {
        users_figures_request(users_figures_here(), found->admission.operation, status,
                              users_now() - found->began);
    }
    return OK;
}

const users_admission *users_access_enter(request_rec *r, const char *handler, int *answer)
{
    const verdict *found = ap_get_module_config(r->request_config, &users_module);

    if (strcmp(r->handler, handler) != 0) { /* ap_invoke_handler() has set one */
        *answer = DECLINED;
        return NULL;
    }
    if (found && found->refusal.status == OK) {
        return &found->admission;
    }
    *answer = refuse(r);
    return NULL;
}

bool users_access_permits(const users_principal *principal, const char *scope)
{
    return users_scope_contains(principal->scopes, scope);
}
