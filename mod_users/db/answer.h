/*
 * What the contract's functions answer to a change of accounts: an outcome, faults, a document. One
 * that breaks the contract is USERS_DB_FAILED, and a line in the log names it.
 */
#ifndef USERS_DB_ANSWER_H
#define USERS_DB_ANSWER_H

#include "db/run.h"

/*
 * The one row (outcome, faults, document, ...) of update_account or register_account. stores: see
 * users_submission. What it brings lives as long as the call.
 */
users_db_status users_answer_read(users_db_call *call, const users_statement *statement,
                                  bool stores, const PGresult *result, users_change *change);

/* A row (number, document, ...) of their like for many: this change was made. */
users_db_status users_answer_take(users_db_call *call, const users_statement *statement,
                                  const PGresult *result, int row, users_change *change);

#endif
