#include "http/reply.h"

#include "core/account.h"
#include "core/credential.h"
#include "core/header.h"
#include "core/json.h"

#include <apr_strings.h>
#include <http_protocol.h>
#include <openssl/evp.h>

#define RETRY_AFTER "1" /* seconds: how soon a lost database is tried again */
#define NOT_SERVED  "the request could not be served"

const char *users_reply_tag(const char *document, apr_size_t length, apr_pool_t *pool)
{
    unsigned char digest[USERS_DIGEST_LENGTH];
    char *tag = apr_palloc(pool, USERS_TAG_LENGTH + 1);

    if (!EVP_Digest(document, length, digest, NULL, EVP_sha256(), NULL)) {
        return NULL;
    }
    ap_bin2hex(digest, USERS_TAG_LENGTH / 2, tag);
    return tag;
}

/* The header fields of every answer. GET's representation may be kept, if it is revalidated. */
static void set_headers(request_rec *r, int status, const char *tag)
{
    bool revalidates =
        r->method_number == M_GET && (status == HTTP_OK || status == HTTP_NOT_MODIFIED);

    r->status = status;
    r->status_line = NULL;
    apr_table_mergen(r->headers_out, "Vary", "Authorization, Accept");
    apr_table_setn(r->headers_out, "Cache-Control", revalidates ? "private, no-cache" : "no-store");
    if (tag) {
        apr_table_setn(r->headers_out, "ETag", apr_pstrcat(r->pool, "\"", tag, "\"", NULL));
    }
}

/*
 * Pass the answer on. content may be NULL; it must live as long as the request, and is
 * copied where a filter still holds it then. Nothing of ours is served in parts: httpd's
 * byterange filter would make them of the answer to a change, too.
 */
static int pass(request_rec *r, const char *content, apr_size_t length)
{
    apr_bucket_alloc_t *allocator = r->connection->bucket_alloc;
    apr_bucket_brigade *brigade = apr_brigade_create(r->pool, allocator);

    if (!r->main) { /* a subrequest has its page's header fields */
        apr_table_unset(r->headers_in, "Range");
    }
    if (content) {
        APR_BRIGADE_INSERT_TAIL(brigade,
                                apr_bucket_pool_create(content, length, r->pool, allocator));
    }
    APR_BRIGADE_INSERT_TAIL(brigade, apr_bucket_eos_create(allocator));
    return ap_pass_brigade(r->output_filters, brigade) == APR_SUCCESS || r->connection->aborted
               ? OK
               : AP_FILTER_ERROR;
}

static int send_content(request_rec *r, int status, const char *type, const char *content,
                        apr_size_t length, const char *tag)
{
    set_headers(r, status, tag);
    ap_set_content_type(r, type);
    ap_set_content_length(r, (apr_off_t)length);
    return pass(r, content, length);
}

int users_reply_document(request_rec *r, int status, const char *json, apr_size_t length,
                         const char *tag)
{
    return send_content(r, status, "application/json", json, length, tag);
}

int users_reply_empty(request_rec *r, int status, const char *tag)
{
    set_headers(r, status, tag);
    return pass(r, NULL, 0);
}

/*
 * JSON that is made for an answer is NULL where memory ran out for any part of it: half an answer
 * is a wrong one. Takes the reference over.
 */
static const char *text_of(json_t *json, apr_pool_t *pool)
{
    const char *text = users_json_text(json, pool);

    json_decref(json);
    return text;
}

json_t *users_reply_append(json_t *array, json_t *value)
{
    if (json_array_append_new(array, value) == 0) {
        return array;
    }
    json_decref(array);
    return NULL;
}

int users_reply_json(request_rec *r, int status, json_t *json)
{
    const char *content = text_of(json, r->pool);

    if (!content) {
        return users_reply_oauth_error(r, HTTP_INTERNAL_SERVER_ERROR, "server_error", NOT_SERVED);
    }
    return send_content(r, status, "application/json", content, strlen(content), NULL);
}

/* A fault without a field is a sentence by itself. */
static const char *sentence_of(const users_fault *fault, apr_pool_t *pool)
{
    return fault->field ? apr_pstrcat(pool, fault->field, " ", fault->text, NULL) : fault->text;
}

/* {"errors": [sentence, …]}, the form that clients in the field read. */
static json_t *plain_errors(const users_fault *faults, int count, apr_pool_t *pool)
{
    json_t *errors = json_array();

    for (int i = 0; i < count; i++) {
        errors = users_reply_append(errors, json_string(sentence_of(&faults[i], pool)));
    }
    return json_pack("{s:o}", "errors", errors);
}

/* RFC 9457; the sentences once more, each with the place that it is about. */
static json_t *problem_details(int status, const users_fault *faults, int count, apr_pool_t *pool)
{
    json_t *errors = json_array();
    apr_array_header_t *sentences = apr_array_make(pool, count, sizeof(const char *));

    for (int i = 0; i < count; i++) {
        const char *sentence = sentence_of(&faults[i], pool);
        const char *pointer = faults[i].pointer;

        APR_ARRAY_PUSH(sentences, const char *) = sentence;
        /* "s*" would leave out what there is no memory for */
        errors = users_reply_append(
            errors, pointer ? json_pack("{s:s, s:s}", "detail", sentence, "pointer", pointer)
                            : json_pack("{s:s}", "detail", sentence));
    }
    /* the status line is the code, a space and the phrase */
    return json_pack("{s:s, s:s, s:i, s:s, s:o}", "type", "about:blank", "title",
                     ap_get_status_line(status) + 4, "status", status, "detail",
                     apr_array_pstrcat(pool, sentences, ';'), "errors", errors);
}

static int send_errors(request_rec *r, int status, const users_fault *faults, int count)
{
    users_accept accept = users_accept_parse(apr_table_get(r->headers_in, "Accept"), r->pool);
    json_t *errors = accept.problem ? problem_details(status, faults, count, r->pool)
                                    : plain_errors(faults, count, r->pool);
    const char *content = text_of(errors, r->pool);

    if (!content) {
        content = "{\"errors\":[\"" NOT_SERVED "\"]}";
        status = HTTP_INTERNAL_SERVER_ERROR;
        accept.problem = false;
    }
    return send_content(r, status, accept.problem ? "application/problem+json" : "application/json",
                        content, strlen(content), NULL);
}

int users_reply_error(request_rec *r, int status, const char *sentence)
{
    users_fault fault = {.text = sentence};

    return send_errors(r, status, &fault, 1);
}

int users_reply_faults(request_rec *r, const apr_array_header_t *faults)
{
    return send_errors(r, HTTP_UNPROCESSABLE_ENTITY, (const users_fault *)faults->elts,
                       faults->nelts);
}

int users_reply_oauth_error(request_rec *r, int status, const char *error, const char *description)
{
    const char *content = apr_pstrcat(r->pool, "{\"error\":\"", error,
                                      "\",\"error_description\":\"", description, "\"}", NULL);

    return send_content(r, status, "application/json", content, strlen(content), NULL);
}

int users_reply_failure(request_rec *r, users_db_status status, bool is_read, const char **sentence)
{
    const char *unavailable = "the service is not available at the moment";

    switch (status) {
    case USERS_DB_INVALID:
        *sentence = "the request body has a number that is out of range";
        return HTTP_BAD_REQUEST;
    case USERS_DB_TIMEOUT:
    case USERS_DB_LATE:
        if (is_read) {
            *sentence = "the database did not answer in time";
            return HTTP_GATEWAY_TIME_OUT;
        }
        break;
    case USERS_DB_UNKNOWN:
        unavailable = "the outcome is not known: the change may have been made, or not";
        break;
    case USERS_DB_BUSY:
    case USERS_DB_UNREACHABLE:
    case USERS_DB_READ_ONLY:
    case USERS_DB_LOST:
    case USERS_DB_CONFLICT:
        break;
    default:
        *sentence = NOT_SERVED;
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    apr_table_setn(r->err_headers_out, "Retry-After", RETRY_AFTER);
    *sentence = unavailable;
    return HTTP_SERVICE_UNAVAILABLE;
}
