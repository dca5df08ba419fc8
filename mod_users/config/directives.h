/* The directives: from httpd.conf to settings. */
#ifndef USERS_CONFIG_DIRECTIVES_H
#define USERS_CONFIG_DIRECTIVES_H

#include <httpd.h> /* first: http_config.h needs it */

#include <http_config.h>

extern const command_rec users_directives[];

/* The module record's create and merge functions. */
void *users_settings_create(apr_pool_t *pool, server_rec *s);
void *users_settings_merge(apr_pool_t *pool, void *base, void *add);
void *users_location_create(apr_pool_t *pool, char *path);
void *users_location_merge(apr_pool_t *pool, void *base, void *add);

#endif
