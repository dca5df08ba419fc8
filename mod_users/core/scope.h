/* Sets of OAuth scopes (RFC 6749 section 3.3): words with a space between them. */
#ifndef USERS_CORE_SCOPE_H
#define USERS_CORE_SCOPE_H

#include <apr_pools.h>
#include <stdbool.h>

#define USERS_SCOPE_READ       "profile_read"   /* one's own account */
#define USERS_SCOPE_UPDATE     "profile_update" /* the same */
#define USERS_SCOPE_REGISTER   "register"       /* new accounts: an application's */
#define USERS_SCOPE_INTROSPECT "introspect"     /* anybody's tokens: an application's */

/*
 * Are these the characters of RFC 6749 section 3.3, printable ASCII without quotes and backslashes,
 * with one word at least? Spaces around words do not matter.
 */
bool users_scope_is_valid(const char *scopes);

/* Each word once, in the order of the first ones, with one space between them; "" for none. */
const char *users_scope_set(const char *scopes, apr_pool_t *pool);

#define USERS_SCOPE_WORDS  100
#define USERS_SCOPE_LENGTH 1500 /* characters, the spaces between the words too */

/* Is this set, as of users_scope_set(), within these limits? An index of the database holds it. */
bool users_scope_fits(const char *set);

/* Is scope one of the words of scopes? Whole words, case-sensitive; NULL holds none. */
bool users_scope_contains(const char *scopes, const char *scope);

/* Is each word of asked one of scopes? pool: for copies. */
bool users_scope_covers(const char *scopes, const char *asked, apr_pool_t *pool);

#endif
