/* The options that libpq gets for each host of a connection string. */
#ifndef USERS_DB_OPTIONS_H
#define USERS_DB_OPTIONS_H

#include "db/db.h"

#include <stdbool.h>

#define USERS_OPTIONS_MAX 64 /* more keywords than libpq has */

/* What PQconnectStartParams takes: parallel arrays that end in NULL. */
typedef struct {
    const char *keywords[USERS_OPTIONS_MAX + 1];
    const char *values[USERS_OPTIONS_MAX + 1];
    int count;
} users_options;

/* Add one, and the end behind it. NULL is none, and one for which there is no room. */
void users_options_add(users_options *options, const char *keyword, const char *value);

/*
 * The options of a connection string that every host has, and the lists of hosts apart: as libpq
 * would use them in this process, so those of its environment and of a service file, too.
 */
typedef struct {
    users_options common;
    bool prefer_standby;
    const char *host; /* lists, with commas between their items; NULL: none */
    const char *hostaddr;
    const char *port;
} users_options_split;

/* Of settings' conninfo, in memory of pool. False where it can't be read. */
bool users_options_read(const users_db_settings *settings, users_options_split *into,
                        apr_pool_t *pool);

/* Item number index of such a list; its only item for every index; else NULL. In memory of pool. */
const char *users_options_item(const char *list, apr_uint32_t index, apr_pool_t *pool);
apr_uint32_t users_options_length(const char *list);

#endif
