#include "store.h"

#include "settings.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <endian.h>
#include <http_log.h>
#include <stdlib.h>

APLOG_USE_MODULE(users);

/*
 * One trip for a credential, its owner and, on demand, the owner's account. A suspended
 * account still has its row: the answer differs from that to an unknown credential.
 */
#define FIND_TOKEN(document)                                                                       \
    "select t.application_id, t.user_id, array_to_string(t.scopes, ' '), a.suspended, " document   \
    " from users_api.token t left join users_api.account a on a.user_id = t.user_id"               \
    " where t.digest = $1"
#define FIND_CREDENTIAL(document)                                                                  \
    "select c.user_id, a.suspended, c.secret_digest, c.secret_hash, " document                     \
    " from users_api.credential c join users_api.account a on a.user_id = c.user_id"               \
    " where c.username = $1"

static const users_statement find_token = {0, "find_token", FIND_TOKEN("null"), 1};
static const users_statement find_token_account = {1, "find_token_account",
                                                   FIND_TOKEN("a.document"), 1};
static const users_statement find_credential = {2, "find_credential", FIND_CREDENTIAL("null"), 1};
static const users_statement find_credential_account = {3, "find_credential_account",
                                                        FIND_CREDENTIAL("a.document"), 1};
static const users_statement update_account = {
    4, "update_account",
    "select outcome, faults::text, document from users_api.update_account($1, $2, $3, $4, $5)", 5};
static const users_statement register_account = {
    5, "register_account",
    "select outcome, faults::text, account, labels::text"
    " from users_api.register_account($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    11};

/* Pools */

static bool same_database(const users_settings *a, const users_settings *b)
{
    return strcmp(a->conninfo, b->conninfo) == 0 && a->db_keep == b->db_keep &&
           a->db_max == b->db_max && a->db_exptime == b->db_exptime &&
           a->db_acquire_timeout == b->db_acquire_timeout &&
           a->db_connect_timeout == b->db_connect_timeout && a->db_timeout == b->db_timeout;
}

void users_store_open(apr_pool_t *pchild, server_rec *s)
{
    for (server_rec *vhost = s; vhost; vhost = vhost->next) {
        users_settings *settings = users_settings_of(vhost);
        server_rec *other = s;

        if (!settings->conninfo || !settings->paths->nelts) {
            continue;
        }
        while (other != vhost && !(users_settings_of(other)->pool &&
                                   same_database(users_settings_of(other), settings))) {
            other = other->next;
        }
        settings->pool = other == vhost ? users_pool_create(pchild, vhost, settings)
                                        : users_settings_of(other)->pool;
    }
}

/* Running */

static apr_status_t clear_result(void *result)
{
    PQclear(result);
    return APR_SUCCESS;
}

/* Run on a connection of this server's pool. *result lives as long as the request. */
static users_db_status run(request_rec *r, const users_statement *statement,
                           const users_parameter *parameters, PGresult **result, bool *was_idle)
{
    users_pool *pool = users_settings_of(r->server)->pool;
    users_connection *connection;
    users_db_status status;

    *was_idle = false;
    status = pool ? users_pool_acquire(pool, &connection) : USERS_DB_UNAVAILABLE;
    if (status != USERS_DB_OK) {
        return status;
    }
    *was_idle = users_connection_was_idle(connection);
    status = users_connection_run(connection, statement, parameters, result);
    users_connection_release(connection);
    if (status == USERS_DB_OK) {
        apr_pool_cleanup_register(r->pool, *result, clear_result, apr_pool_cleanup_null);
    }
    return status;
}

/*
 * A read may run twice: a connection that lay idle can have died unnoticed. The loss has
 * closed its idle siblings, so the second run is on a fresh one. This is where concurrent
 * look-ups will share a trip.
 */
static users_db_status run_read(request_rec *r, const users_statement *statement,
                                const users_parameter *parameters, PGresult **result)
{
    bool was_idle;
    users_db_status status = run(r, statement, parameters, result, &was_idle);

    if (status == USERS_DB_LOST && was_idle) {
        status = run(r, statement, parameters, result, &was_idle);
    }
    return status;
}

/* A change never does: it may have been committed before its connection was lost. */
static users_db_status run_change(request_rec *r, const users_statement *statement,
                                  const users_parameter *parameters, PGresult **result)
{
    bool was_idle;

    return run(r, statement, parameters, result, &was_idle);
}

/* Decoding: results come in binary format, whose text has a NUL behind it all the same. */

static const char *text_at(const PGresult *result, int column)
{
    return PQgetisnull(result, 0, column) ? NULL : PQgetvalue(result, 0, column);
}

static apr_int64_t int8_at(const PGresult *result, int column)
{
    apr_uint64_t number = 0;

    if (!PQgetisnull(result, 0, column)) {
        memcpy(&number, PQgetvalue(result, 0, column), sizeof(number));
    }
    return (apr_int64_t)be64toh(number);
}

static bool bool_at(const PGresult *result, int column)
{
    return !PQgetisnull(result, 0, column) && *PQgetvalue(result, 0, column);
}

users_db_status users_store_find_token(request_rec *r,
                                       const unsigned char digest[USERS_DIGEST_LENGTH],
                                       bool with_document, bool *found, users_principal *principal)
{
    users_parameter parameters[] = {{(const char *)digest, USERS_DIGEST_LENGTH}};
    PGresult *result;
    users_db_status status =
        run_read(r, with_document ? &find_token_account : &find_token, parameters, &result);

    *found = status == USERS_DB_OK && PQntuples(result) == 1;
    if (*found) {
        *principal = (users_principal){.application = int8_at(result, 0),
                                       .user = int8_at(result, 1),
                                       .scopes = text_at(result, 2),
                                       .suspended = bool_at(result, 3),
                                       .document = text_at(result, 4),
                                       .document_length = (apr_size_t)PQgetlength(result, 0, 4)};
    }
    return status;
}

users_db_status users_store_find_credential(request_rec *r, const char *name, bool with_document,
                                            bool *found, users_principal *principal,
                                            users_secret *secret)
{
    users_parameter parameters[] = {{name, 0}};
    PGresult *result;
    users_db_status status = run_read(
        r, with_document ? &find_credential_account : &find_credential, parameters, &result);

    if (status == USERS_DB_INVALID) { /* a name that is no UTF-8, which nobody has */
        status = USERS_DB_OK;
        result = NULL;
    }
    *found = status == USERS_DB_OK && PQntuples(result) == 1;
    if (*found) {
        *principal = (users_principal){.user = int8_at(result, 0),
                                       .suspended = bool_at(result, 1),
                                       .document = text_at(result, 4),
                                       .document_length = (apr_size_t)PQgetlength(result, 0, 4)};
        *secret = (users_secret){.digest = (const unsigned char *)text_at(result, 2),
                                 .hash = text_at(result, 3)};
    }
    return status;
}

/* Changes */

static const struct {
    const char *word;
    users_outcome outcome;
} outcomes[] = {
    {"updated", USERS_CHANGE_DONE},        {"created", USERS_CHANGE_DONE},
    {"repeated", USERS_CHANGE_REPEATED},   {"invalid", USERS_CHANGE_INVALID},
    {"stale", USERS_CHANGE_STALE},         {"absent", USERS_CHANGE_ABSENT},
    {"duplicate", USERS_CHANGE_DUPLICATE}, {"key_reused", USERS_CHANGE_REUSED},
    {"under_way", USERS_CHANGE_UNDER_WAY},
};

static apr_status_t release_json(void *json)
{
    json_decref(json);
    return APR_SUCCESS;
}

/* The columns that both changes have: outcome, faults, document. */
static users_db_status decode_change(request_rec *r, const PGresult *result, users_change *change)
{
    const char *word = PQntuples(result) == 1 ? text_at(result, 0) : NULL;

    *change = (users_change){.document = NULL};
    for (size_t i = 0; word && i < sizeof(outcomes) / sizeof(*outcomes); i++) {
        if (strcmp(word, outcomes[i].word) == 0) {
            change->outcome = outcomes[i].outcome;
            if (text_at(result, 1)) {
                change->faults = json_loads(text_at(result, 1), 0, NULL);
                apr_pool_cleanup_register(r->pool, change->faults, release_json,
                                          apr_pool_cleanup_null);
            }
            change->document = text_at(result, 2);
            change->document_length = (apr_size_t)PQgetlength(result, 0, 2);
            return USERS_DB_OK;
        }
    }
    ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, "the contract's outcome '%s' is unknown",
                  word ? word : "");
    return USERS_DB_FAILED;
}

/* Our tags are hexadecimal: another one can't be the present one and needs no quoting here. */
static const char *array_of_tags(const apr_array_header_t *tags, apr_pool_t *pool)
{
    const char *array = "";

    for (int i = 0; i < tags->nelts; i++) {
        const char *tag = APR_ARRAY_IDX(tags, i, const char *);

        if (*tag && strspn(tag, "0123456789abcdef") == strlen(tag)) {
            array = apr_pstrcat(pool, array, *array ? "," : "", tag, NULL);
        }
    }
    return apr_pstrcat(pool, "{", array, "}", NULL);
}

users_db_status users_store_update(request_rec *r, apr_int64_t user, const json_t *fields,
                                   const char *body, const apr_array_header_t *if_match, bool store,
                                   users_change *change)
{
    char *json = json_dumps(fields, JSON_COMPACT);
    users_parameter parameters[] = {
        {apr_psprintf(r->pool, "%" APR_INT64_T_FMT, user), 0},
        {json, 0},
        {body, 0},
        {if_match ? array_of_tags(if_match, r->pool) : NULL, 0},
        {store ? "t" : "f", 0},
    };
    PGresult *result;
    users_db_status status =
        json ? run_change(r, &update_account, parameters, &result) : USERS_DB_FAILED;

    free(json);
    return status == USERS_DB_OK ? decode_change(r, result, change) : status;
}

users_db_status users_store_register(request_rec *r, apr_int64_t application, const json_t *fields,
                                     const char *body, const char *idempotency_key,
                                     const char *name,
                                     const unsigned char digest[USERS_DIGEST_LENGTH], bool store,
                                     users_change *change)
{
    const users_settings *settings = users_settings_of(r->server);
    char *json = json_dumps(fields, JSON_COMPACT);
    users_parameter parameters[] = {
        {apr_psprintf(r->pool, "%" APR_INT64_T_FMT, application), 0},
        {json, 0},
        {body, 0},
        {settings->default_currency, 0},
        {settings->default_locale, 0},
        {settings->host_name, 0},
        {settings->duplicates == USERS_DUPLICATES_CONFLICT ? "t" : "f", 0},
        {name, 0},
        {(const char *)digest, USERS_DIGEST_LENGTH},
        {idempotency_key, 0},
        {store ? "t" : "f", 0},
    };
    PGresult *result;
    users_db_status status =
        json ? run_change(r, &register_account, parameters, &result) : USERS_DB_FAILED;

    free(json);
    if (status == USERS_DB_OK) {
        status = decode_change(r, result, change);
    }
    if (status == USERS_DB_OK) {
        change->labels = text_at(result, 3);
    }
    return status;
}
