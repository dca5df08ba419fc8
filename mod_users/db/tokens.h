/* Look-ups of tokens that share a query. */
#ifndef USERS_DB_TOKENS_H
#define USERS_DB_TOKENS_H

#include "db/batch.h"

/* A query for the tokens of all that wait for it; context: the users_db. */
users_batch_query users_tokens_find_all;

#endif
