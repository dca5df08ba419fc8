#include "core/accept.h"

#include "core/list.h"

#include <stdlib.h>
#include <string.h>

/* The versions of the API that clients may ask for; all are served alike. */
#define VERSION_FIRST 51
#define VERSION_LAST  80

#define DIGITS "0123456789"

/* The media ranges that can name our types; a later one outranks an earlier one. */
enum {
    RANGE_ANY,
    RANGE_APPLICATION,
    RANGE_JSON,
    RANGE_PROBLEM,
    RANGE_TEXT,
    RANGE_PLAIN,
    RANGE_COUNT
};

static const char *const range_names[RANGE_COUNT] = {
    [RANGE_ANY] = "*/*",
    [RANGE_APPLICATION] = "application/*",
    [RANGE_JSON] = "application/json",
    [RANGE_PROBLEM] = "application/problem+json",
    [RANGE_TEXT] = "text/*",
    [RANGE_PLAIN] = "text/plain",
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

static bool is_media_range(users_span text) /* "*" is a token's character too */
{
    users_span rest = text;
    users_span type;

    return users_list_next(&rest, '/', &type) && rest.start && users_is_token(type) &&
           users_is_token(rest);
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
static bool read_media_range(users_span element, int *weights, users_accept *accept,
                             apr_pool_t *pool)
{
    users_span rest = element;
    users_span part;
    int range = 0;
    int weight = WEIGHT_FULL;

    users_list_next(&rest, ';', &part);
    while (range < RANGE_COUNT && !users_span_is(part, range_names[range])) {
        range++;
    }
    if (range == RANGE_COUNT) {
        return is_media_range(part);
    }
    while (users_list_next(&rest, ';', &part)) {
        users_pair parameter = users_pair_of(part);

        if (users_span_is(parameter.name, "q")) {
            weight = weight_of(users_span_text(parameter.value, pool));
        } else if (users_span_is(parameter.name, "api_version") && !accept->version) {
            accept->version = users_span_text(parameter.value, pool);
        }
    }
    if (weight > weights[range]) {
        weights[range] = weight;
    }
    return true;
}

/* The weight of a type by the most specific range that names it. all: that of its kin. */
static int weight_by(const int *weights, int exact, int all)
{
    const int precedence[] = {exact, all, RANGE_ANY};

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
    int weights[RANGE_COUNT];
    bool restricted = false;
    users_span rest = users_span_of(value);
    users_span element;
    int json;
    int problem;

    for (int range = 0; range < RANGE_COUNT; range++) {
        weights[range] = WEIGHT_UNNAMED;
    }
    while (users_list_next(&rest, ',', &element)) {
        restricted |= read_media_range(element, weights, &accept, pool);
    }
    json = weight_by(weights, RANGE_JSON, RANGE_APPLICATION);
    problem = weight_by(weights, RANGE_PROBLEM, RANGE_APPLICATION);
    accept.text = !restricted || weight_by(weights, RANGE_PLAIN, RANGE_TEXT) > 0;
    accept.acceptable = !restricted || json > 0 || problem > 0;
    accept.problem = weights[RANGE_PROBLEM] > 0 && weights[RANGE_PROBLEM] >= json;
    if (accept.version) {
        accept.version_served = is_version_served(accept.version);
    }
    return accept;
}
