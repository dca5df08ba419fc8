/* usersctl purge */
#ifndef USERS_PURGE_H
#define USERS_PURGE_H

#include "usersctl/commands.h"

/* Delete what is dead. */
users_exit users_purge(users_invocation *invocation);

#endif
