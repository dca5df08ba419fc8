/* What httpd's first process keeps over graceful reloads, together with its children. */
#ifndef USERS_HTTP_PROCESS_H
#define USERS_HTTP_PROCESS_H

#include <httpd.h>

/*
 * Memory of this size under a name, which the children that are forked later share: the same each
 * time for the same server process, zero at first, never given back. A module that was replaced in
 * the meantime finds it by name and size, so the name ends in the number of its layout, which goes
 * up where that changes but not its size. Only what is atomic is well kept there. NULL where the
 * system has none. To be called from post_config on; a child finds what its parent made.
 */
void *users_process_shared(const server_rec *s, const char *name, apr_size_t size);

#endif
