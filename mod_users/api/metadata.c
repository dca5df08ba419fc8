#include "api/metadata.h"

#include "core/scope.h"
#include "http/reply.h"
#include "http/urls.h"

#include <apr_strings.h>

static json_t *url_of(request_rec *r, const char *path)
{
    return json_string(apr_pstrcat(r->pool, users_url_issuer(r), path, NULL));
}

/* The document with one member more; NULL where memory ran out, for this or anything before it. */
static json_t *with_member(json_t *document, const char *name, json_t *value)
{
    if (json_object_set_new(document, name, value) == 0) {
        return document;
    }
    json_decref(document);
    return NULL;
}

/* Name an endpoint, and how its clients authenticate, where this server has one. */
static json_t *with_endpoint(request_rec *r, json_t *document, users_endpoint kind,
                             const char *name)
{
    int i = 0;
    const users_location *location = users_next_endpoint(users_settings_of(r->server), kind, &i);

    if (!location) {
        return document;
    }
    document = with_member(document, name, url_of(r, location->path));
    return with_member(document, apr_pstrcat(r->pool, name, "_auth_methods_supported", NULL),
                       json_pack("[s, s]", "client_secret_basic", "client_secret_post"));
}

static json_t *account_urls(request_rec *r)
{
    const users_location *location;
    json_t *urls = json_array();
    int i = 0;

    while ((location =
                users_next_endpoint(users_settings_of(r->server), USERS_ENDPOINT_ACCOUNT, &i))) {
        urls = users_reply_append(urls, url_of(r, location->path));
    }
    return urls;
}

static json_t *server_document(request_rec *r)
{
    bool password = users_settings_of(r->server)->password_grant == USERS_FLAG_ON;
    json_t *grants = password ? json_pack("[s, s]", "client_credentials", "password")
                              : json_pack("[s]", "client_credentials");
    json_t *document = json_pack("{s:s, s:[], s:o, s:[s, s, s, s]}", "issuer", users_url_issuer(r),
                                 "response_types_supported", "grant_types_supported", grants,
                                 "scopes_supported", USERS_SCOPE_READ, USERS_SCOPE_UPDATE,
                                 USERS_SCOPE_REGISTER, USERS_SCOPE_INTROSPECT);

    document = with_endpoint(r, document, USERS_ENDPOINT_TOKEN, "token_endpoint");
    document = with_endpoint(r, document, USERS_ENDPOINT_REVOKE, "revocation_endpoint");
    document = with_endpoint(r, document, USERS_ENDPOINT_INTROSPECT, "introspection_endpoint");
    return with_member(document, "protected_resources", account_urls(r));
}

static json_t *resource_document(request_rec *r, const char *path)
{
    int i = 0;
    json_t *document = json_pack("{s:o, s:[s], s:[s, s, s]}", "resource", url_of(r, path),
                                 "bearer_methods_supported", "header", "scopes_supported",
                                 USERS_SCOPE_READ, USERS_SCOPE_UPDATE, USERS_SCOPE_REGISTER);

    if (users_next_endpoint(users_settings_of(r->server), USERS_ENDPOINT_TOKEN, &i)) {
        document =
            with_member(document, "authorization_servers", json_pack("[s]", users_url_issuer(r)));
    }
    return document;
}

json_t *users_metadata_document(request_rec *r)
{
    const char *path = users_location_of(r)->path;
    const char *resource = users_url_below(path, USERS_METADATA_RESOURCE);

    return resource ? resource_document(r, resource) : server_document(r);
}
