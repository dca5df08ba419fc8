/*
 * The values of directives: how they are read from a configuration into settings, and how they
 * are written as a configuration again.
 */
#ifndef USERS_CONFIG_VALUES_H
#define USERS_CONFIG_VALUES_H

#include <httpd.h> /* first: http_config.h needs it */

#include "config/settings.h"

#include <http_config.h>
#include <stdbool.h>
#include <stddef.h>

#define USERS_CONCEALED "********" /* in place of a password */

typedef struct {
    const char *word;
    int value;
} users_choice;

typedef struct users_member users_member;

/* What a directive of a server sets: a member of its settings, and the values that it takes. */
struct users_member {
    const char *(*write)(const void *value, const users_member *, apr_pool_t *);
    size_t offset;
    int least; /* of a duration: seconds; 0: a millisecond */
    int limit; /* of a duration: seconds; 0: a day */
    int bare;  /* of a duration: the most that is taken for seconds without a unit; 0: a minute */
    bool zero; /* a duration may be 0, which turns off what it is the duration of */
    const users_choice *choices;
    const char *field; /* of an account, whose codes it takes */
    const char *valid; /* which those are */
    bool is_conninfo;  /* which may hold a password */
};

/*
 * Setters of directives, whose cmd->info is a users_member: each returns NULL, or what is wrong,
 * beginning with the directive's name. Those of a process refuse to stand in a <VirtualHost>.
 */
const char *users_set_choice(cmd_parms *cmd, void *location, const char *value);
const char *users_set_number(cmd_parms *cmd, void *location, const char *value);
const char *users_set_duration(cmd_parms *cmd, void *location, const char *value);
const char *users_set_realm(cmd_parms *cmd, void *location, const char *value);
const char *users_set_host_name(cmd_parms *cmd, void *location, const char *value);
const char *users_set_code(cmd_parms *cmd, void *location, const char *value);
const char *users_set_variable(cmd_parms *cmd, void *location, const char *value);
const char *users_set_issuer(cmd_parms *cmd, void *location, const char *value);
const char *users_set_text(cmd_parms *cmd, void *location, const char *value);
const char *users_set_origins(cmd_parms *cmd, void *location, int count, char *const values[]);
const char *users_set_process_number(cmd_parms *cmd, void *location, const char *value);
const char *users_set_process_text(cmd_parms *cmd, void *location, const char *value);
const char *users_set_conninfo(cmd_parms *cmd, void *location, const char *value);
const char *users_set_replica(cmd_parms *cmd, void *location, const char *value);

/* The same of UsersEndpoint, which has no users_member. */
const char *users_set_endpoint(cmd_parms *cmd, void *mconfig, const char *value);

/*
 * Writers of a member, which value points to: each returns what a setter reads it from, in memory
 * of pool; durations have a unit, texts are quoted, and passwords are concealed. NULL: it is unset;
 * "": no memory.
 */
const char *users_write_choice(const void *value, const users_member *m, apr_pool_t *pool);
const char *users_write_number(const void *value, const users_member *m, apr_pool_t *pool);
const char *users_write_duration(const void *value, const users_member *m, apr_pool_t *pool);
const char *users_write_text(const void *value, const users_member *m, apr_pool_t *pool);
const char *users_write_origins(const void *value, const users_member *m, apr_pool_t *pool);

/* The word for an endpoint. */
const char *users_write_endpoint(users_endpoint endpoint);

#endif
