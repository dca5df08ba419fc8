/* The commands of usersctl: one table that is read to parse, to run and to tell them. */
#ifndef USERS_COMMANDS_H
#define USERS_COMMANDS_H

#include "usersctl/arguments.h"
#include "usersctl/output.h"

#include <apr_pools.h>
#include <apr_tables.h>
#include <jansson.h>
#include <libpq-fe.h>

#define USERS_PARAMETERS_MAX 6

typedef struct users_invocation users_invocation;

typedef struct {
    const char *noun;
    const char *verb;            /* NULL: none */
    users_argument operand;      /* NONE: none */
    const char *fields;          /* what stands for the words FIELD=VALUE; NULL: it takes none */
    users_argument_set required; /* options */
    users_argument_set optional;
    bool needs_one; /* of the optional ones, lest it does too much */
    const char *summary;

    users_exit (*prepare)(users_invocation *); /* before there is a database; NULL: nothing */
    users_exit (*run)(users_invocation *);
    bool connects;        /* it does so itself */
    bool runs_on;         /* a signal is its usual end */
    const char *function; /* of users_admin */
    users_argument parameters[USERS_PARAMETERS_MAX + 1];

    users_argument made; /* generated where it isn't given; NONE: nothing */
    const char *secret;  /* what it tells once; NULL: nothing */
    int secret_octets;   /* random ones */
} users_command;

/* Ends with one whose noun is NULL. */
extern const users_command users_commands[];

struct users_invocation {
    apr_pool_t *pool;
    const users_command *command;
    const char *values[USERS_ARG_COUNT]; /* NULL: not given; "" for an option without a value */
    json_t *fields;                      /* texts by name; NULL: none; freed with pool */
    apr_array_header_t *faults; /* users_fault: of fields that were judged; NULL: none were */
    const char *secret;         /* to be told; NULL: none */
    PGconn *db;
};

#endif
