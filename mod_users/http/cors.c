#include "http/cors.h"

#include "config/settings.h"
#include "http/reply.h"
#include "http/urls.h"

#include <http_request.h>
#include <util_filter.h>

#define FILTER       "USERS_CORS"
#define ALLOW_ORIGIN "Access-Control-Allow-Origin"

/* What the module reads, and what tracing adds to the requests of a page (W3C Trace Context). */
#define REQUEST_FIELDS                                                                             \
    "Accept, Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Prefer, "      \
    "traceparent, tracestate"

/* What an answer may have that a browser would keep from the page. */
#define RESPONSE_FIELDS                                                                            \
    "Accept-Encoding, Accept-Patch, Accept-Post, Allow, API-Version-Supported, ETag, Link, "       \
    "Preference-Applied, Retry-After, WWW-Authenticate"

#define MAX_AGE "7200" /* seconds; Chromium keeps an answer no longer */

static bool is_open(const users_location *location)
{
    return location && (location->endpoint == USERS_ENDPOINT_ACCOUNT ||
                        location->endpoint == USERS_ENDPOINT_METADATA);
}

/*
 * Whom r->server lets in, where r is for an endpoint that pages may call: also where httpd refuses
 * r before it has chosen the <Location>, and where an ErrorDocument answers in its place. NULL:
 * nobody, and nothing is to be said about it.
 */
static const apr_array_header_t *origins_for(const request_rec *r)
{
    const users_settings *settings = users_settings_of(r->server);
    const apr_array_header_t *origins = settings->cors_origins;

    if (!origins || !origins->nelts || r->main) {
        return NULL;
    }
    for (; r; r = r->prev) {
        if (is_open(users_location_of(r)) || is_open(users_endpoint_at(settings, r->uri))) {
            return origins;
        }
    }
    return NULL;
}

static bool is_any(const apr_array_header_t *origins)
{
    return strcmp(APR_ARRAY_IDX(origins, 0, const char *), "*") == 0;
}

/*
 * The value of Access-Control-Allow-Origin; NULL: none. httpd joins repeated header fields, and so
 * they are like none of those that are listed.
 */
static const char *permitted(const request_rec *r, const apr_array_header_t *origins)
{
    const char *origin = apr_table_get(r->headers_in, "Origin");

    if (is_any(origins)) {
        return "*"; /* also without Origin, so that no cache has to tell answers apart */
    }
    for (int i = 0; origin && i < origins->nelts; i++) {
        if (strcmp(origin, APR_ARRAY_IDX(origins, i, const char *)) == 0) {
            return origin;
        }
    }
    return NULL;
}

/* Behind mod_headers' filter: what Header has set of the same name stays, and alone. */
static apr_status_t add_fields(ap_filter_t *filter, apr_bucket_brigade *brigade)
{
    request_rec *r = filter->r;
    const apr_array_header_t *origins = filter->ctx;
    const char *origin = permitted(r, origins);

    ap_remove_output_filter(filter);
    if (!is_any(origins)) {
        apr_table_mergen(r->headers_out, "Vary", "Origin");
    }
    if (origin) {
        if (!apr_table_get(r->headers_out, ALLOW_ORIGIN) &&
            !apr_table_get(r->err_headers_out, ALLOW_ORIGIN)) {
            apr_table_setn(r->headers_out, ALLOW_ORIGIN, origin);
        }
        apr_table_mergen(r->headers_out, "Access-Control-Expose-Headers", RESPONSE_FIELDS);
    }
    return ap_pass_brigade(filter->next, brigade);
}

void users_cors_register(void)
{
    ap_register_output_filter(FILTER, add_fields, NULL, AP_FTYPE_CONTENT_SET + 1);
}

void users_cors_insert(request_rec *r)
{
    const apr_array_header_t *origins = origins_for(r);

    if (origins) {
        ap_add_output_filter(FILTER, (void *)origins, r, r->connection);
    }
}

bool users_cors_is_preflight(const request_rec *r)
{
    const apr_array_header_t *origins = origins_for(r);

    return origins && permitted(r, origins) && apr_table_get(r->headers_in, "Origin") &&
           apr_table_get(r->headers_in, "Access-Control-Request-Method");
}

void users_cors_permit(request_rec *r, const char *allow)
{
    apr_table_setn(r->headers_out, "Access-Control-Allow-Methods", allow);
    apr_table_setn(r->headers_out, "Access-Control-Allow-Headers", REQUEST_FIELDS);
    apr_table_setn(r->headers_out, "Access-Control-Max-Age", MAX_AGE);
}
