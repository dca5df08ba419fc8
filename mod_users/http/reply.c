#include "http/reply.h"

#include "core/credential.h"
#include "core/json.h"
#include "http/trace.h"
#include "http/urls.h"

#include <apr_strings.h>
#include <http_log.h>
#include <http_protocol.h>
#include <http_request.h>
#include <openssl/evp.h>

APLOG_USE_MODULE(users);

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

int users_reply_text(request_rec *r, const char *type, const char *text)
{
    return send_content(r, HTTP_OK, type, text, strlen(text), NULL);
}

int users_reply_empty(request_rec *r, int status, const char *tag)
{
    set_headers(r, status, tag);
    return pass(r, NULL, 0);
}

void users_reply_link(request_rec *r)
{
    const char *url = users_url_of_description(r);

    if (url) {
        apr_table_mergen(r->headers_out, "Link",
                         apr_pstrcat(r->pool, "<", url, ">; rel=\"service-desc\"", NULL));
    }
}

int users_reply_options(request_rec *r, const char *allow, const char *patch, const char *post)
{
    users_reply_link(r);
    apr_table_setn(r->headers_out, "Allow", allow);
    if (patch) {
        apr_table_setn(r->headers_out, "Accept-Patch", patch);
    }
    if (post) {
        apr_table_setn(r->headers_out, "Accept-Post", post);
    }
    return users_reply_empty(r, HTTP_NO_CONTENT, NULL);
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

static int send_oauth_error(request_rec *r, int status, const char *error, const char *description)
{
    const char *content = apr_pstrcat(r->pool, "{\"error\":\"", error,
                                      "\",\"error_description\":\"", description, "\"}", NULL);

    return send_content(r, status, "application/json", content, strlen(content), NULL);
}

int users_reply_json(request_rec *r, int status, json_t *json)
{
    const char *content = text_of(json, r->pool);

    if (!content) {
        return send_oauth_error(r, HTTP_INTERNAL_SERVER_ERROR, "server_error", USERS_NOT_SERVED);
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

/* RFC 9457; the sentences once more, each with the place that it is about, and its code. */
static json_t *problem_details(int status, const users_fault *faults, int count, apr_pool_t *pool)
{
    json_t *errors = json_array();
    apr_array_header_t *sentences = apr_array_make(pool, count, sizeof(const char *));

    for (int i = 0; i < count; i++) {
        const char *sentence = sentence_of(&faults[i], pool);
        const char *pointer = faults[i].pointer;

        APR_ARRAY_PUSH(sentences, const char *) = sentence;
        /* "s*" would leave out what there is no memory for */
        const char *code =
            users_code_name(faults[i].code ? faults[i].code : users_code_of_fault(faults[i].text));

        errors = users_reply_append(
            errors, pointer ? json_pack("{s:s, s:s, s:s}", "detail", sentence, "pointer", pointer,
                                        "code", code)
                            : json_pack("{s:s, s:s}", "detail", sentence, "code", code));
    }
    /* the status line is the code, a space and the phrase */
    return json_pack("{s:s, s:s, s:i, s:s, s:o}", "type", "about:blank", "title",
                     ap_get_status_line(status) + 4, "status", status, "detail",
                     apr_array_pstrcat(pool, sentences, ';'), "errors", errors);
}

/* The header fields of a refusal in whose place the answer is a 500. */
static void remove_headers(request_rec *r)
{
    apr_table_unset(r->err_headers_out, "Allow");
    apr_table_unset(r->err_headers_out, "Retry-After");
    apr_table_unset(r->err_headers_out, "WWW-Authenticate");
}

static int send_errors(request_rec *r, const users_accept *accept, int status,
                       const users_fault *faults, int count)
{
    bool problem = accept->problem;
    json_t *errors = problem ? problem_details(status, faults, count, r->pool)
                             : plain_errors(faults, count, r->pool);
    const char *content = text_of(errors, r->pool);

    if (!content) {
        remove_headers(r);
        content = "{\"errors\":[\"" USERS_NOT_SERVED "\"]}";
        status = HTTP_INTERNAL_SERVER_ERROR;
        problem = false;
    }
    return send_content(r, status, problem ? "application/problem+json" : "application/json",
                        content, strlen(content), NULL);
}

int users_reply_refusal(request_rec *r, const users_accept *accept, users_refusal refused)
{
    users_fault fault = {.text = refused.sentence,
                         .code =
                             refused.code ? refused.code : users_code_of_status(refused.status)};

    users_log_request(r, APLOG_TRACE2, 0, "refused with %d: %s", refused.status,
                      refused.sentence ? refused.sentence : "");
    if (refused.status == AP_FILTER_ERROR) {
        return AP_FILTER_ERROR; /* a filter has answered already */
    }
    if (refused.error) {
        return send_oauth_error(r, refused.status, refused.error, refused.sentence);
    }
    return send_errors(r, accept, refused.status, &fault, 1);
}

int users_reply_early(int status)
{
    return status == OK ? DONE : AP_FILTER_ERROR;
}

int users_reply_refusal_early(request_rec *r, const users_accept *accept, users_refusal refused)
{
    if (r->main) {
        return refused.status;
    }
    ap_run_insert_filter(r); /* httpd does this only for handlers */
    return users_reply_early(users_reply_refusal(r, accept, refused));
}

int users_reply_faults(request_rec *r, const users_accept *accept, const apr_array_header_t *faults)
{
    users_log_request(r, APLOG_TRACE2, 0, "refused with 422: %d faults, the first is of %s",
                      faults->nelts, APR_ARRAY_IDX(faults, 0, users_fault).field);
    return send_errors(r, accept, HTTP_UNPROCESSABLE_ENTITY, (const users_fault *)faults->elts,
                       faults->nelts);
}
