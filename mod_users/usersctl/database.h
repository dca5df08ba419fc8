/* usersctl's way to the database: the functions of sql/admin.sql. */
#ifndef USERS_DATABASE_H
#define USERS_DATABASE_H

#include "usersctl/output.h"

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>

/* Complain of a conninfo that holds a password; NULL holds none. */
users_exit users_database_judge(const char *conninfo);

/* Name the database, and how long it is waited for, where libpq's environment does not. */
void users_database_set_defaults(void);

/*
 * Connect. conninfo: a conninfo string, a URI or a database's name; NULL: what libpq's
 * environment says. From then on SIGINT and SIGTERM cancel the statement that runs, and warnings
 * and notices of the database go to standard error. Complains where it fails. The caller closes *db
 * by PQfinish() in any case; it may be NULL.
 */
users_exit users_database_connect(PGconn **db, const char *conninfo);

/*
 * Connect anew as before. False where it fails, without a complaint where there is no connection;
 * *db can be used again then.
 */
bool users_database_reconnect(PGconn *db);

/* Did a signal come that wants the program to end? */
bool users_database_interrupted(void);

/* Run a statement without parameters and without an answer. Complains as below. */
users_exit users_database_run(PGconn *db, const char *statement);

/* Keep parameters out of the server's log, whatever it logs. Only a superuser may say so. */
void users_database_hide_parameters(PGconn *db);

/*
 * Copy rows from the client: begin, put each, in the text format of COPY, and end. All complain
 * where they fail, but for a signal; then nothing is copied, and the copy has ended.
 */
users_exit users_database_copy_begin(PGconn *db, const char *statement);
users_exit users_database_copy_put(PGconn *db, const char *text, size_t length);
users_exit users_database_copy_end(PGconn *db);

/*
 * Call a function of the schema users_admin. parameters: count of them as text, NULL for null;
 * json: answer with one column, the row in JSON. Complains where it fails, but for a signal, and
 * *result is then NULL.
 */
users_exit users_database_call(PGconn *db, const char *function, const char *const *parameters,
                               int count, bool json, PGresult **result);

#endif
