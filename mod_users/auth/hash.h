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

#include <httpd.h>

#include <stdbool.h>

/* Hook child_init: makes room for the threads, which start when they are wanted. */
void users_hash_open(apr_pool_t *pchild, server_rec *s);

/*
 * Does password have this hash, as apr_password_validate() knows it? Waits for the answer, up to
 * UsersDBAcquireTimeout. False where there was no room, no memory, or no answer in time; then
 * *right is undefined.
 */
bool users_hash_compare(request_rec *r, const char *password, const char *hash, bool *right);

#endif
