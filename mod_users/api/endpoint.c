#include "api/endpoint.h"

#include "config/settings.h"

#include <string.h>

int users_endpoint_map(request_rec *r)
{
    const apr_array_header_t *endpoints = users_settings_of(r->server)->endpoints;

    if (r->method_number == M_TRACE) {
        return DECLINED; /* httpd answers it in this very hook */
    }
    for (int i = 0; i < endpoints->nelts; i++) {
        if (strcmp(r->uri, APR_ARRAY_IDX(endpoints, i, users_location).path) == 0) {
            return OK;
        }
    }
    return DECLINED;
}

static const char *handler_of(users_endpoint endpoint)
{
    switch (endpoint) {
    case USERS_ENDPOINT_ACCOUNT:
        return USERS_HANDLER;
    case USERS_ENDPOINT_HEALTH:
        return USERS_HEALTH_HANDLER;
    default:
        return USERS_OAUTH_HANDLER;
    }
}

int users_endpoint_choose(request_rec *r)
{
    if (!users_location_of(r)->endpoint) {
        return DECLINED;
    }
    r->handler = handler_of(users_location_of(r)->endpoint);
    r->proxyreq = PROXYREQ_NONE; /* "ProxyPass /" may stand beside an endpoint */
    return OK;
}
