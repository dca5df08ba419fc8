#include "db/accounts.h"

#include "core/clock.h"
#include "core/json.h"
#include "db/execute.h"
#include "db/result.h"
#include "db/route.h"

#include <apr_atomic.h>
#include <apr_general.h>
#include <apr_strings.h>
#include <arpa/inet.h>
#include <http_log.h>

APLOG_USE_MODULE(users);

/*
 * One trip for a credential, its owner and, on demand, the owner's account. A suspended
 * account still has its row: the answer differs from that to an unknown credential.
 */
#define TOKEN_COLUMNS                                                                              \
    "select t.application_id::bigint, t.user_id::bigint, array_to_string(t.scopes, ' '),"          \
    " a.suspended, "
#define FIND_TOKEN(document)                                                                       \
    TOKEN_COLUMNS document                                                                         \
        " from users_api.token t left join users_api.account a on a.user_id = t.user_id"           \
        " where t.digest = $1"
/*
 * One row: where nobody has the name it is another's, hashed if there is one, so that the answer
 * takes as long (see users_store_find_credential()).
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
static const users_statement find_token = {0, "find_token", FIND_TOKEN("null"), 1, true};
static const users_statement find_token_account = {1, "find_token_account",
                                                   FIND_TOKEN("a.document"), 1, true};
static const users_statement find_credential = {2, "find_credential", FIND_CREDENTIAL("null"), 1,
                                                true};
static const users_statement find_credential_account = {3, "find_credential_account",
                                                        FIND_CREDENTIAL("a.document"), 1, true};
/* Many tokens at once; the joins are lateral so that a plan for any number stays on the indexes. */
static const users_statement find_tokens = {
    6, "find_tokens",
    TOKEN_COLUMNS
    "a.document, asked.number"
    " from unnest($1::bytea[]) with ordinality asked (digest, number)"
    " cross join lateral (select * from users_api.token where digest = asked.digest) t"
    " left join lateral (select * from users_api.account where user_id = t.user_id) a on true",
    1, true};
static const users_statement update_account = {
    4, "update_account",
    "select outcome, faults::text, document"
    " from users_api.update_account($1, $2, $3, $4, $5, $6)",
    6, false};
static const users_statement register_account = {
    5, "register_account",
    "select outcome, faults::text, account, labels::text"
    " from users_api.register_account($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    11, false};

#define NONCE_LENGTH 16 /* octets: a uuid */

/* Databases */

static bool same_database(const users_settings *a, const users_settings *b)
{
    return strcmp(a->conninfo, b->conninfo) == 0 && a->db_keep == b->db_keep &&
           a->db_max == b->db_max && a->db_exptime == b->db_exptime &&
           a->db_acquire_timeout == b->db_acquire_timeout &&
           a->db_connect_timeout == b->db_connect_timeout && a->db_timeout == b->db_timeout &&
           a->db_prepare == b->db_prepare && a->read_lanes == b->read_lanes &&
           strcmp(a->replica ? a->replica : "", b->replica ? b->replica : "") == 0 &&
           (!a->replica || a->replica_lag == b->replica_lag);
}

static users_trip find_tokens_together;

static struct users_database *open_database(apr_pool_t *pchild, server_rec *s,
                                            const users_settings *settings, const char *name)
{
    struct users_database *database = apr_pcalloc(pchild, sizeof(*database));

    database->server = s;
    database->settings = settings;
    database->pool = users_pool_create(pchild, s, settings, name);
    if (settings->read_lanes > 0) {
        database->tokens =
            users_combiner_create(pchild, settings->read_lanes, find_tokens_together, database);
    }
    return database->pool ? database : NULL;
}

static struct users_database *open_databases(apr_pool_t *pchild, server_rec *s,
                                             const users_settings *settings)
{
    struct users_database *database = open_database(pchild, s, settings, "the database");

    if (database && settings->replica) {
        users_replica_add(
            pchild, database,
            open_database(pchild, s, users_replica_settings(pchild, settings), "the replica"));
    }
    return database;
}

void users_store_open(apr_pool_t *pchild, server_rec *s)
{
    for (server_rec *vhost = s; vhost; vhost = vhost->next) {
        users_settings *settings = users_settings_of(vhost);
        server_rec *other = s;

        if (!settings->conninfo || !settings->endpoints->nelts) {
            continue;
        }
        while (other != vhost && !(users_settings_of(other)->database &&
                                   same_database(users_settings_of(other), settings))) {
            other = other->next;
        }
        settings->database = other == vhost ? open_databases(pchild, vhost, settings)
                                            : users_settings_of(other)->database;
    }
}

/* Look-ups */

users_principal users_store_principal(const PGresult *result, int row)
{
    return (users_principal){.application = users_int8_at(result, row, 0),
                             .user = users_int8_at(result, row, 1),
                             .scopes = users_text_at(result, row, 2),
                             .suspended = users_bool_at(result, row, 3),
                             .document = users_text_at(result, row, 4),
                             .document_length = (apr_size_t)PQgetlength(result, row, 4)};
}

/* The rows of a shared trip: each request reads its own, and the last one frees them all. */
typedef struct {
    PGresult *result;
    apr_uint32_t readers;
} shared_rows;

static apr_status_t leave_rows(void *data)
{
    shared_rows *rows = data;

    if (!apr_atomic_dec32(&rows->readers)) {
        PQclear(rows->result); /* the rows are part of it */
    }
    return APR_SUCCESS;
}

/* What a request asks a shared trip. */
typedef struct {
    const unsigned char *digest;
    apr_time_t end; /* until when the trip must have ended */
} token_question;

/* What a shared trip brought for one token. */
typedef struct {
    users_db_status status;
    bool alone;        /* it failed, perhaps by another's fault: to be tried without company */
    shared_rows *rows; /* NULL: there is no such token */
    int row;
} token_answer;

static const token_question *question_of(const users_ticket *ticket)
{
    return ticket->question;
}

/* Who leads has waited the longest, unless some come from a trip that got no connection. */
static users_limits limits_of_trip(users_ticket **tickets, int count)
{
    users_limits l = {.connection = tickets[0]->deadline, .end = question_of(tickets[0])->end};

    for (int i = 1; i < count; i++) {
        if (question_of(tickets[i])->end < l.end) {
            l.end = question_of(tickets[i])->end;
        }
    }
    return l;
}

/* The digests as an array in PostgreSQL's binary format (array_recv). Returns its octets. */
static int pack_digests(users_ticket **tickets, int count, char *array)
{
    apr_uint32_t header[] = {htonl(1), 0, htonl(17), htonl((apr_uint32_t)count), htonl(1)};
    apr_uint32_t length = htonl(USERS_DIGEST_LENGTH);
    char *end = array + sizeof(header);

    memcpy(array, header, sizeof(header)); /* dimensions, no nulls, bytea, size, lower bound */
    for (int i = 0; i < count; i++) {
        memcpy(end, &length, sizeof(length));
        memcpy(end + sizeof(length), question_of(tickets[i])->digest, USERS_DIGEST_LENGTH);
        end += sizeof(length) + USERS_DIGEST_LENGTH;
    }
    return (int)(end - array);
}

/* Give each ticket its row; those without one found no token. Takes the result over. */
static users_db_status hand_out(PGresult *result, users_ticket **tickets)
{
    int found = PQntuples(result);
    shared_rows *rows = found > 0 ? PQresultAlloc(result, sizeof(*rows)) : NULL;

    if (!rows) {
        PQclear(result);
        return found > 0 ? USERS_DB_FAILED : USERS_DB_OK;
    }
    *rows = (shared_rows){.result = result};
    for (int row = 0; row < found; row++) {
        token_answer *answer = tickets[users_int8_at(result, row, 5) - 1]->answer;

        rows->readers += !answer->rows;
        answer->rows = rows;
        answer->row = row;
    }
    return USERS_DB_OK;
}

/* A trip of users_combine(). */
static void find_tokens_together(void *context, users_ticket **tickets, int count)
{
    char array[5 * 4 + USERS_BATCH_MAX * (4 + USERS_DIGEST_LENGTH)];
    users_parameter parameters[] = {{array, pack_digests(tickets, count, array)}};
    users_limits l = limits_of_trip(tickets, count);
    PGresult *result;
    users_db_status status = users_run(context, &find_tokens, parameters, &l, &result);

    for (int i = 0; i < count; i++) {
        *(token_answer *)tickets[i]->answer = (token_answer){.status = USERS_DB_OK};
    }
    if (status == USERS_DB_OK) {
        status = hand_out(result, tickets);
    }
    for (int i = 0; i < count; i++) {
        token_answer *answer = tickets[i]->answer;

        answer->status = status;
        answer->alone = status == USERS_DB_FAILED && count > 1;
    }
}

static users_db_status find_token_alone(request_rec *r, struct users_database *database,
                                        const unsigned char *digest,
                                        const users_statement *statement, bool *found,
                                        users_principal *principal)
{
    users_parameter parameters[] = {{(const char *)digest, USERS_DIGEST_LENGTH}};
    PGresult *result;
    users_db_status status = users_run_for(r, database, statement, parameters, &result);

    *found = status == USERS_DB_OK && PQntuples(result) == 1;
    if (*found) {
        *principal = users_store_principal(result, 0);
    }
    return status;
}

static users_db_status find_token_in_company(request_rec *r, struct users_database *database,
                                             const unsigned char *digest, bool *found,
                                             users_principal *principal)
{
    users_limits l = users_limits_of(r, database);
    token_question question = {digest, l.end};
    token_answer answer = {.status = USERS_DB_BUSY};
    users_ticket ticket = {.question = &question, .answer = &answer, .deadline = l.connection};
    bool answered;

    /* a trip ends at the deadline of who leads it; others may have time left for another one */
    do {
        answered = users_combine(database->tokens, &ticket);
    } while (answered && answer.status == USERS_DB_BUSY && users_now() < ticket.deadline);
    if (r->method_number != M_GET || answer.alone || database->primary) { /* else nothing follows */
        users_limits_spend(r, &l);
    }
    if (answer.alone) {
        return find_token_alone(r, database, digest, &find_token_account, found, principal);
    }
    users_run_count(database, answer.status);
    *found = answer.rows != NULL;
    if (*found) {
        apr_pool_cleanup_register(r->pool, answer.rows, leave_rows, apr_pool_cleanup_null);
        *principal = users_store_principal(answer.rows->result, answer.row);
    }
    return answer.status;
}

users_db_status users_store_find_token(request_rec *r, struct users_database *database,
                                       const unsigned char digest[USERS_DIGEST_LENGTH],
                                       bool with_document, bool *found, users_principal *principal)
{
    /* while the database is away nobody waits for another one's trip */
    if (with_document && database && database->tokens && !users_pool_is_away(database->pool)) {
        return find_token_in_company(r, database, digest, found, principal);
    }
    return find_token_alone(r, database, digest, with_document ? &find_token_account : &find_token,
                            found, principal);
}

users_db_status users_store_find_credential(request_rec *r, struct users_database *database,
                                            const char *name, bool with_document, bool *found,
                                            users_principal *principal, users_secret *secret)
{
    users_parameter parameters[] = {{name, 0}};
    PGresult *result;
    users_db_status status =
        users_run_for(r, database, with_document ? &find_credential_account : &find_credential,
                      parameters, &result);

    *found = false;
    if (status == USERS_DB_OK && PQntuples(result) == 1) {
        *secret = (users_secret){.digest = users_digest_at(result, 0, 2),
                                 .hash = users_text_at(result, 0, 3)};
        *found = !PQgetisnull(result, 0, 0);
    }
    if (*found) {
        *principal = (users_principal){.user = users_int8_at(result, 0, 0),
                                       .suspended = users_bool_at(result, 0, 1),
                                       .document = users_text_at(result, 0, 4),
                                       .document_length = (apr_size_t)PQgetlength(result, 0, 4)};
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

apr_status_t users_store_release_json(void *json)
{
    json_decref(json);
    return APR_SUCCESS;
}

static bool find_outcome(const char *word, users_outcome *outcome)
{
    for (size_t i = 0; word && i < sizeof(outcomes) / sizeof(*outcomes); i++) {
        if (strcmp(word, outcomes[i].word) == 0) {
            *outcome = outcomes[i].outcome;
            return true;
        }
    }
    return false;
}

/* The columns that both changes have: outcome, faults, document. */
static users_db_status decode_change(request_rec *r, const PGresult *result, users_change *change)
{
    const char *word = PQntuples(result) == 1 ? users_text_at(result, 0, 0) : NULL;

    *change = (users_change){.document = word ? users_text_at(result, 0, 2) : NULL};
    if (!find_outcome(word, &change->outcome) ||
        (change->outcome <= USERS_CHANGE_REPEATED && !change->document)) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, "the contract is broken by the outcome '%s'",
                      word ? word : "");
        return USERS_DB_FAILED;
    }
    change->document_length = (apr_size_t)PQgetlength(result, 0, 2);
    if (change->outcome == USERS_CHANGE_INVALID && users_text_at(result, 0, 1)) {
        change->faults = json_loads(users_text_at(result, 0, 1), 0, NULL);
        if (!change->faults) {
            return USERS_DB_FAILED; /* nothing was stored */
        }
        apr_pool_cleanup_register(r->pool, change->faults, users_store_release_json,
                                  apr_pool_cleanup_null);
    }
    return USERS_DB_OK;
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
    unsigned char nonce[NONCE_LENGTH]; /* the name of this change */
    const char *json = users_json_text(fields, r->pool);
    users_parameter parameters[] = {
        {apr_psprintf(r->pool, "%" APR_INT64_T_FMT, user), 0},
        {json, 0},
        {body, 0},
        {if_match ? array_of_tags(if_match, r->pool) : NULL, 0},
        {store ? "t" : "f", 0},
        {(const char *)nonce, NONCE_LENGTH},
    };
    PGresult *result;
    bool settled;
    users_db_status status = USERS_DB_FAILED;

    if (json && apr_generate_random_bytes(nonce, sizeof(nonce)) == APR_SUCCESS) {
        status = users_run_change(r, &update_account, parameters, &result, &settled);
    }
    users_replica_note_change(r, user);
    return status == USERS_DB_OK ? decode_change(r, result, change) : status;
}

users_db_status users_store_register(request_rec *r, apr_int64_t application, const json_t *fields,
                                     const char *body, const char *idempotency_key,
                                     const char *name,
                                     const unsigned char digest[USERS_DIGEST_LENGTH], bool store,
                                     users_change *change)
{
    const users_settings *settings = users_settings_of(r->server);
    const char *json = users_json_text(fields, r->pool);
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
    bool settled;
    users_db_status status =
        json ? users_run_change(r, &register_account, parameters, &result, &settled)
             : USERS_DB_FAILED;

    if (status == USERS_DB_OK) {
        status = decode_change(r, result, change);
    }
    if (status == USERS_DB_OK && settled && change->outcome == USERS_CHANGE_UNDER_WAY) {
        return USERS_DB_UNKNOWN; /* it is our own first try that has the idempotency key */
    }
    if (status == USERS_DB_OK) {
        change->labels = PQgetisnull(result, 0, 3) ? "{}" : users_text_at(result, 0, 3);
    }
    return status;
}
