/* Form bodies: what is read, encoded again, is the same set of parameters. */
#include "core/form.h"

#include "core/unicode.h"

#include "fuzz.h"

/* Every octet, whether it needs it or not. */
static const char *encoded(const char *text, apr_pool_t *pool)
{
    char *result = apr_palloc(pool, strlen(text) * 3 + 1);
    char *end = result;
    for (; *text != '\0'; text++) {
        end += snprintf(end, 4, "%%%02x", (unsigned char)*text);
    }
    *end = '\0';
    return result;
}

static const char *const known[] = {
    "grant_type", "client_id", "client_secret", "scope", "token", "a", "b", NULL};

static void check_form(const char *bytes, size_t length, apr_pool_t *pool)
{
    const char *error = NULL;
    apr_hash_t *parameters = users_form_parse(bytes, length, known, pool, &error);
    if (parameters == NULL || length > 4096) {
        FUZZ_CHECK(parameters != NULL || strncmp(error, "the request body ", 17) == 0);
        return;
    }
    FUZZ_CHECK(error == NULL && memchr(bytes, '\0', length) == NULL);
    const char *written = "";
    for (apr_hash_index_t *at = apr_hash_first(pool, parameters); at; at = apr_hash_next(at)) {
        const char *name = apr_hash_this_key(at);
        const char *value = apr_hash_this_val(at);
        FUZZ_CHECK(users_is_utf8(users_span_of(name)) && users_is_utf8(users_span_of(value)) &&
                   *value != '\0');
        written =
            apr_pstrcat(pool, written, "&", encoded(name, pool), "=", encoded(value, pool), NULL);
    }
    apr_hash_t *again = users_form_parse(written, strlen(written), known, pool, &error);
    FUZZ_CHECK(again != NULL && apr_hash_count(again) == apr_hash_count(parameters));
    for (apr_hash_index_t *at = apr_hash_first(pool, parameters); at; at = apr_hash_next(at)) {
        const char *value = apr_hash_get(again, apr_hash_this_key(at), APR_HASH_KEY_STRING);
        FUZZ_CHECK(value != NULL && strcmp(value, apr_hash_this_val(at)) == 0);
    }
}

FUZZ_TARGET(check_form)
