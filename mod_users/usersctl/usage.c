#include "usersctl/usage.h"

#include "usersctl/actions.h"
#include "usersctl/database.h"
#include "usersctl/records.h"

#include <apr_strings.h>
#include <apr_time.h>
#include <string.h>

#define BATCH        "1000" /* accounts a transaction */
#define FAULTS_SHOWN "20"
#define COPY_SIZE    65536                 /* octets that are sent together */
#define PAUSE        apr_time_from_sec(1)  /* before accounts that were locked are tried again */
#define PATIENCE     apr_time_from_sec(10) /* with them: a request of the API is shorter */

typedef struct {
    users_invocation *invocation;
    apr_array_header_t *columns; /* const char * */
    char *copy;                  /* COPY_SIZE octets */
    size_t copied;
    users_exit sent; /* how it went so far */
    apr_int64_t lines;
    apr_int64_t stored;
    apr_int64_t changed;
} usage_import;

/* Read what lines may name. */
static users_exit begin(usage_import *i)
{
    static const char *const others[] = {
        "id",       "email",           "external_id",       "application",
        "provider", "provider_server", "provider_username", "unprocessed_usage"};
    PGconn *db = i->invocation->db;
    PGresult *counters;
    users_exit status = users_database_run(db, "set statement_timeout = 0");

    if (status == USERS_EXIT_DONE) {
        status = users_database_call(db, "begin_usage_import", NULL, 0, false, &counters);
    }
    if (status != USERS_EXIT_DONE) {
        return status;
    }
    i->columns = apr_array_make(i->invocation->pool, 16, sizeof(const char *));
    for (size_t name = 0; name < sizeof(others) / sizeof(*others); name++) {
        APR_ARRAY_PUSH(i->columns, const char *) = others[name];
    }
    for (int row = 0; row < PQntuples(counters); row++) {
        APR_ARRAY_PUSH(i->columns, const char *) =
            apr_pstrdup(i->invocation->pool, PQgetvalue(counters, row, 0));
    }
    PQclear(counters);
    return USERS_EXIT_DONE;
}

/* Lines into the database */

/* Send what there is, unless that has failed already. */
static void flush(usage_import *i)
{
    if (i->sent == USERS_EXIT_DONE) {
        i->sent = users_database_copy_put(i->invocation->db, i->copy, i->copied);
    }
    i->copied = 0;
}

static void put(usage_import *i, char octet)
{
    if (i->copied == COPY_SIZE) {
        flush(i);
    }
    i->copy[i->copied++] = octet;
}

/* A value in COPY's text format; NULL for null. */
static void put_value(usage_import *i, const char *text, char end)
{
    static const char special[] = "\\\t\n\r";
    static const char escapes[] = "\\tnr";

    if (!text) {
        put(i, '\\');
        put(i, 'N');
    }
    for (; text && *text; text++) {
        const char *found = strchr(special, *text);

        if (found) {
            put(i, '\\');
            put(i, escapes[found - special]);
        } else {
            put(i, *text);
        }
    }
    put(i, end);
}

static void put_record(usage_import *i, const users_record *record)
{
    char line[32];

    apr_snprintf(line, sizeof(line), "%" APR_INT64_T_FMT, record->line);
    put_value(i, line, '\t');
    put_value(i, record->text, '\t');
    put_value(i, record->fault, '\n');
    i->lines++;
}

static users_exit send_all(usage_import *i)
{
    users_records *records = users_records_open(
        i->invocation->pool, i->invocation->values[USERS_ARG_FORMAT], i->columns);
    users_record record;

    if (!records) {
        return users_output_complain(USERS_EXIT_FAILED, "no memory");
    }
    while (i->sent == USERS_EXIT_DONE && users_records_next(records, &record)) {
        put_record(i, &record);
        users_output_progress("%" APR_INT64_T_FMT " lines read", i->lines);
    }
    flush(i);
    if (i->sent == USERS_EXIT_DONE && users_records_error(records)) {
        char reason[128];

        return users_output_complain(
            USERS_EXIT_FAILED, "can't read standard input: %s",
            apr_strerror(users_records_error(records), reason, sizeof(reason)));
    }
    return i->sent;
}

static users_exit copy(usage_import *i)
{
    PGconn *db = i->invocation->db;
    users_exit status =
        users_database_copy_begin(db, "copy pg_temp.usage_line (line, input, fault) from stdin");

    i->copy = apr_palloc(i->invocation->pool, COPY_SIZE);
    if (status == USERS_EXIT_DONE) {
        status = send_all(i);
    }
    return status == USERS_EXIT_DONE ? users_database_copy_end(db) : status;
}

/* Are all lines good? Says which are not. */
static users_exit judge(usage_import *i)
{
    static const char *const parameters[] = {FAULTS_SHOWN};
    PGresult *judged;
    users_exit status;
    const char *faults;

    users_output_progress("judging %" APR_INT64_T_FMT " lines", i->lines);
    status =
        users_database_call(i->invocation->db, "judge_usage_import", parameters, 1, false, &judged);
    if (status != USERS_EXIT_DONE) {
        return status;
    }
    faults = PQgetvalue(judged, 0, 2);
    if (strcmp(faults, "0") != 0) {
        for (int row = 0; row < PQntuples(judged); row++) {
            users_output_complain(USERS_EXIT_USAGE, "line %s: %s", PQgetvalue(judged, row, 0),
                                  PQgetvalue(judged, row, 1));
        }
        status = users_output_complain(
            USERS_EXIT_USAGE, "%s of %" APR_INT64_T_FMT " lines have a fault: nothing is stored",
            faults, i->lines);
    }
    PQclear(judged);
    return status;
}

/* Go through what is to be stored once. */
static users_exit store_round(usage_import *i)
{
    char after[32] = "0";
    const char *parameters[] = {after, BATCH};
    users_exit status = USERS_EXIT_DONE;
    PGresult *result;

    for (bool more = true; more && !users_database_interrupted();) {
        status = users_database_call(i->invocation->db, "store_usage_import", parameters, 2, false,
                                     &result);
        if (status != USERS_EXIT_DONE) {
            return status;
        }
        more = !PQgetisnull(result, 0, 0);
        apr_cpystrn(after, PQgetvalue(result, 0, 0), sizeof(after));
        i->stored += apr_atoi64(PQgetvalue(result, 0, 1));
        i->changed += apr_atoi64(PQgetvalue(result, 0, 2));
        PQclear(result);
        users_output_progress("%" APR_INT64_T_FMT " of %" APR_INT64_T_FMT " accounts stored",
                              i->stored, i->lines);
    }
    return users_database_interrupted() ? USERS_EXIT_FAILED : status;
}

/* What is locked is left, and tried again. */
static users_exit store(usage_import *i)
{
    apr_time_t patience = apr_time_now() + PATIENCE;
    users_exit status = USERS_EXIT_DONE;

    while (status == USERS_EXIT_DONE && i->stored < i->lines) {
        apr_int64_t before = i->stored;

        status = store_round(i);
        patience = i->stored > before ? apr_time_now() + PATIENCE : patience;
        if (status == USERS_EXIT_DONE && i->stored < i->lines) {
            if (apr_time_now() > patience) {
                return users_output_complain(
                    USERS_EXIT_FAILED,
                    "%" APR_INT64_T_FMT
                    " accounts are locked by somebody else: import the same again later",
                    i->lines - i->stored);
            }
            apr_sleep(PAUSE);
        }
    }
    return status;
}

users_exit users_usage_import(users_invocation *invocation)
{
    static const char *const names[] = {"lines", "stored", "changed"};
    usage_import i = {.invocation = invocation};
    users_exit status = begin(&i);
    users_exit told;

    if (status == USERS_EXIT_DONE) {
        status = copy(&i);
    }
    if (status == USERS_EXIT_DONE) {
        status = judge(&i);
    }
    if (status != USERS_EXIT_DONE) {
        return status;
    }
    status = store(&i);
    told = users_action_print(invocation, names, (long long[]){i.lines, i.stored, i.changed}, 3);
    return status == USERS_EXIT_DONE ? told : status;
}
