/* Changes of accounts that come together: one statement and one commit for all of them. */
#ifndef USERS_DB_CHANGES_H
#define USERS_DB_CHANGES_H

#include "db/rows.h"
#include "db/run.h"

/* The parameters of users_api.update_account, of which update_accounts takes lists. */
enum {
    USERS_CHANGE_USER,
    USERS_CHANGE_FIELDS,
    USERS_CHANGE_REQUEST,
    USERS_CHANGE_IF_MATCH, /* tags, with a blank between them */
    USERS_CHANGE_NONCE,
    USERS_CHANGE_TOKEN,
    USERS_CHANGE_CREDENTIAL,
    USERS_CHANGE_CLIENT,
    USERS_CHANGE_LISTED,
    USERS_CHANGE_STORE = USERS_CHANGE_LISTED,
    USERS_CHANGE_PARAMETERS
};

/* One statement for all that wait; context: the users_db. */
users_batch_query users_changes_make_all;

/* What a shared statement made of a change. */
typedef struct {
    users_rows *rows; /* NULL: nothing was stored */
    int row;          /* whose second column is the new document */
} users_made;

/*
 * Make a change together with those that wait. On USERS_DB_OK it was made, or nothing was stored
 * of it (made->rows is NULL): then it has to go alone, which says why. On USERS_DB_LOST and
 * USERS_DB_TIMEOUT nobody knows; on any other status nothing was done. What is made lives as
 * long as the call.
 */
users_db_status users_changes_make(users_db_call *call, const users_parameter *parameters,
                                   users_made *made);

#endif
