#include "http/body.h"

#include "config/settings.h"

#include <http_core.h>
#include <http_protocol.h>
#include <util_filter.h>

bool users_body_has_type(const request_rec *r, const char *type)
{
    const char *value = apr_table_get(r->headers_in, "Content-Type");
    apr_size_t length = strlen(type);

    return value && strncasecmp(value, type, length) == 0 &&
           value[length + strspn(value + length, " \t")] == (strchr(value, ';') ? ';' : '\0');
}

static users_refusal refuse_size(void)
{
    return users_refuse(HTTP_REQUEST_ENTITY_TOO_LARGE, "the request body is too large");
}

static users_refusal refuse_reading(int status)
{
    return users_refuse(status, "the request body could not be read");
}

/*
 * What is known to be wrong before any of it is read. Beyond httpd's own limit, which a body in
 * chunks meets only as it is read, httpd would answer by itself.
 */
static users_refusal judge_header(request_rec *r, int limit)
{
    apr_off_t httpds = ap_get_limit_req_body(r); /* 0: none */
    const char *encoding = apr_table_get(r->headers_in, "Content-Encoding");
    const char *declared = apr_table_get(r->headers_in, "Content-Length");
    apr_off_t length;

    if (encoding && strcasecmp(encoding, "identity") != 0) {
        apr_table_setn(r->headers_out, "Accept-Encoding", "identity");
        return users_refuse_as(HTTP_UNSUPPORTED_MEDIA_TYPE, USERS_CODE_UNSUPPORTED_ENCODING,
                               "the request body must not have a Content-Encoding");
    }
    if (declared && ap_parse_strict_length(&length, declared) &&
        (length > limit || (httpds > 0 && length > httpds))) {
        return refuse_size();
    }
    return users_pass();
}

static users_refusal collect(request_rec *r, int limit, apr_bucket_brigade *whole, apr_off_t *size)
{
    apr_bucket_brigade *part = apr_brigade_create(r->pool, r->connection->bucket_alloc);
    apr_off_t more = 0;

    do {
        apr_status_t status =
            ap_get_brigade(r->input_filters, part, AP_MODE_READBYTES, APR_BLOCK_READ, limit + 1);

        if (status == APR_SUCCESS && APR_BRIGADE_EMPTY(part)) {
            status = APR_EGENERAL; /* no filter should; waiting for more could take for ever */
        }
        if (status != APR_SUCCESS) {
            return refuse_reading(ap_map_http_request_error(status, HTTP_BAD_REQUEST));
        }
        if (apr_brigade_length(part, 1, &more) != APR_SUCCESS ||
            ap_save_brigade(NULL, &whole, &part, r->pool) != APR_SUCCESS) {
            return refuse_reading(HTTP_INTERNAL_SERVER_ERROR);
        }
        *size += more;
        if (*size > limit) {
            return refuse_size();
        }
    } while (!APR_BUCKET_IS_EOS(APR_BRIGADE_LAST(whole)));
    return users_pass();
}

users_refusal users_body_read(request_rec *r, char **text, apr_size_t *length)
{
    int limit = users_settings_of(r->server)->max_body;
    apr_bucket_brigade *whole = apr_brigade_create(r->pool, r->connection->bucket_alloc);
    apr_off_t size = 0;
    users_refusal refused = judge_header(r, limit);

    if (refused.status == OK) {
        refused = collect(r, limit, whole, &size);
    }
    if (refused.status == OK) {
        *length = (apr_size_t)size;
        *text = apr_palloc(r->pool, *length + 1);
        if (apr_brigade_flatten(whole, *text, length) != APR_SUCCESS) {
            refused = refuse_reading(HTTP_INTERNAL_SERVER_ERROR);
        }
        (*text)[*length] = '\0';
    }
    apr_brigade_destroy(whole);
    return refused;
}
