#include "usersctl/actions.h"

#include "usersctl/database.h"

#include <apr_strings.h>
#include <stdio.h>
#include <stdlib.h>

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

users_exit users_action_list(users_invocation *invocation)
{
    int limit = users_action_limit(invocation);
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
