#include "api/oauth.h"

#include "api/client.h"
#include "api/metadata.h"
#include "auth/authenticate.h"
#include "auth/limit.h"
#include "config/settings.h"
#include "core/scope.h"
#include "http/reply.h"

#include <apr_strings.h>

#define TOO_LONG                                                                                   \
    "scope is too long (maximum is " APR_STRINGIFY(USERS_SCOPE_WORDS) " words, " APR_STRINGIFY(    \
        USERS_SCOPE_LENGTH) " characters in all)"

static int reply(request_rec *r, users_refusal refused)
{
    const users_accept json = {.problem = false};

    return users_reply_refusal(r, &json, refused);
}

/* POST /api/oauth/token */

typedef struct {
    users_db_call *call;
    apr_hash_t *parameters;
    bool password; /* the password grant; else client credentials */
    const char *scope;
    users_application application;
    users_principal owner; /* no user for client credentials */
} grant;

/* What needs no look at the database. */
static users_refusal read_grant(request_rec *r, grant *asked)
{
    static const char *const known[] = {
        "grant_type", "client_id", "client_secret", "username", "password", "scope", NULL};
    bool offers_password = users_settings_of(r->server)->password_grant == USERS_FLAG_ON;
    users_refusal refused = users_oauth_read(r, known, &asked->parameters);
    const char *type;

    if (refused.status != OK) {
        return refused;
    }
    type = users_oauth_parameter(asked->parameters, "grant_type");
    if (!type) {
        return users_oauth_invalid("grant_type is missing");
    }
    asked->password = offers_password && strcmp(type, "password") == 0;
    if (!asked->password && strcmp(type, "client_credentials") != 0) {
        return users_oauth_refuse(HTTP_BAD_REQUEST, "unsupported_grant_type",
                                  offers_password
                                      ? "grant_type must be client_credentials or password"
                                      : "grant_type must be client_credentials");
    }
    if (asked->password && (!users_oauth_parameter(asked->parameters, "username") ||
                            !users_oauth_parameter(asked->parameters, "password"))) {
        return users_oauth_invalid("username or password is missing");
    }
    asked->scope = users_oauth_parameter(asked->parameters, "scope");
    if (asked->scope && !asked->scope[strspn(asked->scope, " ")]) {
        asked->scope = NULL; /* the empty set asks for nothing */
    }
    if (asked->scope && !users_scope_is_valid(asked->scope)) {
        return users_oauth_refuse(HTTP_BAD_REQUEST, "invalid_scope", "scope is malformed");
    }
    return users_pass();
}

static users_refusal judge_owner(request_rec *r, grant *asked)
{
    users_refusal refused = users_authenticate_owner(
        r, asked->call, users_oauth_parameter(asked->parameters, "username"),
        users_oauth_parameter(asked->parameters, "password"), USERS_KNOW_OWNER, &asked->owner);

    if (refused.status == OK && asked->owner.suspended) {
        refused = users_refuse(HTTP_UNAUTHORIZED, "the account is suspended");
    }
    switch (refused.status) {
    case OK:
        return refused;
    case HTTP_UNAUTHORIZED:
        return users_oauth_refuse(HTTP_BAD_REQUEST, "invalid_grant", refused.sentence);
    default:
        return users_oauth_unavailable(refused);
    }
}

/*
 * An owner gives away what is his: his own scopes, whatever the application holds. A
 * token of his never does what is an application's alone.
 */
static users_refusal judge_scope(request_rec *r, grant *asked)
{
    const users_application *application = &asked->application;
    const char *held = application->scopes;
    bool good;

    if (asked->password) {
        held = apr_pstrcat(r->pool, asked->owner.scopes, " ", held, NULL);
    }
    if (!asked->scope) {
        asked->scope = asked->password ? asked->owner.scopes : application->default_scopes;
    }
    asked->scope = users_scope_set(asked->scope, r->pool);
    if (!users_scope_fits(asked->scope)) {
        return users_oauth_refuse(HTTP_BAD_REQUEST, "invalid_scope", TOO_LONG);
    }
    good = *asked->scope && users_scope_covers(held, asked->scope, r->pool) &&
           !(asked->password && (users_scope_contains(asked->scope, USERS_SCOPE_REGISTER) ||
                                 users_scope_contains(asked->scope, USERS_SCOPE_INTROSPECT)));
    return good ? users_pass()
                : users_oauth_refuse(HTTP_BAD_REQUEST, "invalid_scope",
                                     "the application can't have a token with this scope");
}

static users_refusal judge_rate(request_rec *r, const grant *asked)
{
    users_refusal refused = users_limit_token(r, asked->application.id);

    return refused.status == OK ? refused : users_oauth_unavailable(refused);
}

static int reply_token(request_rec *r, const grant *asked, const char *token,
                       apr_int64_t created_at)
{
    json_int_t lifetime = apr_time_sec(users_settings_of(r->server)->token_lifetime);

    return users_reply_json(r, HTTP_OK,
                            json_pack("{s:s, s:s, s:I, s:s, s:I}", "access_token", token,
                                      "token_type", "Bearer", "expires_in", lifetime, "scope",
                                      asked->scope, "created_at", (json_int_t)created_at));
}

/* Make a token, and store its digest. */
static int make_token(request_rec *r, const grant *asked)
{
    const char *token = users_credential_generate(USERS_TOKEN_OCTETS, r->pool);
    unsigned char digest[USERS_DIGEST_LENGTH];
    bool issued;
    apr_int64_t created_at;
    users_outcome outcome = USERS_OUTCOME_FAILED;

    if (token && users_credential_digest(token, digest)) {
        outcome = users_db_issue_token(
            asked->call, asked->application.id, asked->owner.user,
            asked->password ? users_oauth_parameter(asked->parameters, "username") : NULL, digest,
            asked->scope, users_settings_of(r->server)->token_lifetime, &issued, &created_at);
    }
    if (outcome != USERS_OUTCOME_DONE) {
        return reply(r, users_oauth_failure(r, outcome));
    }
    if (!issued) {
        return reply(r, users_oauth_refuse(
                            HTTP_BAD_REQUEST, "invalid_grant",
                            "the application, the account or the credentials have just ended"));
    }
    return reply_token(r, asked, token, created_at);
}

static int issue_token(request_rec *r, users_db_call *call)
{
    grant asked = {.call = call};
    users_refusal refused = read_grant(r, &asked);

    if (refused.status == OK) {
        refused = users_oauth_authenticate(r, call, asked.parameters, &asked.application);
    }
    if (refused.status == OK && asked.password) {
        refused = judge_owner(r, &asked);
    }
    if (refused.status == OK) {
        refused = judge_scope(r, &asked);
    }
    if (refused.status == OK) {
        refused = judge_rate(r, &asked);
    }
    return refused.status == OK ? make_token(r, &asked) : reply(r, refused);
}

/* POST /api/oauth/revoke, POST /api/oauth/introspect */

/* The digest of the token that an authenticated client sent. token_type_hint helps nobody here. */
static users_refusal read_token(request_rec *r, users_db_call *call, users_application *application,
                                unsigned char digest[USERS_DIGEST_LENGTH])
{
    static const char *const known[] = {"token", "token_type_hint", "client_id", "client_secret",
                                        NULL};
    apr_hash_t *parameters;
    users_refusal refused = users_oauth_read(r, known, &parameters);
    const char *token = refused.status == OK ? users_oauth_parameter(parameters, "token") : NULL;

    if (refused.status == OK && !token) {
        refused = users_oauth_invalid("token is missing");
    }
    if (refused.status == OK) {
        refused = users_oauth_authenticate(r, call, parameters, application);
    }
    if (refused.status == OK && !users_credential_digest(token, digest)) {
        refused = users_oauth_failure(r, USERS_OUTCOME_FAILED);
    }
    return refused;
}

static int revoke_token(request_rec *r, users_db_call *call)
{
    unsigned char digest[USERS_DIGEST_LENGTH];
    users_application application;
    bool foreign = false;
    users_outcome outcome;
    users_refusal refused = read_token(r, call, &application, digest);

    if (refused.status != OK) {
        return reply(r, refused);
    }
    outcome = users_db_revoke_token(call, application.id, digest, &foreign);
    if (outcome != USERS_OUTCOME_DONE) {
        return reply(r, users_oauth_failure(r, outcome));
    }
    if (foreign) {
        return reply(r, users_oauth_refuse(HTTP_BAD_REQUEST, "unauthorized_client",
                                           "the token is another application's"));
    }
    return users_reply_document(r, HTTP_OK, "{}", 2, NULL);
}

static int introspect_token(request_rec *r, users_db_call *call)
{
    static const char inactive[] = "{\"active\":false}";
    unsigned char digest[USERS_DIGEST_LENGTH];
    users_application application;
    const char *document;
    users_outcome outcome;
    users_refusal refused = read_token(r, call, &application, digest);

    if (refused.status == OK && !users_scope_contains(application.scopes, USERS_SCOPE_INTROSPECT)) {
        refused = users_oauth_refuse(HTTP_FORBIDDEN, "insufficient_scope",
                                     "this needs the scope " USERS_SCOPE_INTROSPECT);
    }
    if (refused.status != OK) {
        return reply(r, refused);
    }
    outcome = users_db_introspect_token(call, digest, &document);
    if (outcome == USERS_OUTCOME_LATE) {
        outcome = USERS_OUTCOME_UNAVAILABLE; /* as with the other endpoints */
    }
    if (outcome != USERS_OUTCOME_DONE) {
        return reply(r, users_oauth_failure(r, outcome));
    }
    document = document ? document : inactive;
    return users_reply_document(r, HTTP_OK, document, strlen(document), NULL);
}

int users_oauth_run(request_rec *r)
{
    int answer;
    const users_admission *admission = users_access_enter(r, USERS_OAUTH_HANDLER, &answer);

    if (!admission) {
        return answer;
    }
    if (r->method_number == M_POST) { /* section 5.1; reply.c has Cache-Control */
        apr_table_setn(r->err_headers_out, "Pragma", "no-cache");
    }
    switch (admission->operation) {
    case USERS_ISSUE:
        return issue_token(r, admission->call);
    case USERS_REVOKE:
        return revoke_token(r, admission->call);
    case USERS_INTROSPECT:
        return introspect_token(r, admission->call);
    case USERS_DESCRIBE:
        users_reply_link(r);
        return users_reply_json(r, HTTP_OK, users_metadata_document(r));
    default:
        return users_access_reply_options(r);
    }
}
