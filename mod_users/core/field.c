#include "core/field.h"

#include "core/domain.h"
#include "core/unicode.h"

#include <apr_general.h>
#include <string.h>

#define TEXT_LIMIT  255 /* characters (code points) */
#define EMAIL_LIMIT 254 /* octets: what RFC 5321 leaves of a path of 256 */

#define DEFAULT_PROVIDER "cpanel"

/* Characters: ASCII only, whatever the locale of the process. */

static bool is_letter(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static char upper(char c)
{
    return (char)(is_letter(c) ? c & ~' ' : c);
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

/* C0, DEL; C1, which UTF-8 begins with C2 */
static bool is_control(const char *at)
{
    unsigned char first = (unsigned char)at[0];

    return first < ' ' || first == 0x7F || (first == 0xC2 && (unsigned char)at[1] < 0xA0);
}

bool users_is_unset(const json_t *value)
{
    return json_is_null(value) ||
           (json_is_string(value) &&
            !users_trim(users_span_of(json_string_value(value)), users_white_space).length);
}

/* Text */

static const char *string_of(const json_t *value, const char **fault)
{
    if (!json_is_string(value)) {
        *fault = json_is_null(value) ? USERS_CANT_BE_BLANK : "must be a string";
        return NULL;
    }
    return json_string_value(value);
}

static json_t *limited(users_span text, const char **fault)
{
    if (characters(text) > TEXT_LIMIT) {
        *fault = "is too long (maximum is " APR_STRINGIFY(TEXT_LIMIT) " characters)";
        return NULL;
    }
    return json_stringn(text.start, text.length);
}

json_t *users_read_text(const users_field *field, json_t *value, const char **fault)
{
    const char *text = string_of(value, fault);

    (void)field;
    return text ? limited(users_span_of(text), fault) : NULL;
}

json_t *users_read_name(const users_field *field, json_t *value, const char **fault)
{
    const char *text = string_of(value, fault);
    users_span name = users_trim(users_span_of(text), users_white_space);

    (void)field;
    if (text && !name.length) {
        *fault = USERS_CANT_BE_BLANK;
    }
    return name.length ? limited(name, fault) : NULL;
}

json_t *users_read_provider(const users_field *field, json_t *value, const char **fault)
{
    char lowered[TEXT_LIMIT * 4 + 1]; /* a character has at most 4 octets */
    json_t *name = NULL;
    size_t length;

    if (json_is_null(value)) {
        return json_string(DEFAULT_PROVIDER);
    }
    name = users_read_name(field, value, fault);
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

/* Email addresses */

static bool has_space_or_control(const char *text)
{
    for (users_span rest = users_span_of(text); rest.length > 0; rest.start++, rest.length--) {
        if (is_control(rest.start) || users_white_space(rest, false) > 0) {
            return true;
        }
    }
    return false;
}

static bool is_email(const char *text)
{
    const char *at = strchr(text, '@');

    return at && at != text && !strchr(at + 1, '@') && users_is_domain(at + 1) &&
           !has_space_or_control(text);
}

json_t *users_read_email(const users_field *field, json_t *value, const char **fault)
{
    const char *text = string_of(value, fault);

    (void)field;
    if (!text) {
        return NULL;
    }
    if (users_is_unset(value)) {
        *fault = USERS_CANT_BE_BLANK;
    } else if (strlen(text) > EMAIL_LIMIT) {
        *fault = "is too long (maximum is " APR_STRINGIFY(EMAIL_LIMIT) " bytes)";
    } else if (!is_email(text)) {
        *fault = "is invalid";
    } else {
        return json_incref(value);
    }
    return NULL;
}

/* Codes */

static bool fits(const char *text, const char *form, char *code)
{
    for (; *form; form++, text++, code++) {
        if (is_letter(*form) ? !is_letter(*text) : *text != *form) {
            return false;
        }
        *code = (char)(*form == 'a' ? lower(*text) : upper(*text));
    }
    *code = '\0';
    return !*text;
}

bool users_code_normalize(const users_field *field, const char *text, char code[USERS_CODE_LENGTH])
{
    return fits(text, field->forms[0], code) ||
           (field->forms[1] && fits(text, field->forms[1], code));
}

json_t *users_read_code(const users_field *field, json_t *value, const char **fault)
{
    const char *text = string_of(value, fault);
    char code[USERS_CODE_LENGTH];

    if (!text) {
        return NULL;
    }
    if (!users_code_normalize(field, text, code)) {
        *fault = field->fault;
        return NULL;
    }
    return json_string(code);
}

json_t *users_read_code_or_object(const users_field *field, json_t *value, const char **fault)
{
    json_t *code = json_is_object(value) ? json_object_get(value, "code") : value;

    if (json_is_object(value) && !json_is_string(code)) {
        *fault = field->fault;
        return NULL;
    }
    return users_read_code(field, code, fault);
}

/* Other types */

json_t *users_read_boolean(const users_field *field, json_t *value, const char **fault)
{
    (void)field;
    if (!json_is_boolean(value)) {
        *fault = json_is_null(value) ? USERS_CANT_BE_BLANK : "must be a boolean";
        return NULL;
    }
    return json_incref(value);
}

json_t *users_read_object(const users_field *field, json_t *value, const char **fault)
{
    (void)field;
    if (!json_is_object(value)) {
        *fault = "must be an object";
        return NULL;
    }
    return json_incref(value);
}
