/* What a statement for several requests is asked with, and the rows that they share. */
#ifndef USERS_DB_ROWS_H
#define USERS_DB_ROWS_H

#include "db/statement.h"

#include <apr_pools.h>
#include <libpq-fe.h>

/* Types of elements, by their numbers in pg_type. */
typedef enum {
    USERS_TYPE_BOOL = 16,
    USERS_TYPE_BYTEA = 17,
    USERS_TYPE_TEXT = 25,
    USERS_TYPE_UUID = 2950
} users_element_type;

/*
 * A list as one parameter: an array in PostgreSQL's binary format (array_recv()), in memory of
 * pool.
 */
users_parameter users_rows_list(apr_pool_t *pool, users_element_type type,
                                const users_parameter *elements, int count);

/* The rows of a result, for several requests; the last one to be done with them frees them. */
typedef struct {
    PGresult *result;     /* whose memory this is in */
    apr_uint32_t readers; /* each of them sees to it by users_rows_free_with() */
} users_rows;

/* Takes a result over. NULL where it has no rows, or (*failed) memory ran out. */
users_rows *users_rows_share(PGresult *result, bool *failed);

void users_rows_free_with(apr_pool_t *pool, users_rows *rows);

#endif
