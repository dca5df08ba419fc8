/*
 * Uses a database through db/db.h, without httpd: t/unit/db.t drives it by lines of its standard
 * input and reads what came of each.
 *
 *   token SECRET          look a token up, with its account
 *   update USER OBJECT    change fields of an account
 *
 * An answer is the outcome, the microseconds that were left of the request's time, and what was
 * found. Lines for the log begin with "log" and their level.
 */
#include "db/db.h"

#include <apr_general.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const outcomes[] = {
    [USERS_OUTCOME_DONE] = "done",     [USERS_OUTCOME_UNAVAILABLE] = "unavailable",
    [USERS_OUTCOME_LATE] = "late",     [USERS_OUTCOME_UNKNOWN] = "unknown",
    [USERS_OUTCOME_FAILED] = "failed",
};

static void print_line(void *unused, const char *file, int line, users_log_level level,
                       apr_status_t status, const char *text)
{
    (void)unused;
    (void)file;
    (void)line;
    (void)status;
    printf("log %d ", (int)level);
    for (; *text; text++) {
        putchar(*text == '\n' ? ' ' : *text);
    }
    putchar('\n');
}

static const users_log everything = {.write = print_line, .level = USERS_LOG_TRACE4};

static void look_up(users_db_call *call, const char *secret)
{
    unsigned char digest[USERS_DIGEST_LENGTH];
    bool found = false;
    users_principal principal = {.user = 0};
    users_outcome outcome;

    if (!users_credential_digest(secret, digest)) {
        abort();
    }
    outcome = users_db_find_token(call, digest, USERS_KNOW_ACCOUNT, &found, &principal);
    printf("%s %" APR_TIME_T_FMT " %" APR_INT64_T_FMT " %s\n", outcomes[outcome], call->left,
           principal.user, found && principal.document ? principal.document : "-");
}

static void update(users_db_call *call, char *arguments)
{
    char *fields;
    apr_int64_t user = strtoll(arguments, &fields, 10);
    users_submission wanted = {.fields = json_loads(fields, 0, NULL), .body = "{}", .store = true};
    users_change change = {.kind = USERS_CHANGE_INVALID};
    users_outcome outcome =
        users_db_update_account(call, &(users_principal){.user = user}, &wanted, NULL, &change);

    printf("%s %" APR_TIME_T_FMT " %d %s\n", outcomes[outcome], call->left, (int)change.kind,
           change.document ? change.document : "-");
    json_decref((json_t *)wanted.fields);
}

/* The first argument is a connection string. */
int main(int count, char **arguments)
{
    users_db_settings settings = {.conninfo = count > 1 ? arguments[1] : "",
                                  .db_keep = 2,
                                  .db_max = 2,
                                  .db_exptime = apr_time_from_sec(60),
                                  .db_acquire_timeout = apr_time_from_sec(3),
                                  .db_connect_timeout = apr_time_from_sec(1),
                                  .db_timeout = apr_time_from_sec(3),
                                  .request_timeout = apr_time_from_sec(5),
                                  .db_prepare = true,
                                  .read_lanes = 1};
    apr_pool_t *pool;
    users_db *db;
    char line[4096];

    if (apr_initialize() != APR_SUCCESS || apr_pool_create(&pool, NULL) != APR_SUCCESS) {
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    db = users_db_open(pool, &settings, &everything);
    while (fgets(line, sizeof(line), stdin)) {
        users_db_call call = {.db = db, .left = settings.request_timeout, .log = everything};

        apr_pool_create(&call.pool, pool);
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "token ", 6) == 0) {
            look_up(&call, line + 6);
        } else if (strncmp(line, "update ", 7) == 0) {
            update(&call, line + 7);
        }
        apr_pool_destroy(call.pool);
    }
    apr_pool_destroy(pool);
    apr_terminate();
    return 0;
}
