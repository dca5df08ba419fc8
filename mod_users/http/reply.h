/*
 * Answers: JSON, errors, headers, entity tags. Every function writes the whole answer and
 * returns OK, or httpd's AP_FILTER_ERROR where the client has gone.
 */
#ifndef USERS_HTTP_REPLY_H
#define USERS_HTTP_REPLY_H

#include "core/accept.h"
#include "core/account.h"
#include "http/refusal.h"

#include <apr_tables.h>
#include <jansson.h>
#include <stdbool.h>

#define USERS_TAG_LENGTH 32 /* hexadecimal digits of an entity tag */

/*
 * The opaque part of the strong entity tag of a document, which must be the one that
 * users_api.entity_tag() gives: the first half of its SHA-256 digest. NULL where libcrypto fails.
 */
const char *users_reply_tag(const char *document, apr_size_t length, apr_pool_t *pool);

/* A document; json must live as long as the request. tag: its entity tag, or NULL for none. */
int users_reply_document(request_rec *r, int status, const char *json, apr_size_t length,
                         const char *tag);

/* Plain text of this type, which must live as long as the request. */
int users_reply_text(request_rec *r, const char *type, const char *text);

/*
 * A document of an OAuth endpoint that is made for this answer: takes the reference over. NULL, as
 * where memory ran out for a part of it, is a 500.
 */
int users_reply_json(request_rec *r, int status, json_t *json);

/*
 * Append to an array, both references being taken over. Returns the array; NULL where memory ran
 * out, for this or anything before it.
 */
json_t *users_reply_append(json_t *array, json_t *value);

/* An answer without content: 204 or 304. */
int users_reply_empty(request_rec *r, int status, const char *tag);

/* Name the description of the API (RFC 8631 section 4.1) in Link, where this server has it. */
void users_reply_link(request_rec *r);

/*
 * What OPTIONS answers: 204 with Allow, Accept-Patch, Accept-Post and Link. allow, patch and post
 * are their values; NULL: the endpoint takes none.
 */
int users_reply_options(request_rec *r, const char *allow, const char *patch, const char *post);

/*
 * A refusal; accept says in which form, where it is not an OAuth endpoint's: {"error",
 * "error_description"} (RFC 6749 section 5.2, whose characters both keep to).
 */
int users_reply_refusal(request_rec *r, const users_accept *accept, users_refusal refused);

/*
 * The same from a hook before the handler. Returns what the hook returns: DONE; or the status,
 * where r is a part of another page, which has an answer of its own.
 */
int users_reply_refusal_early(request_rec *r, const users_accept *accept, users_refusal refused);

/* What a hook before the handler returns, when an answer that it made ended with this status. */
int users_reply_early(int status);

/* A 422 with a sentence for each fault (users_fault). */
int users_reply_faults(request_rec *r, const users_accept *accept,
                       const apr_array_header_t *faults);

#endif
