#include "db/changes.h"

#include "core/clock.h"
#include "db/count.h"
#include "db/result.h"

#include <apr_atomic.h>

#define ABSENCE apr_time_from_sec(60) /* until the function is looked for again */

struct users_changes {
    users_db *db;
    const users_changes_kind *kind;
    users_batcher *batcher;
    apr_uint64_t due; /* users_now(): until then the contract is without the function */
};

typedef struct {
    const users_parameter *elements; /* of the lists: this change's */
    apr_pool_t *pool;                /* for what the statement needs, should it lead one */
} change_question;

typedef struct {
    users_db_status status;
    users_made made;
} change_answer;

static const change_question *question_of(const users_waiter *waiter)
{
    return waiter->question;
}

static users_db_status run(users_changes *changes, users_waiter **waiters, int count,
                           PGresult **result)
{
    const users_changes_kind *kind = changes->kind;
    users_parameter lists[USERS_LISTS_MAX];
    users_parameter elements[USERS_BATCH_MAX] = {{NULL, 0}};
    users_limits l = users_limits_of_all(waiters, count);

    for (int list = 0; list < kind->statement.parameters; list++) {
        for (int i = 0; i < count; i++) {
            elements[i] = question_of(waiters[i])->elements[list];
        }
        lists[list] =
            users_rows_list(question_of(waiters[0])->pool, kind->types[list], elements, count);
    }
    return users_run(changes->db, &kind->statement, lists, &l, result);
}

/*
 * What is known of each change when the statement as a whole has failed. USERS_DB_OK: nothing was
 * done, perhaps for another one's fault, so that each goes alone.
 */
static users_db_status status_of_each(users_db_status status, int count)
{
    bool another =
        status == USERS_DB_FAILED || status == USERS_DB_LATE || status == USERS_DB_CONFLICT;

    return status == USERS_DB_ABSENT || status == USERS_DB_DECLINED || (another && count > 1)
               ? USERS_DB_OK
               : status;
}

/* Give each waiter its row. Takes the result over. */
static users_db_status hand_out(PGresult *result, users_waiter **waiters, int count)
{
    bool failed;
    users_rows *rows = users_rows_share(result, &failed);

    for (int row = 0; rows && row < PQntuples(result); row++) {
        apr_int64_t number = users_int8_at(result, row, 0);

        if (number > 0 && number <= count && !PQgetisnull(result, row, 1)) {
            change_answer *answer = waiters[number - 1]->answer;

            rows->readers += !answer->made.rows;
            answer->made = (users_made){rows, row};
        }
    }
    if (rows && !rows->readers) { /* no row is one of ours */
        PQclear(result);
    }
    return failed ? USERS_DB_LOST : USERS_DB_OK; /* they were made, whether we can tell or not */
}

/* A users_batch_query; context: the users_changes. */
static void make_all(void *context, users_waiter **waiters, int count)
{
    users_changes *changes = context;
    apr_time_t began = users_now();
    PGresult *result;
    users_db_status status = run(changes, waiters, count, &result);

    users_db_count_batch(changes->db->settings, USERS_BATCH_CHANGES, count);
    users_log_at(&changes->db->log, USERS_LOG_TRACE3, 0,
                 "%s for %d requests took %" APR_TIME_T_FMT " us: %s",
                 changes->kind->statement.name, count, users_now() - began,
                 users_db_status_name(status));
    for (int i = 0; i < count; i++) {
        *(change_answer *)waiters[i]->answer = (change_answer){.status = USERS_DB_OK};
    }
    if (status == USERS_DB_ABSENT) {
        apr_atomic_set64(&changes->due, (apr_uint64_t)(users_now() + ABSENCE));
    }
    status =
        status == USERS_DB_OK ? hand_out(result, waiters, count) : status_of_each(status, count);
    for (int i = 0; i < count; i++) {
        ((change_answer *)waiters[i]->answer)->status = status;
    }
}

users_changes *users_changes_create(apr_pool_t *pool, users_db *db, const users_changes_kind *kind,
                                    int limit)
{
    users_changes *changes = apr_pcalloc(pool, sizeof(*changes));

    changes->db = db;
    changes->kind = kind;
    changes->batcher =
        users_batcher_create(pool, limit, db->settings->host_lanes, make_all, changes);
    return changes->batcher ? changes : NULL;
}

users_db_status users_changes_make(users_db_call *call, users_changes *changes,
                                   const users_parameter *elements, users_made *made)
{
    users_limits limits = users_limits_of(call, call->db);
    change_question question = {elements, call->pool};
    change_answer answer = {.status = USERS_DB_BUSY};
    users_waiter waiter = {
        .question = &question, .answer = &answer, .deadline = limits.connection, .end = limits.end};
    bool answered;

    *made = (users_made){.rows = NULL};
    if (!changes || (apr_uint64_t)users_now() < apr_atomic_read64(&changes->due)) {
        return USERS_DB_OK;
    }
    users_log_at(&call->log, USERS_LOG_TRACE3, 0, "the change joins those under way");
    do { /* its deadline was perhaps another's, who had less time left */
        answered = users_batch_join(changes->batcher, &waiter);
    } while (answered && answer.status == USERS_DB_BUSY && users_now() < waiter.deadline);
    users_limits_spend(call, &limits);
    users_run_count(call->db, answer.status);
    users_log_at(&call->log, answer.status ? USERS_LOG_INFO : USERS_LOG_TRACE2, 0,
                 "the change was made with others: %s",
                 answer.made.rows ? "stored" : users_db_status_name(answer.status));
    *made = answer.made;
    if (made->rows) {
        users_rows_free_with(call->pool, made->rows);
    }
    return answer.status;
}
