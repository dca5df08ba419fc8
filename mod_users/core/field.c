#include "core/field.h"

#include "core/address.h"
#include "core/json.h"
#include "core/unicode.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_LIMIT  255   /* characters (code points) */
#define EMAIL_LIMIT 254   /* octets: what RFC 5321 leaves of a path of 256 */
#define LABELS_MAX  16384 /* octets, as text of jsonb: users.faults in contract.sql has the same */

/* No longer text becomes an address in Normalisation Form C, which takes time by the square. */
#define UNNORMALIZED_LIMIT 1270 /* octets: five times as many */

#define EMAIL_TOO_LONG   "is too long (maximum is " APR_STRINGIFY(EMAIL_LIMIT) " bytes)"
#define DEFAULT_PROVIDER "cpanel"

/* Characters: ASCII only, whatever the locale of the process. */

static bool is_letter(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static char lower(char c)
{
    return (char)(is_letter(c) ? c | ' ' : c);
}

static size_t characters(users_span text) /* of UTF-8: every octet but the continuations */
{
    size_t count = 0;

    for (size_t i = 0; i < text.length; i++) {
        count += ((unsigned char)text.start[i] & 0xC0) != 0x80;
    }
    return count;
}

bool users_is_unset(const json_t *value)
{
    return json_is_null(value) ||
           (json_is_string(value) && users_is_blank(users_span_of(json_string_value(value))));
}

/* Text */

#define INTEGER_LENGTH 24 /* of a 64-bit integer in decimal, its NUL included */

/* The text of a value, which is the value's or in number. */
static const char *text_of(const json_t *value, bool strict, char number[INTEGER_LENGTH],
                           const char **fault)
{
    if (json_is_integer(value) && !strict) {
        apr_snprintf(number, INTEGER_LENGTH, "%" APR_INT64_T_FMT,
                     (apr_int64_t)json_integer_value(value));
        return number;
    }
    if (!json_is_string(value)) {
        *fault = json_is_null(value) ? USERS_CANT_BE_BLANK : "must be a string";
        return NULL;
    }
    return json_string_value(value);
}

static json_t *judge_text(users_span text, const char **fault)
{
    if (users_has_control(text)) {
        *fault = "can't have control characters";
    } else if (characters(text) > TEXT_LIMIT) {
        *fault = "is too long (maximum is " APR_STRINGIFY(TEXT_LIMIT) " characters)";
    } else {
        return json_stringn(text.start, text.length);
    }
    return NULL;
}

json_t *users_read_text(const users_field *field, json_t *value, bool strict, const char **fault)
{
    char number[INTEGER_LENGTH];
    const char *text = text_of(value, strict, number, fault);

    (void)field;
    return text ? judge_text(users_span_of(text), fault) : NULL;
}

json_t *users_read_name(const users_field *field, json_t *value, bool strict, const char **fault)
{
    char number[INTEGER_LENGTH];
    const char *text = text_of(value, strict, number, fault);

    (void)field;
    if (!text) {
        return NULL;
    }
    if (users_is_blank(users_span_of(text))) {
        *fault = USERS_CANT_BE_BLANK;
        return NULL;
    }
    return judge_text(users_trim(users_span_of(text), users_white_space), fault);
}

json_t *users_read_provider(const users_field *field, json_t *value, bool strict,
                            const char **fault)
{
    char lowered[TEXT_LIMIT * 4 + 1]; /* a character has at most 4 octets */
    json_t *name = NULL;
    size_t length;

    if (json_is_null(value)) {
        return json_string(DEFAULT_PROVIDER);
    }
    name = users_read_name(field, value, strict, fault);
    if (!name) {
        return NULL;
    }
    length = json_string_length(name);
    for (size_t i = 0; i < length; i++) {
        lowered[i] = lower(json_string_value(name)[i]);
    }
    json_decref(name);
    return json_stringn(lowered, length);
}

/* text: in Normalisation Form C */
static json_t *judge_email(const char *text, const char **fault)
{
    if (strlen(text) > EMAIL_LIMIT) {
        *fault = EMAIL_TOO_LONG;
    } else if (!users_is_address(text)) {
        *fault = "is invalid";
    } else {
        return json_string(text);
    }
    return NULL;
}

json_t *users_read_email(const users_field *field, json_t *value, bool strict, const char **fault)
{
    char number[INTEGER_LENGTH];
    const char *text = text_of(value, strict, number, fault);
    json_t *email = NULL;
    users_span trimmed;
    char *normal;

    (void)field;
    if (!text) {
        return NULL;
    }
    trimmed = users_trim(users_span_of(text), users_white_space);
    if (users_is_blank(trimmed)) {
        *fault = USERS_CANT_BE_BLANK;
    } else if (trimmed.length > UNNORMALIZED_LIMIT) {
        *fault = EMAIL_TOO_LONG;
    } else {
        normal = users_normalize(trimmed);
        email = normal ? judge_email(normal, fault) : NULL;
        free(normal);
    }
    return email;
}

/* Codes */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Put c into the form's case. NUL: it is not what the form has there. */
static char fit(char c, char form)
{
    switch (form) {
    case 'a':
        return (char)(is_letter(c) ? c | ' ' : '\0');
    case 'A':
        return (char)(is_letter(c) ? c & ~' ' : '\0');
    case '0':
        return (char)(is_digit(c) ? c : '\0');
    default:
        return (char)(c == '-' || c == '_' ? '-' : '\0');
    }
}

static bool fits(const char *text, const char *form, char *code)
{
    for (; *form; form++, text++, code++) {
        *code = fit(*text, *form);
        if (!*code) {
            return false;
        }
    }
    *code = '\0';
    return !*text;
}

bool users_code_normalize(const users_field *field, const char *text, char code[USERS_CODE_LENGTH])
{
    for (size_t i = 0; i < USERS_CODE_FORMS && field->forms[i]; i++) {
        if (fits(text, field->forms[i], code)) {
            return true;
        }
    }
    return false;
}

json_t *users_read_code(const users_field *field, json_t *value, bool strict, const char **fault)
{
    char number[INTEGER_LENGTH];
    char code[USERS_CODE_LENGTH];
    const char *text = text_of(value, strict, number, fault);

    if (!text) {
        return NULL;
    }
    if (!users_code_normalize(field, text, code)) {
        *fault = field->fault;
        return NULL;
    }
    return json_string(code);
}

/* Other types */

/* -1: it is none */
static int boolean_of(const json_t *value)
{
    static const char *const names[] = {"0", "false", "1", "true"};
    const char *text = json_string_value(value);

    if (json_is_integer(value) && json_integer_value(value) >= 0 &&
        json_integer_value(value) <= 1) {
        return (int)json_integer_value(value);
    }
    for (int i = 0; text && i < 4; i++) {
        if (strcmp(text, names[i]) == 0) {
            return i / 2;
        }
    }
    return -1;
}

json_t *users_read_boolean(const users_field *field, json_t *value, bool strict, const char **fault)
{
    int boolean = strict ? -1 : boolean_of(value);

    (void)field;
    if (json_is_boolean(value)) {
        return json_incref(value);
    }
    if (boolean < 0) {
        *fault = json_is_null(value) ? USERS_CANT_BE_BLANK : "must be a boolean";
        return NULL;
    }
    return json_boolean(boolean);
}

json_t *users_read_object(const users_field *field, json_t *value, bool strict, const char **fault)
{
    (void)field;
    (void)strict;
    if (!json_is_object(value)) {
        *fault = "must be an object";
        return NULL;
    }
    return json_incref(value);
}

json_t *users_read_labels(const users_field *field, json_t *value, bool strict, const char **fault)
{
    json_t *object = users_read_object(field, value, strict, fault);
    const char *name;
    json_t *label;
    size_t length = 0;

    json_object_foreach(object, name, label)
    {
        length += json_is_null(label) ? 0 : strlen(name) + users_json_least_length(label);
    }
    if (length > LABELS_MAX) {
        json_decref(object);
        *fault = "is too large (maximum is 16 KiB)";
        return NULL;
    }
    return object;
}
