/* usersctl check: what is wrong with a database and the settings that it is used with. */
#ifndef USERS_CHECK_H
#define USERS_CHECK_H

#include "usersctl/commands.h"

/*
 * Connect as the module does, to the databases of --settings or to that of --db, and print what is
 * right and wrong with each. For its exit status see users_findings_print().
 */
users_exit users_check_run(users_invocation *invocation);

#endif
