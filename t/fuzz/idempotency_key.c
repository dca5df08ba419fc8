/* Idempotency-Key: what is read, quoted, is the same key. */
#include "core/header.h"

#include "fuzz.h"

static const char *quoted(const char *key, apr_pool_t *pool)
{
    char *text = apr_palloc(pool, strlen(key) * 2 + 3);
    char *end = text;
    *end++ = '"';
    for (; *key != '\0'; key++) {
        if (*key == '"' || *key == '\\') {
            *end++ = '\\';
        }
        *end++ = *key;
    }
    *end++ = '"';
    *end = '\0';
    return text;
}

static void check_idempotency_key(const char *value, size_t length, apr_pool_t *pool)
{
    const char *key = users_idempotency_key_parse(value, pool);
    (void)length;
    if (key == NULL) {
        return;
    }
    FUZZ_CHECK(*key != '\0' && strlen(key) <= 255);
    for (const char *c = key; *c != '\0'; c++) {
        FUZZ_CHECK(*c >= ' ' && *c <= '~');
    }
    const char *again = users_idempotency_key_parse(quoted(key, pool), pool);
    FUZZ_CHECK(again != NULL && strcmp(again, key) == 0);
}

FUZZ_TARGET(check_idempotency_key)
