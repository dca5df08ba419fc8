#include "api/oauth.h"

#include "api/metadata.h"
#include "auth/access.h"
#include "auth/authenticate.h"
#include "config/settings.h"
#include "core/form.h"
#include "core/request.h"
#include "core/scope.h"
#include "http/body.h"
#include "http/reply.h"

#include <apr_strings.h>
#include <util_filter.h>

#define FORM_TYPE   "application/x-www-form-urlencoded"
#define JSON_TYPE   "application/json"
#define ACCEPT_POST FORM_TYPE ", " JSON_TYPE

static users_refusal refuse(int status, const char *error, const char *description)
{
    return (users_refusal){.status = status, .sentence = description, .error = error};
}

static users_refusal invalid_request(const char *description)
{
    return refuse(HTTP_BAD_REQUEST, "invalid_request", description);
}

static int reply(request_rec *r, users_refusal refused)
{
    return users_reply_refusal(r, NULL, refused);
}

/* A failure that is not the client's, and has no code of its own. */
static users_refusal unavailable(users_refusal refused)
{
    return refuse(refused.status,
                  refused.status == HTTP_INTERNAL_SERVER_ERROR ? "server_error"
                                                               : "temporarily_unavailable",
                  refused.sentence);
}

static users_refusal failure(request_rec *r, users_outcome outcome)
{
    return unavailable(users_refuse_outcome(r, outcome));
}

/* Parameters */

/* Clients in the field send JSON: the same parameters, as an object's members. */
static apr_hash_t *read_json(const char *text, apr_size_t length, apr_pool_t *pool,
                             const char **error)
{
    apr_hash_t *parameters = apr_hash_make(pool);
    json_t *body = users_request_load(text, length, error);
    const char *name;
    json_t *value;

    if (body && !json_is_object(body)) {
        *error = "the request body must be an object";
        parameters = NULL;
    }
    json_object_foreach(body, name, value)
    {
        if (!json_is_string(value) && !json_is_null(value)) {
            *error = "the request body has a parameter that is not a string";
            parameters = NULL;
            break;
        }
        if (json_string_length(value)) {
            apr_hash_set(parameters, apr_pstrdup(pool, name), APR_HASH_KEY_STRING,
                         apr_pstrdup(pool, json_string_value(value)));
        }
    }
    json_decref(body);
    return body ? parameters : NULL;
}

static users_refusal read_parameters(request_rec *r, apr_hash_t **parameters)
{
    bool json = users_body_has_type(r, JSON_TYPE);
    const char *sentence = NULL;
    apr_size_t length;
    char *text;
    users_refusal refused;

    if (!json && !users_body_has_type(r, FORM_TYPE)) {
        apr_table_setn(r->headers_out, "Accept-Post", ACCEPT_POST);
        return refuse(HTTP_UNSUPPORTED_MEDIA_TYPE, "invalid_request",
                      "the request body must be " FORM_TYPE " or " JSON_TYPE);
    }
    refused = users_body_read(r, &text, &length);
    if (refused.status != OK) {
        return refuse(refused.status, "invalid_request", refused.sentence);
    }
    *parameters = json ? read_json(text, length, r->pool, &sentence)
                       : users_form_parse(text, length, r->pool, &sentence);
    if (!*parameters) {
        return sentence ? invalid_request(sentence) : failure(r, USERS_OUTCOME_FAILED);
    }
    return users_pass();
}

static const char *parameter(apr_hash_t *parameters, const char *name)
{
    return apr_hash_get(parameters, name, APR_HASH_KEY_STRING);
}

/* The client */

/* RFC 6749 section 5.2; a browser that shows a dialog is spared it (UsersChallenge bearer). */
static users_refusal invalid_client(request_rec *r, const char *description)
{
    const users_settings *settings = users_settings_of(r->server);

    if (!apr_table_get(r->headers_in, "Authorization") &&
        settings->challenge == USERS_CHALLENGE_BEARER) {
        return refuse(HTTP_BAD_REQUEST, "invalid_client", description);
    }
    apr_table_setn(r->err_headers_out, "WWW-Authenticate",
                   apr_psprintf(r->pool, "Basic realm=\"%s\", charset=\"UTF-8\"", settings->realm));
    return refuse(HTTP_UNAUTHORIZED, "invalid_client", description);
}

/* Client authentication in the header field or in the body, never both (section 2.3.1). */
static users_refusal read_client(request_rec *r, apr_hash_t *parameters, const char **id,
                                 const char **secret)
{
    const char *header = apr_table_get(r->headers_in, "Authorization");
    users_credential credential = users_credential_parse(header, r->pool);

    *id = parameter(parameters, "client_id");
    *secret = parameter(parameters, "client_secret");
    if (credential.kind == USERS_CREDENTIAL_REPEATED) {
        return invalid_request("there is more than one Authorization header field");
    }
    if (header && *secret) {
        return invalid_request("the client authenticates in more than one way");
    }
    if (header) {
        const char *named = *id;
        bool basic = credential.kind == USERS_CREDENTIAL_BASIC && credential.name;

        *id = basic ? users_form_decode(credential.name, r->pool) : NULL;
        *secret = basic ? users_form_decode(credential.secret, r->pool) : NULL;
        if (named && *id && strcmp(named, *id) != 0) {
            return invalid_request("client_id is not that of the Authorization header field");
        }
    }
    return *id && *secret ? users_pass() : invalid_client(r, "client authentication is required");
}

static users_refusal authenticate(request_rec *r, users_db_call *call, apr_hash_t *parameters,
                                  users_application *application)
{
    const char *id;
    const char *secret;
    users_refusal refused = read_client(r, parameters, &id, &secret);

    if (refused.status != OK) {
        return refused;
    }
    refused = users_authenticate_application(r, call, id, secret, application);
    switch (refused.status) {
    case OK:
        users_access_publish(
            r, &(users_principal){.application = application->id, .scopes = application->scopes});
        return refused;
    case HTTP_UNAUTHORIZED:
        return invalid_client(r, refused.sentence);
    default:
        return unavailable(refused);
    }
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
    bool offers_password = users_settings_of(r->server)->password_grant == USERS_FLAG_ON;
    users_refusal refused = read_parameters(r, &asked->parameters);
    const char *type;

    if (refused.status != OK) {
        return refused;
    }
    type = parameter(asked->parameters, "grant_type");
    if (!type) {
        return invalid_request("grant_type is missing");
    }
    asked->password = offers_password && strcmp(type, "password") == 0;
    if (!asked->password && strcmp(type, "client_credentials") != 0) {
        return refuse(HTTP_BAD_REQUEST, "unsupported_grant_type",
                      offers_password ? "grant_type must be client_credentials or password"
                                      : "grant_type must be client_credentials");
    }
    if (asked->password &&
        (!parameter(asked->parameters, "username") || !parameter(asked->parameters, "password"))) {
        return invalid_request("username or password is missing");
    }
    asked->scope = parameter(asked->parameters, "scope");
    if (asked->scope && !users_scope_is_valid(asked->scope)) {
        return refuse(HTTP_BAD_REQUEST, "invalid_scope", "scope is malformed");
    }
    return users_pass();
}

static users_refusal judge_owner(request_rec *r, grant *asked)
{
    users_refusal refused = users_authenticate_owner(
        r, asked->call, parameter(asked->parameters, "username"),
        parameter(asked->parameters, "password"), USERS_KNOW_OWNER, &asked->owner);

    if (refused.status == OK && asked->owner.suspended) {
        refused = users_refuse(HTTP_UNAUTHORIZED, "the account is suspended");
    }
    switch (refused.status) {
    case OK:
        return refused;
    case HTTP_UNAUTHORIZED:
        return refuse(HTTP_BAD_REQUEST, "invalid_grant", refused.sentence);
    default:
        return unavailable(refused);
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
    good = *asked->scope && users_scope_covers(held, asked->scope, r->pool) &&
           !(asked->password && (users_scope_contains(asked->scope, USERS_SCOPE_REGISTER) ||
                                 users_scope_contains(asked->scope, USERS_SCOPE_INTROSPECT)));
    return good ? users_pass()
                : refuse(HTTP_BAD_REQUEST, "invalid_scope",
                         "the application can't have a token with this scope");
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
            asked->call, asked->application.id, asked->owner.user, digest, asked->scope,
            users_settings_of(r->server)->token_lifetime, &issued, &created_at);
    }
    if (outcome != USERS_OUTCOME_DONE) {
        return reply(r, failure(r, outcome));
    }
    if (!issued) {
        return reply(r, refuse(HTTP_BAD_REQUEST, "invalid_grant",
                               "the application or the account has just been revoked"));
    }
    return reply_token(r, asked, token, created_at);
}

static int issue_token(request_rec *r, users_db_call *call)
{
    grant asked = {.call = call};
    users_refusal refused = read_grant(r, &asked);

    if (refused.status == OK) {
        refused = authenticate(r, call, asked.parameters, &asked.application);
    }
    if (refused.status == OK && asked.password) {
        refused = judge_owner(r, &asked);
    }
    if (refused.status == OK) {
        refused = judge_scope(r, &asked);
    }
    return refused.status == OK ? make_token(r, &asked) : reply(r, refused);
}

/* POST /api/oauth/revoke, POST /api/oauth/introspect */

/* The digest of the token that an authenticated client sent. token_type_hint helps nobody here. */
static users_refusal read_token(request_rec *r, users_db_call *call, users_application *application,
                                unsigned char digest[USERS_DIGEST_LENGTH])
{
    apr_hash_t *parameters;
    users_refusal refused = read_parameters(r, &parameters);
    const char *token = refused.status == OK ? parameter(parameters, "token") : NULL;

    if (refused.status == OK && !token) {
        refused = invalid_request("token is missing");
    }
    if (refused.status == OK) {
        refused = authenticate(r, call, parameters, application);
    }
    if (refused.status == OK && !users_credential_digest(token, digest)) {
        refused = failure(r, USERS_OUTCOME_FAILED);
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
        return reply(r, failure(r, outcome));
    }
    if (foreign) {
        return reply(r, refuse(HTTP_BAD_REQUEST, "unauthorized_client",
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
        refused = refuse(HTTP_FORBIDDEN, "insufficient_scope",
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
        return reply(r, failure(r, outcome));
    }
    document = document ? document : inactive;
    return users_reply_document(r, HTTP_OK, document, strlen(document), NULL);
}

static int reply_options(request_rec *r)
{
    bool posts = users_location_of(r)->endpoint != USERS_ENDPOINT_METADATA;

    return users_reply_options(r, users_access_allow(r), NULL, posts ? ACCEPT_POST : NULL);
}

int users_oauth_run(request_rec *r)
{
    const users_admission *admission;

    if (!r->handler || strcmp(r->handler, USERS_OAUTH_HANDLER) != 0) {
        return DECLINED;
    }
    admission = users_access_admission(r);
    if (!admission) {
        return users_access_refuse(r);
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
        return users_reply_json(r, HTTP_OK, users_metadata_document(r));
    default:
        return reply_options(r);
    }
}
