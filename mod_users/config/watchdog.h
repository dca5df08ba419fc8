/* Replicas are examined by mod_watchdog, on threads that no request waits for. */
#ifndef USERS_CONFIG_WATCHDOG_H
#define USERS_CONFIG_WATCHDOG_H

#include <httpd.h>
#include <stdbool.h>

/* Hook check_config: who names a replica needs mod_watchdog. */
int users_watchdog_check(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s);

/* A configuration begins, in memory of pconf: no replica is watched. */
void users_watchdog_begin(apr_pool_t *pconf);

/*
 * Have each child watch so many replicas of a server's database. Returns whether httpd may go on;
 * else the log has a line.
 */
bool users_watchdog_register(const server_rec *s, int replicas, apr_pool_t *pconf);

/* A child has opened its databases, which are there until pchild is cleared. */
void users_watchdog_open(apr_pool_t *pchild);

#endif
