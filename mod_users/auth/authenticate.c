#include "auth/authenticate.h"

#include "auth/verify.h"
#include "config/settings.h"
#include "core/scope.h"
#include "db/route.h"
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
    const char *metadata = users_url_of_metadata(r, users_location_of(r)->path);

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

/* Replicas */

/* Whom a replica lets read; who would be refused, as far as it knows, counts as nobody. */
static apr_int64_t admitted_account(bool found, const users_principal *principal)
{
    bool admitted =
        found && !principal->suspended && principal->document &&
        (!principal->scopes || users_scope_contains(principal->scopes, USERS_SCOPE_READ));

    return admitted ? principal->user : 0;
}

/* Bearer tokens */

static users_db_status find_token(request_rec *r, const char *token, users_knowledge wanted,
                                  bool *found, users_principal *principal)
{
    users_route route = users_replica_route(r, wanted == USERS_KNOW_RECENT);
    unsigned char digest[USERS_DIGEST_LENGTH];
    users_db_status status;

    if (!users_credential_digest(token, digest)) {
        return USERS_DB_FAILED;
    }
    do {
        status = users_store_find_token(r, route.database, digest, wanted != USERS_KNOW_OWNER,
                                        found, principal);
    } while (users_replica_defers(&route, status, admitted_account(*found, principal)));
    return status;
}

static users_refusal judge_token(request_rec *r, const char *token, users_knowledge wanted,
                                 users_principal *principal)
{
    bool found = false;
    users_db_status status = token ? find_token(r, token, wanted, &found, principal) : USERS_DB_OK;

    ap_log_rerror(APLOG_MARK, APLOG_TRACE3, 0, r, "the bearer token is %s",
                  found   ? "known"
                  : token ? "unknown"
                          : "malformed");
    if (status != USERS_DB_OK) {
        return users_refuse_failure(r, status, true);
    }
    if (!found) {
        users_authenticate_challenge(r, ", error=\"invalid_token\"", true);
        return users_refuse(HTTP_UNAUTHORIZED, "the access token is unknown, expired or revoked");
    }
    r->ap_auth_type = "Bearer";
    return users_pass();
}

/* Names and secrets */

/* A wrong secret is a 401, whose sentence this is. */
static users_refusal or_wrong(users_refusal refused, const char *sentence)
{
    return refused.status == HTTP_UNAUTHORIZED ? users_refuse(HTTP_UNAUTHORIZED, sentence)
                                               : refused;
}

/* A password that would have to be hashed, or is wrong, is one that a replica does not know. */
static users_db_status find_owner(request_rec *r, const char *name, const char *secret,
                                  users_knowledge wanted, bool *found, users_principal *principal,
                                  users_secret *stored)
{
    users_route route = users_replica_route(r, wanted == USERS_KNOW_RECENT);
    users_db_status status;
    bool right;

    do {
        status = users_store_find_credential(r, route.database, name, wanted != USERS_KNOW_OWNER,
                                             found, principal, stored);
        right =
            users_is_replica(route.database) && users_verify_is_known(r, secret, stored) && *found;
    } while (users_replica_defers(&route, status, admitted_account(right, principal)));
    return status;
}

users_refusal users_authenticate_owner(request_rec *r, const char *name, const char *secret,
                                       users_knowledge wanted, users_principal *principal)
{
    static const char wrong[] = "the user name or the password is wrong";
    users_attempt attempt;
    users_secret stored = {NULL};
    users_db_status status;
    users_refusal refused;
    bool found = false;

    if (!name) { /* something that can't be a pair: no need to look */
        return users_refuse(HTTP_UNAUTHORIZED, wrong);
    }
    refused = users_lockout_begin(r, "credential", name, &attempt);
    if (refused.status == OK) {
        status = find_owner(r, name, secret, wanted, &found, principal, &stored);
        if (status != USERS_DB_OK) {
            return users_refuse_failure(r, status, true);
        }
        refused = users_verify_secret(r, &attempt, name, secret, found, &stored);
    }
    principal->scopes = OWNER_SCOPES;
    return or_wrong(refused, wrong);
}

users_refusal users_authenticate_application(request_rec *r, const char *client_id,
                                             const char *secret, users_application *application)
{
    users_attempt attempt;
    users_secret stored = {NULL};
    users_db_status status;
    bool found = false;
    users_refusal refused = users_lockout_begin(r, "application", client_id, &attempt);

    if (refused.status == OK) {
        status = users_grant_find_application(r, client_id, &found, application, &stored);
        if (status != USERS_DB_OK) {
            return users_refuse_failure(r, status, true);
        }
        refused = users_verify_secret(r, &attempt, client_id, secret, found, &stored);
    }
    return or_wrong(refused, "the client_id or the client secret is wrong");
}

static users_refusal judge_pair(request_rec *r, const users_credential *pair,
                                users_knowledge wanted, users_principal *principal)
{
    users_refusal refused =
        users_authenticate_owner(r, pair->name, pair->secret, wanted, principal);

    if (refused.status == HTTP_UNAUTHORIZED) {
        users_authenticate_challenge(r, "", true);
    }
    if (refused.status == OK) {
        r->ap_auth_type = "Basic";
    }
    return refused;
}

users_refusal users_authenticate_request(request_rec *r, users_knowledge wanted,
                                         users_principal *principal)
{
    users_credential credential =
        users_credential_parse(apr_table_get(r->headers_in, "Authorization"), r->pool);

    switch (credential.kind) {
    case USERS_CREDENTIAL_REPEATED:
        return users_refuse(HTTP_BAD_REQUEST, "there is more than one Authorization header field");
    case USERS_CREDENTIAL_BEARER:
        return judge_token(r, credential.secret, wanted, principal);
    case USERS_CREDENTIAL_BASIC:
        return judge_pair(r, &credential, wanted, principal);
    default:
        users_authenticate_challenge(r, "", true);
        return users_refuse(HTTP_UNAUTHORIZED, "credentials are required");
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

users_refusal users_authenticate_environment(request_rec *r, users_knowledge wanted,
                                             users_principal *principal)
{
    users_route route;
    const users_settings *settings = users_settings_of(r->server);
    const char *user = apr_table_get(r->subprocess_env, settings->token_user_variable);
    const char *scopes = apr_table_get(r->subprocess_env, settings->token_scope_variable);
    users_db_status status;
    bool found;

    if (!user && !scopes) {
        users_authenticate_challenge(r, "", false);
        return users_refuse(HTTP_UNAUTHORIZED, "credentials are required");
    }
    route = users_replica_route(r, wanted == USERS_KNOW_RECENT);
    do {
        status = users_grant_find_external(r, route.database, user, wanted != USERS_KNOW_OWNER,
                                           &found, principal);
    } while (users_replica_defers(&route, status, admitted_account(found, principal)));
    if (status != USERS_DB_OK) {
        return users_refuse_failure(r, status, true);
    }
    if (!found) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
                      "UsersTokenApplication '%s': there is no such application",
                      settings->token_application);
        return users_refuse_failure(r, USERS_DB_FAILED, true);
    }
    principal->scopes = scopes ? normal_scopes(scopes, r->pool) : "";
    return users_pass();
}
