#include "api/client.h"

#include "auth/authenticate.h"
#include "auth/caller.h"
#include "config/settings.h"
#include "core/form.h"
#include "core/request.h"
#include "core/wipe.h"
#include "http/body.h"

#include <apr_strings.h>
#include <openssl/crypto.h>

#define FORM_TYPE "application/x-www-form-urlencoded"
#define JSON_TYPE "application/json"

users_refusal users_oauth_refuse(int status, const char *error, const char *description)
{
    return (users_refusal){.status = status, .sentence = description, .error = error};
}

users_refusal users_oauth_invalid(const char *description)
{
    return users_oauth_refuse(HTTP_BAD_REQUEST, "invalid_request", description);
}

users_refusal users_oauth_unavailable(users_refusal refused)
{
    return users_oauth_refuse(
        refused.status,
        refused.status == HTTP_INTERNAL_SERVER_ERROR ? "server_error" : "temporarily_unavailable",
        refused.sentence);
}

users_refusal users_oauth_failure(request_rec *r, users_outcome outcome)
{
    return users_oauth_unavailable(users_refuse_outcome(r, outcome));
}

/* Parameters */

/* Clients in the field send JSON: the same parameters, as an object's members. */
static apr_hash_t *read_json(char *text, apr_size_t length, const char *const *known,
                             apr_pool_t *pool, const char **error)
{
    apr_hash_t *parameters = apr_hash_make(pool);
    json_t *body = users_request_load(text, length, error);

    if (body && !json_is_object(body)) {
        *error = "the request body must be an object";
        parameters = NULL;
    }
    for (; *known; known++) {
        const json_t *value = json_object_get(body, *known); /* NULL counts as null */

        if (value && !json_is_string(value) && !json_is_null(value)) {
            *error = "the request body has a parameter that is not a string";
            parameters = NULL;
            break;
        }
        if (json_string_length(value)) {
            apr_hash_set(parameters, *known, APR_HASH_KEY_STRING,
                         users_wipe_text_later(pool, apr_pstrdup(pool, json_string_value(value))));
            OPENSSL_cleanse((char *)json_string_value(value), json_string_length(value));
        }
    }
    json_decref(body);
    return body ? parameters : NULL;
}

users_refusal users_oauth_read(request_rec *r, const char *const *known, apr_hash_t **parameters)
{
    bool json = users_body_has_type(r, JSON_TYPE);
    const char *sentence = NULL;
    apr_size_t length;
    char *text;
    users_refusal refused;

    if (!json && !users_body_has_type(r, FORM_TYPE)) {
        apr_table_setn(r->headers_out, "Accept-Post", USERS_OAUTH_ACCEPT_POST);
        return users_oauth_refuse(HTTP_UNSUPPORTED_MEDIA_TYPE, "invalid_request",
                                  "the request body must be " FORM_TYPE " or " JSON_TYPE);
    }
    refused = users_body_read(r, &text, &length);
    if (refused.status != OK) {
        return users_oauth_refuse(refused.status, "invalid_request", refused.sentence);
    }
    users_wipe_later(r->pool, text, length);
    *parameters = json ? read_json(text, length, known, r->pool, &sentence)
                       : users_form_parse(text, length, known, r->pool, &sentence);
    if (!*parameters) {
        return sentence ? users_oauth_invalid(sentence)
                        : users_oauth_failure(r, USERS_OUTCOME_FAILED);
    }
    return users_pass();
}

const char *users_oauth_parameter(apr_hash_t *parameters, const char *name)
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
        return users_oauth_refuse(HTTP_BAD_REQUEST, "invalid_client", description);
    }
    apr_table_setn(r->err_headers_out, "WWW-Authenticate",
                   apr_psprintf(r->pool, "Basic realm=\"%s\", charset=\"UTF-8\"", settings->realm));
    return users_oauth_refuse(HTTP_UNAUTHORIZED, "invalid_client", description);
}

/* Client authentication in the header field or in the body, never both (section 2.3.1). */
static users_refusal read_client(request_rec *r, apr_hash_t *parameters, const char **id,
                                 const char **secret)
{
    const char *header = apr_table_get(r->headers_in, "Authorization");
    users_credential credential = users_credential_parse(header, r->pool);

    *id = users_oauth_parameter(parameters, "client_id");
    *secret = users_oauth_parameter(parameters, "client_secret");
    if (credential.kind == USERS_CREDENTIAL_REPEATED) {
        return users_oauth_invalid("there is more than one Authorization header field");
    }
    if (header && *secret) {
        return users_oauth_invalid("the client authenticates in more than one way");
    }
    if (header) {
        const char *named = *id;
        bool basic = credential.kind == USERS_CREDENTIAL_BASIC && credential.name;

        *id = basic ? users_form_decode(credential.name, r->pool) : NULL;
        *secret = basic ? users_form_decode(credential.secret, r->pool) : NULL;
        if (named && *id && strcmp(named, *id) != 0) {
            return users_oauth_invalid("client_id is not that of the Authorization header field");
        }
    }
    return *id && *secret ? users_pass() : invalid_client(r, "client authentication is required");
}

users_refusal users_oauth_authenticate(request_rec *r, users_db_call *call, apr_hash_t *parameters,
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
        users_caller_publish(
            r, &(users_principal){.application = application->id, .scopes = application->scopes});
        return refused;
    case HTTP_UNAUTHORIZED:
        return invalid_client(r, refused.sentence);
    default:
        return users_oauth_unavailable(refused);
    }
}
