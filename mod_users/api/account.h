/* The content handler: from a method to its operation. */
#ifndef USERS_API_ACCOUNT_H
#define USERS_API_ACCOUNT_H

#include <httpd.h>

/*
 * Hook map_to_storage: an endpoint is no file, so httpd need not walk the directories that
 * its path would name, whose rules (<Directory />) are not about it.
 */
int users_handler_map(request_rec *r);

/* Hook fixups: an endpoint is served by this module, whatever SetHandler or ProxyPass say. */
int users_handler_choose(request_rec *r);

/* Hook handler: serves what the access checker admitted, and nothing else. */
int users_handler_run(request_rec *r);

#endif
