#include "auth/access.h"

#include "auth/authenticate.h"
#include "config/settings.h"
#include "core/scope.h"
#include "http/reply.h"

#include <apr_strings.h>
#include <http_core.h>
#include <http_log.h>
#include <http_request.h>

APLOG_USE_MODULE(users);

/* What the hook found, in the request_config of the request that it judged. */
typedef struct {
    int status; /* OK: admitted */
    const char *sentence;
    bool pending; /* the principal is judged in fixups: until then nobody is admitted */
    users_admission admission;
} verdict;

static const struct {
    users_endpoint endpoint;
    int method; /* HEAD is GET to httpd */
    users_operation operation;
    const char *scope; /* NULL: anyone may, as far as this hook is concerned */
} operations[] = {
    {USERS_ENDPOINT_ACCOUNT, M_GET, USERS_SHOW, USERS_SCOPE_READ},
    {USERS_ENDPOINT_ACCOUNT, M_PATCH, USERS_UPDATE, USERS_SCOPE_UPDATE},
    {USERS_ENDPOINT_ACCOUNT, M_POST, USERS_REGISTER, USERS_SCOPE_REGISTER},
    {USERS_ENDPOINT_ACCOUNT, M_OPTIONS, USERS_OPTIONS, NULL},
    /* their handler reads the client's credentials, which the body may hold */
    {USERS_ENDPOINT_TOKEN, M_POST, USERS_ISSUE, NULL},
    {USERS_ENDPOINT_TOKEN, M_OPTIONS, USERS_OPTIONS, NULL},
    {USERS_ENDPOINT_REVOKE, M_POST, USERS_REVOKE, NULL},
    {USERS_ENDPOINT_REVOKE, M_OPTIONS, USERS_OPTIONS, NULL},
    {USERS_ENDPOINT_INTROSPECT, M_POST, USERS_INTROSPECT, NULL},
    {USERS_ENDPOINT_INTROSPECT, M_OPTIONS, USERS_OPTIONS, NULL},
    {USERS_ENDPOINT_METADATA, M_GET, USERS_DESCRIBE, NULL},
    {USERS_ENDPOINT_METADATA, M_OPTIONS, USERS_OPTIONS, NULL},
};
#define OPERATIONS (sizeof(operations) / sizeof(*operations))

const char *users_access_allow(const request_rec *r)
{
    switch (users_location_of(r)->endpoint) {
    case USERS_ENDPOINT_ACCOUNT:
        return "GET, HEAD, PATCH, POST, OPTIONS";
    case USERS_ENDPOINT_METADATA:
        return "GET, HEAD, OPTIONS";
    default:
        return "POST, OPTIONS";
    }
}

/* Each judge returns OK, or the status of a refusal with its sentence. */

static int judge_target(request_rec *r, users_admission *admission, const char **sentence)
{
    const users_location *location = users_location_of(r);

    if (strcmp(r->uri, location->path) != 0) {
        *sentence = "there is nothing at this path";
        return HTTP_NOT_FOUND;
    }
    if (r->method_number == M_INVALID) {
        *sentence = "the method is not known";
        return HTTP_NOT_IMPLEMENTED;
    }
    for (size_t i = 0; i < OPERATIONS; i++) {
        if (operations[i].endpoint == location->endpoint &&
            operations[i].method == r->method_number) {
            admission->operation = operations[i].operation;
            admission->scope = operations[i].scope;
            return OK;
        }
    }
    apr_table_setn(r->err_headers_out, "Allow", users_access_allow(r));
    *sentence = "the method is not allowed here";
    return HTTP_METHOD_NOT_ALLOWED;
}

static const char *malformed(request_rec *r, const char *name)
{
    return apr_psprintf(r->pool, "the header field %s is malformed", name);
}

static int judge_conditional(request_rec *r, const char *name, const users_entity_tags **tags,
                             const char **sentence)
{
    const char *value = apr_table_get(r->headers_in, name);

    *tags = value ? users_entity_tags_parse(value, r->pool) : NULL;
    if (value && !*tags) {
        *sentence = malformed(r, name);
        return HTTP_BAD_REQUEST;
    }
    return OK;
}

static int judge_headers(request_rec *r, users_admission *admission, const char **sentence)
{
    const char *key = apr_table_get(r->headers_in, "Idempotency-Key");
    int status = judge_conditional(r, "If-Match", &admission->if_match, sentence);

    if (status == OK) {
        status = judge_conditional(r, "If-None-Match", &admission->if_none_match, sentence);
    }
    if (status != OK) {
        return status;
    }
    if (!users_prefer_parse(apr_table_get(r->headers_in, "Prefer"), &admission->prefer)) {
        *sentence = malformed(r, "Prefer");
        return HTTP_BAD_REQUEST;
    }
    admission->idempotency_key = key ? users_idempotency_key_parse(key, r->pool) : NULL;
    if (key && !admission->idempotency_key) {
        *sentence = malformed(r, "Idempotency-Key");
        return HTTP_BAD_REQUEST;
    }
    admission->accept = users_accept_parse(apr_table_get(r->headers_in, "Accept"), r->pool);
    return OK;
}

/* Has another module the say of who calls? It speaks only after the access checkers. */
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

static int judge_scope(request_rec *r, users_admission *admission, const char **sentence)
{
    const users_principal *principal = &admission->principal;
    const char *scope = admission->scope;

    if (principal->suspended) {
        *sentence = "the account is suspended";
        return HTTP_FORBIDDEN;
    }
    if (!users_access_permits(principal, scope)) {
        users_authenticate_challenge(
            r, apr_psprintf(r->pool, ", error=\"insufficient_scope\", scope=\"%s\"", scope), false);
        *sentence = apr_psprintf(r->pool, "this needs the scope %s", scope);
        return HTTP_FORBIDDEN;
    }
    if (admission->operation != USERS_REGISTER &&
        (!principal->user || (wanted_for(admission) != USERS_KNOW_OWNER && !principal->document))) {
        *sentence = "the token belongs to no account";
        return HTTP_FORBIDDEN;
    }
    return OK;
}

static int judge_principal(request_rec *r, users_admission *admission, const char **sentence)
{
    users_knowledge wanted = wanted_for(admission);
    users_principal *principal = &admission->principal;
    int status = is_external(r) ? users_authenticate_environment(r, wanted, principal, sentence)
                                : users_authenticate_request(r, wanted, principal, sentence);

    return status == OK ? judge_scope(r, admission, sentence) : status;
}

/* The order of judgement: the target, malformed header fields, the credential, its rights. */
static void judge(request_rec *r, verdict *found)
{
    users_admission *admission = &found->admission;

    found->status = judge_target(r, admission, &found->sentence);
    if (found->status == OK && users_location_of(r)->endpoint == USERS_ENDPOINT_ACCOUNT) {
        found->status = judge_headers(r, admission, &found->sentence);
    }
    if (found->status != OK || !admission->scope) {
        return;
    }
    found->pending = is_external(r);
    if (found->pending) {
        found->status = HTTP_FORBIDDEN;
        found->sentence = "nobody has verified the access token";
    } else {
        found->status = judge_principal(r, admission, &found->sentence);
    }
}

void users_access_publish(request_rec *r, const users_principal *principal)
{
    const char *application = apr_psprintf(r->pool, "%" APR_INT64_T_FMT, principal->application);

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
}

/* What a hook returns that has judged. undecided: httpd may refuse by itself what we would admit.
 */
static int pronounce(request_rec *r, const verdict *found, bool undecided)
{
    if (found->status == OK) {
        if (found->admission.scope) {
            users_access_publish(r, &found->admission.principal);
        }
        return OK;
    }
    /*
     * Inside another page there is no answer of our own; and under "Satisfy Any" httpd has
     * not decided yet: it may still refuse, with an answer of its own.
     */
    if (r->main || undecided) {
        return found->status;
    }
    return users_access_refuse(r) == OK ? DONE : AP_FILTER_ERROR;
}

int users_access_check(request_rec *r)
{
    verdict *found;

    if (!users_location_of(r)->endpoint) {
        return DECLINED;
    }
    found = apr_pcalloc(r->pool, sizeof(*found));
    ap_set_module_config(r->request_config, &users_module, found);
    judge(r, found);
    return found->pending ? OK : pronounce(r, found, ap_satisfies(r) == SATISFY_ANY);
}

int users_access_complete(request_rec *r)
{
    verdict *found = ap_get_module_config(r->request_config, &users_module);

    if (!found || !found->pending) {
        return DECLINED;
    }
    found->pending = false;
    found->status = judge_principal(r, &found->admission, &found->sentence);
    return pronounce(r, found, false);
}

const users_admission *users_access_admission(const request_rec *r)
{
    const verdict *found = ap_get_module_config(r->request_config, &users_module);

    return found && found->status == OK ? &found->admission : NULL;
}

int users_access_refuse(request_rec *r)
{
    const verdict *found = ap_get_module_config(r->request_config, &users_module);
    int status = found ? found->status : HTTP_FORBIDDEN;

    if (!found) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
                      "%s reached %s without its access checker: refused", r->uri, r->handler);
    }
    if (r->main) {
        return status;
    }
    return users_reply_error(r, status, found ? found->sentence : "this is not the way to the API");
}

bool users_access_permits(const users_principal *principal, const char *scope)
{
    return users_scope_contains(principal->scopes, scope);
}
