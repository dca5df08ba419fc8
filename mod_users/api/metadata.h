/*
 * Where a client finds the endpoints: metadata of the authorization server (RFC 8414) and of the
 * protected resource, an account endpoint (RFC 9728).
 */
#ifndef USERS_API_METADATA_H
#define USERS_API_METADATA_H

#include <httpd.h>

#include <jansson.h>

/* The document of the metadata endpoint that r is for: a new reference, NULL without memory. */
json_t *users_metadata_document(request_rec *r);

#endif
