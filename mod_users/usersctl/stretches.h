/* Long lists, read in stretches: no statement takes long, whatever is looked for. */
#ifndef USERS_STRETCHES_H
#define USERS_STRETCHES_H

#include "usersctl/commands.h"

/* An option that rows are chosen by, and its name in the database. */
typedef struct {
    users_argument argument; /* NONE: the end of them */
    const char *name;
} users_filter;

/*
 * Show the rows that all options given here apply to, by two functions of users_admin: next (after,
 * newest, rows) tells where a stretch ends, and list (filters, after, last, newest, limit) what it
 * has; rows begin with their id. --after, --newest and --limit are taken, too.
 */
users_exit users_stretches_list(users_invocation *invocation, const char *next, const char *list,
                                const users_filter *filters);

#endif
