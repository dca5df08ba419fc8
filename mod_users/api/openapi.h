/* The description of the API (OpenAPI), as it is on this server. */
#ifndef USERS_API_OPENAPI_H
#define USERS_API_OPENAPI_H

#include <httpd.h>

/* Hook post_config: writes the description of each server that has an endpoint for it. */
int users_openapi_start(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s);

/* Hook handler: serves it where the access checker admitted the request, and nothing else. */
int users_openapi_run(request_rec *r);

#endif
