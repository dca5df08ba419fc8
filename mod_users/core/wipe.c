#include "core/wipe.h"

#include <openssl/crypto.h>
#include <string.h>

typedef struct {
    void *memory;
    apr_size_t size;
} secret;

static apr_status_t wipe(void *data)
{
    const secret *s = data;

    OPENSSL_cleanse(s->memory, s->size);
    return APR_SUCCESS;
}

void users_wipe_later(apr_pool_t *pool, const void *memory, apr_size_t size)
{
    secret *s = apr_palloc(pool, sizeof(*s));

    *s = (secret){(void *)memory, size};
    apr_pool_cleanup_register(pool, s, wipe, apr_pool_cleanup_null);
}

const char *users_wipe_text_later(apr_pool_t *pool, const char *text)
{
    if (text) {
        users_wipe_later(pool, text, strlen(text));
    }
    return text;
}
