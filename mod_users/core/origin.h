/* Origins, as browsers send them in the header field Origin (Fetch standard, section 3.2). */
#ifndef USERS_CORE_ORIGIN_H
#define USERS_CORE_ORIGIN_H

#include <stdbool.h>

/*
 * Is it the one form that a browser gives to the origin of a page of http or https: scheme, host in
 * lower case (an IDN as its A-label), a port that is not the scheme's own, and nothing else? Then
 * origins are the same where their bytes are.
 */
bool users_origin_is_serialised(const char *text);

#endif
