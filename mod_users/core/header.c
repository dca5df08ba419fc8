#include "core/header.h"

#include "core/text.h"

#include <apr_cstr.h>
#include <apr_strings.h>
#include <stdlib.h>
#include <string.h>

/* The versions of the API that clients may ask for; all are served alike. */
#define VERSION_FIRST 51
#define VERSION_LAST  80

#define DIGITS      "0123456789"
#define WHITE_SPACE " \t" /* OWS, RFC 9110 section 5.6.3 */

#define KEY_LIMIT 255 /* characters of an idempotency key */

typedef users_span span;

static const char *text_of(span text, apr_pool_t *pool)
{
    return apr_pstrmemdup(pool, text.start, text.length);
}

static span trimmed(span text)
{
    return users_trim(text, users_optional_white_space);
}

static bool span_is(span text, const char *word) /* case-insensitive */
{
    return text.length == strlen(word) && apr_cstr_casecmpn(text.start, word, text.length) == 0;
}

/*
 * Cut the next part, up to a separator that is not within a quoted string, off rest. False
 * where nothing is left. Parts may be empty (RFC 9110 section 5.6.1.2).
 */
static bool next_part(span *rest, char separator, span *part)
{
    bool quoted = false;
    size_t i = 0;

    if (!rest->start) {
        *part = *rest;
        return false;
    }
    for (; i < rest->length && (quoted || rest->start[i] != separator); i++) {
        if (rest->start[i] == '"') {
            quoted = !quoted;
        } else if (quoted && rest->start[i] == '\\' && i + 1 < rest->length) {
            i++;
        }
    }
    *part = trimmed((span){rest->start, i});
    if (i < rest->length) {
        rest->start += i + 1;
        rest->length -= i + 1;
    } else {
        rest->start = NULL;
    }
    return true;
}

static bool is_token(span text) /* RFC 9110 section 5.6.2 */
{
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.start[i];

        if (c <= ' ' || c >= 0x7f || strchr("\"(),/:;<=>?@[\\]{}", c)) {
            return false;
        }
    }
    return text.length > 0;
}

static bool is_quoted_string(span text) /* RFC 9110 section 5.6.4 */
{
    if (text.length < 2 || text.start[0] != '"' || text.start[text.length - 1] != '"') {
        return false;
    }
    for (size_t i = 1; i < text.length - 1; i++) {
        if (text.start[i] == '"' || (text.start[i] == '\\' && ++i == text.length - 1)) {
            return false;
        }
    }
    return true;
}

/* Backslashes stay: nothing that we compare with has a character that needs one. */
static span unquoted(span word)
{
    return is_quoted_string(word) ? (span){word.start + 1, word.length - 2} : word;
}

/* name [ BWS "=" BWS value ]; value is empty where there is none. */
typedef struct {
    span name;
    span value;
    bool well_formed; /* RFC 7240 section 2: a token, and a token or quoted string */
} pair;

static pair pair_of(span part)
{
    span rest = part;
    pair result = {.value = {"", 0}};

    next_part(&rest, '=', &result.name);
    result.well_formed = is_token(result.name);
    if (rest.start) {
        span word = trimmed(rest);

        result.value = unquoted(word);
        result.well_formed = result.well_formed && (is_token(word) || is_quoted_string(word));
    }
    return result;
}

/* The media ranges that can name our types; a later one outranks an earlier one. */
enum { RANGE_ANY, RANGE_APPLICATION, RANGE_JSON, RANGE_PROBLEM, RANGE_COUNT };

static const char *const range_names[RANGE_COUNT] = {
    [RANGE_ANY] = "*/*",
    [RANGE_APPLICATION] = "application/*",
    [RANGE_JSON] = "application/json",
    [RANGE_PROBLEM] = "application/problem+json",
};

#define WEIGHT_FULL    1000 /* q=1.000 */
#define WEIGHT_UNNAMED (-1)

/* A qvalue (RFC 9110 section 12.4.2) in thousandths; what can't be read weighs full. */
static int weight_of(const char *q)
{
    const char *digits = *q == '0' ? q + 1 : q;
    int weight = 0;

    if (*digits == '.') {
        digits++;
    } else if (digits == q || *digits) { /* "1", "1.000" */
        return WEIGHT_FULL;
    }
    for (int unit = WEIGHT_FULL / 10; unit > 0 && *digits >= '0' && *digits <= '9'; unit /= 10) {
        weight += unit * (*digits++ - '0');
    }
    return !digits[strspn(digits, DIGITS)] ? weight : WEIGHT_FULL;
}

static bool is_media_range(span text) /* "*" is a token's character too */
{
    span rest = text;
    span type;

    return next_part(&rest, '/', &type) && rest.start && is_token(type) && is_token(rest);
}

static bool is_version_served(const char *version)
{
    long number = strtol(version, NULL, 10); /* no digits are 0, too many LONG_MAX */

    return !version[strspn(version, DIGITS)] && number >= VERSION_FIRST && number <= VERSION_LAST;
}

/*
 * Take one element of Accept in: its weight into weights, if it names one of our types, and
 * its version into accept. False where it is no media range.
 */
static bool read_media_range(span element, int *weights, users_accept *accept, apr_pool_t *pool)
{
    span rest = element;
    span part;
    int range = 0;
    int weight = WEIGHT_FULL;

    next_part(&rest, ';', &part);
    while (range < RANGE_COUNT && !span_is(part, range_names[range])) {
        range++;
    }
    if (range == RANGE_COUNT) {
        return is_media_range(part);
    }
    while (next_part(&rest, ';', &part)) {
        pair parameter = pair_of(part);

        if (span_is(parameter.name, "q")) {
            weight = weight_of(text_of(parameter.value, pool));
        } else if (span_is(parameter.name, "api_version") && !accept->version) {
            accept->version = text_of(parameter.value, pool);
        }
    }
    if (weight > weights[range]) {
        weights[range] = weight;
    }
    return true;
}

/* The weight of a type by the most specific range that names it. */
static int weight_by(const int *weights, int exact)
{
    const int precedence[] = {exact, RANGE_APPLICATION, RANGE_ANY};

    for (size_t i = 0; i < sizeof(precedence) / sizeof(*precedence); i++) {
        if (weights[precedence[i]] != WEIGHT_UNNAMED) {
            return weights[precedence[i]];
        }
    }
    return 0;
}

users_accept users_accept_parse(const char *value, apr_pool_t *pool)
{
    users_accept accept = {.version_served = true};
    int weights[RANGE_COUNT] = {WEIGHT_UNNAMED, WEIGHT_UNNAMED, WEIGHT_UNNAMED, WEIGHT_UNNAMED};
    bool restricted = false;
    span rest = users_span_of(value);
    span element;
    int json;
    int problem;

    while (next_part(&rest, ',', &element)) {
        restricted |= read_media_range(element, weights, &accept, pool);
    }
    json = weight_by(weights, RANGE_JSON);
    problem = weight_by(weights, RANGE_PROBLEM);
    accept.acceptable = !restricted || json > 0 || problem > 0;
    accept.problem = weights[RANGE_PROBLEM] > 0 && weights[RANGE_PROBLEM] >= json;
    if (accept.version) {
        accept.version_served = is_version_served(accept.version);
    }
    return accept;
}

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
    tags->any = span_is(trimmed(users_span_of(value)), "*");
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
static bool read_preference(span element, pair *preference)
{
    span rest = element;
    span part;
    bool well_formed;

    next_part(&rest, ';', &part);
    *preference = pair_of(part);
    well_formed = preference->well_formed;
    while (next_part(&rest, ';', &part)) {
        well_formed = well_formed && (part.length == 0 || pair_of(part).well_formed);
    }
    return well_formed;
}

bool users_prefer_parse(const char *value, users_prefer *prefer)
{
    bool returns = false; /* the first of a kind counts, RFC 7240 section 2 */
    bool handling = false;
    span rest = users_span_of(value);
    span element;

    *prefer = (users_prefer){.minimal = false, .strict = false};
    while (next_part(&rest, ',', &element)) {
        pair preference;

        if (element.length == 0) {
            continue;
        }
        if (!read_preference(element, &preference)) {
            return false;
        }
        if (span_is(preference.name, "return") && !returns) {
            returns = true;
            prefer->minimal = span_is(preference.value, "minimal");
        } else if (span_is(preference.name, "handling") && !handling) {
            handling = true;
            prefer->strict = span_is(preference.value, "strict");
        }
    }
    return true;
}

/* The text of an sf-string (RFC 9651 section 3.3.3), NULL where it is none. */
static const char *read_sf_string(span text, apr_pool_t *pool)
{
    char *result = apr_palloc(pool, text.length);
    size_t length = 0;

    if (!is_quoted_string(text)) {
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
static const char *read_bare_key(span text, apr_pool_t *pool)
{
    for (size_t i = 0; i < text.length; i++) {
        char c = text.start[i];

        if (c <= ' ' || c > '~' || c == '"' || c == ',' || c == '\\') {
            return NULL;
        }
    }
    return text_of(text, pool);
}

const char *users_idempotency_key_parse(const char *value, apr_pool_t *pool)
{
    span text = trimmed(users_span_of(value));
    bool quoted = text.length > 0 && text.start[0] == '"';
    const char *key = quoted ? read_sf_string(text, pool) : read_bare_key(text, pool);

    return key && *key && strlen(key) <= KEY_LIMIT ? key : NULL;
}
