/* All options of a connection, also those that its connection string leaves out. */
#ifndef USERS_DB_CONNINFO_H
#define USERS_DB_CONNINFO_H

#include <libpq-fe.h>

/*
 * With those that come from libpq's environment (PGHOST, PGSSLMODE…), from a service file, and
 * libpq's defaults, as this process would use them. Connects to nothing. The caller's, to be freed
 * by PQconninfoFree(); NULL where the string can't be read, or the service not be found.
 */
PQconninfoOption *users_conninfo_resolve(const char *conninfo);

/* The value of a keyword; NULL where it is absent or empty. It lives as long as the options do. */
const char *users_conninfo_get(const PQconninfoOption *options, const char *keyword);

#endif
