/*
 * Threads for hashing passwords. A hash takes a core for tens of milliseconds, on purpose: a few
 * threads of a child (UsersHashSlots) compute them and give way to all others, and only a quarter
 * of those that serve requests may wait for them at once, so that a flood of wrong passwords does
 * not park them all. Clients' addresses take turns. After a wrong one its address rests, and where
 * many do so all rest, since the scheduler may charge all of httpd with what a thread of it has
 * used.
 */
#ifndef USERS_AUTH_HASH_H
#define USERS_AUTH_HASH_H

#include "auth/lockout.h"

#include <httpd.h>

#include <stdbool.h>

/* Hook child_init: makes room for the threads, which start when they are wanted. */
void users_hash_open(apr_pool_t *pchild, server_rec *s);

/* Hook post_config: all children shall know the highest cost. */
int users_hash_start(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s);

/* There is this hash: from now on a wrong password costs as much as one of it, if not more. */
void users_hash_note(const char *hash);

/*
 * Does password have this hash, as apr_password_validate() knows it? If it is the name's own: else
 * it never has, and only what it costs is of interest. Waits for the answer, up to
 * UsersDBAcquireTimeout. False where there was no room, no memory, or no answer in time; then
 * *right is undefined. If it hasn't, or the attempt is locked out by then, that costs as much as
 * with any other hash: UsersHashCost, or the highest cost that was seen.
 */
bool users_hash_compare(request_rec *r, const users_attempt *attempt, const char *password,
                        bool own, const char *hash, bool *right);

#endif
