/* What usersctl tells: tables, records and JSON on standard output, complaints on standard error.
 */
#ifndef USERS_OUTPUT_H
#define USERS_OUTPUT_H

#include <libpq-fe.h>

/* What scripts can tell apart: the exit status. */
typedef enum {
    USERS_EXIT_DONE,
    USERS_EXIT_REFUSED, /* not found, or not allowed; nothing has changed */
    USERS_EXIT_USAGE,
    USERS_EXIT_FAILED /* the database can't be reached or failed, or there was no way to tell */
} users_exit;

/* Write a line to standard error. Returns status, for whoever ends with it. */
users_exit users_output_complain(users_exit status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/*
 * Show on standard error, where that is a terminal, how far something is: on a line that the next
 * one replaces, five times a second at most.
 */
void users_output_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Write a text as it is: ours. */
void users_output_text(const char *text);

/* Write a text of others on one line, harmful characters in it as escapes. */
void users_output_line(const char *text);

/* The same as a string in JSON. */
void users_output_json_string(const char *text);

/* The first rows of a result, in aligned columns below their names. */
void users_output_table(const PGresult *result, int rows);

/* The first row of a result, a line a column, and one line more where name isn't NULL. */
void users_output_record(const PGresult *result, const char *name, const char *value);

/* The first rows of a result whose only column is an object in JSON, as an array. */
void users_output_json_list(const PGresult *result, int rows);

/*
 * The first row of such a result, and one member more where name isn't NULL. Its value
 * must need no escapes.
 */
void users_output_json(const PGresult *result, const char *name, const char *value);

/* See to it that all has been written. Complains where that fails. */
users_exit users_output_finish(void);

#endif
