/* The databases of this child, as requests use them. */
#ifndef USERS_HTTP_DATABASE_H
#define USERS_HTTP_DATABASE_H

#include "db/db.h"

#include <httpd.h>

/* Forget all databases: a child begins. What is remembered lives as long as pchild. */
void users_database_begin(apr_pool_t *pchild);

/* The log of a server, for its database. */
users_log users_database_log(server_rec *s);

/* Requests to this server use this database; NULL: it could not be opened. */
void users_database_set(const server_rec *s, users_db *db);
users_db *users_database_get(const server_rec *s);

/* This request's use of its server's database, in its memory, within UsersRequestTimeout. */
users_db_call *users_database_call(request_rec *r);

#endif
