/*
 * Where a client finds the endpoints: metadata of the authorization server (RFC 8414) and of the
 * protected resource, an account endpoint (RFC 9728). Both name URLs, which begin with UsersIssuer,
 * or else as the client asked.
 */
#ifndef USERS_API_METADATA_H
#define USERS_API_METADATA_H

#include <httpd.h>

#include <jansson.h>
#include <stdbool.h>

#define USERS_METADATA_SERVER   "/.well-known/oauth-authorization-server"
#define USERS_METADATA_RESOURCE "/.well-known/oauth-protected-resource"

/* Is this where metadata belong: one of the two, with a path behind it or not? */
bool users_metadata_is_path(const char *path);

/*
 * The URL of the metadata of the account endpoint at path, in memory of the request; NULL where
 * this server has none.
 */
const char *users_metadata_url(request_rec *r, const char *path);

/* The document of the metadata endpoint that r is for: a new reference, NULL without memory. */
json_t *users_metadata_document(request_rec *r);

#endif
