/* One statement on one connection, with a deadline. */
#ifndef USERS_DB_EXECUTE_H
#define USERS_DB_EXECUTE_H

#include "db/pool.h"
#include "db/statement.h"

/* In a word or two, for the log. */
const char *users_db_status_name(users_db_status status);

/*
 * Run a statement within db_timeout and before the deadline (users_now()), as a transaction of its
 * own. On USERS_DB_OK *result is the caller's, to be cleared; otherwise it is NULL. Its columns are
 * in binary format, and what it did is committed. Where the server takes no changes, or the session
 * has lost what was prepared, it runs once more, in a fresh one.
 */
users_db_status users_execute(users_connection *connection, const users_statement *statement,
                              const users_parameter *parameters, apr_time_t deadline,
                              PGresult **result);

#endif
