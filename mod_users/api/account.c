#include "api/account.h"

#include "auth/access.h"
#include "config/settings.h"
#include "core/account.h"
#include "core/request.h"
#include "core/scope.h"
#include "http/body.h"
#include "http/reply.h"

#include <apr_strings.h>
#include <util_filter.h>

#define ACCEPT_PATCH "application/json, application/merge-patch+json"
#define ACCEPT_POST  "application/json"

static int fail(request_rec *r, const users_admission *admission, users_db_status failed)
{
    return users_reply_refusal(r, &admission->accept, users_refuse_failure(r, failed, false));
}

static users_refusal refuse_stale(void)
{
    return users_refuse(HTTP_PRECONDITION_FAILED, "the account is in another state");
}

static users_refusal judge_accept(const users_admission *admission)
{
    return admission->accept.acceptable
               ? users_pass()
               : users_refuse(HTTP_NOT_ACCEPTABLE,
                              "only application/json and application/problem+json are served");
}

/* A version that we do not serve is one more fault of the request. */
static void judge_version(request_rec *r, const users_accept *accept, apr_array_header_t *faults)
{
    if (!accept->version_served) {
        apr_table_setn(r->headers_out, "API-Version-Supported", "false");
        users_fault_add(faults, "api_version", "is not supported: 51 to 80 are", NULL);
    }
}

/* RFC 9110 section 13.2.2, for a resource without a modification date. */
static bool is_stale(const users_admission *admission, const char *tag)
{
    const users_entity_tags *match = admission->if_match;

    return match && !match->any && !users_entity_tags_match(match, tag, false);
}

static bool is_unwanted(const users_admission *admission, const char *tag)
{
    const users_entity_tags *none = admission->if_none_match;

    return none && (none->any || users_entity_tags_match(none, tag, true));
}

static const char *tag_of(request_rec *r, const users_principal *principal)
{
    return users_reply_tag(principal->document, principal->document_length, r->pool);
}

/* What stands between a GET and its document, whose tag this is. */
static users_refusal judge_show(request_rec *r, const users_admission *admission, const char *tag)
{
    users_refusal refused = judge_accept(admission);

    if (refused.status != OK) {
        return refused;
    }
    if (!tag) {
        return users_refuse_failure(r, USERS_DB_FAILED, true);
    }
    return is_stale(admission, tag) ? refuse_stale() : users_pass();
}

static int show(request_rec *r, const users_admission *admission)
{
    const users_principal *principal = &admission->principal;
    const char *tag = tag_of(r, principal);
    apr_array_header_t *faults = apr_array_make(r->pool, 0, sizeof(users_fault));
    users_refusal refused = judge_show(r, admission, tag);

    if (refused.status != OK) {
        return users_reply_refusal(r, &admission->accept, refused);
    }
    judge_version(r, &admission->accept, faults);
    if (faults->nelts) {
        return users_reply_faults(r, &admission->accept, faults);
    }
    if (is_unwanted(admission, tag)) {
        return users_reply_empty(r, HTTP_NOT_MODIFIED, tag);
    }
    return users_reply_document(r, HTTP_OK, principal->document, principal->document_length, tag);
}

static users_refusal read_body(request_rec *r, bool patch, char **text, apr_size_t *length)
{
    if (!users_body_has_type(r, "application/json") &&
        !(patch && users_body_has_type(r, "application/merge-patch+json"))) {
        apr_table_setn(r->headers_out, patch ? "Accept-Patch" : "Accept-Post",
                       patch ? ACCEPT_PATCH : ACCEPT_POST);
        return users_refuse(HTTP_UNSUPPORTED_MEDIA_TYPE,
                            "the request body must be application/json");
    }
    return users_body_read(r, text, length);
}

/* What a client wants stored, and what is wrong with it. All of it lives as long as the request. */
typedef struct {
    char *text;                 /* the body as received */
    json_t *fields;             /* those of its fields that are good, normalised */
    apr_array_header_t *faults; /* users_fault */
} submission;

static users_refusal read_submission(request_rec *r, const users_admission *admission,
                                     submission *s)
{
    bool patch = admission->operation == USERS_UPDATE;
    const char *sentence = NULL;
    apr_size_t length = 0;
    json_t *json = NULL;
    users_refusal refused = judge_accept(admission);

    if (refused.status == OK) {
        refused = read_body(r, patch, &s->text, &length);
    }
    if (refused.status != OK) {
        return refused;
    }
    json = users_request_parse(s->text, length, &sentence);
    if (!json) {
        return sentence ? users_refuse(HTTP_BAD_REQUEST, sentence)
                        : users_refuse_failure(r, USERS_DB_FAILED, false);
    }
    s->faults = apr_array_make(r->pool, 2, sizeof(users_fault));
    s->fields = users_account_read(json, patch ? USERS_ACCOUNT_UPDATE : USERS_ACCOUNT_CREATE,
                                   admission->prefer.strict, s->faults);
    apr_pool_cleanup_register(r->pool, s->fields, users_store_release_json, apr_pool_cleanup_null);
    json_decref(json);
    judge_version(r, &admission->accept, s->faults);
    return refused;
}

/* The faults that only the database could find join those that are known already. */
static int reply_faults(request_rec *r, const users_admission *admission,
                        apr_array_header_t *faults, const json_t *found)
{
    size_t i;
    json_t *fault;

    json_array_foreach(found, i, fault)
    {
        const char *field = json_string_value(json_object_get(fault, "field"));

        users_fault_add(faults, field, json_string_value(json_object_get(fault, "text")),
                        apr_pstrcat(r->pool, "/user/", field, NULL));
    }
    users_fault_sort(faults);
    return users_reply_faults(r, &admission->accept, faults);
}

/* The preferences that were honoured (RFC 7240 section 3). */
static void set_preferences(request_rec *r, const users_prefer *prefer, bool minimal)
{
    if (prefer->strict) {
        apr_table_mergen(r->headers_out, "Preference-Applied", "handling=strict");
    }
    if (minimal) {
        apr_table_mergen(r->headers_out, "Preference-Applied", "return=minimal");
    }
}

static int reply_updated(request_rec *r, const users_admission *admission,
                         const users_change *change)
{
    bool readable = users_access_permits(&admission->principal, USERS_SCOPE_READ);
    const char *tag = /* without one, what was made is still told */
        readable ? users_reply_tag(change->document, change->document_length, r->pool) : NULL;

    set_preferences(r, &admission->prefer, admission->prefer.minimal);
    if (admission->prefer.minimal) {
        return users_reply_empty(r, HTTP_NO_CONTENT, tag);
    }
    if (!readable) {
        return users_reply_document(r, HTTP_OK, "{}", 2, NULL);
    }
    return users_reply_document(r, HTTP_OK, change->document, change->document_length, tag);
}

/* The tags of which the database must find one present; NULL: no condition. */
static const apr_array_header_t *required_tags(const users_admission *admission)
{
    const users_entity_tags *match = admission->if_match;

    return match && !match->any ? match->tags : NULL;
}

/* If-None-Match on a change; If-Match is judged with the change, in one step. */
static users_refusal judge_present(request_rec *r, const users_admission *admission)
{
    const char *tag = admission->if_none_match ? tag_of(r, &admission->principal) : "";

    if (!tag) {
        return users_refuse_failure(r, USERS_DB_FAILED, false);
    }
    return is_unwanted(admission, tag) ? refuse_stale() : users_pass();
}

static int update(request_rec *r, const users_admission *admission)
{
    submission wanted;
    users_change change;
    users_db_status status;
    users_refusal refused = read_submission(r, admission, &wanted);

    if (refused.status == OK) {
        refused = judge_present(r, admission);
    }
    if (refused.status != OK) {
        return users_reply_refusal(r, &admission->accept, refused);
    }
    status = users_store_update(r, admission->principal.user, wanted.fields, wanted.text,
                                required_tags(admission), wanted.faults->nelts == 0, &change);
    if (status != USERS_DB_OK) {
        return fail(r, admission, status);
    }
    switch (change.outcome) {
    case USERS_CHANGE_DONE:
        return reply_updated(r, admission, &change);
    case USERS_CHANGE_STALE:
        return users_reply_refusal(r, &admission->accept, refuse_stale());
    case USERS_CHANGE_ABSENT:
        return users_reply_refusal(r, &admission->accept,
                                   users_refuse(HTTP_FORBIDDEN, "the account is suspended"));
    default:
        return reply_faults(r, admission, wanted.faults, change.faults);
    }
}

/* The account that the database made, with the secret that it has never seen. */
static int reply_registered(request_rec *r, const users_admission *admission,
                            const users_change *change, const char *name, const char *secret)
{
    const char *document = apr_psprintf(
        r->pool, "{\"user\":%.*s,\"api\":{\"username\":\"%s\",\"password\":\"%s\"},\"labels\":%s}}",
        (int)change->document_length - 1, change->document, name, secret, change->labels);

    set_preferences(r, &admission->prefer, false);
    return users_reply_document(r, HTTP_CREATED, document, strlen(document), NULL);
}

/* Why a registration made no account, though nothing is wrong with its fields. */
static users_refusal refuse_registration(request_rec *r, users_outcome outcome)
{
    switch (outcome) {
    case USERS_CHANGE_DUPLICATE:
        return users_refuse(HTTP_CONFLICT,
                            "provider_username is registered already on this provider_server");
    case USERS_CHANGE_REUSED:
        return users_refuse(HTTP_UNPROCESSABLE_ENTITY,
                            "Idempotency-Key was used before with another request");
    default:
        return users_refuse_for_now(
            r, HTTP_CONFLICT, "the first request with this Idempotency-Key is still under way", 1);
    }
}

static int register_account(request_rec *r, const users_admission *admission)
{
    const char *name;
    const char *secret;
    unsigned char digest[USERS_DIGEST_LENGTH];
    submission wanted;
    users_change change;
    users_db_status status;
    users_refusal refused = read_submission(r, admission, &wanted);

    if (refused.status != OK) {
        return users_reply_refusal(r, &admission->accept, refused);
    }
    name = users_credential_generate(USERS_NAME_OCTETS, r->pool);
    secret = users_credential_generate(USERS_SECRET_OCTETS, r->pool);
    if (!name || !secret || !users_credential_digest(secret, digest)) {
        return fail(r, admission, USERS_DB_FAILED);
    }
    status = users_store_register(r, admission->principal.application, wanted.fields, wanted.text,
                                  admission->idempotency_key, name, digest,
                                  wanted.faults->nelts == 0, &change);
    if (status != USERS_DB_OK) {
        return fail(r, admission, status);
    }
    switch (change.outcome) {
    case USERS_CHANGE_DONE:
    case USERS_CHANGE_REPEATED:
        return reply_registered(r, admission, &change, name, secret);
    case USERS_CHANGE_INVALID:
        return reply_faults(r, admission, wanted.faults, change.faults);
    default:
        return users_reply_refusal(r, &admission->accept, refuse_registration(r, change.outcome));
    }
}

int users_account_run(request_rec *r)
{
    const users_admission *admission;

    if (!r->handler || strcmp(r->handler, USERS_HANDLER) != 0) {
        return DECLINED;
    }
    admission = users_access_admission(r);
    if (!admission) {
        return users_access_refuse(r);
    }
    switch (admission->operation) {
    case USERS_SHOW:
        return show(r, admission);
    case USERS_UPDATE:
        return update(r, admission);
    case USERS_REGISTER:
        return register_account(r, admission);
    default:
        return users_reply_options(r, users_access_allow(r), ACCEPT_PATCH, ACCEPT_POST);
    }
}
