/* The settings of the module that are in effect, as httpd -t -D DUMP_USERS prints them. */
#ifndef USERS_EFFECTIVE_H
#define USERS_EFFECTIVE_H

#include "usersctl/output.h"

#include <apr_tables.h>
#include <apr_time.h>
#include <stdbool.h>

/* A server: the main one or a virtual host. Settings that were not printed have their defaults. */
typedef struct {
    const char *name;     /* its ServerName */
    const char *conninfo; /* without a password that was concealed */
    const char *replica;  /* the same of UsersDBReplica; NULL: none */
    bool concealed;       /* there was one */
    bool replica_concealed;
    const char *identity; /* equal for servers whose connections are the same */
    int db_max;           /* connections of a child */
    bool db_prepare;
    apr_interval_time_t db_connect_timeout; /* of a host */
    apr_interval_time_t replica_lag;
    const char *country; /* of a new account */
    const char *currency;
    const char *locale;
    bool notes; /* UsersAudit or UsersEvents is on */
} users_effective_server;

typedef struct {
    const char *user;            /* that httpd's children run as; NULL: not known */
    int children;                /* of httpd, at most */
    apr_array_header_t *servers; /* users_effective_server: those with a UsersDB, at least one */
} users_effective;

/*
 * Read a file, or standard input for "-". Complains, with the number of the line, where it is not
 * what httpd prints.
 */
users_exit users_effective_read(apr_pool_t *pool, const char *path, users_effective *settings);

#endif
