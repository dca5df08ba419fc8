#include "http/urls.h"

#include "config/settings.h"

#include <apr_strings.h>
#include <apr_uri.h>
#include <http_core.h>

const char *users_url_below(const char *path, const char *prefix)
{
    size_t length = strlen(prefix);

    return strncmp(path, prefix, length) == 0 && (path[length] == '/' || path[length] == '\0')
               ? path + length
               : NULL;
}

bool users_url_is_metadata(const char *path)
{
    return users_url_below(path, USERS_METADATA_SERVER) ||
           users_url_below(path, USERS_METADATA_RESOURCE);
}

bool users_url_ends_in(const char *path, const char *end)
{
    size_t length = strlen(path);

    return length >= strlen(end) && strcmp(path + length - strlen(end), end) == 0;
}

bool users_url_is_health(const char *path)
{
    return users_url_ends_in(path, USERS_HEALTH_LIVE) ||
           users_url_ends_in(path, USERS_HEALTH_READY);
}

const users_location *users_next_endpoint(const users_settings *settings, users_endpoint kind,
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

const users_location *users_endpoint_at(const users_settings *settings, const char *path)
{
    for (int i = 0; path && i < settings->endpoints->nelts; i++) {
        const users_location *location = &APR_ARRAY_IDX(settings->endpoints, i, users_location);

        if (strcmp(path, location->path) == 0) {
            return location;
        }
    }
    return NULL;
}

bool users_url_can_be_issuer(const char *url, apr_pool_t *pool)
{
    apr_uri_t uri;

    return apr_uri_parse(pool, url, &uri) == APR_SUCCESS && uri.scheme && uri.hostname &&
           (strcmp(uri.scheme, "https") == 0 || strcmp(uri.scheme, "http") == 0) && !uri.user &&
           !strpbrk(url, " \"\\?#") && url[strlen(url) - 1] != '/';
}

const char *users_url_issuer(request_rec *r)
{
    const char *issuer = users_settings_of(r->server)->issuer;

    return issuer ? issuer : ap_construct_url(r->pool, "", r);
}

/* Metadata stand at the root of a host, before the path that it has its resources below. */
static const char *url_of_metadata(request_rec *r, const char *path)
{
    apr_uri_t issuer;
    const char *site;

    if (apr_uri_parse(r->pool, users_url_issuer(r), &issuer) != APR_SUCCESS) {
        return NULL;
    }
    site = apr_uri_unparse(r->pool, &issuer, APR_URI_UNP_OMITPATHINFO);
    return apr_pstrcat(r->pool, site, USERS_METADATA_RESOURCE, issuer.path ? issuer.path : "", path,
                       NULL);
}

const char *users_url_of_metadata(request_rec *r, const char *path)
{
    const users_settings *settings = users_settings_of(r->server);
    const users_location *location;
    int i = 0;

    while ((location = users_next_endpoint(settings, USERS_ENDPOINT_METADATA, &i))) {
        const char *resource = users_url_below(location->path, USERS_METADATA_RESOURCE);

        if (resource && strcmp(resource, path) == 0) {
            const char *url = url_of_metadata(r, path);

            return url ? ap_escape_quotes(r->pool, url) : NULL;
        }
    }
    return NULL;
}

const char *users_url_of_description(request_rec *r)
{
    int i = 0;
    const users_location *location =
        users_next_endpoint(users_settings_of(r->server), USERS_ENDPOINT_OPENAPI, &i);

    return location ? apr_pstrcat(r->pool, users_url_issuer(r), location->path, NULL) : NULL;
}
