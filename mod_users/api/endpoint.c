#include "api/endpoint.h"

#include "config/settings.h"
#include "http/urls.h"

int users_endpoint_map(request_rec *r)
{
    if (r->method_number == M_TRACE) {
        return DECLINED; /* httpd answers it in this very hook */
    }
    return users_endpoint_at(users_settings_of(r->server), r->uri) ? OK : DECLINED;
}

static const char *handler_of(users_endpoint endpoint)
{
    switch (endpoint) {
    case USERS_ENDPOINT_ACCOUNT:
        return USERS_HANDLER;
    case USERS_ENDPOINT_OPENAPI:
        return USERS_OPENAPI_HANDLER;
    case USERS_ENDPOINT_HEALTH:
        return USERS_HEALTH_HANDLER;
    case USERS_ENDPOINT_METRICS:
        return USERS_METRICS_HANDLER;
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
