#include "db/tokens.h"

#include "core/clock.h"
#include "db/count.h"
#include "db/result.h"
#include "db/route.h"
#include "db/rows.h"

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
                                           .reads = true};
static const users_statement find_token_account = {USERS_FIND_TOKEN_ACCOUNT, "find_token_account",
                                                   FIND_TOKEN("a.document"), 1, .reads = true};
/*
 * Many tokens at once; the joins are lateral so that a plan for any number stays on the indexes.
 * Where nobody wants a document, not even its making is prepared.
 */
#define FIND_TOKENS(list, document)                                                                \
    TOKEN_COLUMNS                                                                                  \
    "a.document, asked.number from " list                                                          \
    " cross join lateral (select * from users_api.token where digest = asked.digest) t"            \
    " left join lateral (select suspended, " document " as document"                               \
    " from users_api.account where user_id = t.user_id) a on true"
static const users_statement find_owners = {
    USERS_FIND_OWNERS, "find_owners",
    FIND_TOKENS("unnest($1::bytea[]) with ordinality asked (digest, number)", "null"), 1,
    .reads = true};
static const users_statement find_tokens = {
    USERS_FIND_TOKENS, "find_tokens",
    FIND_TOKENS("unnest($1::bytea[], $2::boolean[]) with ordinality"
                " asked (digest, with_document, number)",
                "case when with_document then document end"),
    2, .reads = true};

/* What a request asks a shared query. */
typedef struct {
    const unsigned char *digest;
    bool with_document;
    apr_pool_t *pool; /* for what the query needs, should it lead one */
} token_question;

/* What a shared query brought for one token. */
typedef struct {
    users_db_status status;
    bool alone;       /* it failed, perhaps by another's fault: to be tried alone */
    users_rows *rows; /* NULL: there is no such token */
    int row;
} token_answer;

static const token_question *question_of(const users_waiter *waiter)
{
    return waiter->question;
}

/* Run the query, for the digests of all and whether their documents are wanted. */
static users_db_status ask(users_db *db, users_waiter **waiters, int count, PGresult **result)
{
    users_parameter digests[USERS_BATCH_MAX] = {{NULL, 0}};
    users_parameter documents[USERS_BATCH_MAX] = {{NULL, 0}};
    users_parameter parameters[2];
    users_limits l = users_limits_of_all(waiters, count);
    apr_pool_t *pool = question_of(waiters[0])->pool;
    bool any_document = false;

    for (int i = 0; i < count; i++) {
        const token_question *question = question_of(waiters[i]);

        digests[i] = (users_parameter){(const char *)question->digest, USERS_DIGEST_LENGTH};
        documents[i] = (users_parameter){question->with_document ? "\1" : "\0", 1};
        any_document = any_document || question->with_document;
    }
    parameters[0] = users_rows_list(pool, USERS_TYPE_BYTEA, digests, count);
    parameters[1] = users_rows_list(pool, USERS_TYPE_BOOL, documents, count);
    return users_run(db, any_document ? &find_tokens : &find_owners, parameters, &l, result);
}

/* Give each waiter its row; those without one found no token. Takes the result over. */
static users_db_status hand_out(PGresult *result, users_waiter **waiters)
{
    bool failed;
    users_rows *rows = users_rows_share(result, &failed);

    for (int row = 0; rows && row < PQntuples(result); row++) {
        token_answer *answer = waiters[users_int8_at(result, row, 5) - 1]->answer;

        rows->readers += !answer->rows;
        answer->rows = rows;
        answer->row = row;
    }
    return failed ? USERS_DB_FAILED : USERS_DB_OK;
}

/* A users_batch_query; context: the users_db. */
void users_tokens_find_all(void *context, users_waiter **waiters, int count)
{
    const users_db *db = context;
    apr_time_t began = users_now();
    PGresult *result;
    users_db_status status = ask(context, waiters, count, &result);

    users_db_count_batch(db->settings, USERS_BATCH_READS, count);
    users_log_at(&db->log, USERS_LOG_TRACE3, 0,
                 "the tokens of %d requests took %" APR_TIME_T_FMT " us: %s", count,
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
    token_question question = {l->digest, l->with_document, call->pool};
    token_answer answer = {.status = USERS_DB_BUSY};
    users_waiter waiter = {
        .question = &question, .answer = &answer, .deadline = limits.connection, .end = limits.end};
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
    users_log_at(&call->log, answer.status ? USERS_LOG_INFO : USERS_LOG_TRACE2, 0,
                 "the token was looked up with others: %s", users_db_status_name(answer.status));
    *l->found = answer.rows != NULL;
    if (*l->found) {
        users_rows_free_with(call->pool, answer.rows);
        *l->principal = users_principal_at(answer.rows->result, answer.row);
    }
    return answer.status;
}

/* A users_look_up. While the database is away nobody waits for another one's query. */
static users_db_status find_at(users_db_call *call, users_db *db, void *look_up, apr_int64_t *user)
{
    const token_look_up *l = look_up;
    bool together = db && db->tokens && !users_pool_is_away(db->pool);
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
