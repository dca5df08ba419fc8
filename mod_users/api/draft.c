#include "api/draft.h"

#include "api/note.h"
#include "core/account.h"
#include "core/json.h"
#include "core/request.h"
#include "http/body.h"
#include "http/reply.h"

#include <apr_strings.h>

users_refusal users_judge_accept(const users_admission *admission)
{
    return admission->accept.acceptable
               ? users_pass()
               : users_refuse(HTTP_NOT_ACCEPTABLE,
                              "only application/json and application/problem+json are served");
}

void users_judge_version(request_rec *r, const users_accept *accept, apr_array_header_t *faults)
{
    if (!accept->version_served) {
        apr_table_setn(r->headers_out, "API-Version-Supported", "false");
        users_fault_add(faults, "api_version", "is not supported: 51 to 80 are", NULL);
    }
}

static users_refusal read_body(request_rec *r, bool patch, char **text, apr_size_t *length)
{
    if (!users_body_has_type(r, "application/json") &&
        !(patch && users_body_has_type(r, "application/merge-patch+json"))) {
        apr_table_setn(r->headers_out, patch ? "Accept-Patch" : "Accept-Post",
                       patch ? USERS_ACCEPT_PATCH : USERS_ACCEPT_POST);
        return users_refuse(HTTP_UNSUPPORTED_MEDIA_TYPE,
                            "the request body must be application/json");
    }
    return users_body_read(r, text, length);
}

static bool is_faulty(const users_draft *draft, const char *field)
{
    for (int i = 0; i < draft->faults->nelts; i++) {
        if (strcmp(APR_ARRAY_IDX(draft->faults, i, users_fault).field, field) == 0) {
            return true;
        }
    }
    return false;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/*
 * The names of what a registration gives, in order, with a blank between them: not of the defaults
 * beside that.
 */
static const char *names_of(const users_draft *draft, apr_pool_t *pool)
{
    apr_array_header_t *names = apr_array_make(pool, 16, sizeof(const char *));
    const char *name;
    json_t *value;

    json_object_foreach(draft->fields, name, value)
    {
        if (json_object_get(json_object_get(draft->json, "user"), name) ||
            json_object_get(draft->json, name)) {
            APR_ARRAY_PUSH(names, const char *) = name;
        }
    }
    if (users_account_needs_body(draft->json, USERS_ACCOUNT_CREATE)) {
        APR_ARRAY_PUSH(names, const char *) = "labels";
    }
    qsort(names->elts, (size_t)names->nelts, sizeof(const char *), compare_names);
    return apr_array_pstrcat(pool, names, ' ');
}

void users_draft_judge(request_rec *r, const users_admission *admission, users_draft *draft)
{
    users_account_purpose purpose =
        admission->operation == USERS_UPDATE ? USERS_ACCOUNT_UPDATE : USERS_ACCOUNT_CREATE;

    draft->faults = apr_array_make(r->pool, 2, sizeof(users_fault));
    draft->fields =
        users_account_read(draft->json, purpose, admission->prefer.strict, draft->faults);
    users_json_free_with(r->pool, draft->fields);
    users_judge_version(r, &admission->accept, draft->faults);
    draft->wanted = (users_submission){.fields = draft->fields, .store = draft->faults->nelts == 0};
    if (admission->idempotency_key ||
        (users_account_needs_body(draft->json, purpose) && !is_faulty(draft, "merge_labels"))) {
        draft->wanted.body = draft->text;
    }
    if (draft->wanted.store) {
        draft->wanted.note =
            users_note_write(r, &admission->principal,
                             purpose == USERS_ACCOUNT_CREATE ? names_of(draft, r->pool) : NULL);
    }
}

users_refusal users_draft_read(request_rec *r, const users_admission *admission, users_draft *draft)
{
    const char *sentence = NULL;
    apr_size_t length = 0;
    char *text = NULL;
    users_refusal refused = users_judge_accept(admission);

    if (refused.status == OK) {
        refused = read_body(r, admission->operation == USERS_UPDATE, &text, &length);
    }
    if (refused.status != OK) {
        return refused;
    }
    *draft = (users_draft){.json = users_request_parse(text, length, &sentence), .text = text};
    if (!draft->json) {
        return sentence ? users_refuse_as(HTTP_BAD_REQUEST, USERS_CODE_MALFORMED_BODY, sentence)
                        : users_refuse_outcome(r, USERS_OUTCOME_FAILED);
    }
    users_json_free_with(r->pool, draft->json);
    users_draft_judge(r, admission, draft);
    return refused;
}

/* The database judges the account's labels, and the fault is that of what the client has sent of
 * them. */
static const char *field_of(const users_draft *draft, const char *name, const char **parent)
{
    json_t *user = json_object_get(draft->json, "user");

    *parent = "/user/";
    if (strcmp(name, "merge_labels") != 0 || json_object_size(json_object_get(user, name)) > 0) {
        return name;
    }
    *parent = json_object_size(json_object_get(user, "labels")) > 0 ? "/user/" : "/";
    return "labels";
}

void users_draft_add_faults(users_draft *draft, const json_t *found)
{
    size_t i;
    json_t *fault;

    json_array_foreach(found, i, fault)
    {
        const char *parent;
        const char *field =
            field_of(draft, json_string_value(json_object_get(fault, "field")), &parent);

        if (!is_faulty(draft, field)) { /* the body holds labels that were found faulty before */
            users_fault_add(draft->faults, field, json_string_value(json_object_get(fault, "text")),
                            apr_pstrcat(draft->faults->pool, parent, field, NULL));
        }
    }
}

int users_draft_reply(request_rec *r, const users_admission *admission, const users_draft *draft)
{
    users_fault_sort(draft->faults);
    return users_reply_faults(r, &admission->accept, draft->faults);
}
