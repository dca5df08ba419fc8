#include "http/trace.h"

#include "config/settings.h"
#include "core/header.h"

#include <apr_strings.h>
#include <http_core.h>
#include <openssl/rand.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#define VARIABLE      "USERS_TRACE"
#define FIELD         "traceparent"
#define PARENT_LENGTH 16 /* hexadecimal digits of a parent id */
#define LINE_LENGTH   4096

/*
 * Have the request begin a trace, also for what it is passed on to: a proxied server, a program.
 * The state of another one does not belong to it. NULL where there is no randomness.
 */
static const char *generate(request_rec *r)
{
    unsigned char octets[(USERS_TRACE_LENGTH + PARENT_LENGTH) / 2];
    char *trace = apr_palloc(r->pool, USERS_TRACE_LENGTH + 1);
    char parent[PARENT_LENGTH + 1];

    if (RAND_bytes(octets, sizeof(octets)) != 1) {
        return NULL;
    }
    ap_bin2hex(octets, USERS_TRACE_LENGTH / 2, trace);
    ap_bin2hex(octets + USERS_TRACE_LENGTH / 2, PARENT_LENGTH / 2, parent);
    apr_table_setn(r->headers_in, FIELD,
                   apr_pstrcat(r->pool, "00-", trace, "-", parent, "-00", NULL));
    apr_table_unset(r->headers_in, "tracestate");
    return trace;
}

int users_trace_begin(request_rec *r)
{
    users_trace_parent wanted = users_settings_of(r->server)->trace_parent;
    const char *given;
    const char *trace;

    if (wanted == USERS_TRACE_OFF) {
        return DECLINED;
    }
    /* a redirect inside httpd renames the variables of the request before */
    trace = r->prev ? apr_table_get(r->prev->subprocess_env, VARIABLE) : NULL;
    given = trace ? NULL : apr_table_get(r->headers_in, FIELD);
    if (given) {
        trace = users_traceparent_parse(given, r->pool);
    }
    if (!trace && wanted == USERS_TRACE_GENERATE) {
        trace = generate(r);
    }
    if (trace) {
        apr_table_setn(r->subprocess_env, VARIABLE, trace);
    }
    return OK;
}

const char *users_trace_of(const request_rec *r)
{
    return apr_table_get(r->subprocess_env, VARIABLE);
}

/* Does ErrorLogFormat put it into each line? Then the texts have no need of it. */
static bool is_in_every_line(const server_rec *s)
{
    const core_server_config *core = ap_get_core_module_config(s->module_config);
    const apr_array_header_t *items = core->error_log_format;

    for (int i = 0; items && i < items->nelts; i++) {
        const char *argument = APR_ARRAY_IDX(items, i, ap_errorlog_format_item).arg;

        if (argument && strcmp(argument, VARIABLE) == 0) {
            return true;
        }
    }
    return false;
}

void users_log_request_write(const char *file, int line, int module, int level, apr_status_t status,
                             const request_rec *r, const char *format, ...)
{
    const char *trace = users_trace_of(r);
    char text[LINE_LENGTH];
    va_list arguments;

    va_start(arguments, format);
    apr_vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (trace && !is_in_every_line(r->server)) {
        ap_log_rerror(file, line, module, level, status, r, "%s [trace %s]", text, trace);
    } else {
        ap_log_rerror(file, line, module, level, status, r, "%s", text);
    }
}
