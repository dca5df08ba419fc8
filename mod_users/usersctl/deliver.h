/* usersctl event deliver */
#ifndef USERS_DELIVER_H
#define USERS_DELIVER_H

#include "usersctl/commands.h"

/*
 * Deliver events as they fall due, until a signal ends it, or, with --once, until none is due.
 * Tells how many were delivered, failed and were given up. USERS_EXIT_REFUSED: the receiver wants
 * no more.
 */
users_exit users_deliver(users_invocation *invocation);

#endif
