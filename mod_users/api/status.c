#include "api/status.h"

#include "api/metrics.h"
#include "http/figures.h"

#include <apr_strings.h>
#include <http_protocol.h>
#include <mod_status.h>

/* ?auto: keys are the names that Prometheus has. */
static void write_keys(request_rec *r, const users_series *series)
{
    const char *count = series->figure->scale ? "_count" : "";

    ap_rprintf(r, "%s: %" APR_UINT64_T_FMT "\n", users_metrics_name(series, count, NULL, r->pool),
               users_series_value(series));
    if (series->figure->scale) {
        ap_rprintf(r, "%s: %s\n", users_metrics_name(series, "_sum", NULL, r->pool),
                   users_metrics_sum(series, r->pool));
    }
}

static const char *mean_of(const users_series *series, apr_pool_t *pool)
{
    const users_scale *scale = series->figure->scale;
    apr_uint64_t count = users_series_value(series);

    if (!scale || !count) {
        return "";
    }
    return apr_psprintf(pool, "%.*f", scale->unit > 1 ? 6 : 1,
                        (double)series->words[scale->count + 1] / (double)scale->unit /
                            (double)count);
}

/* A figure's help stands before its first series. */
static void write_row(request_rec *r, const users_series *series, bool is_first)
{
    ap_rvputs(r, "<tr><td>", is_first ? series->figure->help : "", "</td><td>",
              series->values[0] ? series->values[0] : "", series->values[1] ? ", " : "",
              series->values[1] ? series->values[1] : "", "</td>", NULL);
    ap_rprintf(r,
               "<td align=\"right\">%" APR_UINT64_T_FMT "</td><td align=\"right\">%s</td></tr>\n",
               users_series_value(series), mean_of(series, r->pool));
}

static void write_rows(request_rec *r, const apr_uint64_t *total)
{
    const users_figure *figure = NULL;
    users_series series = {.figure = NULL};

    ap_rputs("\n<table border=\"0\" cellpadding=\"3\"><tr><th align=\"left\">What</th><th "
             "align=\"left\">Of</th>"
             "<th align=\"right\">Number</th><th align=\"right\">Mean</th></tr>\n",
             r);
    while (users_series_next(&series, total)) {
        if (users_series_is_shown(&series)) {
            write_row(r, &series, series.figure != figure);
            figure = series.figure;
        }
    }
    ap_rputs("</table>\n", r);
}

int users_status_show(request_rec *r, int flags)
{
    const apr_uint64_t *total = users_figures_total(r->pool);
    users_series series = {.figure = NULL};

    if ((flags & AP_STATUS_SHORT) != 0) {
        while (total && users_series_next(&series, total)) {
            if (users_series_is_shown(&series)) {
                write_keys(r, &series);
            }
        }
        return OK;
    }
    ap_rputs("\n<hr />\n<h2>mod_users</h2>\n", r);
    if (total) {
        write_rows(r, total);
    } else {
        ap_rputs("<p>There are no figures.</p>\n", r);
    }
    return OK;
}
