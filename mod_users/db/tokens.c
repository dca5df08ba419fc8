#include "db/tokens.h"

#include "core/clock.h"
#include "db/result.h"
#include "db/route.h"

#include <apr_atomic.h>
#include <arpa/inet.h>

/*
 * One query for a token, its owner and, on demand, the owner's account. A suspended account still
 * has its row: the answer differs from that to an unknown token.
 */
#define TOKEN_COLUMNS                                                                              \
    "select t.application_id::bigint, t.user_id::bigint, array_to_string(t.scopes, ' '),"          \
    " a.suspended, "
#define FIND_TOKEN(document)                                                                       \
    TOKEN_COLUMNS document                                                                         \
        " from users_api.token t left join users_api.account a on a.user_id = t.user_id"           \
        " where t.digest = $1"
static const users_statement find_token = {USERS_FIND_TOKEN, "find_token", FIND_TOKEN("null"), 1,
                                           true};
static const users_statement find_token_account = {USERS_FIND_TOKEN_ACCOUNT, "find_token_account",
                                                   FIND_TOKEN("a.document"), 1, true};
/* Many tokens at once; the joins are lateral so that a plan for any number stays on the indexes. */
static const users_statement find_tokens = {
    USERS_FIND_TOKENS, "find_tokens",
    TOKEN_COLUMNS
    "a.document, asked.number"
    " from unnest($1::bytea[]) with ordinality asked (digest, number)"
    " cross join lateral (select * from users_api.token where digest = asked.digest) t"
    " left join lateral (select * from users_api.account where user_id = t.user_id) a on true",
    1, true};

/* The rows of a shared query: each request reads its own, and the last one frees them all. */
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

/* What a request asks a shared query. */
typedef struct {
    const unsigned char *digest;
    apr_time_t end; /* until when the query must have ended */
} token_question;

/* What a shared query brought for one token. */
typedef struct {
    users_db_status status;
    bool alone;        /* it failed, perhaps by another's fault: to be tried alone */
    shared_rows *rows; /* NULL: there is no such token */
    int row;
} token_answer;

static const token_question *question_of(const users_waiter *waiter)
{
    return waiter->question;
}

/* Who leads has waited the longest, unless some come from a query that got no connection. */
static users_limits limits_of_query(users_waiter **waiters, int count)
{
    users_limits l = {.connection = waiters[0]->deadline, .end = question_of(waiters[0])->end};

    for (int i = 1; i < count; i++) {
        if (question_of(waiters[i])->end < l.end) {
            l.end = question_of(waiters[i])->end;
        }
    }
    return l;
}

/* The digests as an array in PostgreSQL's binary format (array_recv). Returns its octets. */
static int pack_digests(users_waiter **waiters, int count, char *array)
{
    apr_uint32_t header[] = {htonl(1), 0, htonl(17), htonl((apr_uint32_t)count), htonl(1)};
    apr_uint32_t length = htonl(USERS_DIGEST_LENGTH);
    char *end = array + sizeof(header);

    memcpy(array, header, sizeof(header)); /* dimensions, no nulls, bytea, size, lower bound */
    for (int i = 0; i < count; i++) {
        memcpy(end, &length, sizeof(length));
        memcpy(end + sizeof(length), question_of(waiters[i])->digest, USERS_DIGEST_LENGTH);
        end += sizeof(length) + USERS_DIGEST_LENGTH;
    }
    return (int)(end - array);
}

/* Give each waiter its row; those without one found no token. Takes the result over. */
static users_db_status hand_out(PGresult *result, users_waiter **waiters)
{
    int found = PQntuples(result);
    shared_rows *rows = found > 0 ? PQresultAlloc(result, sizeof(*rows)) : NULL;

    if (!rows) {
        PQclear(result);
        return found > 0 ? USERS_DB_FAILED : USERS_DB_OK;
    }
    *rows = (shared_rows){.result = result};
    for (int row = 0; row < found; row++) {
        token_answer *answer = waiters[users_int8_at(result, row, 5) - 1]->answer;

        rows->readers += !answer->rows;
        answer->rows = rows;
        answer->row = row;
    }
    return USERS_DB_OK;
}

/* A users_batch_query; context: the users_db. */
void users_tokens_find_all(void *context, users_waiter **waiters, int count)
{
    char array[5 * 4 + USERS_BATCH_MAX * (4 + USERS_DIGEST_LENGTH)];
    users_parameter parameters[] = {{array, pack_digests(waiters, count, array)}};
    users_limits l = limits_of_query(waiters, count);
    const users_db *db = context;
    apr_time_t began = users_now();
    PGresult *result;
    users_db_status status = users_run(context, &find_tokens, parameters, &l, &result);

    users_log_at(&db->log, USERS_LOG_TRACE3, 0,
                 "find_tokens for %d requests took %" APR_TIME_T_FMT " us: %s", count,
                 users_now() - began, users_db_status_name(status));

    for (int i = 0; i < count; i++) {
        *(token_answer *)waiters[i]->answer = (token_answer){.status = USERS_DB_OK};
    }
    if (status == USERS_DB_OK) {
        status = hand_out(result, waiters);
    }
    for (int i = 0; i < count; i++) {
        token_answer *answer = waiters[i]->answer;

        answer->status = status;
        answer->alone = status == USERS_DB_FAILED && count > 1;
    }
}

/* What is looked up, and what is found. */
typedef struct {
    const unsigned char *digest;
    bool with_document;
    bool *found;
    users_principal *principal;
} token_look_up;

static users_db_status find_alone(users_db_call *call, users_db *db, const token_look_up *l)
{
    users_parameter parameters[] = {{(const char *)l->digest, USERS_DIGEST_LENGTH}};
    PGresult *result;
    users_db_status status = users_run_for(
        call, db, l->with_document ? &find_token_account : &find_token, parameters, &result);

    *l->found = status == USERS_DB_OK && PQntuples(result) == 1;
    if (*l->found) {
        *l->principal = users_principal_at(result, 0);
    }
    return status;
}

static users_db_status find_together(users_db_call *call, users_db *db, const token_look_up *l)
{
    users_limits limits = users_limits_of(call, db);
    token_question question = {l->digest, limits.end};
    token_answer answer = {.status = USERS_DB_BUSY};
    users_waiter waiter = {.question = &question, .answer = &answer, .deadline = limits.connection};
    bool answered;

    /* a query ends at the deadline of its first waiter; others may have time left for another one
     */
    do {
        answered = users_batch_join(db->tokens, &waiter);
    } while (answered && answer.status == USERS_DB_BUSY && users_now() < waiter.deadline);
    users_limits_spend(call, &limits);
    if (answer.alone) {
        return find_alone(call, db, l);
    }
    users_run_count(db, answer.status);
    users_log_at(&call->log, USERS_LOG_TRACE2, 0, "the token was looked up with others: %s",
                 users_db_status_name(answer.status));
    *l->found = answer.rows != NULL;
    if (*l->found) {
        apr_pool_cleanup_register(call->pool, answer.rows, leave_rows, apr_pool_cleanup_null);
        *l->principal = users_principal_at(answer.rows->result, answer.row);
    }
    return answer.status;
}

/* A users_look_up. While the database is away nobody waits for another one's query. */
static users_db_status find_at(users_db_call *call, users_db *db, void *look_up, apr_int64_t *user)
{
    const token_look_up *l = look_up;
    bool together = l->with_document && db && db->tokens && !users_pool_is_away(db->pool);
    users_db_status status = together ? find_together(call, db, l) : find_alone(call, db, l);

    *user = users_route_admitted(*l->found, l->principal);
    return status;
}

users_outcome users_db_find_token(users_db_call *call,
                                  const unsigned char digest[USERS_DIGEST_LENGTH],
                                  users_knowledge wanted, bool *found, users_principal *principal)
{
    token_look_up look_up = {digest, wanted != USERS_KNOW_OWNER, found, principal};

    return users_route_look_up(call, wanted, find_at, &look_up);
}
