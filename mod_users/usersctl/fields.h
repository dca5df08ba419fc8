/* The words FIELD=VALUE of a command line. */
#ifndef USERS_FIELDS_H
#define USERS_FIELDS_H

#include "usersctl/commands.h"

/*
 * Read count of them into invocation->fields, and as JSON into its values. Complains of what is no
 * such word, and of a field that was given twice.
 */
users_exit users_fields_read(users_invocation *invocation, char **words, int count);

#endif
