#include "store.h"

#include "clock.h"
#include "combine.h"
#include "settings.h"

#include <apr_atomic.h>
#include <apr_general.h>
#include <apr_strings.h>
#include <arpa/inet.h>
#include <endian.h>
#include <http_log.h>
#include <stdlib.h>

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
/* An application, and its account where there is one. */
#define FIND_EXTERNAL(condition, document)                                                         \
    "select p.application_id::bigint, a.user_id::bigint, null, a.suspended, " document             \
    " from users_api.application p left join users_api.account a on " condition                    \
    " where p.client_id = $1"
#define BY_EXTERNAL_ID "a.application_id = p.application_id and a.external_id = $2"
#define BY_ID          "a.user_id = $2::text::bigint"

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

static const users_statement find_external = {16, "find_external",
                                              FIND_EXTERNAL(BY_EXTERNAL_ID, "null"), 2, true};
static const users_statement find_external_account = {
    17, "find_external_account", FIND_EXTERNAL(BY_EXTERNAL_ID, "a.document"), 2, true};
static const users_statement find_by_id = {18, "find_by_id", FIND_EXTERNAL(BY_ID, "null"), 2, true};
static const users_statement find_by_id_account = {19, "find_by_id_account",
                                                   FIND_EXTERNAL(BY_ID, "a.document"), 2, true};
static const users_statement find_application = {
    20, "find_application",
    "select application_id::bigint, secret_digest, array_to_string(scopes, ' '),"
    " array_to_string(default_scopes, ' ') from users_api.application where client_id = $1",
    1, true};
static const users_statement issue_token = {
    21, "issue_token",
    "select users_api.issue_token($1, $2, $3, string_to_array($4, ' '),"
    " now() + make_interval(secs => $5)), floor(extract(epoch from now()))::bigint",
    5, false};
static const users_statement revoke_token = {22, "revoke_token",
                                             "select users_api.revoke_token($1, $2)", 2, false};
static const users_statement introspect_token = {23, "introspect_token",
                                                 "select users_api.introspect_token($1)", 1, true};

#define CONFLICT_REPEATS 3                       /* of a statement that the database undid */
#define FIRST_PAUSE      apr_time_from_msec(10)  /* between two questions what became of */
#define LONGEST_PAUSE    apr_time_from_msec(250) /* a change; it doubles */
#define NONCE_LENGTH     16                      /* octets: a uuid */

/* Databases */

struct users_database {
    users_pool *pool;
    users_combiner *tokens; /* look-ups that share a trip; NULL: each makes its own */
    const users_settings *settings;
};

static bool same_database(const users_settings *a, const users_settings *b)
{
    return strcmp(a->conninfo, b->conninfo) == 0 && a->db_keep == b->db_keep &&
           a->db_max == b->db_max && a->db_exptime == b->db_exptime &&
           a->db_acquire_timeout == b->db_acquire_timeout &&
           a->db_connect_timeout == b->db_connect_timeout && a->db_timeout == b->db_timeout &&
           a->db_prepare == b->db_prepare && a->read_lanes == b->read_lanes;
}

static users_trip find_tokens_together;

static struct users_database *open_database(apr_pool_t *pchild, server_rec *s,
                                            const users_settings *settings)
{
    struct users_database *database = apr_pcalloc(pchild, sizeof(*database));

    database->settings = settings;
    database->pool = users_pool_create(pchild, s, settings);
    if (settings->read_lanes > 0) {
        database->tokens =
            users_combiner_create(pchild, settings->read_lanes, find_tokens_together, database);
    }
    return database->pool ? database : NULL;
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
        settings->database = other == vhost ? open_database(pchild, vhost, settings)
                                            : users_settings_of(other)->database;
    }
}

/*
 * Deadlines. The database may work UsersRequestTimeout for a request, all statements, waits
 * and repetitions together; what the client takes to send a body is not counted.
 */

#define TIME_SPENT "users_time_spent" /* key of the request's pool: apr_interval_time_t */

typedef struct {
    apr_time_t began;
    apr_time_t connection; /* until then a connection must have been had */
    apr_time_t end;        /* of everything */
} limits;

static limits limits_of(const request_rec *r)
{
    const users_settings *settings = users_settings_of(r->server);
    apr_interval_time_t left = settings->request_timeout;
    apr_time_t now = users_now();
    void *spent = NULL;

    apr_pool_userdata_get(&spent, TIME_SPENT, r->pool);
    if (spent) {
        left -= *(apr_interval_time_t *)spent;
    }
    return (limits){
        now, now + (left < settings->db_acquire_timeout ? left : settings->db_acquire_timeout),
        now + left};
}

static void spend_time(const request_rec *r, const limits *l)
{
    void *spent = NULL;

    apr_pool_userdata_get(&spent, TIME_SPENT, r->pool);
    if (!spent) {
        spent = apr_pcalloc(r->pool, sizeof(apr_interval_time_t));
        apr_pool_userdata_setn(spent, TIME_SPENT, NULL, r->pool);
    }
    *(apr_interval_time_t *)spent += users_now() - l->began;
}

/* Running */

static users_db_status run_once(struct users_database *database, const users_statement *statement,
                                const users_parameter *parameters, const limits *l,
                                PGresult **result, bool *was_idle)
{
    users_connection *connection;
    users_db_status status = users_pool_acquire(database->pool, l->connection, &connection);

    *result = NULL;
    *was_idle = false;
    if (status == USERS_DB_OK) {
        *was_idle = users_connection_was_idle(connection);
        status = users_connection_run(connection, statement, parameters, l->end, result);
        users_connection_release(connection);
    }
    return status;
}

/*
 * Run a statement within these limits. On USERS_DB_OK *result is the caller's; otherwise it is
 * NULL.
 *
 * A connection that lay idle can have died unnoticed: then a read runs once more. The loss has
 * closed its idle siblings, so that is on a fresh one. What the database undid in favour of another
 * transaction runs again, a few times.
 */
static users_db_status run(struct users_database *database, const users_statement *statement,
                           const users_parameter *parameters, const limits *l, PGresult **result)
{
    bool was_idle;
    users_db_status status = run_once(database, statement, parameters, l, result, &was_idle);

    if (status == USERS_DB_LOST && was_idle && statement->reads) {
        status = run_once(database, statement, parameters, l, result, &was_idle);
    }
    for (int i = 0; status == USERS_DB_CONFLICT && i < CONFLICT_REPEATS; i++) {
        if (users_now() < l->end) {
            limits again = {.connection = l->end, .end = l->end};

            status = run_once(database, statement, parameters, &again, result, &was_idle);
        }
    }
    return status;
}

/*
 * Find out what became of a change that was not heard of, by repeating it: the functions of the
 * contract make a change of one name once, and tell a repeat what came of it. The repeat itself
 * can get lost, find no server, or wait in vain for the first try, which goes on: none of that
 * tells of the first try, and so the question is put until the time is over.
 */
static users_db_status settle(struct users_database *database, const users_statement *statement,
                              const users_parameter *parameters, apr_time_t end, PGresult **result)
{
    apr_interval_time_t pause = FIRST_PAUSE;
    limits l = {.connection = end, .end = end};

    for (;;) {
        users_db_status status = run(database, statement, parameters, &l, result);

        if (status == USERS_DB_OK || status == USERS_DB_INVALID) {
            return status;
        }
        if (users_now() + pause >= end) {
            return USERS_DB_UNKNOWN;
        }
        apr_sleep(pause);
        pause = 2 * pause < LONGEST_PAUSE ? 2 * pause : LONGEST_PAUSE;
    }
}

/* One request, whoever made the trip. */
static void count_refusal(const struct users_database *database, users_db_status status)
{
    if (status == USERS_DB_UNREACHABLE) {
        users_pool_count_refusal(database->pool);
    }
}

static apr_status_t clear_result(void *result)
{
    PQclear(result);
    return APR_SUCCESS;
}

/* Run for this request alone: *result lives as long as it does. */
static users_db_status run_for(request_rec *r, const users_statement *statement,
                               const users_parameter *parameters, PGresult **result)
{
    struct users_database *database = users_settings_of(r->server)->database;
    limits l = limits_of(r);
    users_db_status status;

    *result = NULL;
    if (!database) {
        return USERS_DB_FAILED;
    }
    status = run(database, statement, parameters, &l, result);
    spend_time(r, &l);
    count_refusal(database, status);
    apr_pool_cleanup_register(r->pool, *result, clear_result, apr_pool_cleanup_null);
    return status;
}

/*
 * The same for a change that has a name of its own (sql/contract.sql). *settled: what came of it
 * was not heard at once.
 */
static users_db_status run_change(request_rec *r, const users_statement *statement,
                                  const users_parameter *parameters, PGresult **result,
                                  bool *settled)
{
    struct users_database *database = users_settings_of(r->server)->database;
    limits l = limits_of(r);
    users_db_status status = run_for(r, statement, parameters, result);

    *settled = status == USERS_DB_LOST || status == USERS_DB_TIMEOUT;
    if (*settled) {
        status = settle(database, statement, parameters, l.end, result);
        apr_pool_cleanup_register(r->pool, *result, clear_result, apr_pool_cleanup_null);
        ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r, "the outcome of %s was not heard, and %s",
                      statement->name,
                      status == USERS_DB_UNKNOWN ? "could not be found out in time" : "is settled");
    }
    return status;
}

/*
 * Decoding: results come in binary format, whose text has a NUL behind it all the same. Who
 * brings other tables may have other integers in them: the statements cast them.
 */

static const char *text_at(const PGresult *result, int row, int column)
{
    return PQgetisnull(result, row, column) ? NULL : PQgetvalue(result, row, column);
}

static apr_int64_t int8_at(const PGresult *result, int row, int column)
{
    apr_uint64_t number = 0;

    if (!PQgetisnull(result, row, column)) {
        memcpy(&number, PQgetvalue(result, row, column), sizeof(number));
    }
    return (apr_int64_t)be64toh(number);
}

static bool bool_at(const PGresult *result, int row, int column)
{
    return !PQgetisnull(result, row, column) && *PQgetvalue(result, row, column);
}

/* NULL where it is null, or can't be one. */
static const unsigned char *digest_at(const PGresult *result, int row, int column)
{
    return PQgetlength(result, row, column) == USERS_DIGEST_LENGTH
               ? (const unsigned char *)PQgetvalue(result, row, column)
               : NULL;
}

/* Look-ups */

static users_principal token_at(const PGresult *result, int row)
{
    return (users_principal){.application = int8_at(result, row, 0),
                             .user = int8_at(result, row, 1),
                             .scopes = text_at(result, row, 2),
                             .suspended = bool_at(result, row, 3),
                             .document = text_at(result, row, 4),
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
        PQclear(rows->result);
        free(rows);
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
static limits limits_of_trip(users_ticket **tickets, int count)
{
    limits l = {.connection = tickets[0]->deadline, .end = question_of(tickets[0])->end};

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
    shared_rows *rows = found > 0 ? malloc(sizeof(*rows)) : NULL;

    if (!rows) {
        PQclear(result);
        return found > 0 ? USERS_DB_FAILED : USERS_DB_OK;
    }
    *rows = (shared_rows){.result = result};
    for (int row = 0; row < found; row++) {
        token_answer *answer = tickets[int8_at(result, row, 5) - 1]->answer;

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
    limits l = limits_of_trip(tickets, count);
    PGresult *result;
    users_db_status status = run(context, &find_tokens, parameters, &l, &result);

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

static users_db_status find_token_alone(request_rec *r, const unsigned char *digest,
                                        const users_statement *statement, bool *found,
                                        users_principal *principal)
{
    users_parameter parameters[] = {{(const char *)digest, USERS_DIGEST_LENGTH}};
    PGresult *result;
    users_db_status status = run_for(r, statement, parameters, &result);

    *found = status == USERS_DB_OK && PQntuples(result) == 1;
    if (*found) {
        *principal = token_at(result, 0);
    }
    return status;
}

static users_db_status find_token_in_company(request_rec *r, const unsigned char *digest,
                                             bool *found, users_principal *principal)
{
    const struct users_database *database = users_settings_of(r->server)->database;
    limits l = limits_of(r);
    token_question question = {digest, l.end};
    token_answer answer = {.status = USERS_DB_BUSY};
    users_ticket ticket = {.question = &question, .answer = &answer, .deadline = l.connection};
    bool answered;

    /* a trip ends at the deadline of who leads it; others may have time left for another one */
    do {
        answered = users_combine(database->tokens, &ticket);
    } while (answered && answer.status == USERS_DB_BUSY && users_now() < ticket.deadline);
    if (r->method_number != M_GET || answer.alone) { /* else nothing follows */
        spend_time(r, &l);
    }
    if (answer.alone) {
        return find_token_alone(r, digest, &find_token_account, found, principal);
    }
    count_refusal(database, answer.status);
    *found = answer.rows != NULL;
    if (*found) {
        apr_pool_cleanup_register(r->pool, answer.rows, leave_rows, apr_pool_cleanup_null);
        *principal = token_at(answer.rows->result, answer.row);
    }
    return answer.status;
}

users_db_status users_store_find_token(request_rec *r,
                                       const unsigned char digest[USERS_DIGEST_LENGTH],
                                       bool with_document, bool *found, users_principal *principal)
{
    const struct users_database *database = users_settings_of(r->server)->database;

    /* while the database is away nobody waits for another one's trip */
    if (with_document && database && database->tokens && !users_pool_is_away(database->pool)) {
        return find_token_in_company(r, digest, found, principal);
    }
    return find_token_alone(r, digest, with_document ? &find_token_account : &find_token, found,
                            principal);
}

users_db_status users_store_find_credential(request_rec *r, const char *name, bool with_document,
                                            bool *found, users_principal *principal,
                                            users_secret *secret)
{
    users_parameter parameters[] = {{name, 0}};
    PGresult *result;
    users_db_status status = run_for(r, with_document ? &find_credential_account : &find_credential,
                                     parameters, &result);

    *found = false;
    if (status == USERS_DB_OK && PQntuples(result) == 1) {
        *secret = (users_secret){.digest = digest_at(result, 0, 2), .hash = text_at(result, 0, 3)};
        *found = !PQgetisnull(result, 0, 0);
    }
    if (*found) {
        *principal = (users_principal){.user = int8_at(result, 0, 0),
                                       .suspended = bool_at(result, 0, 1),
                                       .document = text_at(result, 0, 4),
                                       .document_length = (apr_size_t)PQgetlength(result, 0, 4)};
    }
    return status;
}

/* A claim that is an id: a number above 0, in decimal and no other form; else NULL. */
static const char *id_of_claim(const char *claim, apr_pool_t *pool)
{
    apr_int64_t id = claim ? apr_atoi64(claim) : 0;

    return id > 0 && strcmp(claim, apr_psprintf(pool, "%" APR_INT64_T_FMT, id)) == 0 ? claim : NULL;
}

users_db_status users_store_find_external(request_rec *r, const char *user, bool with_document,
                                          bool *found, users_principal *principal)
{
    const users_settings *settings = users_settings_of(r->server);
    bool by_id = settings->token_user == USERS_TOKEN_USER_ID;
    const users_statement *statement =
        by_id ? (with_document ? &find_by_id_account : &find_by_id)
              : (with_document ? &find_external_account : &find_external);
    users_parameter parameters[] = {{settings->token_application, 0},
                                    {by_id ? id_of_claim(user, r->pool) : user, 0}};
    PGresult *result;
    users_db_status status = run_for(r, statement, parameters, &result);

    *found = status == USERS_DB_OK && PQntuples(result) == 1;
    if (*found) {
        *principal = token_at(result, 0);
    }
    return status;
}

users_db_status users_store_find_application(request_rec *r, const char *client_id, bool *found,
                                             users_application *application, users_secret *secret)
{
    users_parameter parameters[] = {{client_id, 0}};
    PGresult *result;
    users_db_status status = run_for(r, &find_application, parameters, &result);

    *found = status == USERS_DB_OK && PQntuples(result) == 1;
    if (*found) {
        *application = (users_application){.id = int8_at(result, 0, 0),
                                           .scopes = text_at(result, 0, 2),
                                           .default_scopes = text_at(result, 0, 3)};
        *secret = (users_secret){.digest = digest_at(result, 0, 1)};
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
    const char *word = PQntuples(result) == 1 ? text_at(result, 0, 0) : NULL;

    *change = (users_change){.document = word ? text_at(result, 0, 2) : NULL};
    if (!find_outcome(word, &change->outcome) ||
        (change->outcome <= USERS_CHANGE_REPEATED && !change->document)) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, "the contract is broken by the outcome '%s'",
                      word ? word : "");
        return USERS_DB_FAILED;
    }
    change->document_length = (apr_size_t)PQgetlength(result, 0, 2);
    if (text_at(result, 0, 1)) {
        change->faults = json_loads(text_at(result, 0, 1), 0, NULL);
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
    char *json = json_dumps(fields, JSON_COMPACT);
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
        status = run_change(r, &update_account, parameters, &result, &settled);
    }
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
    bool settled;
    users_db_status status =
        json ? run_change(r, &register_account, parameters, &result, &settled) : USERS_DB_FAILED;

    free(json);
    if (status == USERS_DB_OK) {
        status = decode_change(r, result, change);
    }
    if (status == USERS_DB_OK && settled && change->outcome == USERS_CHANGE_UNDER_WAY) {
        return USERS_DB_UNKNOWN; /* it is our own first try that has the idempotency key */
    }
    if (status == USERS_DB_OK) {
        change->labels = PQgetisnull(result, 0, 3) ? "{}" : text_at(result, 0, 3);
    }
    return status;
}

/* Tokens */

users_db_status users_store_issue_token(request_rec *r, apr_int64_t application, apr_int64_t user,
                                        const unsigned char digest[USERS_DIGEST_LENGTH],
                                        const char *scopes, bool *issued, apr_int64_t *created_at)
{
    apr_interval_time_t lifetime = users_settings_of(r->server)->token_lifetime;
    users_parameter parameters[] = {
        {apr_psprintf(r->pool, "%" APR_INT64_T_FMT, application), 0},
        {user ? apr_psprintf(r->pool, "%" APR_INT64_T_FMT, user) : NULL, 0},
        {(const char *)digest, USERS_DIGEST_LENGTH},
        {scopes, 0},
        {apr_psprintf(r->pool, "%" APR_TIME_T_FMT, apr_time_sec(lifetime)), 0},
    };
    PGresult *result;
    users_db_status status = run_for(r, &issue_token, parameters, &result);

    if (status == USERS_DB_OK) {
        *issued = bool_at(result, 0, 0);
        *created_at = int8_at(result, 0, 1);
    }
    return status;
}

users_db_status users_store_revoke_token(request_rec *r, apr_int64_t application,
                                         const unsigned char digest[USERS_DIGEST_LENGTH],
                                         bool *foreign)
{
    users_parameter parameters[] = {
        {apr_psprintf(r->pool, "%" APR_INT64_T_FMT, application), 0},
        {(const char *)digest, USERS_DIGEST_LENGTH},
    };
    PGresult *result;
    users_db_status status = run_for(r, &revoke_token, parameters, &result);

    if (status == USERS_DB_OK) {
        *foreign = !bool_at(result, 0, 0);
    }
    return status;
}

users_db_status users_store_introspect_token(request_rec *r,
                                             const unsigned char digest[USERS_DIGEST_LENGTH],
                                             const char **document)
{
    users_parameter parameters[] = {{(const char *)digest, USERS_DIGEST_LENGTH}};
    PGresult *result;
    users_db_status status = run_for(r, &introspect_token, parameters, &result);

    *document = status == USERS_DB_OK ? text_at(result, 0, 0) : NULL;
    return status;
}
