/* What the module makes of the configuration, for people and for usersctl check. */
#ifndef USERS_CONFIG_DUMP_H
#define USERS_CONFIG_DUMP_H

#include <httpd.h>

/*
 * Hook test_config: httpd -t -D DUMP_USERS prints the settings of each server with an endpoint to
 * standard output, as they are in effect. They look as in a configuration: a directive that is not
 * set has a # before it, as in conf/users.conf, and no value where it has none. Passwords are
 * concealed.
 */
void users_dump_test(apr_pool_t *pconf, server_rec *s);

#endif
