/* Sets of OAuth scopes (RFC 6749 section 3.3): words with a space between them. */
#ifndef USERS_SCOPE_H
#define USERS_SCOPE_H

#include <stdbool.h>

/* Is scope one of the words of scopes? Whole words, case-sensitive; NULL holds none. */
bool users_scope_contains(const char *scopes, const char *scope);

#endif
