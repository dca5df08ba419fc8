#include "core/request.h"

#include <apr_general.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define SMALLEST_EXPONENT (-324)            /* of the first digit of a double, in powers of ten */
#define LARGEST_EXPONENT  (INT_MAX / 2 - 1) /* that PostgreSQL reads */
#define SCALE_MAX         16383             /* decimals of PostgreSQL's numeric */
#define EXPONENT_MAX      (LONG_MAX / 2)    /* no body has the digits to make up for more */

#define HOLDS_NUL    "the request body holds a NUL character"
#define OUT_OF_RANGE "the request body holds a number that is out of range"
#define TOO_DEEP                                                                                   \
    "the request body is nested more than " APR_STRINGIFY(USERS_REQUEST_DEPTH) " levels deep"

static bool is_deeper(json_t *value, int levels)
{
    size_t index;
    const char *key;
    json_t *member;

    if (!json_is_array(value) && !json_is_object(value)) {
        return false;
    }
    if (levels == 0) {
        return true;
    }
    json_array_foreach(value, index, member)
    {
        if (is_deeper(member, levels - 1)) {
            return true;
        }
    }
    json_object_foreach(value, key, member)
    {
        if (is_deeper(member, levels - 1)) {
            return true;
        }
    }
    return false;
}

/* Why jansson refused the bytes, as a sentence for the client; NULL: there was no memory. */
static const char *sentence_of(const json_error_t *error)
{
    switch (json_error_code(error)) {
    case json_error_unknown: /* it says nothing then */
    case json_error_out_of_memory:
        return NULL;
    case json_error_stack_overflow: /* beyond the parser's own limit, which is above ours */
        return TOO_DEEP;
    case json_error_invalid_utf8:
        return "the request body is not valid UTF-8";
    case json_error_null_character:
    case json_error_null_byte_in_key:
        return HOLDS_NUL;
    case json_error_duplicate_key:
        return "the request body names a member twice";
    case json_error_numeric_overflow:
        return OUT_OF_RANGE;
    default:
        return "the request body is not valid JSON";
    }
}

/* The end of the string that begins here, behind its quote. */
static char *skip_string(char *at)
{
    for (at++; *at != '"'; at++) {
        at += *at == '\\';
    }
    return at + 1;
}

/* The exponent that a number is written with, cut off where no number can have it. */
static long read_exponent(const char *at)
{
    long exponent = strtol(at, NULL, 10);

    return exponent < -EXPONENT_MAX ? -EXPONENT_MAX
                                    : (exponent > EXPONENT_MAX ? EXPONENT_MAX : exponent);
}

/* Is a number zero as a double, by jansson? Where memory runs out *unknown is set, and it is. */
static bool rounds_to_zero(const char *number, size_t length, bool *unknown)
{
    json_t *value = json_loadb(number, length, JSON_DECODE_ANY, NULL);
    bool zero = json_number_value(value) == 0;

    *unknown |= !value;
    json_decref(value);
    return zero;
}

/*
 * Read a number that jansson has accepted. Would it be zero as a double, and is not; or is it
 * written with more decimals, or a larger exponent, than PostgreSQL takes? A zero is never that:
 * since PostgreSQL would keep the decimals of its exponent, it is made a plain 0 with spaces behind
 * it. Returns where the number ends.
 */
static char *read_number(char *at, bool *out_of_range, bool *unknown)
{
    char *start = at + (*at == '-');
    const char *first = NULL; /* digit that is not 0 */
    const char *point = NULL;
    const char *digits_end;
    long exponent; /* of the first digit */
    long scale;

    for (at = start; *at == '.' || (*at >= '0' && *at <= '9'); at++) {
        point = *at == '.' ? at : point;
        first = !first && *at > '0' ? at : first;
    }
    digits_end = at;
    point = point ? point : at;
    scale = point < at ? (long)(at - point) - 1 : 0;
    exponent = first ? (long)(point - first) - (first < point) : 0;
    if (*at == 'e' || *at == 'E') {
        long written = read_exponent(at + 1);

        at += 1 + strspn(at + 1, "+-0123456789");
        exponent += written;
        scale -= written;
    }
    if (first) {
        *out_of_range =
            exponent < SMALLEST_EXPONENT || exponent > LARGEST_EXPONENT || scale > SCALE_MAX ||
            (exponent == SMALLEST_EXPONENT && rounds_to_zero(start, (size_t)(at - start), unknown));
    } else if (at > digits_end || scale > SCALE_MAX) {
        memset(start + 1, ' ', (size_t)(at - start) - 1);
    }
    return at;
}

/*
 * Is every number one that PostgreSQL takes, and as a double is not zero unless it is? The bytes
 * are an array or an object in JSON. *error says why not; NULL: memory ran out.
 */
static bool has_good_numbers(char *bytes, size_t length, const char **error)
{
    char *end = bytes + length;
    bool out_of_range = false;
    bool unknown = false;

    for (char *at = bytes; at < end && !out_of_range;) {
        if (*at == '"') {
            at = skip_string(at);
        } else if (*at == '-' || (*at >= '0' && *at <= '9')) {
            at = read_number(at, &out_of_range, &unknown);
        } else {
            at++;
        }
    }
    if (out_of_range) {
        *error = unknown ? NULL : OUT_OF_RANGE;
    }
    return !out_of_range;
}

json_t *users_request_load(char *bytes, size_t length, const char **error)
{
    json_error_t reason = {.line = 0}; /* jansson does not set all of it */
    json_t *body;

    if (memchr(bytes, '\0', length)) { /* jansson passes over one behind a literal */
        *error = HOLDS_NUL;
        return NULL;
    }
    /* A body that is a bare number or string is JSON too, but of the wrong shape. */
    body = json_loadb(bytes, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &reason);
    if (!body) {
        *error = sentence_of(&reason);
    } else if (is_deeper(body, USERS_REQUEST_DEPTH)) {
        *error = TOO_DEEP;
    } else if ((!json_is_array(body) && !json_is_object(body)) ||
               has_good_numbers(bytes, length, error)) {
        return body;
    }
    json_decref(body);
    return NULL;
}

json_t *users_request_parse(char *bytes, size_t length, const char **error)
{
    json_t *body = users_request_load(bytes, length, error);

    if (body && !json_is_object(json_object_get(body, "user"))) {
        *error = "the request body must be an object with an object \"user\"";
        json_decref(body);
        return NULL;
    }
    return body;
}
