#include "core/form.h"

#include "unit.h"
#include <string.h>

#define MALFORMED "the request body is not form-encoded UTF-8"
#define REPEATED  "the request body names a parameter twice"
#define HAS_NUL   "the request body holds a NUL character"

static const char *const known[] = {"grant_type", "scope", "user name", "x", "a", NULL};

static void decodes_text(void **state)
{
    static const struct {
        const char *text;
        const char *decoded;
    } rows[] = {
        {"", ""},
        {"plain-._~*", "plain-._~*"},
        {"a+b", "a b"},
        {"a%20b", "a b"},
        {"a%2Bb", "a+b"},
        {"%2b%2B", "++"},
        {"%c3%A9", "\xC3\xA9"},
        {"%26%3d%25", "&=%"},
        {"++", "  "},
        {"%", NULL},
        {"%2", NULL},
        {"%zz", NULL},
        {"a%00b", NULL},
        {"%00", NULL},
        {"%e9", NULL},       /* ISO 8859-1 */
        {"%c3", NULL},       /* cut short */
        {"%ed%a0%80", NULL}, /* a surrogate */
        {"%ed%9f%bf%ee%80%80", "\xED\x9F\xBF\xEE\x80\x80"},
        {"%c2%80", "\xC2\x80"},
        {"%c1%bf", NULL}, /* longer than need be: here, and in these two */
        {"%e0%9f%bf", NULL},
        {"%f0%8f%bf%bf", NULL},
        {"%e0%a0%80", "\xE0\xA0\x80"},
        {"%f0%90%80%80", "\xF0\x90\x80\x80"},
        {"%f4%8f%bf%bf", "\xF4\x8F\xBF\xBF"},
        {"%f4%90%80%80", NULL}, /* beyond Unicode */
        {"%f5%80%80%80", NULL},
        {"%e2%82", NULL},
        {"%e2%82a", NULL},
        {"%bf", NULL},
        {"%ff", NULL},
        {"\xE9", NULL}, /* not encoded at all */
        {"\xC3\xA9", "\xC3\xA9"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        const char *decoded = users_form_decode(rows[i].text, *state);
        if ((decoded == NULL) != (rows[i].decoded == NULL) ||
            (decoded != NULL && strcmp(decoded, rows[i].decoded) != 0)) {
            fail_msg("\"%s\": %s", rows[i].text, decoded ? decoded : "NULL");
        }
    }
}

static apr_hash_t *parse(void **state, const char *body)
{
    const char *error = NULL;
    apr_hash_t *parameters = users_form_parse(body, strlen(body), known, *state, &error);
    assert_null(error);
    assert_non_null(parameters);
    return parameters;
}

static const char *value_of(apr_hash_t *parameters, const char *name)
{
    return apr_hash_get(parameters, name, APR_HASH_KEY_STRING);
}

static void reads_parameters(void **state)
{
    apr_hash_t *parameters = parse(state, "grant_type=password&scope=a+b&user%20name=%C3%A9&x=a=b");
    assert_int_equal(apr_hash_count(parameters), 4);
    assert_string_equal(value_of(parameters, "grant_type"), "password");
    assert_string_equal(value_of(parameters, "scope"), "a b");
    assert_string_equal(value_of(parameters, "user name"), "\xC3\xA9");
    assert_string_equal(value_of(parameters, "x"), "a=b"); /* the first equals sign splits */
    assert_null(value_of(parameters, "Scope"));            /* names have their case */
}

static void a_parameter_without_a_value_is_absent(void **state)
{
    assert_int_equal(apr_hash_count(parse(state, "")), 0);
    assert_int_equal(apr_hash_count(parse(state, "&&")), 0);
    assert_int_equal(apr_hash_count(parse(state, "scope")), 0);
    assert_int_equal(apr_hash_count(parse(state, "scope=&&grant_type=")), 0);
    assert_string_equal(value_of(parse(state, "&a=b&"), "a"), "b");
}

static void ignores_what_is_not_known(void **state)
{
    apr_hash_t *parameters = parse(state, "b=1&a=b&b=2&A=b&b=%zz&b=%ff&b&resource=x&resource=y");
    assert_int_equal(apr_hash_count(parameters), 1);
    assert_string_equal(value_of(parameters, "a"), "b");
}

static void refuses_what_is_malformed(void **state)
{
    static const struct {
        const char *body;
        size_t length;
        const char *error;
    } rows[] = {
        {"a=%", 3, MALFORMED},         {"%zz=a", 5, MALFORMED},
        {"a=%00", 5, MALFORMED},       {"a=%ff", 5, MALFORMED},
        {"a=b&a=b", 7, REPEATED},      {"a=b&%61=c", 9, REPEATED},
        {"a=b&b=%&a=b", 11, REPEATED}, {"%=b", 3, MALFORMED},
        {"a=b\0&c=d", 8, HAS_NUL},     {"\0", 1, HAS_NUL},
        {"a=b&a=", 6, REPEATED},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        const char *error = "none";
        assert_null(users_form_parse(rows[i].body, rows[i].length, known, *state, &error));
        assert_string_equal(error, rows[i].error);
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(decodes_text),
    cmocka_unit_test(reads_parameters),
    cmocka_unit_test(a_parameter_without_a_value_is_absent),
    cmocka_unit_test(ignores_what_is_not_known),
    cmocka_unit_test(refuses_what_is_malformed),
};

UNIT_MAIN(tests)
