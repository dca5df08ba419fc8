/* The Authorization header field: what is read out of it could stand in it. */
#include "core/credential.h"

#include "fuzz.h"

#include <apr_encode.h>
#include <jansson.h>
#include <strings.h>

static void check_bearer(const char *value, const users_credential *credential)
{
    FUZZ_CHECK(strncasecmp(value, "Bearer", 6) == 0);
    FUZZ_CHECK(credential->name == NULL);
    if (credential->secret != NULL) {
        size_t length = strlen(credential->secret);
        FUZZ_CHECK(length > 0 && credential->secret[0] != '=');
        FUZZ_CHECK(strcspn(credential->secret, " ,\t\"") == length);
        FUZZ_CHECK(credential->secret == value + strlen(value) - length);
    }
}

static bool is_utf8(const char *text)
{
    json_t *string = json_string(text);
    json_decref(string);
    return string != NULL;
}

/* The pair, sent again, is the same pair. */
static void check_basic(const char *value, const users_credential *credential, apr_pool_t *pool)
{
    FUZZ_CHECK(strncasecmp(value, "Basic", 5) == 0);
    FUZZ_CHECK((credential->name == NULL) == (credential->secret == NULL));
    if (credential->name == NULL) {
        return;
    }
    FUZZ_CHECK(strchr(credential->name, ':') == NULL && is_utf8(credential->name));
    const char *pair = apr_pstrcat(pool, credential->name, ":", credential->secret, NULL);
    const char *encoded = apr_pencode_base64(pool, pair, APR_ENCODE_STRING, APR_ENCODE_NONE, NULL);
    users_credential again =
        users_credential_parse(apr_pstrcat(pool, "basic  ", encoded, NULL), pool);
    FUZZ_CHECK(again.kind == USERS_CREDENTIAL_BASIC && again.name != NULL);
    FUZZ_CHECK(strcmp(again.name, credential->name) == 0);
    FUZZ_CHECK(strcmp(again.secret, credential->secret) == 0);
}

static void check_credential(const char *value, size_t length, apr_pool_t *pool)
{
    users_credential credential = users_credential_parse(value, pool);
    unsigned char digest[USERS_DIGEST_LENGTH];
    (void)length;
    FUZZ_CHECK(strchr(value, ',') != NULL ? credential.secret == NULL
                                          : credential.kind != USERS_CREDENTIAL_REPEATED);
    switch (credential.kind) {
    case USERS_CREDENTIAL_BEARER:
        check_bearer(value, &credential);
        break;
    case USERS_CREDENTIAL_BASIC:
        check_basic(value, &credential, pool);
        break;
    default:
        FUZZ_CHECK(credential.name == NULL && credential.secret == NULL);
    }
    if (credential.secret != NULL) {
        FUZZ_CHECK(users_credential_digest(credential.secret, digest) == 1);
    }
}

FUZZ_TARGET(check_credential)
