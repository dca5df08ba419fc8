/*
 * What is wrong with a database, told to the log when it begins and when it is over. The children
 * of httpd have one memory of that, so that it is told once and not by each, and reloads keep it.
 */
#ifndef USERS_DB_TROUBLE_H
#define USERS_DB_TROUBLE_H

#include "core/episode.h"
#include "core/quota.h"
#include "db/db.h"
#include "db/statement.h"

#include <libpq-fe.h>

typedef enum {
    USERS_TROUBLE_LATE,       /* statements are not answered in time */
    USERS_TROUBLE_BUSY,       /* nor do connections become free in time */
    USERS_TROUBLE_READ_ONLY,  /* no changes are taken */
    USERS_TROUBLE_UNPREPARED, /* the contract is not there, or not this version's */
    USERS_TROUBLE_FORBIDDEN,  /* the role may not use it */
    USERS_TROUBLE_REFUSED,    /* any other error */
    USERS_TROUBLES
} users_trouble;

/* What the log has been told of a database. In shared memory, zero at first. */
struct users_noted {
    users_episode troubles[USERS_TROUBLES];
    apr_uint32_t refused[32]; /* by statement: the error that the log has last been told of */
    users_quota refusals;     /* of these lines: errors may take turns */
    apr_uint32_t inspected;   /* for how many connections (inspect.c) */
};

/* Who tells: a child's pool of connections. */
typedef struct {
    const users_log *log;
    const char *name;                  /* of the database */
    const users_db_settings *settings; /* whose noted and capacity are not NULL */
} users_witness;

/* A statement was refused by the server in a session of this role. */
void users_trouble_refused(const users_witness *witness, const users_statement *statement,
                           const PGresult *result, const char *role);

/* A statement had no answer in time. state: the SQLSTATE of the server's giving up; NULL: silence.
 */
void users_trouble_late(const users_witness *witness, const users_statement *statement,
                        const char *state);

/* A change was refused by a server that takes none. */
void users_trouble_read_only(const users_witness *witness, const users_statement *statement);

/* A request waited in vain for a connection, or a change for its turn. */
void users_trouble_busy(const users_witness *witness, bool for_change);

/* A statement went well: what it had to do with may be over. */
void users_trouble_pass(const users_witness *witness, const users_statement *statement);

#endif
