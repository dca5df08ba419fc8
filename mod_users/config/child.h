/* A child's beginning: the databases that the settings name are opened. */
#ifndef USERS_CONFIG_CHILD_H
#define USERS_CONFIG_CHILD_H

#include <httpd.h>

/* Hook post_config: what the children of this host share; and how many connections they may open.
 */
int users_child_prepare(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s);

/* Hook child_init: one database for all servers that use the same in the same way. */
void users_child_open(apr_pool_t *pchild, server_rec *s);

#endif
