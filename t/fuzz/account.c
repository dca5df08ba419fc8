/*
 * The fields of an account: what is taken is within its limits, and taken again as it is. Input: an
 * octet of bits (1: an update, 2: strict), then a request body.
 */
#include "core/account.h"

#include "core/request.h"

#include "fuzz.h"

#include <ctype.h>

static size_t characters(const char *text)
{
    size_t count = 0;
    for (; *text != '\0'; text++) {
        count += (*text & 0xC0) != 0x80;
    }
    return count;
}

/* C0, DEL; C1, which UTF-8 begins with C2. */
static bool has_control(const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
        if (*c < ' ' || *c == 0x7F || (*c == 0xC2 && c[1] < 0xA0)) {
            return true;
        }
    }
    return false;
}

static void check_text(json_t *value)
{
    FUZZ_CHECK(json_is_null(value) || (characters(json_string_value(value)) <= 255 &&
                                       !has_control(json_string_value(value))));
}

static void check_name(json_t *value)
{
    const char *text = json_string_value(value);
    FUZZ_CHECK(text != NULL && *text != '\0' && characters(text) <= 255 && !has_control(text));
    FUZZ_CHECK(strchr(" \t\n\v\f\r", text[0]) == NULL);
    FUZZ_CHECK(strchr(" \t\n\v\f\r", text[strlen(text) - 1]) == NULL);
}

static void check_external_id(json_t *value)
{
    FUZZ_CHECK(json_is_string(value));
    check_text(value);
}

static void check_provider(json_t *value)
{
    check_name(value);
    for (const char *c = json_string_value(value); *c != '\0'; c++) {
        FUZZ_CHECK(*c < 'A' || *c > 'Z');
    }
}

static void check_email(json_t *value)
{
    const char *text = json_string_value(value);
    FUZZ_CHECK(text != NULL && strlen(text) <= 254);
    const char *at = strchr(text, '@');
    FUZZ_CHECK(at != NULL && at != text && strchr(at + 1, '@') == NULL);
    FUZZ_CHECK(strchr(at, '.') != NULL || strcasecmp(at, "@localhost") == 0);
    FUZZ_CHECK(!has_control(text) && strpbrk(text, " \"(),:;<>[\\]") == NULL);
    FUZZ_CHECK(strpbrk(at, "!#$%&'*+/=?^_`{|}~") == NULL);
    FUZZ_CHECK(*text != '.' && at[-1] != '.' && strstr(text, "..") == NULL);
    FUZZ_CHECK(at[1] != '-' && strstr(at, ".-") == NULL && strstr(at, "-.") == NULL);
}

/* pattern: A and a are letters in that case, 0 is a digit, anything else is itself. */
static bool has_form(const char *text, const char *pattern)
{
    for (; *pattern != '\0' && *text != '\0'; pattern++, text++) {
        bool fits = *pattern == 'A'   ? *text >= 'A' && *text <= 'Z'
                    : *pattern == 'a' ? *text >= 'a' && *text <= 'z'
                    : *pattern == '0' ? *text >= '0' && *text <= '9'
                                      : *text == *pattern;
        if (!fits) {
            return false;
        }
    }
    return *text == *pattern;
}

static void check_country(json_t *value)
{
    FUZZ_CHECK(json_is_string(value) && has_form(json_string_value(value), "AA"));
}

static void check_currency(json_t *value)
{
    FUZZ_CHECK(json_is_string(value) && has_form(json_string_value(value), "AAA"));
}

static void check_locale(json_t *value)
{
    static const char *const forms[] = {"aa",      "aa-AA",      "aa-000",
                                        "aa-Aaaa", "aa-Aaaa-AA", "aa-Aaaa-000"};
    bool fits = false;
    for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
        fits = fits || has_form(json_string_value(value), forms[i]);
    }
    FUZZ_CHECK(fits);
}

static void check_boolean(json_t *value)
{
    FUZZ_CHECK(json_is_boolean(value));
}

/* All that may come out of it, and the operations that it comes out of. */
static const struct {
    const char *name;
    void (*check)(json_t *value);
    bool create_only;
} fields[] = {
    {"fname", check_name, false},
    {"lname", check_name, false},
    {"email", check_email, false},
    {"locale", check_locale, false},
    {"city", check_text, false},
    {"state", check_text, false},
    {"zip", check_text, false},
    {"c_sftp_pass", check_boolean, false},
    {"country", check_country, false},
    {"address1", check_text, false},
    {"address2", check_text, false},
    {"company_name", check_text, false},
    {"phone", check_text, false},
    {"currency", check_currency, false},
    {"provider", check_provider, true},
    {"provider_server", check_name, true},
    {"provider_username", check_name, true},
    {"external_id", check_external_id, true},
};

static void check_field(const char *name, json_t *value, users_account_purpose purpose)
{
    size_t i = 0;
    while (i < sizeof(fields) / sizeof(*fields) && strcmp(fields[i].name, name) != 0) {
        i++;
    }
    FUZZ_CHECK(i < sizeof(fields) / sizeof(*fields));
    FUZZ_CHECK(purpose == USERS_ACCOUNT_CREATE || !fields[i].create_only);
    fields[i].check(value);
}

/* A pointer ends in the field, whose special characters are escaped. */
static void check_faults(const apr_array_header_t *faults)
{
    for (int i = 0; i < faults->nelts; i++) {
        const users_fault *fault = &APR_ARRAY_IDX(faults, i, users_fault);
        FUZZ_CHECK(fault->field != NULL && fault->text != NULL && *fault->text != '\0');
        const char *name = strrchr(fault->pointer, '/');
        FUZZ_CHECK(name == fault->pointer || name == fault->pointer + strlen("/user"));
        FUZZ_CHECK(strpbrk(fault->field, "~/") != NULL || strcmp(name + 1, fault->field) == 0);
    }
}

/* Sorting changes nothing in a list that is in order already, but strangers' places. */
static void check_sorted(const apr_array_header_t *faults, apr_pool_t *pool)
{
    apr_array_header_t *sorted = apr_array_copy(pool, faults);
    users_fault_sort(sorted);
    for (int i = 0; i < faults->nelts; i++) {
        FUZZ_CHECK(APR_ARRAY_IDX(sorted, i, users_fault).pointer ==
                   APR_ARRAY_IDX(faults, i, users_fault).pointer);
    }
}

/* What was taken, sent by itself, is all taken again. */
static void check_again(json_t *taken, users_account_purpose purpose, bool faultless,
                        apr_pool_t *pool)
{
    apr_array_header_t *faults = apr_array_make(pool, 1, sizeof(users_fault));
    json_t *body = json_pack("{s:O}", "user", taken);
    json_t *again = users_account_read(body, purpose, true, faults);
    FUZZ_CHECK(again != NULL);
    if (faultless) {
        FUZZ_CHECK(faults->nelts == 0 && json_equal(taken, again));
    }
    const char *name;
    json_t *value;
    json_object_foreach(taken, name, value)
    {
        FUZZ_CHECK(json_equal(value, json_object_get(again, name)));
    }
    json_decref(again);
    json_decref(body);
}

/* What has a fault, though it is the account's own, can be left out: then there is none. */
static void check_own(const json_t *body, apr_pool_t *pool)
{
    apr_array_header_t *faults = apr_array_make(pool, 1, sizeof(users_fault));
    json_t *account = json_deep_copy(json_object_get(body, "user"));
    json_t *back = json_deep_copy(body);
    json_t *before = users_account_read(back, USERS_ACCOUNT_UPDATE, false, faults);
    FUZZ_CHECK(users_account_leave_out(back, account, faults) == (faults->nelts > 0));
    apr_array_clear(faults);
    json_t *after = users_account_read(back, USERS_ACCOUNT_UPDATE, false, faults);
    FUZZ_CHECK(faults->nelts == 0 && json_equal(before, after));
    json_decref(after);
    json_decref(before);
    json_decref(back);
    json_decref(account);
}

static void check_account(const char *bytes, size_t length, apr_pool_t *pool)
{
    const char *error;
    json_t *body = length > 0 ? users_request_parse(apr_pstrmemdup(pool, bytes + 1, length - 1),
                                                    length - 1, &error)
                              : NULL;
    if (body == NULL) {
        return;
    }
    users_account_purpose purpose = bytes[0] & 1 ? USERS_ACCOUNT_UPDATE : USERS_ACCOUNT_CREATE;
    json_t *before = json_deep_copy(body);
    apr_array_header_t *faults = apr_array_make(pool, 1, sizeof(users_fault));
    json_t *taken = users_account_read(body, purpose, (bytes[0] & 2) != 0, faults);
    FUZZ_CHECK(taken != NULL);
    FUZZ_CHECK(json_equal(body, before));
    const char *name;
    json_t *value;
    json_object_foreach(taken, name, value)
    {
        check_field(name, value, purpose);
    }
    check_faults(faults);
    check_sorted(faults, pool);
    check_again(taken, purpose, faults->nelts == 0, pool);
    check_own(body, pool);
    json_decref(taken);
    json_decref(before);
    json_decref(body);
}

FUZZ_TARGET(check_account)
