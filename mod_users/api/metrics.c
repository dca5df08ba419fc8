#include "api/metrics.h"

#include "auth/access.h"
#include "config/settings.h"
#include "http/figures.h"
#include "http/reply.h"

#include <apr_strings.h>

#define TYPE "text/plain; version=0.0.4; charset=utf-8"

/* A series */

static const char *with_label(const char *labels, const char *name, const char *value,
                              apr_pool_t *pool)
{
    return apr_pstrcat(pool, labels, *labels ? "," : "", name, "=\"", value, "\"", NULL);
}

const char *users_metrics_name(const users_series *series, const char *suffix, const char *bound,
                               apr_pool_t *pool)
{
    const char *labels = "";

    for (int i = 0; i < 2 && series->figure->labels[i]; i++) {
        labels = with_label(labels, series->figure->labels[i]->name, series->values[i], pool);
    }
    if (bound) {
        labels = with_label(labels, "le", bound, pool);
    }
    return apr_pstrcat(pool, series->figure->name, suffix, *labels ? "{" : "", labels,
                       *labels ? "}" : "", NULL);
}

const char *users_metrics_sum(const users_series *series, apr_pool_t *pool)
{
    const users_scale *scale = series->figure->scale;
    apr_uint64_t sum = series->words[scale->count + 1];

    return scale->unit == 1 ? apr_psprintf(pool, "%" APR_UINT64_T_FMT, sum)
                            : apr_psprintf(pool, "%" APR_UINT64_T_FMT ".%06" APR_UINT64_T_FMT,
                                           sum / scale->unit, sum % scale->unit);
}

/* Lines */

static void add_line(apr_array_header_t *lines, const char *name, const char *value)
{
    APR_ARRAY_PUSH(lines, const char *) = apr_pstrcat(lines->pool, name, " ", value, NULL);
}

static void add_number(apr_array_header_t *lines, const char *name, apr_uint64_t number)
{
    add_line(lines, name, apr_psprintf(lines->pool, "%" APR_UINT64_T_FMT, number));
}

static void add_head(apr_array_header_t *lines, const users_figure *figure)
{
    static const char *const types[] = {
        [USERS_COUNTER] = "counter", [USERS_GAUGE] = "gauge", [USERS_HISTOGRAM_TYPE] = "histogram"};
    apr_pool_t *pool = lines->pool;

    add_line(lines, apr_pstrcat(pool, "# HELP ", figure->name, NULL), figure->help);
    add_line(lines, apr_pstrcat(pool, "# TYPE ", figure->name, NULL), types[figure->type]);
}

/* A bucket has what the ones below it have, too. */
static void add_histogram(apr_array_header_t *lines, const users_series *series)
{
    const users_scale *scale = series->figure->scale;
    apr_pool_t *pool = lines->pool;
    apr_uint64_t values = 0;

    for (int i = 0; i <= scale->count; i++) {
        values += series->words[i];
        add_number(lines,
                   users_metrics_name(series, "_bucket",
                                      i < scale->count ? scale->shown[i] : "+Inf", pool),
                   values);
    }
    add_line(lines, users_metrics_name(series, "_sum", NULL, pool),
             users_metrics_sum(series, pool));
    add_number(lines, users_metrics_name(series, "_count", NULL, pool), values);
}

static void add_series(apr_array_header_t *lines, const users_series *series)
{
    if (series->figure->scale) {
        add_histogram(lines, series);
    } else {
        add_number(lines, users_metrics_name(series, "", NULL, lines->pool),
                   users_series_value(series));
    }
}

static const char *write_all(const apr_uint64_t *total, apr_pool_t *pool)
{
    apr_array_header_t *lines = apr_array_make(pool, 256, sizeof(const char *));
    users_series series = {.figure = NULL};

    while (users_series_next(&series, total)) {
        if (series.words == total + series.figure->first) {
            add_head(lines, series.figure);
        }
        if (users_series_is_shown(&series)) {
            add_series(lines, &series);
        }
    }
    APR_ARRAY_PUSH(lines, const char *) = ""; /* a line's end behind the last, too */
    return apr_array_pstrcat(pool, lines, '\n');
}

/* The endpoint */

static int show(request_rec *r, const users_accept *accept)
{
    const apr_uint64_t *total = users_figures_total(r->pool);

    if (!accept->text) {
        return users_reply_refusal(
            r, accept, users_refuse(HTTP_NOT_ACCEPTABLE, "only text/plain is served here"));
    }
    if (!total) {
        return users_reply_refusal(
            r, accept,
            users_refuse(HTTP_SERVICE_UNAVAILABLE, "there is no shared memory to keep figures in"));
    }
    return users_reply_text(r, TYPE, write_all(total, r->pool));
}

int users_metrics_run(request_rec *r)
{
    int answer;
    const users_admission *admission = users_access_enter(r, USERS_METRICS_HANDLER, &answer);

    if (!admission) {
        return answer;
    }
    return admission->operation == USERS_MEASURE ? show(r, &admission->accept)
                                                 : users_access_reply_options(r);
}
