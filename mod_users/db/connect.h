/* Connecting: the hosts of a conninfo one by one, each with its deadline. */
#ifndef USERS_DB_CONNECT_H
#define USERS_DB_CONNECT_H

#include "db/db.h"
#include "db/diagnose.h"

#include <libpq-fe.h>
#include <stdbool.h>

typedef struct users_hosts users_hosts;

typedef enum {
    USERS_CONNECTED,
    USERS_CONNECT_FAILED, /* every host has failed */
    USERS_CONNECT_LATE    /* the caller's deadline came too early to judge them all */
} users_connect_status;

/*
 * The hosts of settings' conninfo, in memory of pool. log: to be told of names that can't be
 * resolved, under that name of the database; NULL: nobody is told. Both must live as long. NULL
 * where the conninfo can't be read, or without memory.
 */
users_hosts *users_hosts_create(apr_pool_t *pool, const users_db_settings *settings,
                                const users_log *log, const char *name);

/*
 * Connect to the first host that answers as target_session_attrs wants it, the last good one
 * first, each within UsersDBConnectTimeout and all before the deadline. *pg is the caller's, to be
 * finished, and *host the number of its host; NULL where there is none, and *fault says why.
 */
users_connect_status users_hosts_connect(users_hosts *hosts, apr_time_t deadline, PGconn **pg,
                                         apr_uint32_t *host, users_connect_fault *fault);

/*
 * This host is not the right one: begin with the next, and look its name up again before it is
 * used. False where that has been said before.
 */
bool users_hosts_pass(users_hosts *hosts, apr_uint32_t host);

/* Wait until a socket is ready for these events. False where the deadline came first. */
bool users_socket_wait(const PGconn *pg, short events, apr_time_t deadline);

#endif
