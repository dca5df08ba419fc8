/*
 * The trace that a request is a part of (UsersTraceParent, W3C Trace Context): its id is the
 * variable USERS_TRACE, and stands in every line of the log that the module has for the request.
 */
#ifndef USERS_HTTP_TRACE_H
#define USERS_HTTP_TRACE_H

#include <httpd.h> /* first: http_log.h needs it */

#include <http_log.h>

/* Hook post_read_request: sets USERS_TRACE. A request that another was redirected to has the same.
 */
int users_trace_begin(request_rec *r);

/*
 * ap_log_rerror() for this module, with the trace behind the text: at is APLOG_x, evaluated once,
 * and the text one of 4095 octets at most. Needs APLOG_USE_MODULE.
 */
#define users_log_request(r, at, status, ...)                                                      \
    do {                                                                                           \
        int at_ = (at);                                                                            \
        if (APLOG_R_IS_LEVEL(r, at_)) {                                                            \
            users_log_request_write(APLOG_MARK, at_, status, r, __VA_ARGS__);                      \
        }                                                                                          \
    } while (0)

/* The id of the trace; NULL: there is none. */
const char *users_trace_of(const request_rec *r);

void users_log_request_write(const char *file, int line, int module, int level, apr_status_t status,
                             const request_rec *r, const char *format, ...)
    __attribute__((format(printf, 7, 8)));

#endif
