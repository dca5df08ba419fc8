#include "usersctl/actions.h"

#include "usersctl/database.h"

#include <apr_strings.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int users_action_limit(const users_invocation *invocation)
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
                                ? apr_itoa(invocation->pool, users_action_limit(invocation) + 1)
                                : invocation->values[argument];
    }
    return users_database_call(invocation->db, command->function, parameters, count,
                               invocation->values[USERS_ARG_JSON] != NULL, result);
}

/* The first column, "id", of a row. */
static apr_int64_t id_of(const users_invocation *invocation, const PGresult *rows, int row)
{
    const char *value = PQgetvalue(rows, row, 0);

    return apr_atoi64(invocation->values[USERS_ARG_JSON] ? value + strlen("{\"id\":") : value);
}

users_exit users_action_print_rows(const users_invocation *invocation, const PGresult *rows)
{
    int limit = users_action_limit(invocation);
    bool more = PQntuples(rows) > limit;
    int count = more ? limit : PQntuples(rows);
    users_exit status;

    if (invocation->values[USERS_ARG_JSON]) {
        users_output_json_list(rows, count);
    } else {
        users_output_table(rows, count);
    }
    status = users_output_finish();
    if (more && (invocation->command->optional & USERS_BIT(USERS_ARG_AFTER))) {
        users_output_complain(status, "there are more: --after %" APR_INT64_T_FMT " goes on",
                              id_of(invocation, rows, count - 1));
    } else if (more) {
        users_output_complain(status, "there are more than these %d: --limit shows more", limit);
    }
    return status;
}

users_exit users_action_list(users_invocation *invocation)
{
    PGresult *result;
    users_exit status = call(invocation, &result);

    if (status == USERS_EXIT_DONE) {
        status = users_action_print_rows(invocation, result);
        PQclear(result);
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
users_exit users_action_change(users_invocation *invocation)
{
    PGresult *result;
    users_exit status;

    /* a hash can be guessed at, unlike a digest; fields are personal data */
    if (invocation->values[USERS_ARG_HASH] || invocation->values[USERS_ARG_FIELDS]) {
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

users_exit users_action_print(const users_invocation *invocation, const char *const *names,
                              const long long *numbers, int count)
{
    bool json = invocation->values[USERS_ARG_JSON] != NULL;

    for (int i = 0; i < count; i++) {
        printf(json ? "%s\"%s\":%lld" : "%s%-16s  %lld\n", json ? i ? "," : "{" : "", names[i],
               numbers[i]);
    }
    if (json) {
        puts("}");
    }
    return users_output_finish();
}
