/* Whom a request comes from, as far as that can be told from its address. */
#ifndef USERS_HTTP_NETWORK_H
#define USERS_HTTP_NETWORK_H

#include <httpd.h>

/*
 * A number of the client's address (r->useragent_addr, which mod_remoteip sets). Whoever has an
 * IPv6 address has the rest of its /64 too: these are one.
 */
apr_uint64_t users_network_of(const request_rec *r);

#endif
