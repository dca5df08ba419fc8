/* What the first session with a database tells of its settings, for the log. */
#ifndef USERS_DB_INSPECT_H
#define USERS_DB_INSPECT_H

#include "db/pool.h"

/*
 * Ask for PostgreSQL's connections, and whether it would log what clients send, where nobody has
 * since httpd started, or was told to open more: one query of one child, on a connection that a
 * request has just used. Warns of what will hurt.
 */
void users_inspect(users_connection *connection);

#endif
