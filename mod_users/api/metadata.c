#include "api/metadata.h"

#include "config/settings.h"
#include "core/scope.h"
#include "http/reply.h"

#include <apr_strings.h>
#include <apr_uri.h>
#include <http_core.h>

/* What follows a prefix, from its slash on; NULL where path is not below it. */
static const char *below(const char *path, const char *prefix)
{
    size_t length = strlen(prefix);

    return strncmp(path, prefix, length) == 0 && (path[length] == '/' || path[length] == '\0')
               ? path + length
               : NULL;
}

bool users_metadata_is_path(const char *path)
{
    return below(path, USERS_METADATA_SERVER) || below(path, USERS_METADATA_RESOURCE);
}

static const users_location *next_endpoint(const users_settings *settings, users_endpoint kind,
                                           int *index)
{
    while (*index < settings->endpoints->nelts) {
        const users_location *location =
            &APR_ARRAY_IDX(settings->endpoints, (*index)++, users_location);

        if (location->endpoint == kind) {
            return location;
        }
    }
    return NULL;
}

static const char *issuer_of(request_rec *r)
{
    const char *issuer = users_settings_of(r->server)->issuer;

    return issuer ? issuer : ap_construct_url(r->pool, "", r);
}

/* Metadata stand at the root of a host, before the path that it has its resources below. */
static const char *url_of_metadata(request_rec *r, const char *path)
{
    apr_uri_t issuer;
    const char *site;

    if (apr_uri_parse(r->pool, issuer_of(r), &issuer) != APR_SUCCESS) {
        return NULL;
    }
    site = apr_uri_unparse(r->pool, &issuer, APR_URI_UNP_OMITPATHINFO);
    return apr_pstrcat(r->pool, site, USERS_METADATA_RESOURCE, issuer.path ? issuer.path : "", path,
                       NULL);
}

const char *users_metadata_url(request_rec *r, const char *path)
{
    const users_settings *settings = users_settings_of(r->server);
    const users_location *location;
    int i = 0;

    while ((location = next_endpoint(settings, USERS_ENDPOINT_METADATA, &i))) {
        const char *resource = below(location->path, USERS_METADATA_RESOURCE);

        if (resource && strcmp(resource, path) == 0) {
            const char *url = url_of_metadata(r, path);

            return url ? ap_escape_quotes(r->pool, url) : NULL;
        }
    }
    return NULL;
}

/* The documents */

static json_t *url_of(request_rec *r, const char *path)
{
    return json_string(apr_pstrcat(r->pool, issuer_of(r), path, NULL));
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
    const users_location *location = next_endpoint(users_settings_of(r->server), kind, &i);

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

    while ((location = next_endpoint(users_settings_of(r->server), USERS_ENDPOINT_ACCOUNT, &i))) {
        urls = users_reply_append(urls, url_of(r, location->path));
    }
    return urls;
}

static json_t *describe_server(request_rec *r)
{
    bool password = users_settings_of(r->server)->password_grant == USERS_FLAG_ON;
    json_t *grants = password ? json_pack("[s, s]", "client_credentials", "password")
                              : json_pack("[s]", "client_credentials");
    json_t *document = json_pack("{s:s, s:[], s:o, s:[s, s, s, s]}", "issuer", issuer_of(r),
                                 "response_types_supported", "grant_types_supported", grants,
                                 "scopes_supported", USERS_SCOPE_READ, USERS_SCOPE_UPDATE,
                                 USERS_SCOPE_REGISTER, USERS_SCOPE_INTROSPECT);

    document = with_endpoint(r, document, USERS_ENDPOINT_TOKEN, "token_endpoint");
    document = with_endpoint(r, document, USERS_ENDPOINT_REVOKE, "revocation_endpoint");
    document = with_endpoint(r, document, USERS_ENDPOINT_INTROSPECT, "introspection_endpoint");
    return with_member(document, "protected_resources", account_urls(r));
}

static json_t *describe_resource(request_rec *r, const char *path)
{
    int i = 0;
    json_t *document = json_pack("{s:o, s:[s], s:[s, s, s]}", "resource", url_of(r, path),
                                 "bearer_methods_supported", "header", "scopes_supported",
                                 USERS_SCOPE_READ, USERS_SCOPE_UPDATE, USERS_SCOPE_REGISTER);

    if (next_endpoint(users_settings_of(r->server), USERS_ENDPOINT_TOKEN, &i)) {
        document = with_member(document, "authorization_servers", json_pack("[s]", issuer_of(r)));
    }
    return document;
}

json_t *users_metadata_document(request_rec *r)
{
    const char *path = users_location_of(r)->path;
    const char *resource = below(path, USERS_METADATA_RESOURCE);

    return resource ? describe_resource(r, resource) : describe_server(r);
}
