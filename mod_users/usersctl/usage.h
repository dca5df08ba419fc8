/* usersctl usage import */
#ifndef USERS_USAGE_H
#define USERS_USAGE_H

#include "usersctl/commands.h"

/*
 * Set the usage of the accounts that standard input names: nothing where a line has a fault, else
 * in batches that are committed one by one. What was stored is told, however it ends.
 */
users_exit users_usage_import(users_invocation *invocation);

#endif
