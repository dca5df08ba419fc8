#include "db/accounts.h"

#include "core/json.h"
#include "db/answer.h"
#include "db/changes.h"
#include "db/result.h"
#include "db/route.h"
#include "db/turns.h"

#include <apr_general.h>
#include <apr_strings.h>

/* Without the one number of which jansson may make nothing. */
static const users_statement find_account = {
    USERS_FIND_ACCOUNT, "find_account",
    "select ((document::jsonb -> 'user') - 'unprocessed_usage')::text"
    " from users_api.account where user_id = $1",
    1, .reads = true};

/*
 * A kind of change: how it is made alone, and together with others; each without a note, and with
 * one, which is the last parameter. What only a statement of its own has comes first of all.
 */
typedef struct {
    users_statement alone[2];
    users_changes_kind together[2];
    int own; /* parameters that only a statement of its own has */
} change_kind;

enum {
    UPDATE_STORE,
    UPDATE_OWN,
    UPDATE_USER = UPDATE_OWN,
    UPDATE_FIELDS,
    UPDATE_REQUEST,
    UPDATE_IF_MATCH, /* tags, with a blank between them */
    UPDATE_NONCE,
    UPDATE_TOKEN,
    UPDATE_CREDENTIAL,
    UPDATE_CLIENT,
    UPDATE_NOTE,
    UPDATE_PARAMETERS
};

#define UPDATE_ONE                                                                                 \
    "select outcome, faults::text, document from users_api.update_account($2, $3, $4,"             \
    " string_to_array($5, ' '), $1, $6, $7, $8, $9"
#define UPDATE_ALL                                                                                 \
    "select number::bigint, document from users_api.update_accounts($1::text[]::bigint[],"         \
    " $2::text[]::jsonb[], $3::text[]::jsonb[], $4::text[], $5::uuid[], $6::bytea[], $7::text[],"  \
    " $8::text[]"
/* Of the lists. */
static const users_element_type update_types[] = {
    [UPDATE_USER - UPDATE_OWN] = USERS_TYPE_TEXT,
    [UPDATE_FIELDS - UPDATE_OWN] = USERS_TYPE_TEXT,
    [UPDATE_REQUEST - UPDATE_OWN] = USERS_TYPE_TEXT,
    [UPDATE_IF_MATCH - UPDATE_OWN] = USERS_TYPE_TEXT,
    [UPDATE_NONCE - UPDATE_OWN] = USERS_TYPE_UUID,
    [UPDATE_TOKEN - UPDATE_OWN] = USERS_TYPE_BYTEA,
    [UPDATE_CREDENTIAL - UPDATE_OWN] = USERS_TYPE_TEXT,
    [UPDATE_CLIENT - UPDATE_OWN] = USERS_TYPE_TEXT,
    [UPDATE_NOTE - UPDATE_OWN] = USERS_TYPE_TEXT,
};
static const change_kind update = {
    {{USERS_UPDATE_ACCOUNT, "update_account", UPDATE_ONE ")", UPDATE_NOTE, .reads = false},
     {USERS_UPDATE_ACCOUNT_WITH_NOTE, "update_account_with_note", UPDATE_ONE ", $10)",
      UPDATE_PARAMETERS, .with_note = true}},
    {{{USERS_UPDATE_ACCOUNTS, "update_accounts", UPDATE_ALL ")", UPDATE_NOTE - UPDATE_OWN,
       .optional = true},
      update_types},
     {{USERS_UPDATE_ACCOUNTS_WITH_NOTE, "update_accounts_with_note",
       UPDATE_ALL ", $9::text[]::jsonb[])", UPDATE_PARAMETERS - UPDATE_OWN, .optional = true,
       .with_note = true},
      update_types}},
    UPDATE_OWN};

enum {
    REGISTER_CONFLICT,
    REGISTER_KEY,
    REGISTER_STORE,
    REGISTER_OWN,
    REGISTER_APPLICATION = REGISTER_OWN,
    REGISTER_FIELDS,
    REGISTER_REQUEST,
    REGISTER_CURRENCY,
    REGISTER_LOCALE,
    REGISTER_HOST,
    REGISTER_NAME,
    REGISTER_DIGEST,
    REGISTER_TOKEN,
    REGISTER_CLIENT,
    REGISTER_NOTE,
    REGISTER_PARAMETERS
};

#define REGISTER_ONE                                                                               \
    "select outcome, faults::text, account, labels::text from users_api.register_account($4, $5,"  \
    " $6, $7, $8, $9, $1, $10, $11, $2, $3, $12, $13"
#define REGISTER_ALL                                                                               \
    "select number::bigint, account, labels::text from users_api.register_accounts("               \
    "$1::text[]::bigint[], $2::text[]::jsonb[], $3::text[]::jsonb[], $4::text[], $5::text[],"      \
    " $6::text[], $7::text[], $8::bytea[], $9::bytea[], $10::text[]"
/* Of the lists. */
static const users_element_type register_types[] = {
    [REGISTER_APPLICATION - REGISTER_OWN] = USERS_TYPE_TEXT,
    [REGISTER_FIELDS - REGISTER_OWN] = USERS_TYPE_TEXT,
    [REGISTER_REQUEST - REGISTER_OWN] = USERS_TYPE_TEXT,
    [REGISTER_CURRENCY - REGISTER_OWN] = USERS_TYPE_TEXT,
    [REGISTER_LOCALE - REGISTER_OWN] = USERS_TYPE_TEXT,
    [REGISTER_HOST - REGISTER_OWN] = USERS_TYPE_TEXT,
    [REGISTER_NAME - REGISTER_OWN] = USERS_TYPE_TEXT,
    [REGISTER_DIGEST - REGISTER_OWN] = USERS_TYPE_BYTEA,
    [REGISTER_TOKEN - REGISTER_OWN] = USERS_TYPE_BYTEA,
    [REGISTER_CLIENT - REGISTER_OWN] = USERS_TYPE_TEXT,
    [REGISTER_NOTE - REGISTER_OWN] = USERS_TYPE_TEXT,
};
static const change_kind registering = {
    {{USERS_REGISTER_ACCOUNT, "register_account", REGISTER_ONE ")", REGISTER_NOTE, .reads = false},
     {USERS_REGISTER_ACCOUNT_WITH_NOTE, "register_account_with_note", REGISTER_ONE ", $14)",
      REGISTER_PARAMETERS, .with_note = true}},
    {{{USERS_REGISTER_ACCOUNTS, "register_accounts", REGISTER_ALL ")", REGISTER_NOTE - REGISTER_OWN,
       .optional = true},
      register_types},
     {{USERS_REGISTER_ACCOUNTS_WITH_NOTE, "register_accounts_with_note",
       REGISTER_ALL ", $11::text[]::jsonb[])", REGISTER_PARAMETERS - REGISTER_OWN, .optional = true,
       .with_note = true},
      register_types}},
    REGISTER_OWN};

#define NONCE_LENGTH 16 /* octets: a UUID */

/* What GET shows */

users_outcome users_db_find_account(users_db_call *call, apr_int64_t user, json_t **account)
{
    users_parameter parameters[] = {{apr_psprintf(call->pool, "%" APR_INT64_T_FMT, user), 0}};
    PGresult *result;
    users_db_status status = users_run_for(call, call->db, &find_account, parameters, &result);
    const char *text =
        status == USERS_DB_OK && PQntuples(result) == 1 ? users_text_at(result, 0, 0) : NULL;

    *account = text ? json_loads(text, 0, NULL) : NULL;
    if (text && !*account) { /* without memory jansson gives any reason */
        users_log_at(&call->log, USERS_LOG_ERR, 0, "cannot read the document of user %s",
                     parameters[0].value);
        return USERS_OUTCOME_FAILED;
    }
    users_json_free_with(call->pool, *account);
    return users_outcome_of_read(status);
}

/* Changes */

/* Our tags are hexadecimal: another one can't be the present one, and need not be told. */
static const char *list_of_tags(const apr_array_header_t *tags, apr_pool_t *pool)
{
    apr_array_header_t *ours = apr_array_make(pool, tags->nelts, sizeof(const char *));

    for (int i = 0; i < tags->nelts; i++) {
        const char *tag = APR_ARRAY_IDX(tags, i, const char *);

        if (*tag && strspn(tag, "0123456789abcdef") == strlen(tag)) {
            APR_ARRAY_PUSH(ours, const char *) = tag;
        }
    }
    return apr_array_pstrcat(pool, ours, ' ');
}

/*
 * A name for a change: a UUID of version 7 (RFC 9562 section 5.7), which begins with the time, so
 * that PostgreSQL's index over them grows at its end.
 */
static bool make_nonce(unsigned char nonce[NONCE_LENGTH])
{
    apr_uint64_t milliseconds = (apr_uint64_t)apr_time_as_msec(apr_time_now());

    if (apr_generate_random_bytes(nonce, NONCE_LENGTH) != APR_SUCCESS) {
        return false;
    }
    for (int i = 0; i < 6; i++) {
        nonce[i] = (unsigned char)(milliseconds >> (40 - 8 * i));
    }
    nonce[6] = (unsigned char)(0x70 | (nonce[6] & 0x0f)); /* the version */
    nonce[8] = (unsigned char)(0x80 | (nonce[8] & 0x3f)); /* the variant */
    return true;
}

void users_accounts_share(apr_pool_t *pool, users_db *db, int lanes)
{
    for (int note = 0; lanes > 0 && note < 2; note++) {
        db->updates[note] = users_changes_create(pool, db, &update.together[note], lanes);
        db->registrations[note] =
            users_changes_create(pool, db, &registering.together[note], lanes);
    }
}

/* A change, and what came of it. */
typedef struct {
    const change_kind *kind;
    bool with_note;
    const users_parameter *parameters;
    apr_int64_t account; /* which it changes; 0: it makes one */
    users_made made;     /* with others; no rows: alone, then there is a result */
    PGresult *result;    /* (outcome, faults, document, ...) */
    bool settled;        /* what came of it was not heard at once */
} one_change;

static const users_statement *alone(const one_change *one)
{
    return &one->kind->alone[one->with_note];
}

/* In a statement of its own, which waits for whoever has locked what it wants. */
static users_db_status make_alone(users_db_call *call, one_change *one)
{
    users_limits limits = users_limits_of(call, call->db);
    users_turn turn;
    users_db_status status;

    if (!users_turn_take(call->db->turns, &turn, one->account, limits.connection)) {
        users_pool_note_busy(call->db->pool, USERS_POOL_CHANGE);
        users_run_count(call->db, USERS_DB_BUSY);
        return USERS_DB_BUSY;
    }
    users_limits_spend(call, &limits);
    status = users_run_change(call, alone(one), one->parameters, &one->result, &one->settled);
    users_turn_end(call->db->turns, &turn);
    return status;
}

/* together: NULL where only a statement of its own can do or say all that may be needed. */
static users_db_status make(users_db_call *call, users_changes *const *together, one_change *one)
{
    users_db_status status = users_changes_make(call, together ? together[one->with_note] : NULL,
                                                one->parameters + one->kind->own, &one->made);

    if (one->made.rows) {
        return status;
    }
    if (status == USERS_DB_LOST || status == USERS_DB_TIMEOUT) {
        one->settled = true;
        return users_run_settle(call, alone(one), one->parameters, &one->result);
    }
    return status == USERS_DB_OK ? make_alone(call, one) : status;
}

/* What it was found to be. stores: see users_submission. */
static users_db_status decode(users_db_call *call, const one_change *one, bool stores,
                              users_change *change)
{
    const users_made *made = &one->made;
    const users_statement *statement = &one->kind->alone[false]; /* a note changes no answer */

    return made->rows ? users_answer_take(call, statement, made->rows->result, made->row, change)
                      : users_answer_read(call, statement, stores, one->result, change);
}

users_outcome users_db_update_account(users_db_call *call, const users_principal *owner,
                                      const users_submission *wanted,
                                      const apr_array_header_t *if_match, users_change *change)
{
    unsigned char nonce[NONCE_LENGTH];
    const users_proof *proof = &owner->proof;
    const char *fields = users_json_text(wanted->fields, call->pool);
    users_parameter parameters[UPDATE_PARAMETERS] = {
        [UPDATE_USER] = {apr_psprintf(call->pool, "%" APR_INT64_T_FMT, owner->user), 0},
        [UPDATE_FIELDS] = {fields, 0},
        [UPDATE_REQUEST] = {wanted->body, 0},
        [UPDATE_IF_MATCH] = {if_match ? list_of_tags(if_match, call->pool) : NULL, 0},
        [UPDATE_NONCE] = {(const char *)nonce, NONCE_LENGTH},
        [UPDATE_TOKEN] = {(const char *)proof->token, USERS_DIGEST_LENGTH},
        [UPDATE_CREDENTIAL] = {proof->credential, 0},
        [UPDATE_CLIENT] = {proof->client, 0},
        [UPDATE_STORE] = {wanted->store ? "t" : "f", 0},
        [UPDATE_NOTE] = {wanted->note, 0},
    };
    /* an address that is taken would have all of a statement refused; the rest says nothing new */
    bool shares = wanted->store && (json_object_size(wanted->fields) || wanted->body) &&
                  !json_object_get(wanted->fields, "email");
    one_change one = {.kind = &update,
                      .with_note = wanted->note != NULL,
                      .parameters = parameters,
                      .account = owner->user};
    users_db_status status;

    if (!call->db || !fields || !make_nonce(nonce)) {
        return USERS_OUTCOME_FAILED;
    }
    status = make(call, shares ? call->db->updates : NULL, &one);
    users_route_note_change(call, owner->user);
    if (status == USERS_DB_OK) {
        status = decode(call, &one, wanted->store, change);
    }
    return users_outcome_of_change(status);
}

static const char *labels_of(const one_change *one)
{
    const char *labels = one->made.rows ? users_text_at(one->made.rows->result, one->made.row, 2)
                                        : users_text_at(one->result, 0, 3);

    return labels ? labels : "{}";
}

users_outcome users_db_register_account(users_db_call *call, const users_registration *registration,
                                        const users_submission *wanted, users_change *change)
{
    const users_proof *proof = &registration->proof;
    const char *fields = users_json_text(wanted->fields, call->pool);
    users_parameter parameters[REGISTER_PARAMETERS] = {
        [REGISTER_APPLICATION] = {apr_psprintf(call->pool, "%" APR_INT64_T_FMT,
                                               registration->application),
                                  0},
        [REGISTER_FIELDS] = {fields, 0},
        [REGISTER_REQUEST] = {wanted->body, 0},
        [REGISTER_CURRENCY] = {registration->default_currency, 0},
        [REGISTER_LOCALE] = {registration->default_locale, 0},
        [REGISTER_HOST] = {registration->host_name, 0},
        [REGISTER_NAME] = {registration->name, 0},
        [REGISTER_DIGEST] = {(const char *)registration->digest, USERS_DIGEST_LENGTH},
        [REGISTER_TOKEN] = {(const char *)proof->token, USERS_DIGEST_LENGTH},
        [REGISTER_CLIENT] = {proof->client, 0},
        [REGISTER_CONFLICT] = {registration->refuses_duplicates ? "t" : "f", 0},
        [REGISTER_KEY] = {registration->idempotency_key, 0},
        [REGISTER_STORE] = {wanted->store ? "t" : "f", 0},
        [REGISTER_NOTE] = {wanted->note, 0},
    };
    bool shares = wanted->store && !registration->idempotency_key &&
                  !registration->refuses_duplicates &&
                  !json_object_get(wanted->fields, "external_id");
    one_change one = {
        .kind = &registering, .with_note = wanted->note != NULL, .parameters = parameters};
    users_db_status status;

    if (!call->db || !fields) {
        return USERS_OUTCOME_FAILED;
    }
    status = make(call, shares ? call->db->registrations : NULL, &one);
    if (status == USERS_DB_OK) {
        status = decode(call, &one, wanted->store, change);
    }
    if (status == USERS_DB_OK && one.settled && change->kind == USERS_CHANGE_UNDER_WAY) {
        status = USERS_DB_UNKNOWN; /* it is our own first try that has the idempotency key */
    }
    if (status == USERS_DB_OK) {
        change->labels = labels_of(&one);
    }
    return users_outcome_of_change(status);
}
