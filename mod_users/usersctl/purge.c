#include "usersctl/purge.h"

#include "usersctl/actions.h"
#include "usersctl/database.h"

#include <apr_strings.h>

/* Walk a table from its first page to its last, each batch a transaction. */
static users_exit purge_table(PGconn *db, const char *table, const char *rows,
                              const char *older_than, long long *purged)
{
    users_exit status = USERS_EXIT_DONE;
    PGresult *result;
    char page[32] = "0";
    const char *parameters[] = {table, page, rows, older_than};

    *purged = 0;
    for (bool more = true; more && !users_database_interrupted();) {
        status = users_database_call(db, "purge", parameters, 4, false, &result);
        if (status != USERS_EXIT_DONE) {
            return status;
        }
        more = !PQgetisnull(result, 0, 0);
        apr_cpystrn(page, PQgetvalue(result, 0, 0), sizeof(page));
        *purged += apr_atoi64(PQgetvalue(result, 0, 1));
        PQclear(result);
    }
    return status;
}

/* What can be purged: the tables (users_admin.purge), how they are told, and by which option. */
static const char *const tables[] = {"token",  "credential", "idempotency",
                                     "change", "audit",      "event"};
static const char *const names[] = {"tokens",  "credentials", "idempotency_keys",
                                    "changes", "audit",       "events"};
#define TABLES (sizeof(tables) / sizeof(*tables))
static const users_argument ages[TABLES] = {
    USERS_ARG_OLDER_THAN, USERS_ARG_OLDER_THAN,       USERS_ARG_OLDER_THAN,
    USERS_ARG_OLDER_THAN, USERS_ARG_AUDIT_OLDER_THAN, USERS_ARG_EVENTS_OLDER_THAN};

/* What is gone is gone, and is told, however it ends. */
users_exit users_purge(users_invocation *invocation)
{
    const char **values = invocation->values;
    long long purged[TABLES] = {0};
    users_exit status = USERS_EXIT_DONE;
    users_exit told;

    for (size_t i = 0; i < TABLES && status == USERS_EXIT_DONE; i++) {
        status = purge_table(invocation->db, tables[i], values[USERS_ARG_BATCH], values[ages[i]],
                             &purged[i]);
    }
    told = users_action_print(invocation, names, purged, TABLES);
    return status == USERS_EXIT_DONE || users_database_interrupted() ? told : status;
}
