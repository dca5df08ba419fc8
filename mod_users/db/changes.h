/* Changes that come together: one statement and one commit for all of them. */
#ifndef USERS_DB_CHANGES_H
#define USERS_DB_CHANGES_H

#include "db/rows.h"
#include "db/run.h"

#define USERS_LISTS_MAX 11

/* A function of the contract that makes many changes, each of which another one makes alone. */
typedef struct {
    users_statement statement;       /* returns (number of the change, document, ...) */
    const users_element_type *types; /* of its parameters, which are lists */
} users_changes_kind;

/*
 * Changes of a kind, of which limit statements may be in flight. In memory of pool; NULL where no
 * lock could be had.
 */
users_changes *users_changes_create(apr_pool_t *pool, users_db *db, const users_changes_kind *kind,
                                    int limit);

/* What a shared statement made of a change. */
typedef struct {
    users_rows *rows; /* NULL: nothing was stored */
    int row;
} users_made;

/*
 * Make a change, which has an element for each of the lists, together with those that wait.
 * changes: NULL makes none. On USERS_DB_OK it was made, or nothing was stored of it (made->rows is
 * NULL): then it has to go alone, which says why. On USERS_DB_LOST and USERS_DB_TIMEOUT nobody
 * knows; on any other status nothing was done. What is made lives as long as the call.
 */
users_db_status users_changes_make(users_db_call *call, users_changes *changes,
                                   const users_parameter *elements, users_made *made);

#endif
