#include "core/account.h"

#include "unit.h"
#include <apr_strings.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define CREATE USERS_ACCOUNT_CREATE
#define UPDATE USERS_ACCOUNT_UPDATE

#define LETTERS_50  "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeee"
#define LETTERS_255 LETTERS_50 LETTERS_50 LETTERS_50 LETTERS_50 LETTERS_50 "fffff"
#define TOO_LONG    "! is too long (maximum is 255 characters)"

/* The least that an account is made of. */
#define LEAST "'fname':'F','lname':'L','provider_server':'S','provider_username':'U'"

static const char *translated(const char *text, char from, char to, apr_pool_t *pool)
{
    char *copy = apr_pstrdup(pool, text);
    for (char *at = strchr(copy, from); at != NULL; at = strchr(at, from)) {
        *at = to;
    }
    return copy;
}

/* The value of a JSON text in which ' stands for ". A new reference. */
static json_t *json_of(const char *text, apr_pool_t *pool)
{
    json_error_t error;
    json_t *value = json_loads(translated(text, '\'', '"', pool), JSON_DECODE_ANY, &error);
    if (value == NULL) {
        fail_msg("%s: %s", text, error.text);
    }
    return value;
}

/* The inverse of json_of; "-" for NULL. */
static const char *text_of(const json_t *value, apr_pool_t *pool)
{
    if (value == NULL) {
        return "-";
    }
    char *dump = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    const char *text = translated(dump, '"', '\'', pool);
    free(dump);
    return text;
}

static apr_array_header_t *make_faults(apr_pool_t *pool)
{
    return apr_array_make(pool, 4, sizeof(users_fault));
}

/* Every fault as "pointer text", with "; " between. */
static const char *faults_shown(const apr_array_header_t *faults, apr_pool_t *pool)
{
    const char *text = "";
    for (int i = 0; i < faults->nelts; i++) {
        users_fault fault = APR_ARRAY_IDX(faults, i, users_fault);
        text = apr_psprintf(pool, "%s%s%s %s", text, i > 0 ? "; " : "",
                            fault.pointer != NULL ? fault.pointer : fault.field, fault.text);
    }
    return text;
}

/* What becomes of one member of "user": its value in the result, "-" for none, "! fault". */
static const char *outcome(users_account_purpose purpose, const char *field, const char *value,
                           apr_pool_t *pool)
{
    json_t *body = json_of(purpose == CREATE ? "{'user':{" LEAST "}}" : "{'user':{}}", pool);
    json_object_set_new(json_object_get(body, "user"), field, json_of(value, pool));
    apr_array_header_t *faults = make_faults(pool);
    json_t *result = users_account_read(body, purpose, false, faults);
    assert_non_null(result);
    const char *text = text_of(json_object_get(result, field), pool);
    if (faults->nelts > 0) {
        users_fault fault = APR_ARRAY_IDX(faults, 0, users_fault);
        assert_int_equal(faults->nelts, 1);
        assert_string_equal(fault.field, field);
        assert_string_equal(fault.pointer, apr_pstrcat(pool, "/user/", field, NULL));
        assert_string_equal(text, "-");
        text = apr_pstrcat(pool, "! ", fault.text, NULL);
    }
    json_decref(result);
    json_decref(body);
    return text;
}

/* The same of an address, which may have the characters that json_of() replaces. */
static const char *address_outcome(const char *address, apr_pool_t *pool)
{
    json_t *body = json_pack("{s:{s:s}}", "user", "email", address);
    apr_array_header_t *faults = make_faults(pool);
    json_t *result = users_account_read(body, UPDATE, false, faults);
    const char *email = json_string_value(json_object_get(result, "email"));
    const char *text =
        email != NULL ? apr_pstrdup(pool, email)
        : faults->nelts == 1
            ? apr_pstrcat(pool, "! ", APR_ARRAY_IDX(faults, 0, users_fault).text, NULL)
            : "?";
    json_decref(result);
    json_decref(body);
    return text;
}

typedef struct {
    const char *field;
    const char *value;
    const char *update;
    const char *create;
} field_row;

static void check_fields(void **state, const field_row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const field_row *r = &rows[i];
        const char *update = outcome(UPDATE, r->field, r->value, *state);
        const char *create = outcome(CREATE, r->field, r->value, *state);
        if (strcmp(update, r->update) != 0 || strcmp(create, r->create) != 0) {
            fail_msg("%s %s: %s on update, %s on create", r->field, r->value, update, create);
        }
    }
}

#define SAME(wanted) wanted, wanted

static void names_are_trimmed_and_never_blank(void **state)
{
    static const field_row rows[] = {
        {"fname", "'Ann'", SAME("'Ann'")},
        {"lname", "'  Mc Coy\\n\\t'", SAME("'Mc Coy'")},
        {"fname", "'\\u00a0\\u2003\\u3000\\u1680Zo\\u00eb\\u0085\\u2028\\u202f\\u205f'",
         SAME("'Zo\xC3\xAB'")},
        {"fname", "'\\u200bA\\ufeff'",
         SAME("'\xE2\x80\x8B"
              "A\xEF\xBB\xBF'")}, /* are no white space */
        {"fname", "'\xF0\x9F\x98\x80'", SAME("'\xF0\x9F\x98\x80'")},
        {"fname", "'" LETTERS_255 "'", SAME("'" LETTERS_255 "'")},
        {"fname", "' " LETTERS_255 " '", SAME("'" LETTERS_255 "'")},
        {"fname", "'" LETTERS_255 "f'", SAME(TOO_LONG)},
        {"lname", "'" LETTERS_255 "f'", SAME(TOO_LONG)},
        {"fname", "''", SAME("! can't be blank")},
        {"lname", "' \\u2003\\t'", SAME("! can't be blank")},
        {"fname", "null", SAME("! can't be blank")},
        {"lname", "null", SAME("! can't be blank")},
        {"fname", "17", SAME("'17'")},
        {"fname", "1.5", SAME("! must be a string")},
        {"fname", "true", SAME("! must be a string")},
        {"fname", "['Ann']", SAME("! must be a string")},
        {"lname", "{}", SAME("! must be a string")},
    };
    check_fields(state, rows, COUNT(rows));
}

/* Neither white space nor seen. */
static void what_shows_nothing_is_blank(void **state)
{
    static const char *const nothing[] = {"\\u00ad",
                                          "\\u034f",
                                          "\\u061c",
                                          "\\u115f\\u1160",
                                          "\\u17b4",
                                          "\\u180e",
                                          "\\u200b",
                                          " \\u200d ",
                                          "\\u202e",
                                          "\\u2060\\u2065",
                                          "\\u2066\\u2069",
                                          "\\u2800",
                                          "\\u3164",
                                          "\\ufe0f",
                                          "\\ufeff",
                                          "\\uffa0",
                                          "\\ufff9\\ufffa\\ufffb",
                                          "\\ud834\\udd59",
                                          "\\ud834\\udd73",
                                          "\\udb40\\udc41",
                                          "\\udb40\\udc80",
                                          "\\t\\u2003\\u200b"};
    static const char *const something[] = {"\\u0600", "\\u3007", "\\u00b7", "\\u0301", "\\ue000"};
    for (size_t i = 0; i < COUNT(nothing); i++) {
        const char *value = apr_pstrcat(*state, "'", nothing[i], "'", NULL);
        const field_row rows[] = {
            {"fname", value, SAME("! can't be blank")},
            {"email", value, "! can't be blank", "-"},
            {"city", value, outcome(UPDATE, "city", value, *state), "-"},
            {"external_id", value, "-", "-"},
            {"provider", value, "-", "'cpanel'"},
            {"provider_server", value, "-", "! can't be blank"},
        };
        check_fields(state, rows, COUNT(rows));
    }
    for (size_t i = 0; i < COUNT(something); i++) {
        const char *value = apr_pstrcat(*state, "'", something[i], "'", NULL);
        if (*outcome(CREATE, "fname", value, *state) == '!') {
            fail_msg("%s is taken for blank", value);
        }
    }
}

static void texts_have_no_control_characters(void **state)
{
    static const char *const names[] = {"fname",
                                        "lname",
                                        "city",
                                        "state",
                                        "zip",
                                        "address1",
                                        "address2",
                                        "company_name",
                                        "phone",
                                        "provider",
                                        "provider_server",
                                        "provider_username",
                                        "external_id"};
    static const char *const values[] = {"'F\\r\\nX-Evil: 1'", "'a\\tb'",     "'a\\u0001b'",
                                         "'a\\u001bb'",        "'a\\u007fb'", "'a\\u0080b'",
                                         "'a\\u0085b'",        "'a\\u009bb'"};
    for (size_t i = 0; i < COUNT(names); i++) {
        const char *update = i < 9 ? "! can't have control characters" : "-";
        for (size_t j = 0; j < COUNT(values); j++) {
            const field_row row = {names[i], values[j], update, "! can't have control characters"};
            check_fields(state, &row, 1);
        }
    }
}

static void limits_count_characters(void **state)
{
    const char *fit = "";
    for (int i = 0; i < 255; i++) {
        fit = apr_pstrcat(*state, fit, i % 2 == 0 ? "\xE2\x82\xAC" : "\xF0\x9F\x98\x80", NULL);
    }
    const char *value = apr_pstrcat(*state, "'", fit, "'", NULL);
    const char *longer = apr_pstrcat(*state, "'", fit, "\xC3\xA9'", NULL);
    assert_string_equal(outcome(UPDATE, "fname", value, *state), value);
    assert_string_equal(outcome(UPDATE, "city", value, *state), value);
    assert_string_equal(outcome(CREATE, "provider", value, *state), value);
    assert_string_equal(outcome(UPDATE, "fname", longer, *state), TOO_LONG);
    assert_string_equal(outcome(UPDATE, "city", longer, *state), TOO_LONG);
}

static void texts_may_be_cleared(void **state)
{
    static const char *const names[] = {"city",     "state",        "zip",  "address1",
                                        "address2", "company_name", "phone"};
    for (size_t i = 0; i < COUNT(names); i++) {
        const field_row rows[] = {
            {names[i], "'x y'", SAME("'x y'")},
            {names[i], "' x '", SAME("' x '")},
            {names[i], "''", "''", "-"},
            {names[i], "' \\u2003'", "' \xE2\x80\x83'", "-"},
            {names[i], "null", "null", "-"},
            {names[i], "'" LETTERS_255 "'", SAME("'" LETTERS_255 "'")},
            {names[i], "'" LETTERS_255 "f'", SAME(TOO_LONG)},
            {names[i], "12345", SAME("'12345'")},
            {names[i], "-9223372036854775808", SAME("'-9223372036854775808'")},
            {names[i], "12.5", SAME("! must be a string")},
            {names[i], "1.0", SAME("! must be a string")},
            {names[i], "false", SAME("! must be a string")},
            {names[i], "{}", SAME("! must be a string")},
            {names[i], "[]", SAME("! must be a string")},
        };
        check_fields(state, rows, COUNT(rows));
    }
}

static void emails_look_like_addresses(void **state)
{
    static const field_row rows[] = {
        {"email", "'a@b.c'", SAME("'a@b.c'")},
        {"email", "'John.Doe+tag@Example.COM'", SAME("'John.Doe+tag@Example.COM'")},
        {"email", "'root@localhost'", SAME("'root@localhost'")},
        {"email", "'root@LocalHost'", SAME("'root@LocalHost'")},
        {"email", "'j\xC3\xBCrgen@m\xC3\xBCller.de'", SAME("'j\xC3\xBCrgen@m\xC3\xBCller.de'")},
        {"email", "null", "! can't be blank", "-"},
        {"email", "''", "! can't be blank", "-"},
        {"email", "' \\u00a0\\t'", "! can't be blank", "-"},
        {"email", "1", SAME("! is invalid")},
        {"email", "1.5", SAME("! must be a string")},
        {"email", "{}", SAME("! must be a string")},
        {"email", "'a'", SAME("! is invalid")},
        {"email", "'@'", SAME("! is invalid")},
        {"email", "'@b.c'", SAME("! is invalid")},
        {"email", "'a@'", SAME("! is invalid")},
        {"email", "'a@b'", SAME("! is invalid")},
        {"email", "'a@b.c@d.e'", SAME("! is invalid")},
        {"email", "'a@@b.c'", SAME("! is invalid")},
        {"email", "'a@.'", SAME("! is invalid")},
        {"email", "'a@.b.c'", SAME("! is invalid")},
        {"email", "'a@b.c.'", SAME("! is invalid")},
        {"email", "'a@b..c'", SAME("! is invalid")},
        {"email", "'a@localhost.'", SAME("! is invalid")},
        {"email", "' a@b.c'", SAME("'a@b.c'")},
        {"email", "'\\u00a0a@b.c\\n'", SAME("'a@b.c'")},
        {"email", "'a b@c.d'", SAME("! is invalid")},
        {"email", "'a\\u00a0b@c.d'", SAME("! is invalid")},
        {"email", "'a\\u2028b@c.d'", SAME("! is invalid")},
        {"email", "'a\\u0001b@c.d'", SAME("! is invalid")},
        {"email", "'a\\u007fb@c.d'", SAME("! is invalid")},
        {"email", "'a@b\\u0080.c'", SAME("! is invalid")},
        {"email", "'a@b\\u009f.c'", SAME("! is invalid")},
    };
    check_fields(state, rows, COUNT(rows));
}

static void addresses_are_atoms_and_labels(void **state)
{
    static const char *const good[] = {
        "!#$%&'*+-/=?^_`{|}~@b.c",
        "a.b.c@d-e.f",
        "x@xn--bcher-kva.example",
        "a@1.b.c",
        "a@b.c0",
        "\u00fc@\u00df.example",
        "\u7528\u6237@\u4f8b\u5b50.\u6d4b\u8bd5",
        "\u0645\u062b\u0627\u0644@\u0645\u062b\u0627\u0644.\u0645\u0635\u0631",
        "\u0915\u094d\u0937@\u0909\u0926\u093e\u0939\u0930\u0923.\u092d\u093e\u0930\u0924",
        "a@col\u00b7legi.cat",
        "a@\u30c6\u30b9\u30c8\u30fb\u3007.jp",
        "\uff41@b.c",
    };
    static const char *const bad[] = {
        "a,b@example.com",
        "victim@example.com,attacker.example",
        "a@b.c;d@e.f",
        "a@b.c d@e.f",
        "<jane@example.com>",
        "Jane <jane@example.com>",
        "\"jane\"@example.com",
        "a(b)@c.d",
        "a[b@c.d",
        "a]b@c.d",
        "a\\b@c.d",
        "a:b@c.d",
        ".a@b.c",
        "a.@b.c",
        "a..b@c.d",
        "jane@-example.com",
        "jane@example-.com",
        "jane@example.-com",
        "jane@a.b/c?d=e",
        "jane@a_b.example",
        "jane@[127.0.0.1]",
        "jane@127.0.0.1",
        "jane@a.b:25",
        "jane@a%b.c",
        "jane@a.b#c",
        "jane@localhost.",
        "jane@local.host@c.d",
        "jane@example.com\u200b",
        "ja\u202ene@example.com",
        "ja\u00adne@example.com",
        "ja\u200dne@example.com",
        "ja\u3164ne@example.com",
        "ja\u2800ne@example.com",
        "jane@ex\u2066ample.com",
        "jane\ufe0f@example.com",
        "jane@ex\U000e0041ample.com",
        "\u0301a@b.c",
        "a@\u0301b.c",
        "a@\u00b7b.c",
        "a@b\u3002c.d",
        "a@b\uff0ec.d",
        "a\uff20b.c",
        "a@\uff41b.c",
        "a@\u2100.d",
        "a@b\u2044c.d",
        "\u201ca\u201d@b.c",
        "\U0001f600@b.c",
        "a\uff0cb@c.d",
    };
    const char *label = "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffggg";
    const char *longest = apr_pstrcat(*state, "'a@", label, ".example'", NULL);
    const char *longer = apr_pstrcat(*state, "'a@h", label, ".example'", NULL);
    for (size_t i = 0; i < COUNT(good); i++) {
        assert_string_equal(address_outcome(good[i], *state), good[i]);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        if (strcmp(address_outcome(bad[i], *state), "! is invalid") != 0) {
            fail_msg("%s is taken for an address", bad[i]);
        }
    }
    assert_int_equal(strlen(label), 63);
    assert_string_equal(outcome(UPDATE, "email", longest, *state), longest);
    assert_string_equal(outcome(UPDATE, "email", longer, *state), "! is invalid");
}

static void addresses_are_normalised(void **state)
{
    static const field_row rows[] = {
        {"email", "'jose\\u0301@cafe\\u0301.example'", SAME("'jos\xC3\xA9@caf\xC3\xA9.example'")},
        {"email", "'jos\\u00e9@caf\\u00e9.example'", SAME("'jos\xC3\xA9@caf\xC3\xA9.example'")},
        {"email", "'\\u212b@b.c'", SAME("'\xC3\x85@b.c'")},
        {"email", "'a<\\u0338@b.c'", SAME("! is invalid")}, /* which becomes one character */
    };
    const char *marks = "";
    for (int i = 0; i < 2000; i++) {
        marks = apr_pstrcat(*state, marks, i % 2 ? "\\u0301" : "\\u0323", NULL);
    }
    check_fields(state, rows, COUNT(rows));
    assert_string_equal(
        outcome(UPDATE, "email", apr_pstrcat(*state, "'a", marks, "@b.c'", NULL), *state),
        "! is too long (maximum is 254 bytes)");
}

static void emails_have_at_most_254_octets(void **state)
{
    const char *fit = LETTERS_50 LETTERS_50 LETTERS_50 LETTERS_50 "aaaaabbbbbcccccddddd@"
                                                                  "aaaaabbbbbcccccddddd.example";
    const char *filler = "eeeee";
    fit = apr_pstrcat(*state, "'", filler, fit, "'", NULL);
    assert_int_equal(strlen(fit), 254 + 2);
    const char *longer = apr_pstrcat(*state, "'x", fit + 1, NULL);
    assert_string_equal(outcome(UPDATE, "email", fit, *state), fit);
    assert_string_equal(outcome(UPDATE, "email", longer, *state),
                        "! is too long (maximum is 254 bytes)");
    assert_string_equal(outcome(CREATE, "email", longer, *state),
                        "! is too long (maximum is 254 bytes)");
}

static void countries_are_two_letters(void **state)
{
    static const field_row rows[] = {
        {"country", "'US'", SAME("'US'")},
        {"country", "'nl'", SAME("'NL'")},
        {"country", "'cA'", SAME("'CA'")},
        {"country", "'zz'", SAME("'ZZ'")}, /* the database knows better */
        {"country", "null", "! can't be blank", "-"},
        {"country", "''", "! is not a known country", "-"},
        {"country", "' \\u200b'", "! is not a known country", "-"},
        {"country", "'U'", SAME("! is not a known country")},
        {"country", "'USA'", SAME("! is not a known country")},
        {"country", "'U1'", SAME("! is not a known country")},
        {"country", "' US'", SAME("! is not a known country")},
        {"country", "'US '", SAME("! is not a known country")},
        {"country", "'\\u00e9'", SAME("! is not a known country")},
        {"country", "'@a'", SAME("! is not a known country")}, /* A's and Z's neighbours */
        {"country", "'a['", SAME("! is not a known country")},
        {"country", "'`a'", SAME("! is not a known country")}, /* a's and z's */
        {"country", "'a{'", SAME("! is not a known country")},
        {"country", "1", SAME("! is not a known country")},
        {"country", "true", SAME("! must be a string")},
        {"country", "{'code':'US'}", SAME("! must be a string")},
    };
    check_fields(state, rows, COUNT(rows));
}

static void currencies_are_three_letters_or_an_object(void **state)
{
    static const field_row rows[] = {
        {"currency", "'USD'", SAME("'USD'")},
        {"currency", "'eur'", SAME("'EUR'")},
        {"currency", "{'code':'usd','symbol':'$'}", SAME("'USD'")},
        {"currency", "{'code':'EUR'}", SAME("'EUR'")},
        {"currency", "null", "! can't be blank", "-"},
        {"currency", "''", "! is not a known currency", "-"},
        {"currency", "' '", "! is not a known currency", "-"},
        {"currency", "{'code':' '}", "! is not a known currency", "-"},
        {"currency", "'US'", SAME("! is not a known currency")},
        {"currency", "'USDX'", SAME("! is not a known currency")},
        {"currency", "'U$D'", SAME("! is not a known currency")},
        {"currency", "{}", SAME("! must be a string")},
        {"currency", "{'symbol':'$'}", SAME("! must be a string")},
        {"currency", "{'code':null}", "! can't be blank", "-"},
        {"currency", "{'code':1}", SAME("! is not a known currency")},
        {"currency", "{'code':{'code':'USD'}}", SAME("! must be a string")},
        {"currency", "{'code':'dollars'}", SAME("! is not a known currency")},
        {"currency", "840", SAME("! is not a known currency")},
        {"currency", "['USD']", SAME("! must be a string")},
    };
    check_fields(state, rows, COUNT(rows));
}

static void locales_are_a_language_a_script_and_a_region(void **state)
{
    static const field_row rows[] = {
        {"locale", "'en'", SAME("'en'")},
        {"locale", "'EN'", SAME("'en'")},
        {"locale", "'pt-BR'", SAME("'pt-BR'")},
        {"locale", "'PT-br'", SAME("'pt-BR'")},
        {"locale", "null", "! can't be blank", "-"},
        {"locale", "''", "! is not a known locale", "-"},
        {"locale", "'e'", "! is not a known locale", "-"},
        {"locale", "'foo'", "! is not a known locale", "-"},
        {"locale", "'en-'", "! is not a known locale", "-"},
        {"locale", "'en-U'", "! is not a known locale", "-"},
        {"locale", "'pt_br'", SAME("'pt-BR'")},
        {"locale", "'pt_BR'", SAME("'pt-BR'")},
        {"locale", "'es-419'", SAME("'es-419'")},
        {"locale", "'zh-Hant'", SAME("'zh-Hant'")},
        {"locale", "'ZH_HANT_tw'", SAME("'zh-Hant-TW'")},
        {"locale", "'az-cyrl-001'", SAME("'az-Cyrl-001'")},
        {"locale", "'es-41'", "! is not a known locale", "-"},
        {"locale", "'es-4190'", "! is not a known locale", "-"},
        {"locale", "'zh-Han'", "! is not a known locale", "-"},
        {"locale", "'zh-Hantt'", "! is not a known locale", "-"},
        {"locale", "'zh-Hant-'", "! is not a known locale", "-"},
        {"locale", "'zh-TW-Hant'", "! is not a known locale", "-"},
        {"locale", "'zh-Hant-TW-x'", "! is not a known locale", "-"},
        {"locale", "'zh--TW'", "! is not a known locale", "-"},
        {"locale", "'pt-BR.UTF-8'", "! is not a known locale", "-"},
        {"locale", "'enxUS'", "! is not a known locale", "-"},
        {"locale", "'en-USA'", "! is not a known locale", "-"},
        {"locale", "'en-U1'", "! is not a known locale", "-"},
        {"locale", "' en'", "! is not a known locale", "-"},
        {"locale", "1", "! is not a known locale", "-"},
        {"locale", "true", SAME("! must be a string")},
        {"locale", "{}", SAME("! must be a string")},
    };
    check_fields(state, rows, COUNT(rows));
}

static void c_sftp_pass_is_a_boolean(void **state)
{
    static const field_row rows[] = {
        {"c_sftp_pass", "true", SAME("true")},
        {"c_sftp_pass", "false", SAME("false")},
        {"c_sftp_pass", "null", "! can't be blank", "-"},
        {"c_sftp_pass", "'true'", SAME("true")},
        {"c_sftp_pass", "'1'", SAME("true")},
        {"c_sftp_pass", "1", SAME("true")},
        {"c_sftp_pass", "'false'", SAME("false")},
        {"c_sftp_pass", "'0'", SAME("false")},
        {"c_sftp_pass", "0", SAME("false")},
        {"c_sftp_pass", "''", "! must be a boolean", "-"},
        {"c_sftp_pass", "'yes'", SAME("! must be a boolean")},
        {"c_sftp_pass", "'True'", SAME("! must be a boolean")},
        {"c_sftp_pass", "' 1'", SAME("! must be a boolean")},
        {"c_sftp_pass", "2", SAME("! must be a boolean")},
        {"c_sftp_pass", "-1", SAME("! must be a boolean")},
        {"c_sftp_pass", "1.0", SAME("! must be a boolean")},
        {"c_sftp_pass", "{}", SAME("! must be a boolean")},
    };
    check_fields(state, rows, COUNT(rows));
}

static void labels_are_objects_and_stay_in_the_body(void **state)
{
    static const field_row rows[] = {
        {"merge_labels", "{}", SAME("-")},
        {"merge_labels", "{'a':{'b':0.1},'c':null}", SAME("-")},
        {"merge_labels", "null", SAME("-")},
        {"merge_labels", "[]", SAME("-")},
        {"merge_labels", "[{}]", SAME("! must be an object")},
        {"merge_labels", "''", SAME("! must be an object")},
        {"merge_labels", "'a'", SAME("! must be an object")},
        {"labels", "{'a':1}", SAME("-")},
        {"labels", "null", SAME("-")},
        {"labels", "[]", SAME("-")},
        {"labels", "[{}]", "-", "! must be an object"},
        {"labels", "1", "-", "! must be an object"},
    };
    check_fields(state, rows, COUNT(rows));
}

/* A number is as long as PostgreSQL writes it. */
static void labels_that_are_too_large_are_told_without_the_database(void **state)
{
    static const char number[] = ",1e300";
    char few[1000] = "{'a':[0";
    char many[1000] = "{'a':[0";
    const field_row rows[] = {
        {"merge_labels", few, SAME("-")},
        {"merge_labels", many, SAME("! is too large (maximum is 16 KiB)")},
    };

    for (int i = 0; i < 70; i++) {
        strcat(i < 50 ? few : many, number);
        strcat(many, i < 50 ? number : "");
    }
    strcat(few, "]}");
    strcat(many, "],'none':null}");
    check_fields(state, rows, COUNT(rows));
}

static void registration_has_fields_of_its_own(void **state)
{
    static const field_row rows[] = {
        {"provider", "'cPanel'", "-", "'cpanel'"},
        {"provider", "' PLESK\\u00a0'", "-", "'plesk'"},
        {"provider", "'\xC3\x89'", "-", "'\xC3\x89'"},
        {"provider", "null", "-", "'cpanel'"},
        {"provider", "''", "-", "'cpanel'"},
        {"provider", "' '", "-", "'cpanel'"},
        {"provider", "1", "-", "'1'"},
        {"provider", "true", "-", "! must be a string"},
        {"provider", "'" LETTERS_255 "f'", "-", TOO_LONG},
        {"provider_server", "' https://S.example:2083 '", "-", "'https://S.example:2083'"},
        {"provider_server", "null", "-", "! can't be blank"},
        {"provider_server", "' '", "-", "! can't be blank"},
        {"provider_server", "'" LETTERS_255 "f'", "-", TOO_LONG},
        {"provider_server", "1", "-", "'1'"},
        {"provider_username", "' Bob '", "-", "'Bob'"},
        {"provider_username", "null", "-", "! can't be blank"},
        {"provider_username", "''", "-", "! can't be blank"},
        {"provider_username", "'" LETTERS_255 "f'", "-", TOO_LONG},
        {"provider_username", "[]", "-", "! must be a string"},
        {"external_id", "'Ab 1'", "-", "'Ab 1'"},
        {"external_id", "null", "-", "-"},
        {"external_id", "''", "-", "-"},
        {"external_id", "'" LETTERS_255 "'", "-", "'" LETTERS_255 "'"},
        {"external_id", "'" LETTERS_255 "f'", "-", TOO_LONG},
        {"external_id", "' '", "-", "-"},
        {"external_id", "4711", "-", "'4711'"},
        {"external_id", "47.11", "-", "! must be a string"},
    };
    check_fields(state, rows, COUNT(rows));
}

static void read_only_and_unknown_members_are_ignored(void **state)
{
    static const char *const names[] = {"id",           "timezone", "vat",   "created_at",
                                        "updated_at",   "services", "quota", "unprocessed_usage",
                                        "billing_plan", "is_admin", "api",   ""};
    for (size_t i = 0; i < COUNT(names); i++) {
        const field_row rows[] = {
            {names[i], "1", SAME("-")},
            {names[i], "null", SAME("-")},
        };
        check_fields(state, rows, COUNT(rows));
    }
}

static void judges_whole_bodies(void **state)
{
    static const struct {
        users_account_purpose purpose;
        bool strict;
        const char *body;
        const char *result;
        const char *faults;
    } rows[] = {
        {UPDATE, false, "{'user':{}}", "{}", ""},
        {UPDATE, true, "{'user':{}}", "{}", ""},
        /* the result has the order of the fields, and so have the faults, all of them */
        {UPDATE, false, "{'user':{'phone':'1','email':'a@b.c','lname':'B','fname':' A '}}",
         "{'fname':'A','lname':'B','email':'a@b.c','phone':'1'}", ""},
        {UPDATE, false,
         "{'user':{'currency':true,'zip':'1','country':'X','fname':'','c_sftp_pass':2,"
         "'merge_labels':[1],'locale':'foo','lname':null,'email':'x','phone':{}}}",
         "{'zip':'1'}",
         "/user/fname can't be blank; /user/lname can't be blank; /user/email is invalid; "
         "/user/locale is not a known locale; /user/c_sftp_pass must be a boolean; "
         "/user/country is not a known country; /user/phone must be a string; "
         "/user/currency must be a string; /user/merge_labels must be an object"},
        /* creating */
        {CREATE, false, "{'user':{}}", "{'provider':'cpanel'}",
         "/user/fname can't be blank; /user/lname can't be blank; "
         "/user/provider_server can't be blank; /user/provider_username can't be blank"},
        {CREATE, true, "{'user':{" LEAST "}}",
         "{'fname':'F','lname':'L','provider':'cpanel','provider_server':'S',"
         "'provider_username':'U'}",
         ""},
        {CREATE, true,
         "{'provider':'cPanel','provider_server':'S','provider_username':'U','labels':{'a':1},"
         "'anything':1,'user':{'fname':'F','lname':'L','locale':'foo','currency':'usd'}}",
         "{'fname':'F','lname':'L','currency':'USD','provider':'cpanel','provider_server':'S',"
         "'provider_username':'U'}",
         ""},
        {CREATE, false,
         "{'provider':true,'provider_server':'','provider_username':null,'labels':[1],"
         "'fname':'F','external_id':'1','merge_labels':1,'user':{'fname':'F','lname':'L'}}",
         "{'fname':'F','lname':'L'}",
         "/provider must be a string; /provider_server can't be blank; "
         "/provider_username can't be blank; /labels must be an object"},
        /* in both places */
        {CREATE, false,
         "{'provider':'p','provider_server':'S','provider_username':'U','labels':{'a':[1]},"
         "'user':{" LEAST ",'provider':'p','labels':{'a':[1]}}}",
         "{'fname':'F','lname':'L','provider':'p','provider_server':'S',"
         "'provider_username':'U'}",
         ""},
        {CREATE, false,
         "{'provider':'q','provider_server':'T','provider_username':'V','labels':{'a':[2]},"
         "'user':{" LEAST ",'provider':'p','labels':{'a':[1]}}}",
         "{'fname':'F','lname':'L'}",
         "/user/provider is given twice with different values; "
         "/user/provider_server is given twice with different values; "
         "/user/provider_username is given twice with different values; "
         "/user/labels is given twice with different values"},
        /* what is as good as missing in one place is not a second value */
        {CREATE, false,
         "{'provider':'p','labels':{'a':1},'user':{" LEAST ",'provider':null,'labels':[]}}",
         "{'fname':'F','lname':'L','provider':'p','provider_server':'S','provider_username':'U'}",
         ""},
        {CREATE, false,
         "{'provider':' ','labels':null,'user':{" LEAST ",'provider':'p','labels':{'a':1}}}",
         "{'fname':'F','lname':'L','provider':'p','provider_server':'S','provider_username':'U'}",
         ""},
        /* an update does not look beside "user" */
        {UPDATE, true, "{'provider':1,'labels':1,'fname':1,'user':{'fname':'F'}}", "{'fname':'F'}",
         ""},
        /* strict: no type is taken for another */
        {UPDATE, true, "{'user':{'fname':1,'zip':12345,'country':1,'locale':1,'c_sftp_pass':'1'}}",
         "{}",
         "/user/fname must be a string; /user/locale must be a string; /user/zip must be a string; "
         "/user/c_sftp_pass must be a boolean; /user/country must be a string"},
        {CREATE, true,
         "{'user':{" LEAST ",'external_id':1,'locale':1,'c_sftp_pass':0,'provider':1}}",
         "{'fname':'F','lname':'L','provider_server':'S','provider_username':'U'}",
         "/user/locale must be a string; /user/c_sftp_pass must be a boolean; "
         "/user/provider must be a string; /user/external_id must be a string"},
        {UPDATE, true,
         "{'user':{'zz':1,'is_admin':true,'provider':'p','labels':{},'vat':null,'id':1,"
         "'external_id':'1','fname':'F','lname':1}}",
         "{'fname':'F'}",
         "/user/lname must be a string; /user/provider is not a known field; "
         "/user/external_id is read-only; /user/labels is not a known field; "
         "/user/id is read-only; /user/vat is read-only; "
         "/user/zz is not a known field; /user/is_admin is not a known field"},
        {UPDATE, true,
         "{'user':{'unprocessed_usage':1,'quota':{},'services':{},'billing_plan':{},"
         "'updated_at':'','created_at':'','timezone':''}}",
         "{}",
         "/user/timezone is read-only; /user/created_at is read-only; "
         "/user/updated_at is read-only; /user/billing_plan is read-only; "
         "/user/services is read-only; /user/quota is read-only; "
         "/user/unprocessed_usage is read-only"},
        {CREATE, true, "{'user':{" LEAST ",'external_id':'1','id':1,'api':{}}}",
         "{'fname':'F','lname':'L','provider':'cpanel','provider_server':'S',"
         "'provider_username':'U','external_id':'1'}",
         "/user/id is read-only; /user/api is not a known field"},
        {UPDATE, true, "{'user':{'a/b':1,'m~n':1,'~1':1,'':1,'\\u00e9':1,'Fname':'F'}}", "{}",
         "/user/a~1b is not a known field; /user/m~0n is not a known field; "
         "/user/~01 is not a known field; /user/ is not a known field; "
         "/user/\xC3\xA9 is not a known field; /user/Fname is not a known field"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        apr_array_header_t *faults = make_faults(*state);
        json_t *body = json_of(rows[i].body, *state);
        json_t *result = users_account_read(body, rows[i].purpose, rows[i].strict, faults);
        const char *text = text_of(result, *state);
        const char *told = faults_shown(faults, *state);
        json_decref(result);
        json_decref(body);
        if (strcmp(text, rows[i].result) != 0 || strcmp(told, rows[i].faults) != 0) {
            fail_msg("%s\n%s\n%s", rows[i].body, text, told);
        }
    }
}

static void tells_what_the_database_reads_from_the_body(void **state)
{
    static const struct {
        const char *body;
        bool create, update;
    } rows[] = {
        {"{'user':{}}", false, false},
        {"{'user':{'merge_labels':{}}}", true, true},
        {"{'user':{'merge_labels':null}}", false, false},
        {"{'user':{'merge_labels':[]}}", false, false},
        {"{'merge_labels':{},'user':{}}", false, false},
        {"{'user':{'labels':{}}}", true, false},
        {"{'labels':{},'user':{}}", true, false},
        {"{'labels':[],'user':{'labels':null}}", false, false},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        json_t *body = json_of(rows[i].body, *state);
        assert_int_equal(users_account_needs_body(body, CREATE), rows[i].create);
        assert_int_equal(users_account_needs_body(body, UPDATE), rows[i].update);
        json_decref(body);
    }
}

static void leaves_out_faults_that_the_account_has(void **state)
{
    static const struct {
        const char *user, *faulty, *left;
    } rows[] = {
        {"{}", "", "{}"},
        {"{'city':'C'}", "city", "{}"},
        {"{'city':'C'}", "", "{'city':'C'}"},
        {"{'city':'C'}", "api_version", "{'city':'C'}"},
        {"{'city':'c','locale':'xx_YY','email':'a,b@c.d'}", "city locale",
         "{'city':'c','email':'a,b@c.d'}"},
        {"{'city':'C','locale':'xx_YY','zip':'2'}", "locale city zip", "{'zip':'2'}"},
        {"{'phone':null,'c_sftp_pass':true}", "phone c_sftp_pass", "{}"},
        {"{'phone':'','c_sftp_pass':1}", "phone c_sftp_pass", "{'phone':'','c_sftp_pass':1}"},
        {"{'currency':'XXL'}", "currency", "{}"},
        {"{'currency':{'code':'XXL','symbol':'?'}}", "currency", "{}"},
        {"{'currency':{'symbol':'X'}}", "currency", "{'currency':{'symbol':'X'}}"},
        /* not the owner's to set */
        {"{'id':1,'vat':'V','external_id':'E','zz':1}", "external_id id vat zz",
         "{'id':1,'vat':'V','external_id':'E','zz':1}"},
    };
    json_t *account = json_of("{'id':1,'city':'C','locale':'xx_YY','email':'a,b@c.d','phone':null,"
                              "'c_sftp_pass':true,'currency':{'code':'XXL','symbol':'X'},'zip':'1',"
                              "'vat':'V','external_id':'E','zz':1}",
                              *state);
    for (size_t i = 0; i < COUNT(rows); i++) {
        json_t *body = json_pack("{s:o}", "user", json_of(rows[i].user, *state));
        apr_array_header_t *faults = make_faults(*state);
        char *rest = apr_pstrdup(*state, rows[i].faulty);
        for (char *field; (field = apr_strtok(rest, " ", &rest)) != NULL;) {
            users_fault_add(faults, field, "is bad", NULL);
        }
        assert_false(users_account_leave_out(body, NULL, faults));
        bool any = users_account_leave_out(body, account, faults);
        assert_string_equal(text_of(json_object_get(body, "user"), *state), rows[i].left);
        assert_int_equal(any, strcmp(rows[i].user, rows[i].left) != 0);
        json_decref(body);
    }
    json_decref(account);
}

static void leaves_the_body_as_it_is(void **state)
{
    const char *text = "{'labels':{'a':1},'user':{" LEAST ",'country':'us','zz':1,'vat':'1',"
                       "'currency':{'code':'usd','symbol':'$'},'merge_labels':{'b':0.1}}}";
    json_t *body = json_of(text, *state);
    json_t *before = json_deep_copy(body);
    json_decref(users_account_read(body, CREATE, true, make_faults(*state)));
    assert_true(json_equal(body, before));
    json_decref(before);
    json_decref(body);
}

static int allocations_left;

static void *failing_malloc(size_t size)
{
    return allocations_left-- > 0 ? malloc(size) : NULL;
}

static void tells_when_memory_runs_out(void **state)
{
    json_t *body = json_of("{'user':{" LEAST ",'email':'a@b.c','country':'us','phone':null,"
                           "'currency':'usd','locale':'pt-br','c_sftp_pass':1,'labels':{}}}",
                           *state);
    json_t *result = NULL;
    int allocations = 0;
    json_set_alloc_funcs(failing_malloc, free);
    for (; result == NULL && allocations < 1000; allocations++) {
        apr_array_header_t *faults = make_faults(*state);
        allocations_left = allocations;
        result = users_account_read(body, CREATE, false, faults);
        assert_int_equal(faults->nelts, 0);
    }
    json_set_alloc_funcs(malloc, free);
    assert_int_equal(json_object_size(result), 10);
    assert_true(allocations > 10); /* it failed at every one before */
    json_decref(result);
    json_decref(body);
}

static bool normalisation_fails;

/* In place of utf8proc's. */
utf8proc_ssize_t utf8proc_map(const utf8proc_uint8_t *text, utf8proc_ssize_t length,
                              utf8proc_uint8_t **normal, utf8proc_option_t options)
{
    return normalisation_fails ? UTF8PROC_ERROR_NOMEM
                               : utf8proc_map_custom(text, length, normal, options, NULL, NULL);
}

static void tells_when_there_is_no_memory_to_normalise(void **state)
{
    json_t *body = json_of("{'user':{'email':'a@b.c'}}", *state);
    apr_array_header_t *faults = make_faults(*state);
    normalisation_fails = true;
    assert_null(users_account_read(body, UPDATE, false, faults));
    normalisation_fails = false;
    assert_int_equal(faults->nelts, 0);
    json_decref(body);
}

static void sorts_faults_by_field(void **state)
{
    apr_array_header_t *faults = make_faults(*state);
    users_fault_sort(faults);
    assert_int_equal(faults->nelts, 0);

    users_fault_add(faults, "api_version", "is not supported", NULL);
    users_fault_add(faults, "currency", "one", "/user/currency");
    users_fault_add(faults, "zz", "is not a known field", "/user/zz");
    users_fault_add(faults, "email", "one", "/user/email");
    users_fault_add(faults, "labels", "one", "/labels");
    users_fault_add(faults, "aa", "is not a known field", "/user/aa");
    users_fault_add(faults, "id", "is read-only", "/user/id");
    users_fault_add(faults, "email", "two", "/user/email");
    users_fault_add(faults, "fname", "one", "/user/fname");
    users_fault_add(faults, "external_id", "one", "/user/external_id");
    users_fault_add(faults, "provider", "one", "/user/provider");
    users_fault_sort(faults);
    assert_string_equal(faults_shown(faults, *state),
                        "/user/fname one; /user/email one; /user/email two; /user/currency one; "
                        "/user/provider one; /user/external_id one; /labels one; "
                        "/user/id is read-only; api_version is not supported; "
                        "/user/zz is not a known field; /user/aa is not a known field");
}

static void faults_keep_copies(void **state)
{
    apr_array_header_t *faults = make_faults(*state);
    char field[] = "fname", text[] = "is odd", pointer[] = "/user/fname";
    users_fault_add(faults, field, text, pointer);
    field[0] = text[0] = pointer[0] = 'X';
    users_fault fault = APR_ARRAY_IDX(faults, 0, users_fault);
    assert_string_equal(fault.field, "fname");
    assert_string_equal(fault.text, "is odd");
    assert_string_equal(fault.pointer, "/user/fname");
}

static void codes_of_directives_have_their_form(void **state)
{
    (void)state;
    assert_true(users_account_is_code("currency", "EUR"));
    assert_true(users_account_is_code("locale", "pt-BR"));
    assert_true(users_account_is_code("locale", "zh-Hant"));
    assert_true(users_account_is_code("country", "NL"));
    assert_false(users_account_is_code("locale", "pt_BR"));
    assert_false(users_account_is_code("currency", "eur"));
    assert_false(users_account_is_code("currency", "EURO"));
    assert_false(users_account_is_code("fname", "Jane"));
    assert_false(users_account_is_code("nothing", "EUR"));
}

static void tells_the_owners_fields(void **state)
{
    (void)state;
    assert_true(users_account_is_owners("fname"));
    assert_true(users_account_is_owners("merge_labels"));
    assert_false(users_account_is_owners("vat"));
    assert_false(users_account_is_owners("provider"));
    assert_false(users_account_is_owners("nothing"));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(codes_of_directives_have_their_form),
    cmocka_unit_test(tells_the_owners_fields),
    cmocka_unit_test(names_are_trimmed_and_never_blank),
    cmocka_unit_test(what_shows_nothing_is_blank),
    cmocka_unit_test(texts_have_no_control_characters),
    cmocka_unit_test(limits_count_characters),
    cmocka_unit_test(texts_may_be_cleared),
    cmocka_unit_test(emails_look_like_addresses),
    cmocka_unit_test(addresses_are_atoms_and_labels),
    cmocka_unit_test(addresses_are_normalised),
    cmocka_unit_test(emails_have_at_most_254_octets),
    cmocka_unit_test(countries_are_two_letters),
    cmocka_unit_test(currencies_are_three_letters_or_an_object),
    cmocka_unit_test(locales_are_a_language_a_script_and_a_region),
    cmocka_unit_test(c_sftp_pass_is_a_boolean),
    cmocka_unit_test(labels_are_objects_and_stay_in_the_body),
    cmocka_unit_test(labels_that_are_too_large_are_told_without_the_database),
    cmocka_unit_test(registration_has_fields_of_its_own),
    cmocka_unit_test(read_only_and_unknown_members_are_ignored),
    cmocka_unit_test(judges_whole_bodies),
    cmocka_unit_test(tells_what_the_database_reads_from_the_body),
    cmocka_unit_test(leaves_out_faults_that_the_account_has),
    cmocka_unit_test(leaves_the_body_as_it_is),
    cmocka_unit_test(tells_when_memory_runs_out),
    cmocka_unit_test(tells_when_there_is_no_memory_to_normalise),
    cmocka_unit_test(sorts_faults_by_field),
    cmocka_unit_test(faults_keep_copies),
};

UNIT_MAIN(tests)
