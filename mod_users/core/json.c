#include "core/json.h"

#include <math.h>
#include <string.h>

const char *users_json_text(const json_t *json, apr_pool_t *pool)
{
    size_t length = json_dumpb(json, NULL, 0, JSON_COMPACT);
    char *text = apr_palloc(pool, length + 1);

    if (length == 0 || json_dumpb(json, text, length, JSON_COMPACT) != length) {
        return NULL;
    }
    text[length] = '\0';
    return text;
}

static apr_status_t release(void *json)
{
    json_decref(json);
    return APR_SUCCESS;
}

void users_json_free_with(apr_pool_t *pool, json_t *json)
{
    apr_pool_cleanup_register(pool, json, release, apr_pool_cleanup_null);
}

/* Of a number PostgreSQL writes out all digits before the point, and no exponent. */
static size_t least_length_of_number(double number)
{
    size_t length = 1;

    number = fabs(number);
    while (number >= 1e16) {
        number /= 1e16;
        length += 15; /* not 16, whichever way that is rounded */
    }
    return length;
}

size_t users_json_least_length(const json_t *json)
{
    const char *name;
    const json_t *member;
    size_t i;
    size_t length = 2; /* brackets or quotes */

    if (json_is_number(json)) {
        return least_length_of_number(json_number_value(json));
    }
    if (!json_is_object(json) && !json_is_array(json)) {
        return json_is_string(json) ? length + json_string_length(json) : strlen("true");
    }
    json_array_foreach(json, i, member)
    {
        length += strlen(", ") + users_json_least_length(member);
    }
    json_object_foreach((json_t *)json, name, member)
    {
        length += strlen("\"\": , ") + strlen(name) + users_json_least_length(member);
    }
    return length == 2 ? length : length - strlen(", "); /* the last one has none */
}
