/* Lines for the log, wherever whoever opened the database has it. */
#ifndef USERS_DB_LOG_H
#define USERS_DB_LOG_H

#include <apr_errno.h>

/* As syslog and httpd number them. */
typedef enum {
    USERS_LOG_CRIT = 2,
    USERS_LOG_ERR,
    USERS_LOG_WARNING,
    USERS_LOG_NOTICE,
    USERS_LOG_INFO,
    USERS_LOG_DEBUG,
    USERS_LOG_TRACE1,
    USERS_LOG_TRACE2,
    USERS_LOG_TRACE3,
    USERS_LOG_TRACE4
} users_log_level;

typedef struct {
    /* line: of the source file; status: what APR said, or 0; text: one line without its end */
    void (*write)(void *context, const char *file, int line, users_log_level level,
                  apr_status_t status, const char *text);
    void *context;
    int level; /* the last one that is written; those behind it cost a comparison */
} users_log;

#define users_log_at(log, at, status, ...)                                                         \
    do {                                                                                           \
        if ((int)(at) <= (log)->level) {                                                           \
            users_log_write(log, __FILE__, __LINE__, at, status, __VA_ARGS__);                     \
        }                                                                                          \
    } while (0)

/* format: apr_snprintf()'s. */
void users_log_write(const users_log *log, const char *file, int line, users_log_level level,
                     apr_status_t status, const char *format, ...)
    __attribute__((format(printf, 6, 7)));

#endif
