#include "core/json.h"

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
