/* The URLs that answers name. They begin with UsersIssuer, or else as the client asked. */
#ifndef USERS_HTTP_URLS_H
#define USERS_HTTP_URLS_H

#include "config/settings.h"

#include <stdbool.h>

#define USERS_METADATA_SERVER   "/.well-known/oauth-authorization-server" /* RFC 8414 */
#define USERS_METADATA_RESOURCE "/.well-known/oauth-protected-resource"   /* RFC 9728 */

#define USERS_HEALTH_LIVE  "/live" /* ends the path */
#define USERS_HEALTH_READY "/ready"

/* What follows a prefix, from its slash on; NULL where path is not below it. */
const char *users_url_below(const char *path, const char *prefix);

/* Is this where metadata belong: one of the two, with a path behind it or not? */
bool users_url_is_metadata(const char *path);

/* Does it end like this? */
bool users_url_ends_in(const char *path, const char *end);

/* Does the end of the path tell which of the two health checks it is? */
bool users_url_is_health(const char *path);

/* The first endpoint of a kind from *index on, which then points behind it; NULL: no more. */
const users_location *users_next_endpoint(const users_settings *settings, users_endpoint kind,
                                          int *index);

/* The endpoint at exactly this path; NULL: none, or there is no path. */
const users_location *users_endpoint_at(const users_settings *settings, const char *path);

/* What clients may know the server by: RFC 8414 section 2, but that a test may do without TLS. */
bool users_url_can_be_issuer(const char *url, apr_pool_t *pool);

/* What the URLs of this server begin with, in memory of the request. */
const char *users_url_issuer(request_rec *r);

/*
 * The URL of the metadata of the account endpoint at path, in memory of the request; NULL where
 * this server has none.
 */
const char *users_url_of_metadata(request_rec *r, const char *path);

/* The URL of the description of the API, in memory of the request; NULL where it is not served. */
const char *users_url_of_description(request_rec *r);

#endif
