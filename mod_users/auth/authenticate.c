#include "auth/authenticate.h"

#include "auth/verify.h"
#include "config/settings.h"
#include "core/scope.h"
#include "http/figures.h"
#include "http/trace.h"
#include "http/urls.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <http_log.h>

APLOG_USE_MODULE(users);

/* API credentials: everything on their owner's account, and nobody else's registration. */
#define OWNER_SCOPES USERS_SCOPE_READ " " USERS_SCOPE_UPDATE

void users_authenticate_challenge(request_rec *r, const char *attributes, bool basic)
{
    const users_settings *settings = users_settings_of(r->server);
    const char *path = users_location_of(r)->path;
    const char *metadata = path ? users_url_of_metadata(r, path) : NULL;

    apr_table_addn(r->err_headers_out, "WWW-Authenticate",
                   apr_pstrcat(r->pool, "Bearer realm=\"", settings->realm, "\"", attributes,
                               metadata ? ", resource_metadata=\"" : "", metadata ? metadata : "",
                               metadata ? "\"" : "", NULL));
    if (basic && settings->challenge == USERS_CHALLENGE_BOTH &&
        settings->token_source == USERS_TOKENS_DATABASE) {
        apr_table_addn(
            r->err_headers_out, "WWW-Authenticate",
            apr_psprintf(r->pool, "Basic realm=\"%s\", charset=\"UTF-8\"", settings->realm));
    }
}

/* Bearer tokens */

static users_refusal refuse_token(request_rec *r)
{
    users_count(USERS_FIGURE_AUTH_FAILURES + USERS_AUTH_TOKEN);
    users_authenticate_challenge(r, ", error=\"invalid_token\"", true);
    return users_refuse_as(HTTP_UNAUTHORIZED, USERS_CODE_INVALID_TOKEN,
                           "the access token is unknown, expired or revoked");
}

static users_outcome find_token(users_db_call *call, const char *token, users_knowledge wanted,
                                bool *found, users_principal *principal)
{
    unsigned char *digest = apr_palloc(call->pool, USERS_DIGEST_LENGTH);
    users_outcome outcome = users_credential_digest(token, digest)
                                ? users_db_find_token(call, digest, wanted, found, principal)
                                : USERS_OUTCOME_FAILED;

    principal->proof = (users_proof){.token = digest};
    return outcome;
}

static users_refusal judge_token(request_rec *r, users_db_call *call, const char *token,
                                 users_knowledge wanted, users_principal *principal)
{
    bool found = false;
    users_outcome outcome =
        token ? find_token(call, token, wanted, &found, principal) : USERS_OUTCOME_DONE;

    if (outcome != USERS_OUTCOME_DONE) {
        return users_refuse_outcome(r, outcome);
    }
    if (!found) {
        users_log_request(r, APLOG_TRACE2, 0, "the bearer token is %s",
                          token ? "not a live one" : "malformed");
        return refuse_token(r);
    }
    r->ap_auth_type = "Bearer";
    return users_pass();
}

/* Names and secrets */

#define WRONG_PAIR "the user name or the password is wrong"

static users_refusal refuse_secret(users_auth_kind kind, const char *sentence)
{
    users_count(USERS_FIGURE_AUTH_FAILURES + (int)kind);
    return users_refuse_as(HTTP_UNAUTHORIZED, USERS_CODE_WRONG_CREDENTIALS, sentence);
}

/* A wrong secret is a 401, whose sentence this is. */
static users_refusal or_wrong(users_refusal refused, users_auth_kind kind, const char *sentence)
{
    return refused.status == HTTP_UNAUTHORIZED ? refuse_secret(kind, sentence) : refused;
}

static users_refusal refuse_nobody(request_rec *r, bool basic)
{
    users_count(USERS_FIGURE_AUTH_FAILURES + USERS_AUTH_MISSING);
    users_authenticate_challenge(r, "", basic);
    return users_refuse(HTTP_UNAUTHORIZED, "credentials are required");
}

/* What was given for a secret; the context of is_known(). */
typedef struct {
    request_rec *r;
    const char *secret;
} given_secret;

static bool is_known(void *context, const users_secret *stored)
{
    const given_secret *given = context;

    return users_verify_is_known(given->r, given->secret, stored);
}

users_refusal users_authenticate_owner(request_rec *r, users_db_call *call, const char *name,
                                       const char *secret, users_knowledge wanted,
                                       users_principal *principal)
{
    given_secret given = {r, secret};
    users_secret stored = {.digest = NULL};
    users_outcome outcome;
    bool found = false;

    if (!name) { /* something that can't be a pair: no need to look */
        return refuse_secret(USERS_AUTH_PASSWORD, WRONG_PAIR);
    }
    outcome =
        users_db_find_credential(call, name, wanted, is_known, &given, &found, principal, &stored);
    if (outcome != USERS_OUTCOME_DONE) {
        return users_refuse_outcome(r, outcome);
    }
    principal->scopes = OWNER_SCOPES;
    principal->proof = (users_proof){.credential = name};
    return or_wrong(users_verify_secret(r, "API credentials", name, secret, found, &stored),
                    USERS_AUTH_PASSWORD, WRONG_PAIR);
}

users_refusal users_authenticate_application(request_rec *r, users_db_call *call,
                                             const char *client_id, const char *secret,
                                             users_application *application)
{
    users_secret stored = {.digest = NULL};
    bool found = false;
    users_outcome outcome =
        users_db_find_application(call, client_id, &found, application, &stored);

    if (outcome != USERS_OUTCOME_DONE) {
        return users_refuse_outcome(r, outcome);
    }
    return or_wrong(users_verify_secret(r, "application", client_id, secret, found, &stored),
                    USERS_AUTH_CLIENT, "the client_id or the client secret is wrong");
}

static users_refusal judge_pair(request_rec *r, users_db_call *call, const users_credential *pair,
                                users_knowledge wanted, users_principal *principal)
{
    users_refusal refused =
        users_authenticate_owner(r, call, pair->name, pair->secret, wanted, principal);

    if (refused.status == HTTP_UNAUTHORIZED) {
        users_authenticate_challenge(r, "", true);
    }
    if (refused.status == OK) {
        r->ap_auth_type = "Basic";
    }
    return refused;
}

users_refusal users_authenticate_request(request_rec *r, users_db_call *call,
                                         users_knowledge wanted, users_principal *principal)
{
    static const char *const kinds[] = {
        [USERS_CREDENTIAL_NONE] = "none, or of another scheme",
        [USERS_CREDENTIAL_BEARER] = "a bearer token",
        [USERS_CREDENTIAL_BASIC] = "a name and a password",
        [USERS_CREDENTIAL_REPEATED] = "more than one",
    };
    users_credential credential =
        users_credential_parse(apr_table_get(r->headers_in, "Authorization"), r->pool);

    users_log_request(r, APLOG_TRACE3, 0, "the credential is %s", kinds[credential.kind]);
    switch (credential.kind) {
    case USERS_CREDENTIAL_REPEATED:
        return users_refuse_as(HTTP_BAD_REQUEST, USERS_CODE_REPEATED_AUTHORIZATION,
                               "there is more than one Authorization header field");
    case USERS_CREDENTIAL_BEARER:
        return judge_token(r, call, credential.secret, wanted, principal);
    case USERS_CREDENTIAL_BASIC:
        return judge_pair(r, call, &credential, wanted, principal);
    default:
        return refuse_nobody(r, true);
    }
}

/* External tokens */

/* Claims that are lists come with blanks, with commas, or as JSON arrays: all become blanks. */
static const char *normal_scopes(const char *claim, apr_pool_t *pool)
{
    char *scopes = apr_pstrdup(pool, claim);

    for (char *c = scopes; *c; c++) {
        if (strchr(",[]\"", *c)) {
            *c = ' ';
        }
    }
    return scopes;
}

users_refusal users_authenticate_environment(request_rec *r, users_db_call *call,
                                             users_knowledge wanted, users_principal *principal)
{
    const users_settings *settings = users_settings_of(r->server);
    const char *user = apr_table_get(r->subprocess_env, settings->token_user_variable);
    const char *scopes = apr_table_get(r->subprocess_env, settings->token_scope_variable);
    users_external external = {settings->token_application, user,
                               settings->token_user == USERS_TOKEN_USER_ID};
    users_outcome outcome;
    bool found = false;

    if (!user && !scopes) {
        return refuse_nobody(r, false);
    }
    outcome = users_db_find_external(call, &external, wanted, &found, principal);
    if (outcome != USERS_OUTCOME_DONE) {
        return users_refuse_outcome(r, outcome);
    }
    if (!found) {
        users_log_request(r, APLOG_ERR, 0,
                          "UsersTokenApplication '%s': there is no such application",
                          settings->token_application);
        return users_refuse_outcome(r, USERS_OUTCOME_FAILED);
    }
    principal->scopes = scopes ? normal_scopes(scopes, r->pool) : "";
    principal->proof = (users_proof){.client = settings->token_application};
    return users_pass();
}

/* What has ended */

users_refusal users_authenticate_ended(request_rec *r, const users_principal *principal)
{
    if (!principal->proof.credential) {
        return refuse_token(r);
    }
    users_authenticate_challenge(r, "", true);
    return refuse_secret(USERS_AUTH_PASSWORD, WRONG_PAIR);
}
