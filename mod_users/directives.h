/* The directives: from httpd.conf to settings. */
#ifndef USERS_DIRECTIVES_H
#define USERS_DIRECTIVES_H

#include <httpd.h> /* first: http_config.h needs it */

#include <http_config.h>

extern const command_rec users_directives[];

/* The module record's create and merge functions. */
void *users_settings_create(apr_pool_t *pool, server_rec *s);
void *users_settings_merge(apr_pool_t *pool, void *base, void *add);
void *users_location_create(apr_pool_t *pool, char *path);
void *users_location_merge(apr_pool_t *pool, void *base, void *add);

/* Hook check_config: what no single directive can judge; fills in the defaults. */
int users_directives_check(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s);

/*
 * Hook ssl_add_cert_files: a TLS module asks it of every server that it is on for, which is the
 * one way that httpd has to learn of them. It must have run before users_directives_start().
 */
int users_directives_note_tls(server_rec *s, apr_pool_t *pool, apr_array_header_t *certificates,
                              apr_array_header_t *keys);

/* Hook post_config: runs the programs of password=exec:, warns of servers without TLS. */
int users_directives_start(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s);

#endif
