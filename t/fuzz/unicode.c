/* Texts of any script: what is said of their characters agrees, and with what jansson says. */
#include "core/unicode.h"

#include "core/address.h"

#include "fuzz.h"

#include <jansson.h>

static bool is_utf8(const char *text)
{
    json_t *string = json_string(text);
    json_decref(string);
    return string != NULL;
}

/* Only what an address may have, which is one address in any header. */
static void check_address(const char *text)
{
    FUZZ_CHECK(strchr(text, '@') != NULL && strchr(text, '@') == strrchr(text, '@'));
    FUZZ_CHECK(strpbrk(text, " \"(),:;<>[\\]") == NULL);
    FUZZ_CHECK(!users_has_control(users_span_of(text)));
    int32_t character;
    users_span rest = users_span_of(text);
    for (size_t length; (length = users_character_at(rest, &character)) > 0;) {
        FUZZ_CHECK(!users_is_invisible(character) && !users_is_separator(character));
        rest.start += length;
        rest.length -= length;
    }
    FUZZ_CHECK(rest.length == 0);
}

static void check_normal(users_span text)
{
    char *normal = users_normalize(text);
    FUZZ_CHECK(normal != NULL && is_utf8(normal));
    char *again = users_normalize(users_span_of(normal));
    FUZZ_CHECK(again != NULL && strcmp(normal, again) == 0);
    if (users_is_address(normal)) {
        check_address(normal);
    }
    free(again);
    free(normal);
}

static void check_unicode(const char *bytes, size_t length, apr_pool_t *pool)
{
    users_span text = {bytes, length};
    (void)pool;
    if (strlen(bytes) != length) {
        FUZZ_CHECK(!users_is_utf8(text));
        return;
    }
    FUZZ_CHECK(users_is_utf8(text) == is_utf8(bytes));
    users_span trimmed = users_trim(text, users_white_space);
    FUZZ_CHECK(users_white_space(trimmed, false) == 0 && users_white_space(trimmed, true) == 0);
    FUZZ_CHECK(users_is_blank(text) == users_is_blank(trimmed));
    FUZZ_CHECK(!users_is_blank(text) || users_is_utf8(text));
    if (users_is_utf8(text)) {
        check_normal(trimmed);
    }
}

FUZZ_TARGET(check_unicode)
