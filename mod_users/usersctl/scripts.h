/* The SQL of this version: files of the directory that --sql names. */
#ifndef USERS_SCRIPTS_H
#define USERS_SCRIPTS_H

#include "usersctl/output.h"

#include <apr_tables.h>
#include <stdbool.h>

typedef struct {
    const char *name; /* of a migration without .sql, else the file's */
    const char *text;
    const char *index; /* it builds this index, "schema.name"; NULL: none */
    bool transaction;  /* can it be run in one? If not it is a single statement */
    bool owner;        /* what it makes belongs to who owns the tables, whoever runs it */
} users_script;

/*
 * Read the files that make a new database (users_script), in their order. Complains where one can't
 * be read.
 */
users_exit users_scripts_read_install(apr_pool_t *pool, const char *directory,
                                      apr_array_header_t **scripts);

/* Read the numbered migrations, in the order of their names. */
users_exit users_scripts_read_migrations(apr_pool_t *pool, const char *directory,
                                         apr_array_header_t **scripts);

/*
 * Read what every upgrade runs again: functions and reference data, then what concerns the roles.
 * digest: SHA-256 of all of it, in hexadecimal.
 */
users_exit users_scripts_read_repeated(apr_pool_t *pool, const char *directory,
                                       apr_array_header_t **scripts, const char **digest);

#endif
