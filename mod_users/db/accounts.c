#include "core/json.h"
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
                                                FIND_CREDENTIAL("null"), 1, true};
static const users_statement find_credential_account = {USERS_FIND_CREDENTIAL_ACCOUNT,
                                                        "find_credential_account",
                                                        FIND_CREDENTIAL("a.document"), 1, true};
static const users_statement update_account = {
    USERS_UPDATE_ACCOUNT, "update_account",
    "select outcome, faults::text, document"
    " from users_api.update_account($1, $2, $3, $4, $5, $6)",
    6, false};
static const users_statement register_account = {
    USERS_REGISTER_ACCOUNT, "register_account",
    "select outcome, faults::text, account, labels::text"
    " from users_api.register_account($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    11, false};

#define NONCE_LENGTH 16 /* octets: a uuid */

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

/* Our tags are hexadecimal: another one can't be the present one and needs no quoting here. */
static const char *array_of_tags(const apr_array_header_t *tags, apr_pool_t *pool)
{
    apr_array_header_t *ours = apr_array_make(pool, tags->nelts, sizeof(const char *));

    for (int i = 0; i < tags->nelts; i++) {
        const char *tag = APR_ARRAY_IDX(tags, i, const char *);

        if (*tag && strspn(tag, "0123456789abcdef") == strlen(tag)) {
            APR_ARRAY_PUSH(ours, const char *) = tag;
        }
    }
    return apr_pstrcat(pool, "{", apr_array_pstrcat(pool, ours, ','), "}", NULL);
}

users_outcome users_db_update_account(users_db_call *call, apr_int64_t user,
                                      const users_submission *wanted,
                                      const apr_array_header_t *if_match, users_change *change)
{
    unsigned char nonce[NONCE_LENGTH]; /* the name of this change */
    const char *json = users_json_text(wanted->fields, call->pool);
    users_parameter parameters[] = {
        {apr_psprintf(call->pool, "%" APR_INT64_T_FMT, user), 0},
        {json, 0},
        {wanted->body, 0},
        {if_match ? array_of_tags(if_match, call->pool) : NULL, 0},
        {wanted->store ? "t" : "f", 0},
        {(const char *)nonce, NONCE_LENGTH},
    };
    PGresult *result;
    bool settled;
    users_db_status status;

    if (!json || apr_generate_random_bytes(nonce, sizeof(nonce)) != APR_SUCCESS) {
        return USERS_OUTCOME_FAILED;
    }
    status = users_run_change(call, &update_account, parameters, &result, &settled);
    users_route_note_change(call, user);
    if (status == USERS_DB_OK) {
        status = decode_change(call, &update_account, wanted->store, result, change);
    }
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
