/* Which requests are the endpoints'. */
#ifndef USERS_API_ENDPOINT_H
#define USERS_API_ENDPOINT_H

#include <httpd.h>

/*
 * Hook map_to_storage: an endpoint is no file, so httpd need not walk the directories that
 * its path would name, whose rules (<Directory />) are not about it.
 */
int users_endpoint_map(request_rec *r);

/* Hook fixups: an endpoint is served by this module, whatever SetHandler or ProxyPass say. */
int users_endpoint_choose(request_rec *r);

#endif
