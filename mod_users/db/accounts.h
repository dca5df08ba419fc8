/* Changes of accounts. */
#ifndef USERS_DB_ACCOUNTS_H
#define USERS_DB_ACCOUNTS_H

#include "db/run.h"

/* Have changes share statements, of which so many of each kind may be in flight; 0: none do. */
void users_accounts_share(apr_pool_t *pool, users_db *db, int lanes);

#endif
