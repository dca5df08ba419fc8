/*
 * The figures of all children (core/figures.h), in shared memory that outlives reloads. Each child
 * counts in a slot of its own, which goes on counting with the next child when it has ended,
 * however it has.
 */
#ifndef USERS_HTTP_FIGURES_H
#define USERS_HTTP_FIGURES_H

#include "core/figures.h"

#include <ap_mpm.h>
#include <httpd.h>

/* Hook post_config. */
int users_figures_start(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s);

/* Hook child_init: before anybody counts. */
void users_figures_open(apr_pool_t *pchild, server_rec *s);

/* Hook child_status: in httpd's first process. */
void users_figures_note_child(server_rec *s, pid_t pid, ap_generation_t generation, int place,
                              mpm_child_status state);

/* Those of this process, to count in. */
users_figures *users_figures_here(void);

/* Count one more. */
static inline void users_count(int word)
{
    users_figures_add(users_figures_here(), word, 1);
}

/*
 * All children's, USERS_FIGURE_SIZE words in memory of pool. NULL where there is no shared memory,
 * so that nobody knows them.
 */
const apr_uint64_t *users_figures_total(apr_pool_t *pool);

#endif
