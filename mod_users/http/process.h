/* What httpd's first process keeps over reloads, for itself or together with its children. */
#ifndef USERS_HTTP_PROCESS_H
#define USERS_HTTP_PROCESS_H

#include <httpd.h>
#include <stdbool.h>

/*
 * Has httpd been running before this configuration was read, so that ending now would end every
 * site that it serves? To be asked from post_config on.
 */
bool users_process_is_reload(void);

/*
 * Hooks post_config, before all others and behind them: what no setting has asked for between the
 * two is given back.
 */
int users_process_begin(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s);
int users_process_end(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s);

/*
 * Memory of this size under a name, for a post_config hook: zero at first, and the same at each
 * reload that asks for it. A module that was replaced in the meantime finds it by name and size.
 */
void *users_process_memory(const server_rec *s, const char *name, apr_size_t size);

/*
 * The same, but the children that are forked later share it: only what is atomic is well kept
 * there, and this process must not believe what it finds. NULL where the system has none.
 */
void *users_process_shared(const server_rec *s, const char *name, apr_size_t size);

#endif
