#include "db/log.h"

#include <apr_strings.h>
#include <stdarg.h>

#define LINE_LENGTH 4096

void users_log_write(const users_log *log, const char *file, int line, users_log_level level,
                     apr_status_t status, const char *format, ...)
{
    char text[LINE_LENGTH];
    va_list arguments;

    va_start(arguments, format);
    apr_vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    log->write(log->context, file, line, level, status, text);
}
