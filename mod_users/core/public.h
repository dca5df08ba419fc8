/* Which addresses are anybody's on the Internet, and not of a network of one's own. */
#ifndef USERS_CORE_PUBLIC_H
#define USERS_CORE_PUBLIC_H

#include <stdbool.h>
#include <sys/socket.h>

/*
 * Is it a unicast address that is globally reachable (IANA's registries of special-purpose
 * addresses, RFC 6890)? One of IPv6 that stands for one of IPv4 is what that one is.
 */
bool users_is_public(const struct sockaddr *address);

#endif
