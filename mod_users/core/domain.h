/* The domain of an email address. */
#ifndef USERS_CORE_DOMAIN_H
#define USERS_CORE_DOMAIN_H

#include <stdbool.h>

/* Labels with a dot between them, or "localhost": what an address of a client may have. */
bool users_is_domain(const char *text);

/*
 * One of those that generated addresses may have: letters, digits and hyphens between the dots. An
 * IPv4 address is none: a top-level domain is not a number (RFC 3696 section 2).
 */
bool users_is_host_domain(const char *text);

#endif
