/* Passwords that a program prints: password=exec:/path/to/program in a connection string. */
#ifndef USERS_CONFIG_PASSWORD_H
#define USERS_CONFIG_PASSWORD_H

#include <httpd.h>

#define USERS_PASSWORD_PROGRAM "exec:"

/* The program of a password that is exec:PROGRAM, with its arguments; NULL where it is none. */
const char *users_password_program(const char *password);

/* Hook test_config: warns of programs that are not there; it runs none. */
void users_password_test(apr_pool_t *pconf, server_rec *s);

/*
 * Hook post_config: runs the programs of all servers, each once, as the user that starts httpd. One
 * that fails ends a start. At a reload the password of its last run is kept, since httpd would end
 * and every site with it; the log tells either way.
 */
int users_password_run(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s);

#endif
