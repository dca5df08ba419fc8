#include "core/form.h"

#include "core/unicode.h"
#include "core/wipe.h"

#include <apr_escape.h>
#include <apr_strings.h>
#include <stdbool.h>
#include <string.h>

const char *users_form_decode(const char *text, apr_pool_t *pool)
{
    const char *decoded = apr_punescape_url(pool, text, NULL, NULL, 1);

    if (decoded != text) {
        users_wipe_text_later(pool, decoded);
    }
    return decoded && users_is_utf8(users_span_of(decoded)) ? decoded : NULL;
}

static bool is_one_of(const char *name, const char *const *known)
{
    while (*known && strcmp(*known, name) != 0) {
        known++;
    }
    return *known != NULL;
}

apr_hash_t *users_form_parse(const char *bytes, size_t length, const char *const *known,
                             apr_pool_t *pool, const char **error)
{
    apr_hash_t *parameters = apr_hash_make(pool);
    char *rest = apr_pstrmemdup(pool, bytes, length);
    char *pair;

    users_wipe_later(pool, rest, length);
    if (strlen(rest) != length) {
        *error = "the request body holds a NUL character";
        return NULL;
    }
    while ((pair = apr_strtok(rest, "&", &rest))) {
        char *equals = strchr(pair, '=');
        const char *name;
        const char *value;

        if (equals) {
            *equals = '\0';
        }
        name = users_form_decode(pair, pool);
        if (name && !is_one_of(name, known)) {
            continue;
        }
        value = equals ? users_form_decode(equals + 1, pool) : "";
        if (!name || !value) {
            *error = "the request body is not form-encoded UTF-8";
            return NULL;
        }
        if (apr_hash_get(parameters, name, APR_HASH_KEY_STRING)) {
            *error = "the request body names a parameter twice";
            return NULL;
        }
        if (*value) {
            apr_hash_set(parameters, name, APR_HASH_KEY_STRING, value);
        }
    }
    return parameters;
}
