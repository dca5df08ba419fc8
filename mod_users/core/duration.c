#include "core/duration.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <stddef.h>
#include <strings.h>

static const struct {
    const char *name;
    apr_interval_time_t length;
} units[] = {{"", APR_USEC_PER_SEC},
             {"ms", 1000},
             {"s", APR_USEC_PER_SEC},
             {"min", apr_time_from_sec(60)},
             {"h", apr_time_from_sec(3600)}};

/* httpd's ap_timeout_parameter_parse() takes any word that begins like a unit: 5seconds, 5mist. */
bool users_duration_parse(const char *text, apr_interval_time_t *duration, bool *has_unit)
{
    char *unit;
    apr_int64_t number = apr_strtoi64(text, &unit, 10); /* the largest where it is out of range */

    if (!apr_isdigit(*text)) {
        return false;
    }
    for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++) {
        if (strcasecmp(unit, units[i].name) == 0 && number <= APR_INT64_MAX / units[i].length) {
            *duration = number * units[i].length;
            *has_unit = *unit != '\0';
            return true;
        }
    }
    return false;
}

const char *users_duration_write(apr_interval_time_t duration, apr_pool_t *pool)
{
    for (size_t i = sizeof(units) / sizeof(*units) - 1; i > 0; i--) {
        if (duration >= units[i].length && duration % units[i].length == 0) {
            return apr_psprintf(pool, "%" APR_TIME_T_FMT "%s", duration / units[i].length,
                                units[i].name);
        }
    }
    return "0";
}
