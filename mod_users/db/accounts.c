#include "core/json.h"
#include "db/changes.h"
#include "db/result.h"
#include "db/route.h"

#include <apr_general.h>
#include <apr_strings.h>

/*
 * One row: where nobody has the name it is another's, hashed if there is one, so that the answer
 * takes as long (see users_db_find_credential()).
 */
#define FIND_CREDENTIAL(document)                                                                  \
    "select c.user_id::bigint, a.suspended, c.secret_digest, "                                     \
    " coalesce(c.secret_hash, d.secret_hash), " document " from (values ($1)) asked (username)"    \
    " left join users_api.credential c on c.username = asked.username"                             \
    " left join lateral ((select user_id, secret_hash from users_api.credential"                   \
    " where secret_hash is not null and c.user_id is null order by username limit 1)"              \
    " union all (select user_id, secret_hash from users_api.credential"                            \
    " where c.user_id is null order by username limit 1) limit 1) d on true"                       \
    " left join users_api.account a on a.user_id = coalesce(c.user_id, d.user_id)"
static const users_statement find_credential = {USERS_FIND_CREDENTIAL, "find_credential",
                                                FIND_CREDENTIAL("null"), 1, .reads = true};
static const users_statement find_credential_account = {
    USERS_FIND_CREDENTIAL_ACCOUNT, "find_credential_account", FIND_CREDENTIAL("a.document"), 1,
    .reads = true};
static const users_statement update_account = {
    USERS_UPDATE_ACCOUNT, "update_account",
    "select outcome, faults::text, document from users_api.update_account($1, $2, $3,"
    " string_to_array($4, ' '), $9, $5, $6, $7, $8)",
    USERS_CHANGE_PARAMETERS, .reads = false};
static const users_statement register_account = {
    USERS_REGISTER_ACCOUNT, "register_account",
    "select outcome, faults::text, account, labels::text"
    " from users_api.register_account($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    11, .reads = false};

#define NONCE_LENGTH 16 /* octets: a UUID */

/* API credentials */

typedef struct {
    const char *name;
    bool with_document;
    bool (*is_known)(void *context, const users_secret *secret);
    void *context;
    bool *found;
    users_principal *principal;
    users_secret *secret;
} credential_look_up;

static void decode_credential(const PGresult *result, const credential_look_up *l)
{
    *l->secret = (users_secret){.digest = users_digest_at(result, 0, 2),
                                .hash = users_text_at(result, 0, 3)};
    *l->found = !PQgetisnull(result, 0, 0);
    if (*l->found) {
        *l->principal = (users_principal){.user = users_int8_at(result, 0, 0),
                                          .suspended = users_bool_at(result, 0, 1),
                                          .document = users_text_at(result, 0, 4),
                                          .document_length = (apr_size_t)PQgetlength(result, 0, 4)};
    }
}

/* A users_look_up. */
static users_db_status find_at(users_db_call *call, users_db *db, void *look_up, apr_int64_t *user)
{
    const credential_look_up *l = look_up;
    users_parameter parameters[] = {{l->name, 0}};
    PGresult *result;
    users_db_status status =
        users_run_for(call, db, l->with_document ? &find_credential_account : &find_credential,
                      parameters, &result);

    *l->found = false;
    if (status == USERS_DB_OK && PQntuples(result) == 1) {
        decode_credential(result, l);
    }
    *user = 0;
    if (users_is_replica(db) && *l->found && l->is_known(l->context, l->secret)) {
        *user = users_route_admitted(true, l->principal);
    }
    return status;
}

users_outcome users_db_find_credential(users_db_call *call, const char *name,
                                       users_knowledge wanted,
                                       bool (*is_known)(void *context, const users_secret *secret),
                                       void *context, bool *found, users_principal *principal,
                                       users_secret *secret)
{
    credential_look_up look_up = {
        name, wanted != USERS_KNOW_OWNER, is_known, context, found, principal, secret};

    return users_route_look_up(call, wanted, find_at, &look_up);
}

/* Changes */

/* What each function of the contract may answer. */
static const struct {
    const users_statement *statement;
    const char *word;
    users_change_kind kind;
} outcomes[] = {
    {&update_account, "updated", USERS_CHANGE_DONE},
    {&update_account, "invalid", USERS_CHANGE_INVALID},
    {&update_account, "stale", USERS_CHANGE_STALE},
    {&update_account, "absent", USERS_CHANGE_ABSENT},
    {&update_account, "ended", USERS_CHANGE_ENDED},
    {&register_account, "created", USERS_CHANGE_DONE},
    {&register_account, "repeated", USERS_CHANGE_REPEATED},
    {&register_account, "invalid", USERS_CHANGE_INVALID},
    {&register_account, "duplicate", USERS_CHANGE_DUPLICATE},
    {&register_account, "key_reused", USERS_CHANGE_REUSED},
    {&register_account, "under_way", USERS_CHANGE_UNDER_WAY},
};

static apr_status_t release_json(void *json)
{
    json_decref(json);
    return APR_SUCCESS;
}

static bool find_kind(const users_statement *statement, const char *word, users_change_kind *kind)
{
    for (size_t i = 0; word && i < sizeof(outcomes) / sizeof(*outcomes); i++) {
        if (outcomes[i].statement == statement && strcmp(word, outcomes[i].word) == 0) {
            *kind = outcomes[i].kind;
            return true;
        }
    }
    return false;
}

static bool are_faults(const json_t *list)
{
    size_t i;
    json_t *fault;

    json_array_foreach(list, i, fault)
    {
        if (!json_is_string(json_object_get(fault, "field")) ||
            !json_is_string(json_object_get(fault, "text"))) {
            return false;
        }
    }
    return json_is_array(list);
}

static users_db_status broken(const users_db_call *call, const users_statement *statement,
                              const char *why)
{
    users_log_at(&call->log, USERS_LOG_ERR, 0, "users_api.%s breaks the contract: %s",
                 statement->name, why);
    return USERS_DB_FAILED;
}

/* The faults of an outcome "invalid". text: may be NULL. */
static users_db_status read_faults(users_db_call *call, const users_statement *statement,
                                   const char *text, bool stores, users_change *change)
{
    if (!text) {
        /* what is not to be stored has faults that the caller knows */
        return stores ? broken(call, statement, "it refuses without a fault") : USERS_DB_OK;
    }
    change->faults = json_loads(text, JSON_DECODE_ANY, NULL);
    if (!change->faults) { /* without memory jansson gives any reason */
        users_log_at(&call->log, USERS_LOG_ERR, 0, "cannot read the faults of users_api.%s",
                     statement->name);
        return USERS_DB_FAILED;
    }
    apr_pool_cleanup_register(call->pool, change->faults, release_json, apr_pool_cleanup_null);
    if (!are_faults(change->faults)) {
        return broken(call, statement, "its faults are not a list of {field, text}");
    }
    return stores && !json_array_size(change->faults)
               ? broken(call, statement, "it refuses without a fault")
               : USERS_DB_OK;
}

/* The answer to a registration adds members at the end; that to an update is sent as it is. */
static bool is_document(const users_statement *statement, const char *document, apr_size_t length)
{
    return document && (statement != &register_account ||
                        (length > 2 && document[0] == '{' && document[length - 1] == '}'));
}

/* The columns that both changes have: outcome, faults, document. stores: see users_submission. */
static users_db_status decode_change(users_db_call *call, const users_statement *statement,
                                     bool stores, const PGresult *result, users_change *change)
{
    const char *word = PQntuples(result) == 1 ? users_text_at(result, 0, 0) : NULL;

    *change = (users_change){.faults = NULL};
    if (!find_kind(statement, word, &change->kind)) {
        return broken(call, statement,
                      apr_psprintf(call->pool, "its outcome is '%s'", word ? word : ""));
    }
    change->document = users_text_at(result, 0, 2);
    change->document_length = (apr_size_t)PQgetlength(result, 0, 2);
    if (change->kind <= USERS_CHANGE_REPEATED &&
        !is_document(statement, change->document, change->document_length)) {
        return broken(call, statement, "its document is missing, or not an object with members");
    }
    return change->kind == USERS_CHANGE_INVALID
               ? read_faults(call, statement, users_text_at(result, 0, 1), stores, change)
               : USERS_DB_OK;
}

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

/* Does a change need none of what only a statement of its own can say or do? */
static bool is_usual(const users_submission *wanted)
{
    return wanted->store && (json_object_size(wanted->fields) || wanted->body) &&
           !json_object_get(wanted->fields, "email");
}

/* Together with others where that may do, else alone, which says why it can't be. */
static users_db_status update(users_db_call *call, const users_submission *wanted,
                              const users_parameter *parameters, users_change *change)
{
    users_made made = {.rows = NULL};
    users_db_status status =
        is_usual(wanted) ? users_changes_make(call, parameters, &made) : USERS_DB_OK;
    PGresult *result;
    bool settled;

    if (made.rows) {
        *change = (users_change){.kind = USERS_CHANGE_DONE,
                                 .document = users_text_at(made.rows->result, made.row, 1),
                                 .document_length =
                                     (apr_size_t)PQgetlength(made.rows->result, made.row, 1)};
        return USERS_DB_OK;
    }
    if (status == USERS_DB_LOST || status == USERS_DB_TIMEOUT) {
        status = users_run_settle(call, &update_account, parameters, &result);
    } else if (status == USERS_DB_OK) {
        status = users_run_change(call, &update_account, parameters, &result, &settled);
    }
    return status == USERS_DB_OK
               ? decode_change(call, &update_account, wanted->store, result, change)
               : status;
}

users_outcome users_db_update_account(users_db_call *call, const users_principal *owner,
                                      const users_submission *wanted,
                                      const apr_array_header_t *if_match, users_change *change)
{
    unsigned char nonce[NONCE_LENGTH];
    const users_proof *proof = &owner->proof;
    const char *fields = users_json_text(wanted->fields, call->pool);
    users_parameter parameters[USERS_CHANGE_PARAMETERS] = {
        [USERS_CHANGE_USER] = {apr_psprintf(call->pool, "%" APR_INT64_T_FMT, owner->user), 0},
        [USERS_CHANGE_FIELDS] = {fields, 0},
        [USERS_CHANGE_REQUEST] = {wanted->body, 0},
        [USERS_CHANGE_IF_MATCH] = {if_match ? list_of_tags(if_match, call->pool) : NULL, 0},
        [USERS_CHANGE_NONCE] = {(const char *)nonce, NONCE_LENGTH},
        [USERS_CHANGE_TOKEN] = {(const char *)proof->token, USERS_DIGEST_LENGTH},
        [USERS_CHANGE_CREDENTIAL] = {proof->credential, 0},
        [USERS_CHANGE_CLIENT] = {proof->client, 0},
        [USERS_CHANGE_STORE] = {wanted->store ? "t" : "f", 0},
    };
    users_db_status status;

    if (!fields || !make_nonce(nonce)) {
        return USERS_OUTCOME_FAILED;
    }
    status = update(call, wanted, parameters, change);
    users_route_note_change(call, owner->user);
    return users_outcome_of_change(status);
}

users_outcome users_db_register_account(users_db_call *call, const users_registration *registration,
                                        const users_submission *wanted, users_change *change)
{
    const char *json = users_json_text(wanted->fields, call->pool);
    users_parameter parameters[] = {
        {apr_psprintf(call->pool, "%" APR_INT64_T_FMT, registration->application), 0},
        {json, 0},
        {wanted->body, 0},
        {registration->default_currency, 0},
        {registration->default_locale, 0},
        {registration->host_name, 0},
        {registration->refuses_duplicates ? "t" : "f", 0},
        {registration->name, 0},
        {(const char *)registration->digest, USERS_DIGEST_LENGTH},
        {registration->idempotency_key, 0},
        {wanted->store ? "t" : "f", 0},
    };
    PGresult *result;
    bool settled;
    users_db_status status =
        json ? users_run_change(call, &register_account, parameters, &result, &settled)
             : USERS_DB_FAILED;

    if (status == USERS_DB_OK) {
        status = decode_change(call, &register_account, wanted->store, result, change);
    }
    if (status == USERS_DB_OK && settled && change->kind == USERS_CHANGE_UNDER_WAY) {
        status = USERS_DB_UNKNOWN; /* it is our own first try that has the idempotency key */
    }
    if (status == USERS_DB_OK) {
        change->labels = PQgetisnull(result, 0, 3) ? "{}" : users_text_at(result, 0, 3);
    }
    return users_outcome_of_change(status);
}
