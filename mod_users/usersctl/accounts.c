#include "usersctl/accounts.h"

#include "core/account.h"
#include "core/field.h"
#include "core/json.h"
#include "core/request.h"
#include "usersctl/actions.h"
#include "usersctl/database.h"
#include "usersctl/stretches.h"

#include <apr_strings.h>
#include <apr_tables.h>
#include <string.h>

#define LABELS "merge_labels"

/* Fields */

typedef enum { ANY_TIME, CLEARABLE, NEW_PAIR } occasion;

/* What administrators set beside what owners do. */
static const struct {
    const char *name;
    users_rule *read;
    occasion when; /* CLEARABLE: may be empty; NEW_PAIR: of a provider's user, with a new account */
} fields[] = {
    {"application", users_read_name, ANY_TIME},
    {"external_id", users_read_name, CLEARABLE},
    {"group", users_read_name, ANY_TIME},
    {"plan", users_read_name, ANY_TIME},
    {"timezone", users_read_name, ANY_TIME},
    {"unprocessed_usage", users_read_name, ANY_TIME}, /* a decimal number, says the database */
    {"vat", users_read_text, CLEARABLE},
    {"provider", users_read_provider, NEW_PAIR},
    {"provider_server", users_read_name, NEW_PAIR},
    {"provider_username", users_read_name, NEW_PAIR},
};
#define FIELDS (sizeof(fields) / sizeof(*fields))

typedef struct {
    users_invocation *invocation;
    bool new;
    apr_array_header_t *faults; /* users_fault */
    json_t *good;
} judgement;

/* A field that was given: an empty one is null. The reference is new; NULL: it was not given. */
static json_t *given(const judgement *j, const char *name)
{
    json_t *value = json_object_get(j->invocation->fields, name);

    return value && json_string_length(value) == 0 ? json_null() : json_incref(value);
}

static void add_fault(const judgement *j, const char *name, const char *text)
{
    users_fault_add(j->faults, name, text, NULL);
}

/* The owner's fields, by the rules of PATCH; NULL where memory ran out. */
static json_t *judge_owners(const judgement *j)
{
    json_t *user = json_object();
    json_t *body = json_pack("{s:o}", "user", user);
    json_t *good = NULL;
    const char *name;
    json_t *value;
    bool complete = body != NULL;

    json_object_foreach(j->invocation->fields, name, value)
    {
        if (users_account_is_owners(name) && strcmp(name, LABELS) != 0) {
            complete = complete && json_object_set_new(user, name, given(j, name)) == 0;
        }
    }
    if (complete) {
        good = users_account_read(body, USERS_ACCOUNT_UPDATE, false, j->faults);
    }
    json_decref(body);
    return good;
}

/* The labels' numbers may have more digits than a C double: the database gets them as they are. */
static void judge_labels(const judgement *j)
{
    char *text = apr_pstrdup(j->invocation->pool,
                             json_string_value(json_object_get(j->invocation->fields, LABELS)));
    const char *error;
    json_t *labels = text ? users_request_load(text, strlen(text), &error) : NULL;

    if (text && !json_is_object(labels)) {
        add_fault(j, LABELS, "must be an object in JSON");
    }
    json_decref(labels);
    j->invocation->values[USERS_ARG_LABELS] = text;
}

/* Is one of a provider's user given? Then the others must be, too. */
static bool has_pair(const judgement *j)
{
    return json_object_get(j->invocation->fields, "provider") ||
           json_object_get(j->invocation->fields, "provider_server") ||
           json_object_get(j->invocation->fields, "provider_username");
}

/* The administrators' fields. False where memory ran out. */
static bool judge_ours(const judgement *j)
{
    bool pair = j->new &&has_pair(j);
    bool complete = true;

    for (size_t i = 0; i < FIELDS && complete; i++) {
        json_t *value = given(j, fields[i].name);
        const char *fault = NULL;
        json_t *good = value;

        if (!value && !(pair && fields[i].when == NEW_PAIR)) {
            continue;
        }
        if (!json_is_null(value) || fields[i].when != CLEARABLE) {
            good = fields[i].read(NULL, value ? value : json_null(), false, &fault);
            json_decref(value);
        }
        if (fault) {
            add_fault(j, fields[i].name, fault);
        } else {
            complete = json_object_set_new(j->good, fields[i].name, good) == 0;
        }
    }
    return complete;
}

static bool is_known(const judgement *j, const char *name)
{
    for (size_t i = 0; i < FIELDS; i++) {
        if (strcmp(fields[i].name, name) == 0) {
            return j->new || fields[i].when != NEW_PAIR;
        }
    }
    return users_account_is_owners(name);
}

static void judge_names(const judgement *j)
{
    static const char *const required[] = {"fname", "lname", "email"};
    const char *name;
    json_t *value;

    json_object_foreach(j->invocation->fields, name, value)
    {
        if (!is_known(j, name)) {
            add_fault(j, name, j->new ? "is not a field" : "is not a field that can be changed");
        }
    }
    for (size_t i = 0; j->new &&i < sizeof(required) / sizeof(*required); i++) {
        if (!json_object_get(j->invocation->fields, required[i])) {
            add_fault(j, required[i], USERS_CANT_BE_BLANK);
        }
    }
}

static users_exit complain_of_faults(const users_invocation *invocation)
{
    const char *all = "";

    users_fault_sort(invocation->faults);
    for (int i = 0; i < invocation->faults->nelts; i++) {
        const users_fault *fault = &APR_ARRAY_IDX(invocation->faults, i, users_fault);

        all =
            apr_pstrcat(invocation->pool, all, i ? "; " : "", fault->field, " ", fault->text, NULL);
    }
    return users_output_complain(USERS_EXIT_USAGE, "%s", all);
}

static users_exit judge(users_invocation *invocation, bool new)
{
    judgement j = {.invocation = invocation,
                   .new = new,
                   .faults = apr_array_make(invocation->pool, 4, sizeof(users_fault))};
    const char *text = NULL;

    j.good = judge_owners(&j);
    users_json_free_with(invocation->pool, j.good);
    judge_labels(&j);
    if (j.good && judge_ours(&j)) {
        text = users_json_text(j.good, invocation->pool);
    }
    if (!text) {
        return users_output_complain(USERS_EXIT_FAILED, "no memory");
    }
    judge_names(&j);
    invocation->values[USERS_ARG_FIELDS] = text;
    invocation->faults = j.faults;
    return USERS_EXIT_DONE;
}

users_exit users_accounts_judge_new(users_invocation *invocation)
{
    return judge(invocation, true);
}

users_exit users_accounts_judge_change(users_invocation *invocation)
{
    return judge(invocation, false);
}

users_exit users_accounts_store(users_invocation *invocation)
{
    PGresult *found;
    users_exit status;

    if (invocation->faults->nelts == 0) {
        return users_action_change(invocation);
    }
    users_database_hide_parameters(invocation->db);
    status = users_database_call(invocation->db, "account_faults",
                                 &invocation->values[USERS_ARG_FIELDS], 1, false, &found);
    if (status != USERS_EXIT_DONE) {
        return status;
    }
    for (int row = 0; row < PQntuples(found); row++) {
        users_fault_add(invocation->faults,
                        apr_pstrdup(invocation->pool, PQgetvalue(found, row, 0)),
                        apr_pstrdup(invocation->pool, PQgetvalue(found, row, 1)), NULL);
    }
    PQclear(found);
    return complain_of_faults(invocation);
}

/* Lists */

users_exit users_accounts_list(users_invocation *invocation)
{
    static const users_filter filters[] = {
        {USERS_ARG_APPLICATION, "application"},
        {USERS_ARG_PLAN, "plan"},
        {USERS_ARG_GROUP, "group"},
        {USERS_ARG_COUNTRY, "country"},
        {USERS_ARG_DOMAIN, "domain"},
        {USERS_ARG_CREATED_SINCE, "created_since"},
        {USERS_ARG_SUSPENDED, "suspended"},
        {USERS_ARG_NONE, NULL},
    };

    return users_stretches_list(invocation, "next_users", "list_users", filters);
}

/* The end of an account, and what there is of it */

users_exit users_accounts_remove(users_invocation *invocation)
{
    bool really = invocation->values[USERS_ARG_YES] != NULL;
    users_exit status;

    invocation->values[USERS_ARG_YES] = really ? "true" : "false";
    status = users_action_change(invocation);
    return status == USERS_EXIT_DONE && !really
               ? users_output_complain(USERS_EXIT_REFUSED,
                                       "nothing is removed: --yes erases what this says")
               : status;
}

users_exit users_accounts_export(users_invocation *invocation)
{
    invocation->values[USERS_ARG_JSON] = "";
    return users_action_change(invocation);
}
