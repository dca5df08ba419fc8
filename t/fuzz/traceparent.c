/* traceparent: what names a trace has its form, and names the same one in version 00. */
#include "core/header.h"

#include "fuzz.h"

#include <apr_strings.h>

static void check_traceparent(const char *value, size_t length, apr_pool_t *pool)
{
    const char *trace = users_traceparent_parse(value, pool);

    if (trace == NULL) {
        return;
    }
    FUZZ_CHECK(length >= 55 && strchr(value, ',') == NULL && strncmp(value, "ff", 2) != 0);
    FUZZ_CHECK(strlen(trace) == USERS_TRACE_LENGTH);
    FUZZ_CHECK(strspn(trace, "0123456789abcdef") == USERS_TRACE_LENGTH);
    FUZZ_CHECK(strspn(trace, "0") < USERS_TRACE_LENGTH);
    const char *plain = apr_pstrcat(pool, "00", apr_pstrmemdup(pool, value + 2, 53), NULL);
    const char *again = users_traceparent_parse(plain, pool);
    FUZZ_CHECK(again != NULL && strcmp(again, trace) == 0);
}

FUZZ_TARGET(check_traceparent)
