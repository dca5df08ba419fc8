/* What most commands do: call a function of users_admin, and tell what it returns. */
#ifndef USERS_ACTIONS_H
#define USERS_ACTIONS_H

#include "usersctl/commands.h"

/* --limit, which is a number by the time that a command runs. */
int users_action_limit(const users_invocation *invocation);

/*
 * Print rows, as many as --limit says, and whether there are more. Where the command has --after
 * the first column is the id that it takes.
 */
users_exit users_action_print_rows(const users_invocation *invocation, const PGresult *rows);

/* Tell of rows, as many as --limit says. */
users_exit users_action_list(users_invocation *invocation);

/* Tell of one row, and commit what has changed when it has been told. */
users_exit users_action_change(users_invocation *invocation);

/* Print numbers by their names, in JSON or as lines. */
users_exit users_action_print(const users_invocation *invocation, const char *const *names,
                              const long long *numbers, int count);

#endif
