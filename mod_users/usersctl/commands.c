#include "usersctl/commands.h"

#include "core/credential.h"
#include "usersctl/database.h"
#include "usersctl/migrate.h"

#include <apr_strings.h>
#include <stdio.h>
#include <stdlib.h>

/* --limit, which is a number by the time that a command runs. */
static int limit_of(const users_invocation *invocation)
{
    return (int)strtol(invocation->values[USERS_ARG_LIMIT], NULL, 10);
}

/* Limits are one more in the database: that one tells that there is more. */
static users_exit call(users_invocation *invocation, PGresult **result)
{
    const users_command *command = invocation->command;
    const char *parameters[USERS_PARAMETERS_MAX];
    int count = 0;

    for (; command->parameters[count] != USERS_ARG_NONE; count++) {
        users_argument argument = command->parameters[count];

        parameters[count] = argument == USERS_ARG_LIMIT
                                ? apr_itoa(invocation->pool, limit_of(invocation) + 1)
                                : invocation->values[argument];
    }
    return users_database_call(invocation->db, command->function, parameters, count,
                               invocation->values[USERS_ARG_JSON] != NULL, result);
}

static users_exit list(users_invocation *invocation)
{
    int limit = limit_of(invocation);
    PGresult *result;
    users_exit status = call(invocation, &result);
    bool more;

    if (status != USERS_EXIT_DONE) {
        return status;
    }
    more = PQntuples(result) > limit;
    if (invocation->values[USERS_ARG_JSON]) {
        users_output_json_list(result, more ? limit : PQntuples(result));
    } else {
        users_output_table(result, more ? limit : PQntuples(result));
    }
    PQclear(result);
    status = users_output_finish();
    if (more) {
        users_output_complain(status, "there are more than these %d: --limit shows more", limit);
    }
    return status;
}

/* Tell of one row, and the secret with it. */
static users_exit tell(const users_invocation *invocation, const PGresult *result)
{
    const char *name = invocation->secret ? invocation->command->secret : NULL;

    if (invocation->values[USERS_ARG_JSON]) {
        users_output_json(result, name, invocation->secret);
    } else {
        users_output_record(result, name, invocation->secret);
    }
    return users_output_finish();
}

/* The change is committed when it has been told: a secret that nobody saw is none. */
static users_exit change(users_invocation *invocation)
{
    PGresult *result;
    users_exit status;

    if (invocation->values[USERS_ARG_HASH]) { /* which can be guessed at, unlike a digest */
        users_database_hide_parameters(invocation->db);
    }
    status = users_database_run(invocation->db, "begin");
    if (status != USERS_EXIT_DONE) {
        return status;
    }
    status = call(invocation, &result);
    if (status != USERS_EXIT_DONE) {
        return status;
    }
    status = tell(invocation, result);
    PQclear(result);
    return status != USERS_EXIT_DONE ? status : users_database_run(invocation->db, "commit");
}

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

/* What can be purged: how it is told, and the table (users_admin.purge). */
static const struct {
    const char *name;
    const char *table;
} purged_tables[] = {
    {"tokens", "token"},
    {"credentials", "credential"},
    {"idempotency_keys", "idempotency"},
    {"changes", "change"},
};
#define PURGED_TABLES (sizeof(purged_tables) / sizeof(*purged_tables))

/* What is gone is gone, and is told, however it ends. */
static users_exit purge(users_invocation *invocation)
{
    const char **values = invocation->values;
    bool json = values[USERS_ARG_JSON] != NULL;
    long long purged[PURGED_TABLES] = {0};
    users_exit status = USERS_EXIT_DONE;
    users_exit told;

    for (size_t i = 0; i < PURGED_TABLES && status == USERS_EXIT_DONE; i++) {
        status = purge_table(invocation->db, purged_tables[i].table, values[USERS_ARG_BATCH],
                             values[USERS_ARG_OLDER_THAN], &purged[i]);
    }
    for (size_t i = 0; i < PURGED_TABLES; i++) {
        printf(json ? "%s\"%s\":%lld" : "%s%-16s  %lld\n", json ? i ? "," : "{" : "",
               purged_tables[i].name, purged[i]);
    }
    if (json) {
        puts("}");
    }
    told = users_output_finish();
    return status == USERS_EXIT_DONE || users_database_interrupted() ? told : status;
}

const users_command users_commands[] = {
    {.noun = "application",
     .verb = "add",
     .operand = USERS_ARG_NAME,
     .optional = USERS_BIT(USERS_ARG_SCOPES) | USERS_BIT(USERS_ARG_DEFAULT_SCOPES) |
                 USERS_BIT(USERS_ARG_CLIENT_ID) | USERS_BIT(USERS_ARG_SECRET),
     .summary = "make an application, and tell its client_id and client_secret",
     .run = change,
     .function = "add_application",
     .parameters = {USERS_ARG_NAME, USERS_ARG_CLIENT_ID, USERS_ARG_DIGEST, USERS_ARG_SCOPES,
                    USERS_ARG_DEFAULT_SCOPES},
     .made = USERS_ARG_CLIENT_ID,
     .secret = "client_secret",
     .secret_octets = USERS_TOKEN_OCTETS},
    {.noun = "application",
     .verb = "list",
     .optional = USERS_BIT(USERS_ARG_LIMIT),
     .summary = "show the applications, removed ones too",
     .run = list,
     .function = "list_applications",
     .parameters = {USERS_ARG_LIMIT}},
    {.noun = "application",
     .verb = "rotate",
     .operand = USERS_ARG_CLIENT_ID,
     .optional = USERS_BIT(USERS_ARG_SECRET) | USERS_BIT(USERS_ARG_KEEP_OLD),
     .summary = "replace its client_secret, at once or after a while; its tokens stay valid",
     .run = change,
     .function = "rotate_secret",
     .parameters = {USERS_ARG_CLIENT_ID, USERS_ARG_DIGEST, USERS_ARG_KEEP_OLD},
     .secret = "client_secret",
     .secret_octets = USERS_TOKEN_OCTETS},
    {.noun = "application",
     .verb = "remove",
     .operand = USERS_ARG_CLIENT_ID,
     .summary = "end it and all of its tokens, at once and for ever",
     .run = change,
     .function = "remove_application",
     .parameters = {USERS_ARG_CLIENT_ID}},
    {.noun = "token",
     .verb = "issue",
     .required = USERS_BIT(USERS_ARG_APPLICATION) | USERS_BIT(USERS_ARG_SCOPES),
     .optional = USERS_BIT(USERS_ARG_USER) | USERS_BIT(USERS_ARG_EXPIRES),
     .summary = "make a token and tell it; without a user it is the application's own",
     .run = change,
     .function = "issue_token",
     .parameters = {USERS_ARG_DIGEST, USERS_ARG_APPLICATION, USERS_ARG_SCOPES, USERS_ARG_USER,
                    USERS_ARG_EXPIRES},
     .secret = "token",
     .secret_octets = USERS_TOKEN_OCTETS},
    {.noun = "token",
     .verb = "list",
     .optional =
         USERS_BIT(USERS_ARG_APPLICATION) | USERS_BIT(USERS_ARG_USER) | USERS_BIT(USERS_ARG_LIMIT),
     .summary = "show the tokens, dead ones too",
     .run = list,
     .function = "list_tokens",
     .parameters = {USERS_ARG_APPLICATION, USERS_ARG_USER, USERS_ARG_LIMIT}},
    {.noun = "token",
     .verb = "revoke",
     .operand = USERS_ARG_HANDLE,
     .summary = "end one by the first digits of its digest; -: the token itself on standard input",
     .run = change,
     .function = "revoke_token",
     .parameters = {USERS_ARG_HANDLE}},
    {.noun = "token",
     .verb = "revoke",
     .optional = USERS_BIT(USERS_ARG_APPLICATION) | USERS_BIT(USERS_ARG_USER),
     .needs_one = true,
     .summary = "end all of an application, of a user, or of a user with an application",
     .run = change,
     .function = "revoke_tokens",
     .parameters = {USERS_ARG_APPLICATION, USERS_ARG_USER}},
    {.noun = "credential",
     .verb = "add",
     .operand = USERS_ARG_USER,
     .optional = USERS_BIT(USERS_ARG_USERNAME) | USERS_BIT(USERS_ARG_HASH),
     .summary = "give a user a name and a password for the API, and tell them",
     .run = change,
     .function = "add_credential",
     .parameters = {USERS_ARG_USER, USERS_ARG_USERNAME, USERS_ARG_DIGEST, USERS_ARG_HASH},
     .made = USERS_ARG_USERNAME,
     .secret = "password",
     .secret_octets = USERS_SECRET_OCTETS},
    {.noun = "credential",
     .verb = "list",
     .optional = USERS_BIT(USERS_ARG_USER) | USERS_BIT(USERS_ARG_LIMIT),
     .summary = "show the credentials, revoked ones too",
     .run = list,
     .function = "list_credentials",
     .parameters = {USERS_ARG_USER, USERS_ARG_LIMIT}},
    {.noun = "credential",
     .verb = "revoke",
     .operand = USERS_ARG_USERNAME,
     .summary = "end a name and its password",
     .run = change,
     .function = "revoke_credential",
     .parameters = {USERS_ARG_USERNAME}},
    {.noun = "user",
     .verb = "show",
     .operand = USERS_ARG_USER,
     .summary = "show an account",
     .run = change,
     .function = "show_user",
     .parameters = {USERS_ARG_USER}},
    {.noun = "user",
     .verb = "suspend",
     .operand = USERS_ARG_USER,
     .summary = "have a user refused, whatever the credential",
     .run = change,
     .function = "suspend_user",
     .parameters = {USERS_ARG_USER}},
    {.noun = "user",
     .verb = "resume",
     .operand = USERS_ARG_USER,
     .summary = "end that",
     .run = change,
     .function = "resume_user",
     .parameters = {USERS_ARG_USER}},
    {.noun = "purge",
     .optional = USERS_BIT(USERS_ARG_OLDER_THAN) | USERS_BIT(USERS_ARG_BATCH),
     .summary = "delete dead tokens, and records of requests that nobody repeats any more",
     .run = purge},
    {.noun = "database",
     .verb = "install",
     .optional = USERS_BIT(USERS_ARG_SQL),
     .summary = "make everything that the API needs, in a database that has none of it",
     .run = users_migrate_install},
    {.noun = "database",
     .verb = "upgrade",
     .optional = USERS_BIT(USERS_ARG_SQL),
     .summary = "turn the database of an earlier version into this one's, while the API works",
     .run = users_migrate_upgrade},
    {.noun = "database",
     .verb = "status",
     .optional = USERS_BIT(USERS_ARG_SQL),
     .summary =
         "show what the database has had and what an upgrade would run; 1: there is something",
     .run = users_migrate_status},
    {.noun = NULL},
};
