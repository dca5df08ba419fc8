/* The figures of the module as Prometheus reads them: its text format, version 0.0.4. */
#ifndef USERS_API_METRICS_H
#define USERS_API_METRICS_H

#include "core/figures.h"

#include <httpd.h>

/* Hook handler. */
int users_metrics_run(request_rec *r);

/*
 * What a series is called, in memory of pool: its figure's name, with a suffix, and its labels.
 * bound: that of a bucket; NULL: it is none.
 */
const char *users_metrics_name(const users_series *series, const char *suffix, const char *bound,
                               apr_pool_t *pool);

/* The sum of a histogram's values, in what is shown of them. */
const char *users_metrics_sum(const users_series *series, apr_pool_t *pool);

#endif
