#include "core/credential.h"

#include "core/unicode.h"
#include "core/wipe.h"

#include <apr_cstr.h>
#include <apr_encode.h>
#include <apr_strings.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdbool.h>
#include <string.h>

#define ALPHANUMERIC "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
#define BASE64URL    ALPHANUMERIC "-_"

/* RFC 9110 section 11.2 */
static bool is_token68(const char *text)
{
    size_t characters = strspn(text, ALPHANUMERIC "-._~+/");
    size_t padding = strspn(text + characters, "=");

    return characters > 0 && !text[characters + padding];
}

/* Split the user-pass of RFC 7617 section 2 at its first colon, the name can't hold one. */
static void read_pair(const char *encoded, users_credential *credential, apr_pool_t *pool)
{
    apr_size_t length;
    const char *pair =
        apr_pdecode_base64(pool, encoded, APR_ENCODE_STRING, APR_ENCODE_NONE, &length);
    const char *colon;
    const char *name;

    if (!pair) { /* not base64 */
        return;
    }
    users_wipe_later(pool, pair, length);
    if (strlen(pair) != length) { /* with a NUL inside */
        return;
    }
    colon = strchr(pair, ':');
    if (!colon) {
        return;
    }
    name = apr_pstrmemdup(pool, pair, (apr_size_t)(colon - pair));
    if (users_is_utf8(users_span_of(name))) {
        credential->name = name;
        credential->secret = colon + 1;
    }
}

users_credential users_credential_parse(const char *value, apr_pool_t *pool)
{
    users_credential credential = {USERS_CREDENTIAL_NONE, NULL, NULL};
    size_t length;
    const char *scheme;
    const char *rest;

    if (!value) {
        return credential;
    }
    length = strcspn(value, " ,");
    scheme = apr_pstrmemdup(pool, value, length);
    rest = value + length + strspn(value + length, " ");
    if (apr_cstr_casecmp(scheme, "Bearer") == 0) {
        credential.kind = USERS_CREDENTIAL_BEARER;
    } else if (apr_cstr_casecmp(scheme, "Basic") == 0) {
        credential.kind = USERS_CREDENTIAL_BASIC;
    } else if (*scheme) { /* whose parameters may be separated by commas */
        return credential;
    }
    if (strchr(value, ',')) {
        credential.kind = USERS_CREDENTIAL_REPEATED;
    } else if (credential.kind == USERS_CREDENTIAL_BEARER) {
        credential.secret = is_token68(rest) ? rest : NULL;
    } else if (credential.kind == USERS_CREDENTIAL_BASIC) {
        read_pair(rest, &credential, pool);
    }
    return credential;
}

int users_credential_digest(const char *secret, unsigned char digest[USERS_DIGEST_LENGTH])
{
    return EVP_Digest(secret, strlen(secret), digest, NULL, EVP_sha256(), NULL);
}

const char *users_credential_generate(apr_size_t octets, apr_pool_t *pool)
{
    unsigned char *random = apr_palloc(pool, octets);

    if (RAND_bytes(random, (int)octets) != 1) {
        return NULL;
    }
    users_wipe_later(pool, random, octets);
    return apr_pencode_base64_binary(pool, random, (apr_ssize_t)octets, APR_ENCODE_BASE64URL, NULL);
}

bool users_credential_is_generated(const char *name)
{
    size_t length = strlen(name);

    return length == USERS_NAME_OCTETS * 4 / 3 && strspn(name, BASE64URL) == length;
}
