/* Why a connection could not be had: what libpq says, in one line, and what to do about it. */
#ifndef USERS_DB_DIAGNOSE_H
#define USERS_DB_DIAGNOSE_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>

#define USERS_REASON_LENGTH 1024

/* Who connects. */
typedef struct {
    const char *program; /* "httpd" */
    const char *user;    /* of the system, that it runs as */
} users_process;

typedef struct {
    bool full;           /* PostgreSQL has no connection left */
    bool needs_password; /* it wants one, and there is none */
    size_t hint;         /* where in the reason begins what to do; 0: nowhere */
    char reason[USERS_REASON_LENGTH];
} users_connect_fault;

/* Have libpq say the SQLSTATE of what goes wrong, for users_diagnose(): before PQconnectPoll(). */
void users_diagnose_prepare(PGconn *pg);

/*
 * Of a connection that was given up: by libpq, or, where that does not know of it, because its time
 * was over. A password is never part of the reason.
 */
void users_diagnose(PGconn *pg, const users_process *process, users_connect_fault *fault);

/* Of a host, by its name, that has not answered in time; NULL: of the one that there is. */
void users_diagnose_silence(const char *host, users_connect_fault *fault);

/* Join the lines of a message, of which the last may be empty, into one of at most size - 1 octets.
 */
void users_diagnose_join(char *line, const char *message, size_t size);

#endif
