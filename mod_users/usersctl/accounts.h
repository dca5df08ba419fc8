/* usersctl user: fields are judged by the API's rules, lists are read in stretches. */
#ifndef USERS_ACCOUNTS_H
#define USERS_ACCOUNTS_H

#include "usersctl/commands.h"

/*
 * Judge the fields of a new account, or those that are to change, as far as that needs no database:
 * what the owner may change by the rules of PATCH (core/account.h), and what administrators may.
 * Leaves the good ones normalised in USERS_ARG_FIELDS, the labels in USERS_ARG_LABELS, and what is
 * wrong in faults.
 */
users_exit users_accounts_judge_new(users_invocation *invocation);
users_exit users_accounts_judge_change(users_invocation *invocation);

/* Then store the account; or tell all faults, those that only the database finds too. */
users_exit users_accounts_store(users_invocation *invocation);

users_exit users_accounts_list(users_invocation *invocation);

/* Without --yes only tell what would be erased: USERS_EXIT_REFUSED. */
users_exit users_accounts_remove(users_invocation *invocation);

/* Always in JSON. */
users_exit users_accounts_export(users_invocation *invocation);

#endif
