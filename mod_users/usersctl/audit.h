/* usersctl audit: who changed what through the API. */
#ifndef USERS_AUDIT_H
#define USERS_AUDIT_H

#include "usersctl/commands.h"

users_exit users_audit_list(users_invocation *invocation);

#endif
