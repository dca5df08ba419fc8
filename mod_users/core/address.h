/* Email addresses and their domains. */
#ifndef USERS_CORE_ADDRESS_H
#define USERS_CORE_ADDRESS_H

#include <stdbool.h>

/*
 * Can mail be sent to it, and to it alone? A dot-atom (RFC 5322 section 3.2.3, with the words of
 * other scripts as in RFC 6532), one @, and a domain of LDH or IDN labels with a dot, or
 * localhost. text: in UTF-8 and Normalisation Form C.
 */
bool users_is_address(const char *text);

/* Can generated addresses have this domain? It is one in ASCII that leaves the local part room. */
bool users_is_host_domain(const char *text);

#endif
