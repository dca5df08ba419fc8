/* Between the end of the configuration and the first request. */
#ifndef USERS_CONFIG_CHECK_H
#define USERS_CONFIG_CHECK_H

#include <httpd.h>

/* Hook check_config: what no single directive can judge; fills in the defaults. */
int users_startup_check(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s);

/*
 * Hook ssl_add_cert_files: a TLS module asks it of every server that it is on for, which is the
 * one way that httpd has to learn of them. It must have run before users_startup_run().
 */
int users_startup_note_tls(server_rec *s, apr_pool_t *pool, apr_array_header_t *certificates,
                           apr_array_header_t *keys);

/* Hook test_config: a configtest has the warnings that need no running server. */
void users_startup_test(apr_pool_t *pconf, server_rec *s);

/* Hook post_config: warns of servers without TLS, and of databases without. */
int users_startup_run(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s);

#endif
