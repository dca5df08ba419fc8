#include "core/header.h"

#include "core/accept.h"

#include "unit.h"
#include <apr_strings.h>
#include <string.h>

#define LETTERS_50  "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeee"
#define LETTERS_255 LETTERS_50 LETTERS_50 LETTERS_50 LETTERS_50 LETTERS_50 "fffff"

static void accept_chooses_a_type(void **state)
{
    static const struct {
        const char *value;
        const char *type; /* of errors; NULL: neither is acceptable */
    } rows[] = {
        {NULL, "json"},
        {"", "json"},
        {" ", "json"},
        {",", "json"},
        {"*/*", "json"},
        {"application/*", "json"},
        {"application/json", "json"},
        {"Application/JSON", "json"},
        {"  application/json  ", "json"},
        {"application/json;", "json"},
        {"application/json ; ; charset=utf-8 ;", "json"},
        {"application/json;q=0.001", "json"},
        {"application/json;q=1", "json"},
        {"text/html, application/json", "json"},
        {"text/html,,application/json,", "json"},
        {"text/html;q=0.9,*/*;q=0.8", "json"},
        {"text/html;x=\"a, b;q=0\", application/json", "json"},
        {"application/json;x=\"\\\",application/problem+json\"", "json"},
        {"application/problem+json", "problem"},
        {"APPLICATION/PROBLEM+JSON", "problem"},
        {"application/json, application/problem+json", "problem"},
        {"application/problem+json;q=0.5, application/json;q=0.5", "problem"},
        {"application/problem+json;q=0.5, application/json", "json"},
        {"application/problem+json;q=0.9, */*", "json"},
        {"application/problem+json, */*", "problem"},
        {"application/problem+json;q=0.5, */*;q=0.1", "problem"},
        {"application/problem+json;q=0, */*", "json"},
        {"text/html", NULL},
        {"text/*", NULL},
        {"application/jsonx", NULL},
        {"application/jso", NULL},
        {"application/xml, text/html;q=0.5", NULL},
        {"application/json;q=0", NULL},
        {"application/json;q=0.0", NULL},
        {"application/json;q=0.000", NULL},
        {"application/json; Q=0", NULL},
        {"application/json ; q = 0", NULL},
        {"*/*;q=0", NULL},
        {"application/*;q=0, */*", NULL},
        {"application/json;q=0, application/problem+json;q=0, */*", NULL},
        {"application/json;q=0, */*", "json"}, /* a problem document will do */
        {"*/*;q=0, application/json", "json"},
        {"application/*;q=0, application/json;q=0.1", "json"},
        {"application/json;q=0, application/json", "json"},
        /* a weight that can't be read weighs full */
        {"application/json;q=", "json"},
        {"application/json;q", "json"},
        {"application/json;q=x", "json"},
        {"application/json;q=-1", "json"},
        {"application/json;q=00", "json"},
        {"application/json;q=0.x", "json"},
        {"application/problem+json;q=1.000, application/json;q=.9999", "problem"},
        {"application/problem+json;q=.2, application/json;q=.3", "json"},
        {"application/problem+json;q=0.25, application/json;q=0.3", "json"},
        {"application/problem+json;q=0.123, application/json;q=0.124", "json"},
        {"application/problem+json;q=0.124, application/json;q=0.123", "problem"},
        /* what is no media range is passed over */
        {"json", "json"},
        {"*", "json"},
        {"/", "json"},
        {"te xt/html", "json"},
        {"a/b/c", "json"},
        {";q=0", "json"},
        {"\"application/xml", "json"},
        {"text/html, image/gif, *; q=.2, */*; q=.2", "json"},
        {"text/html, json", NULL},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        users_accept got = users_accept_parse(rows[i].value, *state);
        const char *type = got.problem ? "problem" : "json";
        if (got.acceptable != (rows[i].type != NULL) ||
            (rows[i].type != NULL && strcmp(type, rows[i].type) != 0)) {
            fail_msg("%s: %s %s", rows[i].value, got.acceptable ? "takes" : "refuses", type);
        }
        assert_null(got.version);
        assert_true(got.version_served);
    }
}

static void accept_carries_a_version(void **state)
{
    static const struct {
        const char *value;
        const char *version;
        bool served;
    } rows[] = {
        {"application/json; api_version=52;", "52", true},
        {"application/json;api_version=51", "51", true},
        {"application/json;api_version=80", "80", true},
        {"application/json;api_version=\"60\"", "60", true},
        {"application/json ; API_Version = 60", "60", true},
        {"application/json;q=0.5;api_version=60", "60", true},
        {"application/json;charset=utf-8;api_version=60;q=0.5", "60", true},
        {"*/*;api_version=60", "60", true},
        {"application/*;api_version=60", "60", true},
        {"application/problem+json;api_version=60", "60", true},
        {"application/json, */*;api_version=60", "60", true},
        {"application/json;api_version=60, */*;api_version=99", "60", true},
        {"application/json;api_version=60;api_version=99", "60", true},
        {"text/html;api_version=99", NULL, true},
        {"text/html;api_version=99, */*", NULL, true},
        {"application/json;x=\"api_version=99\"", NULL, true},
        {"application/json;api_version=50", "50", false},
        {"application/json;api_version=81", "81", false},
        {"application/json;api_version=0", "0", false},
        {"application/json;api_version=5", "5", false},
        {"application/json;api_version=520", "520", false},
        {"application/json;api_version=-52", "-52", false},
        {"application/json;api_version=+52", "+52", false},
        {"application/json;api_version=52.0", "52.0", false},
        {"application/json;api_version=5 2", "5 2", false},
        {"application/json;api_version=0x34", "0x34", false},
        {"application/json;api_version=abc", "abc", false},
        {"application/json;api_version=", "", false},
        {"application/json;api_version=\"\"", "", false},
        {"application/json;api_version", "", false},
        {"application/json;api_version=99999999999999999999", "99999999999999999999", false},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        users_accept got = users_accept_parse(rows[i].value, *state);
        const char *is = got.version != NULL ? got.version : "NULL";
        const char *wanted = rows[i].version != NULL ? rows[i].version : "NULL";
        if (strcmp(is, wanted) != 0 || got.version_served != rows[i].served) {
            fail_msg("%s: version %s, served %d", rows[i].value, is, got.version_served);
        }
    }
}

/* "*", or every tag in brackets, the strong ones before the weak; "malformed". */
static const char *shown(const users_entity_tags *tags, apr_pool_t *pool)
{
    if (tags == NULL) {
        return "malformed";
    }
    const char *text = tags->any ? "*" : "";
    for (int i = 0; i < tags->tags->nelts; i++) {
        text = apr_psprintf(pool, "%s[%s]", text, APR_ARRAY_IDX(tags->tags, i, const char *));
    }
    for (int i = 0; i < tags->weak->nelts; i++) {
        text = apr_psprintf(pool, "%sW[%s]", text, APR_ARRAY_IDX(tags->weak, i, const char *));
    }
    return text;
}

static void entity_tags_are_a_list(void **state)
{
    static const struct {
        const char *value;
        const char *tags;
    } rows[] = {
        {"*", "*"},
        {" *\t", "*"},
        {"\"a\"", "[a]"},
        {"W/\"a\"", "W[a]"},
        {"\"\"", "[]"},
        {"W/\"\"", "W[]"},
        {"\"a\",\"b\"", "[a][b]"},
        {" \"a\" , W/\"b\"\t,\"c\" ", "[a][c]W[b]"},
        {",, \"a\" ,, ,\"b\",", "[a][b]"},
        {"", ""},
        {" , ", ""},
        {"\"a,b\"", "[a,b]"},
        {"\"a\\\", \"b\"", "[a\\][b]"}, /* a backslash escapes nothing */
        {"\"!#~\x80\xFF\"", "[!#~\x80\xFF]"},
        {"\"*\"", "[*]"},
        {"\"a-gzip\"", "[a]"},
        {"\"a-br\", W/\"b-gzip\"", "[a]W[b]"},
        {"\"-gzip\"", "[]"},
        {"\"gzip\"", "[gzip]"},
        {"\"a-gzip-br\"", "[a-gzip]"},
        {"\"a-gzipx\"", "[a-gzipx]"},
        {"a", "malformed"},
        {"\"a", "malformed"},
        {"a\"", "malformed"},
        {"\"", "malformed"},
        {"W/", "malformed"},
        {"W/a", "malformed"},
        {"W/\"a", "malformed"},
        {"W\"a\"", "malformed"},
        {"w/\"a\"", "malformed"},
        {"W/ \"a\"", "malformed"},
        {"\"a\" \"b\"", "malformed"},
        {"\"a\"\"b\"", "malformed"},
        {"\"a\";\"b\"", "malformed"},
        {"\"a b\"", "malformed"},
        {"\"a\tb\"", "malformed"},
        {"\"a\x7F\"", "malformed"},
        {"*, \"a\"", "malformed"},
        {"\"a\", *", "malformed"},
        {"**", "malformed"},
        {"\"a\", b", "malformed"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        const char *got = shown(users_entity_tags_parse(rows[i].value, *state), *state);
        if (strcmp(got, rows[i].tags) != 0) {
            fail_msg("%s: %s, wanted %s", rows[i].value, got, rows[i].tags);
        }
    }
}

static void entity_tags_match(void **state)
{
    static const struct {
        const char *value;
        bool strongly;
        bool weakly;
    } rows[] = {
        {"*", true, true},
        {"\"now\"", true, true},
        {"\"now-gzip\"", true, true},
        {"\"old\", \"now\"", true, true},
        {"W/\"now\"", false, true},
        {"W/\"now-br\"", false, true},
        {"W/\"now\", \"old\"", false, true},
        {"\"old\", W/\"older\"", false, false},
        {"\"NOW\"", false, false},
        {"\"nowx\"", false, false},
        {"\"\"", false, false},
        {"", false, false},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        const users_entity_tags *tags = users_entity_tags_parse(rows[i].value, *state);
        assert_non_null(tags);
        if (users_entity_tags_match(tags, "now", false) != rows[i].strongly ||
            users_entity_tags_match(tags, "now", true) != rows[i].weakly) {
            fail_msg("%s", rows[i].value);
        }
    }
}

static void prefer_knows_two_preferences(void **state)
{
    static const struct {
        const char *value;
        const char *preferences; /* m: minimal, s: strict */
    } rows[] = {
        {NULL, ""},
        {"", ""},
        {" , ", ""},
        {"return=minimal", "m"},
        {"RETURN=Minimal", "m"},
        {"return=\"minimal\"", "m"},
        {"return = minimal", "m"},
        {"return=minimal;", "m"},
        {"return=minimal; x=1 ;y; z=\"a, b;\"", "m"},
        {"handling=strict", "s"},
        {"handling=strict, return=minimal", "ms"},
        {",return=minimal ,, handling=\"strict\",", "ms"},
        {"respond-async, wait=10, return=minimal", "m"},
        {"return=representation", ""},
        {"handling=lenient", ""},
        {"return", ""},
        {"return=\"\"", ""},
        {"minimal", ""},
        {"x=return; return=minimal", ""},
        {"x=\", return=minimal\"", ""},
        {"x=\"a\\\", return=minimal\"", ""},
        {"return=representation, return=minimal", ""},
        {"return=minimal, return=representation", "m"},
        {"return, return=minimal", ""},
        {"handling=lenient, handling=strict", ""},
        {"handling=strict, handling=lenient", "s"},
        {"timezone=America/New_York, return=minimal", "m"},
        {"handling=strict;x=y/z, return=minimal", "m"},
        {"return=a/b, return=minimal, @, handling=strict", "ms"},
        {"return=minimal, =", "m"},
        {"handling=strict, x=\"return=minimal", "s"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        users_prefer got = users_prefer_parse(rows[i].value);
        if (got.minimal != (strchr(rows[i].preferences, 'm') != NULL) ||
            got.strict != (strchr(rows[i].preferences, 's') != NULL)) {
            fail_msg("%s: minimal %d, strict %d", rows[i].value, got.minimal, got.strict);
        }
    }
}

static void prefer_is_ignored_where_it_is_malformed(void **state)
{
    static const char *const values[] = {
        "=",
        "=minimal",
        "return=",
        "return==minimal",
        "return=minimal=",
        "return minimal",
        "return=minimal representation",
        "return=\"minimal",
        "return=minimal\"",
        "return=\"mini\"mal\"",
        "return=\"minimal\\\"",
        "return=\"",
        "re/turn=minimal",
        "re\x7Fturn",
        "return=\xC3\xA9",
        ";x=1",
        "return=minimal;=1",
        "return=minimal;x=",
        "return=minimal; x y",
    };
    (void)state;
    for (size_t i = 0; i < COUNT(values); i++) {
        users_prefer got = users_prefer_parse(values[i]);
        if (got.minimal || got.strict) {
            fail_msg("%s", values[i]);
        }
    }
}

static void idempotency_keys_are_quoted_or_bare(void **state)
{
    static const struct {
        const char *value;
        const char *key;
    } rows[] = {
        {"\"abc\"", "abc"},
        {" \"abc\"\t", "abc"},
        {"\"a b, c\"", "a b, c"},
        {"\"a\\\"b\\\\c\"", "a\"b\\c"},
        {"\"~\"", "~"},
        {"abc", "abc"},
        {"  abc  ", "abc"},
        {"8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"},
        {"a;b=c", "a;b=c"},
        {"!~", "!~"},
        {LETTERS_255, LETTERS_255},
        {"\"" LETTERS_255 "\"", LETTERS_255},
        {"", NULL},
        {" ", NULL},
        {"\"\"", NULL},
        {"\"", NULL},
        {"\"abc", NULL},
        {"abc\"", NULL},
        {"\"a\"b\"", NULL},
        {"\"abc\\\"", NULL},
        {"\"a\\bc\"", NULL},
        {"\"a\tb\"", NULL},
        {"\"caf\xC3\xA9\"", NULL},
        {"\"a\x7F\"", NULL},
        {"\"a\", \"b\"", NULL}, /* two fields */
        {"\"a\";b=1", NULL},
        {"a, b", NULL},
        {"a b", NULL},
        {"a\\b", NULL},
        {"caf\xC3\xA9", NULL},
        {"a\x7F", NULL},
        {LETTERS_255 "f", NULL},
        {"\"" LETTERS_255 "f\"", NULL},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        const char *got = users_idempotency_key_parse(rows[i].value, *state);
        if (rows[i].key == NULL ? got != NULL : (got == NULL || strcmp(got, rows[i].key) != 0)) {
            fail_msg("%s: %s", rows[i].value, got != NULL ? got : "NULL");
        }
    }
}

#define TRACE    "0af7651916cd43dd8448eb211c80319c"
#define PARENT   "b7ad6b7169203331"
#define ZEROS_16 "0000000000000000"

static void traceparent_names_a_trace(void **state)
{
    static const struct {
        const char *value;
        const char *trace;
    } rows[] = {
        {"00-" TRACE "-" PARENT "-01", TRACE},
        {"00-" TRACE "-" PARENT "-00", TRACE},
        {"00-" TRACE "-" PARENT "-ff", TRACE}, /* flags that nobody knows */
        {"00-" ZEROS_16 "000000000000000f-000000000000000f-01", ZEROS_16 "000000000000000f"},
        {"01-" TRACE "-" PARENT "-01", TRACE}, /* higher versions */
        {"01-" TRACE "-" PARENT "-01-", TRACE},
        {"fe-" TRACE "-" PARENT "-01-what the future-brings", TRACE},
        {"", NULL},
        {"00", NULL},
        {"00-" TRACE "-" PARENT "-0", NULL},
        {"00-" TRACE "-" PARENT "-01-", NULL}, /* 00 has no more */
        {"00-" TRACE "-" PARENT "-01-what", NULL},
        {"00-" TRACE "-" PARENT "-011", NULL},
        {"01-" TRACE "-" PARENT "-011", NULL},
        {"01-" TRACE "-" PARENT "-01.what", NULL},
        {"ff-" TRACE "-" PARENT "-01", NULL},
        {"ff-" TRACE "-" PARENT "-01-what", NULL},
        {"0-" TRACE "-" PARENT "-01-", NULL},
        {"0g-" TRACE "-" PARENT "-01", NULL},
        {"0A-" TRACE "-" PARENT "-01", NULL},
        {"00-" ZEROS_16 ZEROS_16 "-" PARENT "-01", NULL},
        {"00-" TRACE "-" ZEROS_16 "-01", NULL},
        {"00-0AF7651916CD43DD8448EB211C80319C-" PARENT "-01", NULL},
        {"00-" TRACE "-B7AD6B7169203331-01", NULL},
        {"00-" TRACE "-" PARENT "-0F", NULL},
        {"00-0af7651916cd43dd8448eb211c80319g-" PARENT "-01", NULL},
        {"00-" TRACE "0-b7ad6b716920333-01", NULL},
        {"00-0af7651916cd43dd8448eb211c80319-" PARENT "0-01", NULL},
        {"00_" TRACE "-" PARENT "-01", NULL},
        {"00-" TRACE "_" PARENT "-01", NULL},
        {"00-" TRACE "-" PARENT "_01", NULL},
        {" 00-" TRACE "-" PARENT "-01", NULL},
        {"00-" TRACE "-" PARENT "-01 ", NULL},
        {"\"00-" TRACE "-" PARENT "-01\"", NULL},
        {"00-" TRACE "-" PARENT "-01, 00-" TRACE "-" PARENT "-01", NULL}, /* two fields */
        {"01-" TRACE "-" PARENT "-01-a, 01-" TRACE "-" PARENT "-01", NULL},
        {"00-caf\xC3\xA9" TRACE "-" PARENT "-01", NULL},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        const char *got = users_traceparent_parse(rows[i].value, *state);
        if (rows[i].trace == NULL ? got != NULL
                                  : (got == NULL || strcmp(got, rows[i].trace) != 0)) {
            fail_msg("%s: %s", rows[i].value, got != NULL ? got : "NULL");
        }
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(accept_chooses_a_type),
    cmocka_unit_test(accept_carries_a_version),
    cmocka_unit_test(entity_tags_are_a_list),
    cmocka_unit_test(entity_tags_match),
    cmocka_unit_test(prefer_knows_two_preferences),
    cmocka_unit_test(prefer_is_ignored_where_it_is_malformed),
    cmocka_unit_test(idempotency_keys_are_quoted_or_bare),
    cmocka_unit_test(traceparent_names_a_trace),
};

UNIT_MAIN(tests)
