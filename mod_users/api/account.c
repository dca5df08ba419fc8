#include "api/account.h"

#include "auth/access.h"
#include "auth/authenticate.h"
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

static int fail(request_rec *r, const users_admission *admission, users_outcome outcome)
{
    return users_reply_refusal(r, &admission->accept, users_refuse_outcome(r, outcome));
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
        return users_refuse_outcome(r, USERS_OUTCOME_FAILED);
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

static apr_status_t release_json(void *json)
{
    json_decref(json);
    return APR_SUCCESS;
}

/* faults: users_fault, of what is wrong with it. All of it lives as long as the request. */
static users_refusal read_submission(request_rec *r, const users_admission *admission,
                                     users_submission *wanted, apr_array_header_t **faults)
{
    bool patch = admission->operation == USERS_UPDATE;
    const char *sentence = NULL;
    apr_size_t length = 0;
    char *text = NULL;
    json_t *json = NULL;
    json_t *fields;
    users_refusal refused = judge_accept(admission);

    *faults = apr_array_make(r->pool, 2, sizeof(users_fault));
    if (refused.status == OK) {
        refused = read_body(r, patch, &text, &length);
    }
    if (refused.status != OK) {
        return refused;
    }
    json = users_request_parse(text, length, &sentence);
    if (!json) {
        return sentence ? users_refuse(HTTP_BAD_REQUEST, sentence)
                        : users_refuse_outcome(r, USERS_OUTCOME_FAILED);
    }
    fields = users_account_read(json, patch ? USERS_ACCOUNT_UPDATE : USERS_ACCOUNT_CREATE,
                                admission->prefer.strict, *faults);
    apr_pool_cleanup_register(r->pool, fields, release_json, apr_pool_cleanup_null);
    judge_version(r, &admission->accept, *faults);
    *wanted = (users_submission){.fields = fields, .store = (*faults)->nelts == 0};
    if (admission->idempotency_key || users_account_needs_body(json)) {
        wanted->body = text;
    }
    json_decref(json);
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
    const char *tag = /* without one the answer is still right */
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
        return users_refuse_outcome(r, USERS_OUTCOME_FAILED);
    }
    return is_unwanted(admission, tag) ? refuse_stale() : users_pass();
}

static int update(request_rec *r, const users_admission *admission)
{
    users_submission wanted;
    apr_array_header_t *faults;
    users_change change;
    users_outcome outcome;
    users_refusal refused = read_submission(r, admission, &wanted, &faults);

    if (refused.status == OK) {
        refused = judge_present(r, admission);
    }
    if (refused.status != OK) {
        return users_reply_refusal(r, &admission->accept, refused);
    }
    outcome = users_db_update_account(admission->call, &admission->principal, &wanted,
                                      required_tags(admission), &change);
    if (outcome != USERS_OUTCOME_DONE) {
        return fail(r, admission, outcome);
    }
    switch (change.kind) {
    case USERS_CHANGE_DONE:
        return reply_updated(r, admission, &change);
    case USERS_CHANGE_STALE:
        return users_reply_refusal(r, &admission->accept, refuse_stale());
    case USERS_CHANGE_ENDED:
        return users_reply_refusal(r, &admission->accept,
                                   users_authenticate_ended(r, &admission->principal));
    case USERS_CHANGE_ABSENT:
        return users_reply_refusal(r, &admission->accept,
                                   users_refuse(HTTP_FORBIDDEN, "the account is suspended"));
    default:
        return reply_faults(r, admission, faults, change.faults);
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
static users_refusal refuse_registration(request_rec *r, users_change_kind kind)
{
    switch (kind) {
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

/* New API credentials, and what the settings say of new accounts. *secret: NULL where that fails.
 */
static users_registration begin_registration(request_rec *r, const users_admission *admission,
                                             const char **secret)
{
    const users_settings *settings = users_settings_of(r->server);
    users_registration registration = {
        .application = admission->principal.application,
        .proof = admission->principal.proof,
        .idempotency_key = admission->idempotency_key,
        .name = users_credential_generate(USERS_NAME_OCTETS, r->pool),
        .default_currency = settings->default_currency,
        .default_locale = settings->default_locale,
        .host_name = settings->host_name,
        .refuses_duplicates = settings->duplicates == USERS_DUPLICATES_CONFLICT};

    *secret = users_credential_generate(USERS_SECRET_OCTETS, r->pool);
    if (!registration.name || !*secret || !users_credential_digest(*secret, registration.digest)) {
        *secret = NULL;
    }
    return registration;
}

static int register_account(request_rec *r, const users_admission *admission)
{
    const char *secret;
    users_registration registration;
    users_submission wanted;
    apr_array_header_t *faults;
    users_change change;
    users_outcome outcome;
    users_refusal refused = read_submission(r, admission, &wanted, &faults);

    if (refused.status != OK) {
        return users_reply_refusal(r, &admission->accept, refused);
    }
    registration = begin_registration(r, admission, &secret);
    if (!secret) {
        return fail(r, admission, USERS_OUTCOME_FAILED);
    }
    outcome = users_db_register_account(admission->call, &registration, &wanted, &change);
    if (outcome != USERS_OUTCOME_DONE) {
        return fail(r, admission, outcome);
    }
    switch (change.kind) {
    case USERS_CHANGE_DONE:
    case USERS_CHANGE_REPEATED:
        return reply_registered(r, admission, &change, registration.name, secret);
    case USERS_CHANGE_INVALID:
        return reply_faults(r, admission, faults, change.faults);
    case USERS_CHANGE_ENDED:
        return users_reply_refusal(r, &admission->accept,
                                   users_authenticate_ended(r, &admission->principal));
    default:
        return users_reply_refusal(r, &admission->accept, refuse_registration(r, change.kind));
    }
}

int users_account_run(request_rec *r)
{
    int answer;
    const users_admission *admission = users_access_enter(r, USERS_HANDLER, &answer);

    if (!admission) {
        return answer;
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
