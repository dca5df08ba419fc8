#include "api/account.h"

#include "api/draft.h"
#include "auth/access.h"
#include "auth/authenticate.h"
#include "auth/limit.h"
#include "config/settings.h"
#include "core/account.h"
#include "core/scope.h"
#include "http/reply.h"
#include "http/trace.h"

#include <apr_strings.h>
#include <http_log.h>

APLOG_USE_MODULE(users);

static int fail(request_rec *r, const users_admission *admission, users_outcome outcome)
{
    return users_reply_refusal(r, &admission->accept, users_refuse_outcome(r, outcome));
}

static users_refusal refuse_stale(void)
{
    return users_refuse(HTTP_PRECONDITION_FAILED, "the account is in another state");
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
    users_refusal refused = users_judge_accept(admission);

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
    users_judge_version(r, &admission->accept, faults);
    if (faults->nelts) {
        return users_reply_faults(r, &admission->accept, faults);
    }
    if (is_unwanted(admission, tag)) {
        return users_reply_empty(r, HTTP_NOT_MODIFIED, tag);
    }
    return users_reply_document(r, HTTP_OK, principal->document, principal->document_length, tag);
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

/*
 * Leave out what is a fault and the account's own, and judge the rest. *any: there is something of
 * that kind.
 */
static users_outcome leave_out_own(request_rec *r, const users_admission *admission,
                                   users_draft *draft, bool *any)
{
    json_t *account;
    users_outcome outcome =
        users_db_find_account(admission->call, admission->principal.user, &account);

    *any = outcome == USERS_OUTCOME_DONE &&
           users_account_leave_out(draft->json, account, draft->faults);
    if (*any) {
        users_draft_judge(r, admission, draft);
    }
    return outcome;
}

/*
 * What GET showed can be sent back, though a rule may be younger than the account: where there are
 * faults, those of its own values do not count. A change without a fault knows nothing of that.
 */
static users_outcome change_account(request_rec *r, const users_admission *admission,
                                    users_draft *draft, users_change *change)
{
    users_outcome outcome;
    bool again;

    do {
        again = false;
        outcome = users_db_update_account(admission->call, &admission->principal, &draft->wanted,
                                          required_tags(admission), change);
        if (outcome == USERS_OUTCOME_DONE && change->kind == USERS_CHANGE_INVALID) {
            users_draft_add_faults(draft, change->faults);
            outcome = leave_out_own(r, admission, draft, &again);
        }
    } while (outcome == USERS_OUTCOME_DONE && again);
    return outcome;
}

static bool names_address(const users_draft *draft)
{
    return json_object_get(draft->fields, "email");
}

/* Has the database found that the address is another account's? */
static bool is_taken(const json_t *found)
{
    size_t i;
    json_t *fault;

    json_array_foreach(found, i, fault)
    {
        if (strcmp(json_string_value(json_object_get(fault, "field")), "email") == 0 &&
            strcmp(json_string_value(json_object_get(fault, "text")), USERS_TAKEN) == 0) {
            return true;
        }
    }
    return false;
}

/*
 * A change that stores nothing tells whether others have an address: by its fault, or by the lack
 * of one beside another. Judged behind it as well, or many at once could exceed the limit.
 */
static users_refusal judge_probe(request_rec *r, const users_admission *admission,
                                 const users_draft *draft, const json_t *found)
{
    if (!names_address(draft)) {
        return users_pass();
    }
    return is_taken(found) ? users_limit_note_probe(r, admission->principal.user)
                           : users_limit_judge_probe(r, admission->principal.user);
}

static int reply_invalid(request_rec *r, const users_admission *admission, const users_draft *draft,
                         const json_t *found)
{
    users_refusal refused = judge_probe(r, admission, draft, found);

    return refused.status == OK ? users_draft_reply(r, admission, draft)
                                : users_reply_refusal(r, &admission->accept, refused);
}

static int update(request_rec *r, const users_admission *admission)
{
    users_draft draft;
    users_change change;
    users_outcome outcome;
    users_refusal refused = users_draft_read(r, admission, &draft);

    if (refused.status == OK) {
        refused = judge_present(r, admission);
    }
    if (refused.status == OK && names_address(&draft)) {
        refused = users_limit_judge_probe(r, admission->principal.user);
    }
    if (refused.status != OK) {
        return users_reply_refusal(r, &admission->accept, refused);
    }
    outcome = change_account(r, admission, &draft, &change);
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
                                   users_refuse_as(HTTP_FORBIDDEN, USERS_CODE_ACCOUNT_SUSPENDED,
                                                   "the account is suspended"));
    default:
        return reply_invalid(r, admission, &draft, change.faults);
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
        return users_refuse_as(HTTP_CONFLICT, USERS_CODE_ALREADY_REGISTERED,
                               "provider_username is registered already on this provider_server");
    case USERS_CHANGE_REUSED:
        return users_refuse_as(HTTP_UNPROCESSABLE_ENTITY, USERS_CODE_KEY_REUSED,
                               "Idempotency-Key was used before with another request");
    case USERS_CHANGE_REVOKED:
        return users_refuse_as(HTTP_CONFLICT, USERS_CODE_KEY_ENDED,
                               "the account of this Idempotency-Key is suspended, or its "
                               "API credentials were ended: a repeat brings no others");
    default:
        return users_refuse_for_now(
            r, HTTP_CONFLICT, USERS_CODE_KEY_UNDER_WAY,
            "the first request with this Idempotency-Key is still under way", 1);
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

/* Ask for a country where the client names none. False where memory ran out. */
static bool add_country(users_draft *draft, const char *country)
{
    draft->lacks_country = !json_object_get(draft->fields, "country");
    return !draft->lacks_country ||
           json_object_set_new(draft->fields, "country", json_string(country)) == 0;
}

/* Is what the database has found the administrator's fault, not the client's? */
static bool is_misconfigured(request_rec *r, const users_draft *draft, const json_t *found)
{
    size_t i;
    json_t *fault;

    json_array_foreach(found, i, fault)
    {
        const char *field = json_string_value(json_object_get(fault, "field"));

        if (draft->lacks_country && strcmp(field, "country") == 0) {
            users_log_request(r, APLOG_ERR, 0,
                              "UsersDefaultCountry: the database knows no country %s",
                              users_settings_of(r->server)->default_country);
            return true;
        }
    }
    return false;
}

static int register_account(request_rec *r, const users_admission *admission)
{
    const char *secret;
    users_registration registration;
    users_draft draft;
    users_change change;
    users_outcome outcome;
    users_refusal refused = users_draft_read(r, admission, &draft);

    if (refused.status != OK) {
        return users_reply_refusal(r, &admission->accept, refused);
    }
    registration = begin_registration(r, admission, &secret);
    if (!secret || !add_country(&draft, users_settings_of(r->server)->default_country)) {
        return fail(r, admission, USERS_OUTCOME_FAILED);
    }
    outcome = users_db_register_account(admission->call, &registration, &draft.wanted, &change);
    if (outcome != USERS_OUTCOME_DONE) {
        return fail(r, admission, outcome);
    }
    switch (change.kind) {
    case USERS_CHANGE_DONE:
    case USERS_CHANGE_REPEATED:
        return reply_registered(r, admission, &change, registration.name, secret);
    case USERS_CHANGE_INVALID:
        if (is_misconfigured(r, &draft, change.faults)) {
            return fail(r, admission, USERS_OUTCOME_FAILED);
        }
        users_draft_add_faults(&draft, change.faults);
        return users_draft_reply(r, admission, &draft);
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
        return users_access_reply_options(r);
    }
}
