/* What usersctl check has found. */
#ifndef USERS_FINDINGS_H
#define USERS_FINDINGS_H

#include "usersctl/output.h"

#include <apr_tables.h>
#include <stdbool.h>

typedef enum {
    USERS_FINDING_OK,
    USERS_FINDING_UNSEEN, /* it takes rights that the role has not */
    USERS_FINDING_WARNING,
    USERS_FINDING_ERROR /* the API does not work, or not safely */
} users_level;

typedef struct {
    apr_pool_t *pool;
    apr_array_header_t *all; /* in the order in which they were found */
    const char *database;    /* what is being examined */
} users_findings;

users_findings *users_findings_create(apr_pool_t *pool);

/* check: in one word; text: a sentence; cure: what to do, NULL where there is nothing. Copied. */
void users_findings_add(users_findings *findings, const char *check, users_level level,
                        const char *text, const char *cure);

/* The same with a text that is made of a format. */
void users_findings_say(users_findings *findings, const char *check, users_level level,
                        const char *cure, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* "ok", "unseen", "warning", "error"; any other word is an error. */
users_level users_findings_level(const char *word);

/*
 * Print them. Returns USERS_EXIT_DONE where nothing is wrong, USERS_EXIT_REFUSED where there are
 * warnings, USERS_EXIT_FAILED where there are errors; the latter with a complaint where they can't
 * be printed.
 */
users_exit users_findings_print(const users_findings *findings, bool json);

#endif
