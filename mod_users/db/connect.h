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

/* The hosts of settings' conninfo, in memory of pool. NULL where it can't be read. */
users_hosts *users_hosts_create(apr_pool_t *pool, const users_db_settings *settings);

/*
 * Connect to the first host that answers as target_session_attrs wants it, the last good one
 * first, each within UsersDBConnectTimeout and all before the deadline. *pg is the caller's, to be
 * finished, and *host the number of its host; NULL where there is none, and *fault says why.
 */
users_connect_status users_hosts_connect(users_hosts *hosts, apr_time_t deadline, PGconn **pg,
                                         apr_uint32_t *host, users_connect_fault *fault);

/* This host is not the right one: begin with the next. False where that has been said before. */
bool users_hosts_pass(users_hosts *hosts, apr_uint32_t host);

/* Wait until a socket is ready for these events. False where the deadline came first. */
bool users_socket_wait(const PGconn *pg, short events, apr_time_t deadline);

#endif
