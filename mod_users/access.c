#include "access.h"

#include "core/scope.h"
#include "reply.h"
#include "settings.h"

#include <apr_md5.h>
#include <apr_strings.h>
#include <http_core.h>
#include <http_log.h>
#include <http_request.h>
#include <openssl/crypto.h>

APLOG_USE_MODULE(users);

/* API credentials: everything on their owner's account, and nobody else's registration. */
#define OWNER_SCOPES "profile_read profile_update"

/* What the hook found, in the request_config of the request that it judged. */
typedef struct {
    int status; /* OK: admitted */
    const char *sentence;
    users_admission admission;
} verdict;

static const struct {
    int method; /* HEAD is GET to httpd */
    users_operation operation;
    const char *scope; /* NULL: anyone may */
} operations[] = {
    {M_GET, USERS_SHOW, "profile_read"},
    {M_PATCH, USERS_UPDATE, "profile_update"},
    {M_POST, USERS_REGISTER, "register"},
    {M_OPTIONS, USERS_OPTIONS, NULL},
};

static const char *scope_of(users_operation operation)
{
    for (size_t i = 0; i < sizeof(operations) / sizeof(*operations); i++) {
        if (operations[i].operation == operation) {
            return operations[i].scope;
        }
    }
    return NULL;
}

/* Each judge returns OK, or the status of a refusal with its sentence. */

static int judge_target(request_rec *r, users_admission *admission, const char **sentence)
{
    if (strcmp(r->uri, users_location_of(r)->path) != 0) {
        *sentence = "there is nothing at this path";
        return HTTP_NOT_FOUND;
    }
    if (r->method_number == M_INVALID) {
        *sentence = "the method is not known";
        return HTTP_NOT_IMPLEMENTED;
    }
    for (size_t i = 0; i < sizeof(operations) / sizeof(*operations); i++) {
        if (operations[i].method == r->method_number) {
            admission->operation = operations[i].operation;
            return OK;
        }
    }
    apr_table_setn(r->err_headers_out, "Allow", USERS_ALLOW);
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

/* WWW-Authenticate (RFC 6750 section 3, RFC 7617 section 2). attributes: "" or ", error=…". */
static void challenge(request_rec *r, const char *attributes, bool basic)
{
    const users_settings *settings = users_settings_of(r->server);

    apr_table_addn(r->err_headers_out, "WWW-Authenticate",
                   apr_psprintf(r->pool, "Bearer realm=\"%s\"%s", settings->realm, attributes));
    if (basic && settings->challenge == USERS_CHALLENGE_BOTH) {
        apr_table_addn(
            r->err_headers_out, "WWW-Authenticate",
            apr_psprintf(r->pool, "Basic realm=\"%s\", charset=\"UTF-8\"", settings->realm));
    }
}

/* On GET the account comes with the look-up; so it does where If-None-Match needs its tag. */
static bool wants_document(const users_admission *admission)
{
    return admission->operation == USERS_SHOW ||
           (admission->operation == USERS_UPDATE && admission->if_none_match);
}

static int judge_token(request_rec *r, const char *token, users_admission *admission,
                       const char **sentence)
{
    unsigned char digest[USERS_DIGEST_LENGTH];
    users_db_status status = USERS_DB_OK;
    bool found = false;

    if (token) {
        status = users_credential_digest(token, digest)
                     ? users_store_find_token(r, digest, wants_document(admission), &found,
                                              &admission->principal)
                     : USERS_DB_FAILED;
    }
    if (status != USERS_DB_OK) {
        return users_reply_failure(r, status, true, sentence);
    }
    if (!found) {
        challenge(r, ", error=\"invalid_token\"", true);
        *sentence = "the access token is unknown, expired or revoked";
        return HTTP_UNAUTHORIZED;
    }
    r->ap_auth_type = "Bearer";
    return OK;
}

static bool secret_matches(const char *given, const users_secret *stored)
{
    unsigned char digest[USERS_DIGEST_LENGTH];

    if (stored->digest) {
        return users_credential_digest(given, digest) &&
               CRYPTO_memcmp(digest, stored->digest, sizeof(digest)) == 0;
    }
    return stored->hash && apr_password_validate(given, stored->hash) == APR_SUCCESS;
}

static int judge_pair(request_rec *r, const users_credential *pair, users_admission *admission,
                      const char **sentence)
{
    users_db_status status = USERS_DB_OK;
    users_secret secret = {NULL, NULL};
    bool found = false;

    if (pair->name) {
        status = users_store_find_credential(r, pair->name, wants_document(admission), &found,
                                             &admission->principal, &secret);
    }
    if (status != USERS_DB_OK) {
        return users_reply_failure(r, status, true, sentence);
    }
    if (!found || !secret_matches(pair->secret, &secret)) {
        challenge(r, "", true);
        *sentence = "the user name or the password is wrong";
        return HTTP_UNAUTHORIZED;
    }
    admission->principal.scopes = OWNER_SCOPES;
    r->ap_auth_type = "Basic";
    return OK;
}

static int judge_credential(request_rec *r, users_admission *admission, const char **sentence)
{
    users_credential credential =
        users_credential_parse(apr_table_get(r->headers_in, "Authorization"), r->pool);

    switch (credential.kind) {
    case USERS_CREDENTIAL_REPEATED:
        *sentence = "there is more than one Authorization header field";
        return HTTP_BAD_REQUEST;
    case USERS_CREDENTIAL_BEARER:
        return judge_token(r, credential.secret, admission, sentence);
    case USERS_CREDENTIAL_BASIC:
        return judge_pair(r, &credential, admission, sentence);
    default:
        challenge(r, "", true);
        *sentence = "credentials are required";
        return HTTP_UNAUTHORIZED;
    }
}

static int judge_scope(request_rec *r, users_admission *admission, const char **sentence)
{
    const users_principal *principal = &admission->principal;
    const char *scope = scope_of(admission->operation);

    if (principal->suspended) {
        *sentence = "the account is suspended";
        return HTTP_FORBIDDEN;
    }
    if (!users_access_permits(principal, scope)) {
        challenge(r, apr_psprintf(r->pool, ", error=\"insufficient_scope\", scope=\"%s\"", scope),
                  false);
        *sentence = apr_psprintf(r->pool, "this needs the scope %s", scope);
        return HTTP_FORBIDDEN;
    }
    if (admission->operation != USERS_REGISTER &&
        (!principal->user || (wants_document(admission) && !principal->document))) {
        *sentence = "the token belongs to no account";
        return HTTP_FORBIDDEN;
    }
    return OK;
}

/* The order of judgement: the target, malformed header fields, the credential, its rights. */
static int judge(request_rec *r, users_admission *admission, const char **sentence)
{
    int status = judge_target(r, admission, sentence);

    if (status == OK) {
        status = judge_headers(r, admission, sentence);
    }
    if (status != OK || !scope_of(admission->operation)) {
        return status;
    }
    status = judge_credential(r, admission, sentence);
    return status == OK ? judge_scope(r, admission, sentence) : status;
}

/* Tell the logs and what runs behind us who calls. */
static void publish(request_rec *r, const users_principal *principal)
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

int users_access_check(request_rec *r)
{
    verdict *found;

    if (!users_location_of(r)->endpoint) {
        return DECLINED;
    }
    found = apr_pcalloc(r->pool, sizeof(*found));
    ap_set_module_config(r->request_config, &users_module, found);
    found->status = judge(r, &found->admission, &found->sentence);
    if (found->status == OK) {
        if (found->admission.operation != USERS_OPTIONS) {
            publish(r, &found->admission.principal);
        }
        return OK;
    }
    /*
     * Inside another page there is no answer of our own; and under "Satisfy Any" httpd has
     * not decided yet: it may still refuse, with an answer of its own.
     */
    if (r->main || ap_satisfies(r) == SATISFY_ANY) {
        return found->status;
    }
    return users_access_refuse(r) == OK ? DONE : AP_FILTER_ERROR;
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
                      "%s reached " USERS_HANDLER " without its access checker: refused", r->uri);
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
