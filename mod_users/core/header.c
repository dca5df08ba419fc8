#include "core/header.h"

#include "core/list.h"

#include <apr_strings.h>
#include <string.h>

#define WHITE_SPACE " \t" /* OWS, RFC 9110 section 5.6.3 */

#define KEY_LIMIT 255 /* characters of an idempotency key */

static bool is_etagc(char c) /* RFC 9110 section 8.8.3: no white space, quote, control */
{
    return (unsigned char)c > ' ' && c != '"' && c != 0x7f;
}

/* A compressing filter marks the tag of what it sends: mod_deflate, mod_brotli. */
static size_t length_without_suffix(const char *tag, size_t length)
{
    static const char *const suffixes[] = {"-gzip", "-br"};

    for (size_t i = 0; i < sizeof(suffixes) / sizeof(*suffixes); i++) {
        size_t suffix = strlen(suffixes[i]);

        if (length >= suffix && memcmp(tag + length - suffix, suffixes[i], suffix) == 0) {
            return length - suffix;
        }
    }
    return length;
}

/* Take one tag, [ "W/" ] DQUOTE *etagc DQUOTE, in. Returns what follows it, NULL if malformed. */
static const char *read_entity_tag(const char *at, users_entity_tags *tags, apr_pool_t *pool)
{
    apr_array_header_t *list = tags->tags;
    size_t length = 0;

    if (strncmp(at, "W/", 2) == 0) {
        list = tags->weak;
        at += 2;
    }
    if (*at++ != '"') {
        return NULL;
    }
    while (is_etagc(at[length])) {
        length++;
    }
    if (at[length] != '"') {
        return NULL;
    }
    APR_ARRAY_PUSH(list, const char *) =
        apr_pstrmemdup(pool, at, length_without_suffix(at, length));
    return at + length + 1;
}

const users_entity_tags *users_entity_tags_parse(const char *value, apr_pool_t *pool)
{
    users_entity_tags *tags = apr_pcalloc(pool, sizeof(*tags));

    tags->tags = apr_array_make(pool, 1, sizeof(const char *));
    tags->weak = apr_array_make(pool, 1, sizeof(const char *));
    tags->any = users_span_is(users_trim_optional(users_span_of(value)), "*");
    if (tags->any) {
        return tags;
    }
    for (const char *at = value;; at++) {
        at += strspn(at, WHITE_SPACE);
        if (*at && *at != ',') {
            at = read_entity_tag(at, tags, pool);
            if (!at) {
                return NULL;
            }
            at += strspn(at, WHITE_SPACE);
        }
        if (*at != ',') {
            return *at ? NULL : tags;
        }
    }
}

static bool contains(const apr_array_header_t *tags, const char *tag)
{
    for (int i = 0; i < tags->nelts; i++) {
        if (strcmp(APR_ARRAY_IDX(tags, i, const char *), tag) == 0) {
            return true;
        }
    }
    return false;
}

bool users_entity_tags_match(const users_entity_tags *tags, const char *current, bool weakly)
{
    return tags->any || (current && (contains(tags->tags, current) ||
                                     (weakly && contains(tags->weak, current))));
}

/* Read one element of Prefer; parameters need only be well-formed. False where they are not. */
static bool read_preference(users_span element, users_pair *preference)
{
    users_span rest = element;
    users_span part;
    bool well_formed;

    users_list_next(&rest, ';', &part);
    *preference = users_pair_of(part);
    well_formed = preference->well_formed;
    while (users_list_next(&rest, ';', &part)) {
        well_formed = well_formed && (part.length == 0 || users_pair_of(part).well_formed);
    }
    return well_formed;
}

users_prefer users_prefer_parse(const char *value)
{
    users_prefer prefer = {.minimal = false, .strict = false};
    bool returns = false; /* the first of a kind counts, RFC 7240 section 2 */
    bool handling = false;
    users_span rest = users_span_of(value);
    users_span element;

    while (users_list_next(&rest, ',', &element)) {
        users_pair preference;

        if (!read_preference(element, &preference)) {
            continue;
        }
        if (users_span_is(preference.name, "return") && !returns) {
            returns = true;
            prefer.minimal = users_span_is(preference.value, "minimal");
        } else if (users_span_is(preference.name, "handling") && !handling) {
            handling = true;
            prefer.strict = users_span_is(preference.value, "strict");
        }
    }
    return prefer;
}

/* The text of an sf-string (RFC 9651 section 3.3.3), NULL where it is none. */
static const char *read_sf_string(users_span text, apr_pool_t *pool)
{
    char *result = apr_palloc(pool, text.length);
    size_t length = 0;

    if (!users_is_quoted_string(text)) {
        return NULL;
    }
    for (size_t i = 1; i < text.length - 1; i++) {
        if (text.start[i] == '\\' && text.start[++i] != '"' && text.start[i] != '\\') {
            return NULL;
        }
        if (text.start[i] < ' ' || text.start[i] > '~') {
            return NULL;
        }
        result[length++] = text.start[i];
    }
    result[length] = '\0';
    return result;
}

/* The text of a key without quotes, NULL where it can't be one. */
static const char *read_bare_key(users_span text, apr_pool_t *pool)
{
    for (size_t i = 0; i < text.length; i++) {
        char c = text.start[i];

        if (c <= ' ' || c > '~' || c == '"' || c == ',' || c == '\\') {
            return NULL;
        }
    }
    return users_span_text(text, pool);
}

const char *users_idempotency_key_parse(const char *value, apr_pool_t *pool)
{
    users_span text = users_trim_optional(users_span_of(value));
    bool quoted = text.length > 0 && text.start[0] == '"';
    const char *key = quoted ? read_sf_string(text, pool) : read_bare_key(text, pool);

    return key && *key && strlen(key) <= KEY_LIMIT ? key : NULL;
}

/* So many digits, and a value above zero where that is needed: lower case alone (HEXDIGLC). */
static bool is_hex(const char *at, size_t length, bool not_zero)
{
    return strspn(at, "0123456789abcdef") >= length && !(not_zero && strspn(at, "0") >= length);
}

/* Section 3.2: version "-" trace-id "-" parent-id "-" trace-flags */
const char *users_traceparent_parse(const char *value, apr_pool_t *pool)
{
    enum { TRACE = 3, PARENT = 36, FLAGS = 53, END = 55 };
    bool well_formed = strlen(value) >= END && is_hex(value, 2, false) && value[TRACE - 1] == '-' &&
                       is_hex(value + TRACE, USERS_TRACE_LENGTH, true) &&
                       value[PARENT - 1] == '-' && is_hex(value + PARENT, 16, true) &&
                       value[FLAGS - 1] == '-' && is_hex(value + FLAGS, 2, false);

    if (!well_formed || strncmp(value, "ff", 2) == 0 || strchr(value, ',')) {
        return NULL;
    }
    if (value[END] && (value[END] != '-' || strncmp(value, "00", 2) == 0)) {
        return NULL;
    }
    return apr_pstrmemdup(pool, value + TRACE, USERS_TRACE_LENGTH);
}
