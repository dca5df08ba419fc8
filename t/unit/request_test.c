#include "core/request.h"

#include "unit.h"
#include <apr_strings.h>
#include <string.h>

#define NOT_JSON    "the request body is not valid JSON"
#define NOT_UTF8    "the request body is not valid UTF-8"
#define NUL         "the request body holds a NUL character"
#define TWICE       "the request body names a member twice"
#define RANGE       "the request body holds a number that is out of range"
#define WRONG_SHAPE "the request body must be an object with an object \"user\""
#define TOO_DEEP    "the request body is nested more than 16 levels deep"

/* error: NULL where the bytes are a good body. */
static void check(const char *given, size_t length, const char *error)
{
    const char *got = NULL;
    char *bytes = malloc(length + 1);
    memcpy(bytes, given, length);
    bytes[length] = '\0';
    json_t *body = users_request_parse(bytes, length, &got);
    free(bytes);
    if (body != NULL) {
        assert_true(json_is_object(json_object_get(body, "user")));
        json_decref(body);
    }
    if (error == NULL ? body == NULL : (body != NULL || strcmp(got, error) != 0)) {
        fail_msg("%.*s: %s, wanted %s", (int)length, given, got ? got : "good",
                 error ? error : "good");
    }
}

static void judges_bodies(void **state)
{
    static const struct {
        const char *body;
        const char *error;
    } rows[] = {
        {"{\"user\":{}}", NULL},
        {" \t\r\n{ \"user\" : { } } \n", NULL},
        {"{\"labels\":{},\"user\":{\"fname\":\"J\\u00fcrgen \xF0\x9F\x98\x80\"}}", NULL},
        {"{\"user\":{\"a\":\"\\ud83d\\ude00\"}}", NULL},
        {"{\"user\":{\"a\":9223372036854775807,\"b\":-9223372036854775808,\"c\":1e308}}", NULL},
        {"", NOT_JSON},
        {" ", NOT_JSON},
        {"{", NOT_JSON},
        {"{\"user\":{}", NOT_JSON},
        {"{\"user\":{}}x", NOT_JSON},
        {"{\"user\":{}}{}", NOT_JSON},
        {"{\"user\":{},}", NOT_JSON},
        {"{'user':{}}", NOT_JSON},
        {"{\"user\":{\"a\":NaN}}", NOT_JSON},
        {"{\"user\":{\"a\":01}}", NOT_JSON},
        {"{\"user\":{\"a\":\"\t\"}}", NOT_JSON},
        {"{\"user\":{}} // comment", NOT_JSON},
        {"fname=J", NOT_JSON},
        {"\xEF\xBB\xBF{\"user\":{}}", NOT_JSON}, /* a byte order mark */
        {"{\"user\":{\"a\":\"\\ud800\"}}", NOT_JSON},
        {"{\"user\":{\"a\":\"\\udc00\"}}", NOT_JSON},
        {"{\"user\":{\"a\":\"\\ud800\\u0041\"}}", NOT_JSON},
        {"\xFF\xFE{", NOT_UTF8},
        {"{\"user\":{\"a\":\"\xFF\"}}", NOT_UTF8},
        {"{\"user\":{\"a\":\"\xC0\xAF\"}}", NOT_UTF8},     /* overlong */
        {"{\"user\":{\"a\":\"\xED\xA0\x80\"}}", NOT_UTF8}, /* a surrogate */
        {"{\"user\":{\"\xC3\":1}}", NOT_UTF8},
        {"{\"user\":{\"a\":\"\\u0000\"}}", NUL},
        {"{\"user\":{\"\\u0000\":1}}", NUL},
        {"{\"user\":{},\"user\":{}}", TWICE},
        {"{\"user\":{\"a\":1,\"a\":1}}", TWICE},
        {"{\"user\":{\"a\":1,\"\\u0061\":2}}", TWICE},
        {"{\"user\":{\"a\":{\"b\":[{\"c\":1,\"c\":2}]}}}", TWICE},
        {"{\"user\":{\"a\":1e999}}", RANGE},
        {"{\"user\":{\"a\":9223372036854775808}}", RANGE},
        {"{\"user\":{\"a\":-9223372036854775809}}", RANGE},
        {"{\"user\":{\"a\":1e-325}}", RANGE},
        {"{\"user\":{\"a\":[0, -12.5E-16383, 1]}}", RANGE},
        {"{\"user\":{\"a\":0.001e-322}}", RANGE},
        {"{\"user\":{\"a\":1e-99999999999999999999}}", RANGE},
        {"{\"user\":{\"a\":0.1e-99999999999999999999}}", RANGE},
        {"{\"user\":{\"a\\\"\":1e-325}}", RANGE},
        {"{}", WRONG_SHAPE},
        {"{\"User\":{}}", WRONG_SHAPE},
        {"{\"user\":null}", WRONG_SHAPE},
        {"{\"user\":[]}", WRONG_SHAPE},
        {"{\"user\":\"x\"}", WRONG_SHAPE},
        {"[]", WRONG_SHAPE},
        {"[{\"user\":{}}]", WRONG_SHAPE},
        {"null", WRONG_SHAPE},
        {"5", WRONG_SHAPE},
        {"\"user\"", WRONG_SHAPE},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        check(rows[i].body, strlen(rows[i].body), rows[i].error);
    }
}

static void takes_numbers_that_a_double_holds(void **state)
{
    static const char *const numbers[] = {
        "1e308", "1e-308", "0.0001", "1E+5", "9223372036854775807", "\"1e-400\"", "\"\\\"\"",
    };
    (void)state;
    for (size_t i = 0; i < COUNT(numbers); i++) {
        char body[64];
        snprintf(body, sizeof(body), "{\"user\":{\"a\":%s}}", numbers[i]);
        check(body, strlen(body), NULL);
    }
}

/* What a zero is kept as; the spaces behind it are JSON's. */
static void takes_every_zero(void **state)
{
    static const struct {
        const char *given;
        const char *kept;
    } rows[] = {
        {"0", "0"},
        {"-0", "-0"},
        {"0.0", "0.0"},
        {"-0.000", "-0.000"},
        {"0e-400", "0     "},
        {"0.0e-400", "0       "},
        {"-0.0E-16383", "-0         "},
        {"0e999999", "0       "},
        {"0E+5", "0   "},
        {"0.000e3", "0      "},
        {"0e1073741823", "0           "},
        {"0e99999999999999999999", "0                     "},
        {"0.00e-99999999999999999999", "0                         "},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        char bytes[128];
        char kept[128];
        const char *error = NULL;
        snprintf(bytes, sizeof(bytes), "{\"user\":{\"0e-400\":[%s,1]}}", rows[i].given);
        snprintf(kept, sizeof(kept), "{\"user\":{\"0e-400\":[%s,1]}}", rows[i].kept);
        json_t *body = users_request_parse(bytes, strlen(bytes), &error);
        assert_non_null(body);
        assert_string_equal(bytes, kept);
        json_decref(body);
    }
}

/* The least number that is not zero as a double is above 2^-1075, of which these are digits. */
#define HALF "247032822920623272088284396434110686182529901307162382212792841250337753635104375932"

static void tells_zeros_from_what_is_nearly_zero(void **state)
{
    static const struct {
        const char *number;
        const char *error;
    } rows[] = {
        {"1e-324", RANGE},          {"2e-324", RANGE},          {"-2E-0324", RANGE},
        {"2.4e-324", RANGE},        {"2.5e-324", NULL},         {"3e-324", NULL},
        {"4.9e-324", NULL},         {"9e-324", NULL},           {"-1e-323", NULL},
        {"9.9e-325", RANGE},        {"0.0000002e-317", RANGE},  {"0.000003e-318", NULL},
        {"24e-325", RANGE},         {"25e-325", NULL},          {"240000e-329", RANGE},
        {"250000e-329", NULL},      {"123456e-329", RANGE},     {"123456e-328", NULL},
        {"0." HALF "e-323", RANGE}, {"0." HALF "8e-323", NULL}, {HALF "e-407", RANGE},
        {HALF "8e-408", NULL},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        char body[256];
        double number = strtod(rows[i].number, NULL);
        snprintf(body, sizeof(body), "{\"user\":{\"a\":%s}}", rows[i].number);
        check(body, strlen(body), rows[i].error);
        assert_true((number == 0) == (rows[i].error != NULL));
    }
}

/* Digits without a limit that make a double, but more decimals than PostgreSQL keeps. */
static void limits_the_decimals(void **state)
{
    static const struct {
        const char *start;
        int zeros;
        const char *end;
        const char *error;
    } rows[] = {
        {"0.", 16383, "", NULL},        {"0.", 20000, "", NULL},  {"0.", 20000, "e-20000", NULL},
        {"1.", 16383, "", NULL},        {"1.", 16384, "", RANGE}, {"1", 16383, "e-16383", NULL},
        {"1", 16384, "e-16384", RANGE}, {"0.", 300, "1", NULL},   {"0.", 20000, "1e20000", NULL},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        char *zeros = apr_pcalloc(*state, (apr_size_t)rows[i].zeros + 1);
        memset(zeros, '0', (size_t)rows[i].zeros);
        const char *body =
            apr_pstrcat(*state, "{\"user\":{\"a\":", rows[i].start, zeros, rows[i].end, "}}", NULL);
        check(body, strlen(body), rows[i].error);
    }
}

static void judges_bytes_by_their_length(void **state)
{
    static const char body[] = "{\"user\":{}}\0x";
    (void)state;
    check(body, 11, NULL);
    check(body, 12, NUL); /* after the document */
    check(body, 10, NOT_JSON);
    check(body, 0, NOT_JSON);
}

static void finds_a_nul_anywhere(void **state)
{
    static const char body[] = "{\"user\":{\"a\":[true,null,-1,0.5,\"b\",{}]}}";
    (void)state;
    for (size_t i = 0; i < sizeof(body); i++) {
        char bytes[sizeof(body)] = "";
        memcpy(bytes, body, i);
        memcpy(bytes + i + 1, body + i, sizeof(body) - 1 - i);
        check(bytes, sizeof(bytes), NUL);
    }
}

/* A body in which the innermost of so many levels is an array or an object. */
static const char *nested(int levels, const char *open, const char *close, apr_pool_t *pool)
{
    char *body = apr_pstrdup(pool, "{\"user\":{\"a\":");
    for (int i = 2; i < levels; i++) {
        body = apr_pstrcat(pool, body, open, NULL);
    }
    body = apr_pstrcat(pool, body, "1", NULL);
    for (int i = 2; i < levels; i++) {
        body = apr_pstrcat(pool, body, close, NULL);
    }
    return apr_pstrcat(pool, body, "}}", NULL);
}

static void limits_the_depth(void **state)
{
    static const struct {
        int levels;
        const char *error;
    } rows[] = {{2, NULL}, {15, NULL}, {16, NULL}, {17, TOO_DEEP}, {200, TOO_DEEP}};
    for (size_t i = 0; i < COUNT(rows); i++) {
        const char *arrays = nested(rows[i].levels, "[", "]", *state);
        const char *objects = nested(rows[i].levels, "{\"b\":", "}", *state);
        const char *second = nested(rows[i].levels, "[2,", "]", *state);
        check(arrays, strlen(arrays), rows[i].error);
        check(objects, strlen(objects), rows[i].error);
        check(second, strlen(second), rows[i].error);
    }
}

static void survives_a_tower_of_brackets(void **state)
{
    static char tower[65536];
    (void)state;
    memset(tower, '[', sizeof(tower));
    check(tower, sizeof(tower), TOO_DEEP);
}

static void loads_any_kind(void **state)
{
    static const char *const good[] = {"{}", "[]", "1", "\"a\"", "null", "{\"user\":1}"};
    static const char *const bad[] = {"", "{", "{\"a\":1,\"a\":2}", "{}x", "\"\\u0000\""};
    for (size_t i = 0; i < COUNT(good); i++) {
        const char *error = NULL;
        char *bytes = apr_pstrdup(*state, good[i]);
        json_t *body = users_request_load(bytes, strlen(bytes), &error);
        assert_non_null(body);
        assert_null(error);
        json_decref(body);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        const char *error = NULL;
        char *bytes = apr_pstrdup(*state, bad[i]);
        assert_null(users_request_load(bytes, strlen(bytes), &error));
        assert_non_null(error);
    }
}

static int allocations_left;

static void *failing_malloc(size_t size)
{
    return allocations_left-- > 0 ? malloc(size) : NULL;
}

/* jansson takes a string that it has no memory for as a fault of the bytes: that can't be told. */
static void tells_when_memory_runs_out(void **state)
{
    static char bytes[] = "{\"user\":{\"city\":\"Llanfairpwllgwyngyll\",\"list\":[1,{},3e-324]}}";
    json_t *body = NULL;
    int allocations = 0;
    int told = 0;
    (void)state;
    json_set_alloc_funcs(failing_malloc, free);
    for (; body == NULL && allocations < 1000; allocations++) {
        const char *error = NULL;
        allocations_left = allocations;
        body = users_request_parse(bytes, strlen(bytes), &error);
        told += body == NULL && error == NULL;
    }
    json_set_alloc_funcs(malloc, free);
    json_t *whole = json_loads(bytes, 0, NULL);
    assert_true(json_equal(body, whole));
    assert_true(allocations > 10 && told > 5);
    json_decref(whole);
    json_decref(body);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(loads_any_kind),
    cmocka_unit_test(judges_bodies),
    cmocka_unit_test(takes_numbers_that_a_double_holds),
    cmocka_unit_test(takes_every_zero),
    cmocka_unit_test(tells_zeros_from_what_is_nearly_zero),
    cmocka_unit_test(limits_the_decimals),
    cmocka_unit_test(judges_bytes_by_their_length),
    cmocka_unit_test(finds_a_nul_anywhere),
    cmocka_unit_test(limits_the_depth),
    cmocka_unit_test(survives_a_tower_of_brackets),
    cmocka_unit_test(tells_when_memory_runs_out),
};

UNIT_MAIN(tests)
