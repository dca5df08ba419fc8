/* The secrets of usersctl: made, or read from standard input, and turned into digests. */
#ifndef USERS_SECRETS_H
#define USERS_SECRETS_H

#include "usersctl/commands.h"

/* Make or read what the command wants in the way of names and secrets. Complains where it fails. */
users_exit users_secrets_prepare(users_invocation *invocation);

#endif
