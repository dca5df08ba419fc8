/* The directives: from httpd.conf to settings. */
#ifndef USERS_CONFIG_DIRECTIVES_H
#define USERS_CONFIG_DIRECTIVES_H

#include <httpd.h> /* first: http_config.h needs it */

#include <http_config.h>

extern const command_rec users_directives[];

#endif
