#include "core/credential.h"

#include "unit.h"
#include <apr_encode.h>
#include <apr_strings.h>
#include <openssl/rand.h>
#include <stdbool.h>
#include <string.h>

#define NONE     USERS_CREDENTIAL_NONE
#define BEARER   USERS_CREDENTIAL_BEARER
#define BASIC    USERS_CREDENTIAL_BASIC
#define REPEATED USERS_CREDENTIAL_REPEATED

typedef struct {
    const char *value;
    users_credential_kind kind;
    const char *name;
    const char *secret;
} row;

static const char *shown(apr_pool_t *pool, users_credential_kind kind, const char *name,
                         const char *secret)
{
    return apr_psprintf(pool, "%d <%s> <%s>", kind, name ? name : "NULL", secret ? secret : "NULL");
}

static void check(void **state, const row *rows, size_t count)
{
    apr_pool_t *pool = *state;
    for (size_t i = 0; i < count; i++) {
        const row *r = &rows[i];
        users_credential got = users_credential_parse(r->value, pool);
        const char *is = shown(pool, got.kind, got.name, got.secret);
        const char *wanted = shown(pool, r->kind, r->name, r->secret);
        if (strcmp(is, wanted) != 0) {
            fail_msg("\"%s\": %s, wanted %s", r->value, is, wanted);
        }
    }
}

static void reads_other_values_as_none(void **state)
{
    static const row rows[] = {
        {NULL, NONE, NULL, NULL},          {"", NONE, NULL, NULL},
        {" ", NONE, NULL, NULL},           {"token", NONE, NULL, NULL},
        {"Digest abc", NONE, NULL, NULL},  {"Bearerx abc", NONE, NULL, NULL},
        {"Beare abc", NONE, NULL, NULL},   {"Bearer\tabc", NONE, NULL, NULL},
        {" Bearer abc", NONE, NULL, NULL}, {"Basicx dTpw", NONE, NULL, NULL},
    };
    check(state, rows, COUNT(rows));
}

static void reads_bearer_tokens(void **state)
{
    static const row rows[] = {
        {"Bearer abc", BEARER, NULL, "abc"},
        {"bearer abc", BEARER, NULL, "abc"},
        {"BEARER abc", BEARER, NULL, "abc"},
        {"Bearer   abc", BEARER, NULL, "abc"},
        {"Bearer aZ09-._~+/", BEARER, NULL, "aZ09-._~+/"},
        {"Bearer abc=", BEARER, NULL, "abc="},
        {"Bearer abc===", BEARER, NULL, "abc==="},
        {"Bearer a", BEARER, NULL, "a"},
        {"Bearer", BEARER, NULL, NULL},
        {"Bearer ", BEARER, NULL, NULL},
        {"Bearer =", BEARER, NULL, NULL},
        {"Bearer a=b", BEARER, NULL, NULL},
        {"Bearer a b", BEARER, NULL, NULL},
        {"Bearer abc ", BEARER, NULL, NULL},
        {"Bearer \tabc", BEARER, NULL, NULL},
        {"Bearer a\"c", BEARER, NULL, NULL},
        {"Bearer a:c", BEARER, NULL, NULL},
        {"Bearer caf\xC3\xA9", BEARER, NULL, NULL},
    };
    check(state, rows, COUNT(rows));
}

static void reads_basic_pairs(void **state)
{
    static const row rows[] = {
        {"Basic dTpw", BASIC, "u", "p"},
        {"basic dTpw", BASIC, "u", "p"},
        {"BASIC   dTpw", BASIC, "u", "p"},
        {"Basic dXNlcjpwYXNz", BASIC, "user", "pass"},
        {"Basic dTpwOnE=", BASIC, "u", "p:q"},        /* the first colon splits */
        {"Basic dTpwOnE", BASIC, "u", "p:q"},         /* unpadded */
        {"Basic dTo=", BASIC, "u", ""},               /* "u:" */
        {"Basic OnA=", BASIC, "", "p"},               /* ":p" */
        {"Basic Og==", BASIC, "", ""},                /* ":" */
        {"Basic dTrDvz8+", BASIC, "u", "\xC3\xBF?>"}, /* the standard alphabet */
        {"Basic dTrDvz8-", BASIC, "u", "\xC3\xBF?>"}, /* the URL-safe one */
        {"Basic dTo/Pz8/", BASIC, "u", "????"},
        {"Basic dTo_Pz8_", BASIC, "u", "????"},
        {"Basic w6k6cA==", BASIC, "\xC3\xA9", "p"},
        {"Basic 6TpwcA==", BASIC, NULL, NULL}, /* a name in ISO 8859-1 */
        {"Basic", BASIC, NULL, NULL},
        {"Basic ", BASIC, NULL, NULL},
        {"Basic =", BASIC, NULL, NULL},
        {"Basic dXA=", BASIC, NULL, NULL},     /* "up": no colon */
        {"Basic d", BASIC, NULL, NULL},        /* no octet has six bits */
        {"Basic dTp*", BASIC, NULL, NULL},     /* no such digit */
        {"Basic dT pw", BASIC, NULL, NULL},    /* a space inside */
        {"Basic dTpw ", BASIC, NULL, NULL},    /* and at the end */
        {"Basic dT==pw", BASIC, NULL, NULL},   /* padding inside */
        {"Basic dTpw====", BASIC, NULL, NULL}, /* too much of it */
        {"Basic dTpwAA==", BASIC, NULL, NULL}, /* "u:p\0" */
        {"Basic AHU6cA==", BASIC, NULL, NULL}, /* "\0u:p" */
        {"Basic u:p", BASIC, NULL, NULL},      /* not encoded */
    };
    check(state, rows, COUNT(rows));
}

static void a_comma_is_a_second_field(void **state)
{
    static const row rows[] = {
        {"Bearer abc, Bearer abc", REPEATED, NULL, NULL},
        {"Bearer abc, Basic dTpw", REPEATED, NULL, NULL},
        {"Bearer a,b", REPEATED, NULL, NULL},
        {"Bearer, Bearer abc", REPEATED, NULL, NULL},
        {"basic ,", REPEATED, NULL, NULL},
        {",", REPEATED, NULL, NULL},
        {", Bearer abc", REPEATED, NULL, NULL},
        {" , Bearer abc", REPEATED, NULL, NULL},
        {"Digest username=\"u\", realm=\"r\"", NONE, NULL, NULL},
        {"Digest, Bearer abc", NONE, NULL, NULL},
        {"Bearers a, b", NONE, NULL, NULL},
    };
    check(state, rows, COUNT(rows));
}

static void digests_are_sha256(void **state)
{
    static const struct {
        const char *secret;
        const char *digest;
    } rows[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        unsigned char digest[USERS_DIGEST_LENGTH];
        assert_int_equal(users_credential_digest(rows[i].secret, digest), 1);
        assert_string_equal(
            apr_pencode_base16_binary(*state, digest, sizeof(digest), APR_ENCODE_LOWER, NULL),
            rows[i].digest);
    }
}

/* In place of libcrypto's: this generator can fail. */
static bool no_entropy;

int RAND_bytes(unsigned char *octets, int count)
{
    return no_entropy ? 0 : RAND_priv_bytes(octets, count);
}

static void generates_no_secret_without_entropy(void **state)
{
    no_entropy = true;
    assert_null(users_credential_generate(32, *state));
    no_entropy = false;
    assert_non_null(users_credential_generate(32, *state));
}

static void generates_secrets(void **state)
{
    const char *secret = users_credential_generate(32, *state);
    assert_non_null(secret);
    assert_int_equal(strlen(secret), 43); /* ceil(32 * 8 / 6) */
    assert_int_equal(strspn(secret, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                    "0123456789-_"),
                     43);
    assert_string_not_equal(secret, users_credential_generate(32, *state));
    assert_int_equal(strlen(users_credential_generate(16, *state)), 22);
}

static void knows_names_of_its_own_making(void **state)
{
    const char *name = users_credential_generate(USERS_NAME_OCTETS, *state);
    assert_true(users_credential_is_generated(name));
    assert_true(users_credential_is_generated("ABCDEFGHIJKLMNOPQRS-_789"));
    assert_false(users_credential_is_generated("ABCDEFGHIJKLMNOPQRS-_78"));
    assert_false(users_credential_is_generated("ABCDEFGHIJKLMNOPQRS-_7890"));
    assert_false(users_credential_is_generated("jane.roe@panel.example.c"));
    assert_false(users_credential_is_generated(""));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(knows_names_of_its_own_making),
    cmocka_unit_test(reads_other_values_as_none),
    cmocka_unit_test(reads_bearer_tokens),
    cmocka_unit_test(reads_basic_pairs),
    cmocka_unit_test(a_comma_is_a_second_field),
    cmocka_unit_test(digests_are_sha256),
    cmocka_unit_test(generates_secrets),
    cmocka_unit_test(generates_no_secret_without_entropy),
};

UNIT_MAIN(tests)
