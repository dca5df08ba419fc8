/* What the children of httpd share of their databases. */
#ifndef USERS_CONFIG_SHARED_H
#define USERS_CONFIG_SHARED_H

#include "db/db.h"

#include <httpd.h>

/* A configuration begins, in memory of pconf: none is known. */
void users_shared_begin(apr_pool_t *pconf);

/* A child begins, which has the locks too until its pool is cleared. */
void users_shared_attach(apr_pool_t *pchild);

/*
 * Have the settings of a server's database know the memory for what the log has been told of it,
 * for its health, and for how many connections it has, and the same for each of its replicas, and
 * for how far that has come; NULL where the system has none. The first process makes it, so it has
 * to ask for all that a child will.
 */
void users_shared_find(const server_rec *s, users_db_settings *settings);

#endif
