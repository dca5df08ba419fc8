/* usersctl database: make the database of this version, upgrade one to it, say what is missing. */
#ifndef USERS_MIGRATE_H
#define USERS_MIGRATE_H

#include "usersctl/commands.h"

/* Make everything in a database that has none of it, in one transaction. */
users_exit users_migrate_install(users_invocation *invocation);

/*
 * Run the migrations that the database has not had, each by itself, and replace the functions. What
 * is done stays done where a later one fails, and the next upgrade goes on from there.
 */
users_exit users_migrate_upgrade(users_invocation *invocation);

/*
 * Print what the database has had and what an upgrade would run. Warns where PostgreSQL's log
 * gets what clients send. USERS_EXIT_REFUSED: there is something to run.
 */
users_exit users_migrate_status(users_invocation *invocation);

/*
 * Read what users_migrate_status() prints: name, state and applied_at, a row for each. The caller
 * frees it; NULL, with a complaint, where it fails.
 */
users_exit users_migrate_read(users_invocation *invocation, PGresult **states);

#endif
