#include "core/account.h"

#include <apr_cstr.h>
#include <apr_strings.h>
#include <string.h>

#define TEXT_LIMIT  255 /* characters (code points) */
#define EMAIL_LIMIT 254 /* octets: what RFC 5321 leaves of a path of 256 */

#define DEFAULT_PROVIDER "cpanel"

#define CANT_BE_BLANK "can't be blank"
#define UNKNOWN_FIELD "is not a known field"

/* A stretch of a text, not terminated. */
typedef struct {
    const char *start;
    size_t length;
} span;

/* Unicode's White_Space in UTF-8, whose octets tell where a character begins: it can be looked for
   at either end of a text. */
static const char *const white_space[] = {
    "\t",           "\n",           "\v",           "\f",           "\r",           " ",
    "\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80", "\xE2\x80\x80", "\xE2\x80\x81", "\xE2\x80\x82",
    "\xE2\x80\x83", "\xE2\x80\x84", "\xE2\x80\x85", "\xE2\x80\x86", "\xE2\x80\x87", "\xE2\x80\x88",
    "\xE2\x80\x89", "\xE2\x80\x8A", "\xE2\x80\xA8", "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F",
    "\xE3\x80\x80",
};

/* The octets of the white space that text begins with, or ends with; 0 where it does not. */
static size_t space_at(span text, bool end)
{
    for (size_t i = 0; i < sizeof(white_space) / sizeof(*white_space); i++) {
        size_t length = strlen(white_space[i]);
        if (length <= text.length) {
            const char *at = end ? text.start + text.length - length : text.start;
            if (memcmp(at, white_space[i], length) == 0) {
                return length;
            }
        }
    }
    return 0;
}

static span trimmed(const char *text)
{
    span rest = {text, strlen(text)};
    size_t length;
    while ((length = space_at(rest, false)) > 0) {
        rest.start += length;
        rest.length -= length;
    }
    while ((length = space_at(rest, true)) > 0) {
        rest.length -= length;
    }
    return rest;
}

static size_t characters(span text) /* of UTF-8: every octet but the continuations */
{
    size_t count = 0;
    for (size_t i = 0; i < text.length; i++) {
        count += ((unsigned char)text.start[i] & 0xC0) != 0x80;
    }
    return count;
}

/* ASCII only, whatever the locale of the process. */
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

/*
 * The rules. Each returns a new reference to the normalised value, or NULL: with *fault set
 * where the value is bad, without where memory ran out.
 */
typedef json_t *rule(json_t *value, const char **fault);

static const char *string_of(const json_t *value, const char **fault)
{
    if (!json_is_string(value)) {
        *fault = json_is_null(value) ? CANT_BE_BLANK : "must be a string";
        return NULL;
    }
    return json_string_value(value);
}

static json_t *limited(span text, const char **fault)
{
    if (characters(text) > TEXT_LIMIT) {
        *fault = "is too long (maximum is " APR_STRINGIFY(TEXT_LIMIT) " characters)";
        return NULL;
    }
    return json_stringn(text.start, text.length);
}

static json_t *read_text(json_t *value, const char **fault)
{
    const char *text = string_of(value, fault);
    return text != NULL ? limited((span){text, strlen(text)}, fault) : NULL;
}

static json_t *read_name(json_t *value, const char **fault)
{
    const char *text = string_of(value, fault);
    if (text == NULL) {
        return NULL;
    }
    span name = trimmed(text);
    if (name.length == 0) {
        *fault = CANT_BE_BLANK;
        return NULL;
    }
    return limited(name, fault);
}

static json_t *read_provider(json_t *value, const char **fault)
{
    if (json_is_null(value)) {
        return json_string(DEFAULT_PROVIDER);
    }
    json_t *name = read_name(value, fault);
    if (name == NULL) {
        return NULL;
    }
    char lowered[TEXT_LIMIT * 4 + 1]; /* a character has at most 4 octets */
    size_t length = json_string_length(name);
    for (size_t i = 0; i < length; i++) {
        lowered[i] = lower(json_string_value(name)[i]);
    }
    json_decref(name);
    return json_stringn(lowered, length);
}

/* C0, DEL; C1, which UTF-8 begins with C2 */
static bool is_control(const char *at)
{
    unsigned char first = (unsigned char)at[0];
    return first < ' ' || first == 0x7F || (first == 0xC2 && (unsigned char)at[1] < 0xA0);
}

static bool has_space_or_control(const char *text)
{
    for (span rest = {text, strlen(text)}; rest.length > 0; rest.start++, rest.length--) {
        if (is_control(rest.start) || space_at(rest, false) > 0) {
            return true;
        }
    }
    return false;
}

/* Labels with a dot between them, or localhost. */
static bool is_domain(const char *text)
{
    if (strchr(text, '.') == NULL) {
        return apr_cstr_casecmp(text, "localhost") == 0;
    }
    return text[0] != '.' && text[strlen(text) - 1] != '.' && strstr(text, "..") == NULL;
}

static bool is_email(const char *text)
{
    const char *at = strchr(text, '@');
    return at != NULL && at != text && strchr(at + 1, '@') == NULL && is_domain(at + 1) &&
           !has_space_or_control(text);
}

static json_t *read_email(json_t *value, const char **fault)
{
    const char *text = string_of(value, fault);
    if (text == NULL) {
        return NULL;
    }
    if (trimmed(text).length == 0) {
        *fault = CANT_BE_BLANK;
    } else if (strlen(text) > EMAIL_LIMIT) {
        *fault = "is too long (maximum is " APR_STRINGIFY(EMAIL_LIMIT) " bytes)";
    } else if (!is_email(text)) {
        *fault = "is invalid";
    } else {
        return json_incref(value);
    }
    return NULL;
}

/*
 * Copy text as far as it fits a pattern, in which "a" and "A" stand for a letter, to be put in
 * that case, and anything else for itself. False where it does not fit.
 */
static bool fits(const char *text, const char *pattern, char *copy)
{
    for (; *pattern != '\0'; pattern++, text++, copy++) {
        bool letter = is_letter(*pattern);
        if (letter ? !is_letter(*text) : *text != *pattern) {
            return false;
        }
        *copy = (char)(*pattern == 'a' ? lower(*text) : upper(*text));
    }
    *copy = '\0';
    return *text == '\0';
}

static json_t *read_code(json_t *value, const char *pattern, const char *unknown,
                         const char **fault)
{
    const char *text = string_of(value, fault);
    char code[sizeof("AAA")];
    if (text == NULL) {
        return NULL;
    }
    if (!fits(text, pattern, code)) {
        *fault = unknown;
        return NULL;
    }
    return json_string(code);
}

static json_t *read_country(json_t *value, const char **fault) /* ISO 3166-1 alpha-2 */
{
    return read_code(value, "AA", "is not a known country", fault);
}

static json_t *read_currency(json_t *value, const char **fault) /* ISO 4217 */
{
    static const char unknown[] = "is not a known currency";
    if (!json_is_object(value)) {
        return read_code(value, "AAA", unknown, fault);
    }
    json_t *code = json_object_get(value, "code"); /* clients send back what GET shows */
    if (!json_is_string(code)) {
        *fault = unknown;
        return NULL;
    }
    return read_code(code, "AAA", unknown, fault);
}

static json_t *read_locale(json_t *value, const char **fault) /* ISO 639-1, ISO 3166-1 */
{
    const char *text = string_of(value, fault);
    char locale[sizeof("aa-AA")];
    if (text == NULL) {
        return NULL;
    }
    if (!fits(text, "aa", locale) && !fits(text, "aa-AA", locale)) {
        *fault = "is not a known locale";
        return NULL;
    }
    return json_string(locale);
}

static json_t *read_boolean(json_t *value, const char **fault)
{
    if (!json_is_boolean(value)) {
        *fault = json_is_null(value) ? CANT_BE_BLANK : "must be a boolean";
        return NULL;
    }
    return json_incref(value);
}

static json_t *read_object(json_t *value, const char **fault)
{
    if (!json_is_object(value)) {
        *fault = "must be an object";
        return NULL;
    }
    return json_incref(value);
}

/* What becomes of a field in an operation. */
typedef enum {
    UNKNOWN,      /* not its field: ignored, or a fault where the client is strict */
    READ_ONLY,    /* the same, since only GET shows it */
    REQUIRED,     /* the rule judges null, and what is missing as null */
    OPTIONAL,     /* the rule judges null */
    NULL_CLEARS,  /* null goes to the database */
    NULL_OMITS,   /* null is as good as missing */
    BLANK_OMITS,  /* null and a blank string are */
    MISFIT_OMITS, /* null and a string that breaks the rule are */
} presence;

enum {
    TOP_LEVEL = 1, /* may stand beside "user" as well as in it */
    STAYS = 2,     /* judged only, the database reads it from the body */
};

typedef struct {
    const char *name;
    rule *read;
    presence create;
    presence update;
    unsigned options;
} field;

/* In the order in which faults are told. */
static const field fields[] = {
    {"fname", read_name, REQUIRED, OPTIONAL, 0},
    {"lname", read_name, REQUIRED, OPTIONAL, 0},
    {"email", read_email, BLANK_OMITS, OPTIONAL, 0},
    {"locale", read_locale, MISFIT_OMITS, OPTIONAL, 0},
    {"city", read_text, NULL_CLEARS, NULL_CLEARS, 0},
    {"state", read_text, NULL_CLEARS, NULL_CLEARS, 0},
    {"zip", read_text, NULL_CLEARS, NULL_CLEARS, 0},
    {"c_sftp_pass", read_boolean, NULL_OMITS, OPTIONAL, 0},
    {"country", read_country, NULL_OMITS, OPTIONAL, 0},
    {"address1", read_text, NULL_CLEARS, NULL_CLEARS, 0},
    {"address2", read_text, NULL_CLEARS, NULL_CLEARS, 0},
    {"company_name", read_text, NULL_CLEARS, NULL_CLEARS, 0},
    {"phone", read_text, NULL_CLEARS, NULL_CLEARS, 0},
    {"currency", read_currency, NULL_OMITS, OPTIONAL, 0},
    {"merge_labels", read_object, OPTIONAL, OPTIONAL, STAYS},
    {"provider", read_provider, REQUIRED, UNKNOWN, TOP_LEVEL},
    {"provider_server", read_name, REQUIRED, UNKNOWN, TOP_LEVEL},
    {"provider_username", read_name, REQUIRED, UNKNOWN, TOP_LEVEL},
    {"external_id", read_text, BLANK_OMITS, READ_ONLY, 0},
    {"labels", read_object, OPTIONAL, UNKNOWN, TOP_LEVEL | STAYS},
    {"id", NULL, READ_ONLY, READ_ONLY, 0},
    {"timezone", NULL, READ_ONLY, READ_ONLY, 0},
    {"vat", NULL, READ_ONLY, READ_ONLY, 0},
    {"created_at", NULL, READ_ONLY, READ_ONLY, 0},
    {"updated_at", NULL, READ_ONLY, READ_ONLY, 0},
    {"billing_plan", NULL, READ_ONLY, READ_ONLY, 0},
    {"services", NULL, READ_ONLY, READ_ONLY, 0},
    {"quota", NULL, READ_ONLY, READ_ONLY, 0},
    {"unprocessed_usage", NULL, READ_ONLY, READ_ONLY, 0},
};

#define FIELD_COUNT (sizeof(fields) / sizeof(*fields))

/* The place of a field in the table; FIELD_COUNT for what is none. */
static size_t place_of(const char *name)
{
    size_t place = 0;
    while (place < FIELD_COUNT && strcmp(fields[place].name, name) != 0) {
        place++;
    }
    return place;
}

/* What is being read, and into what. */
typedef struct {
    json_t *body;
    json_t *user;
    users_account_purpose purpose;
    bool strict;
    apr_array_header_t *faults;
    json_t *result;
} reading;

/* A key as a reference token of RFC 6901 section 4. */
static const char *reference_token(const char *key, apr_pool_t *pool)
{
    char *token = apr_palloc(pool, strlen(key) * 2 + 1);
    char *end = token;
    for (; *key != '\0'; key++) {
        if (*key == '~' || *key == '/') {
            *end++ = '~';
            *end++ = *key == '~' ? '0' : '1';
        } else {
            *end++ = *key;
        }
    }
    *end = '\0';
    return token;
}

static void add_fault(const reading *r, const char *parent, const char *name, const char *text)
{
    apr_pool_t *pool = r->faults->pool;
    users_fault_add(r->faults, name, text,
                    apr_pstrcat(pool, parent, "/", reference_token(name, pool), NULL));
}

static bool is_omitted(const json_t *value, presence kind)
{
    if (value == NULL) {
        return kind != REQUIRED;
    }
    if (json_is_null(value)) {
        return kind == NULL_OMITS || kind == BLANK_OMITS || kind == MISFIT_OMITS;
    }
    return kind == BLANK_OMITS && json_is_string(value) &&
           trimmed(json_string_value(value)).length == 0;
}

/* Judge what a field is given, value: NULL where it is missing. False where memory ran out. */
static bool judge(const reading *r, const field *f, presence kind, json_t *value,
                  const char *parent)
{
    if (is_omitted(value, kind)) {
        return true;
    }
    if (json_is_null(value) && kind == NULL_CLEARS) {
        return json_object_set(r->result, f->name, value) == 0;
    }
    const char *fault = NULL;
    json_t *good = f->read(value != NULL ? value : json_null(), &fault);
    if (fault != NULL) {
        if (kind != MISFIT_OMITS || !json_is_string(value)) {
            add_fault(r, parent, f->name, fault);
        }
        return true;
    }
    if ((f->options & STAYS) != 0) {
        json_decref(good);
        return true;
    }
    return json_object_set_new(r->result, f->name, good) == 0;
}

/* Find and judge the members that set a field. False where memory ran out. */
static bool read_field(const reading *r, const field *f)
{
    presence kind = r->purpose == USERS_ACCOUNT_CREATE ? f->create : f->update;
    json_t *inner = json_object_get(r->user, f->name);
    if (kind == UNKNOWN || kind == READ_ONLY) {
        if (r->strict && inner != NULL) {
            add_fault(r, "/user", f->name, kind == READ_ONLY ? "is read-only" : UNKNOWN_FIELD);
        }
        return true;
    }
    json_t *outer = (f->options & TOP_LEVEL) != 0 ? json_object_get(r->body, f->name) : NULL;
    if (inner != NULL && outer != NULL && !json_equal(inner, outer)) {
        add_fault(r, "/user", f->name, "is given twice with different values");
        return true;
    }
    if (inner == NULL && outer != NULL) {
        return judge(r, f, kind, outer, "");
    }
    return judge(r, f, kind, inner, "/user");
}

/* Members of "user" that no operation knows. */
static void refuse_strangers(const reading *r)
{
    const char *name;
    json_t *value;
    json_object_foreach(r->user, name, value)
    {
        if (place_of(name) == FIELD_COUNT) {
            add_fault(r, "/user", name, UNKNOWN_FIELD);
        }
    }
}

json_t *users_account_read(json_t *body, users_account_purpose purpose, bool strict,
                           apr_array_header_t *faults)
{
    const reading r = {.body = body,
                       .user = json_object_get(body, "user"),
                       .purpose = purpose,
                       .strict = strict,
                       .faults = faults,
                       .result = json_object()};
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        if (!read_field(&r, &fields[i])) {
            json_decref(r.result);
            return NULL;
        }
    }
    if (strict) {
        refuse_strangers(&r);
    }
    return r.result;
}

void users_fault_add(apr_array_header_t *faults, const char *field_name, const char *text,
                     const char *pointer)
{
    APR_ARRAY_PUSH(faults, users_fault) = (users_fault){
        .field = apr_pstrdup(faults->pool, field_name),
        .text = apr_pstrdup(faults->pool, text),
        .pointer = apr_pstrdup(faults->pool, pointer),
    };
}

/* An insertion sort: stable, and quick on faults that are nearly in order already. */
void users_fault_sort(apr_array_header_t *faults)
{
    users_fault *list = (users_fault *)faults->elts;
    for (int i = 1; i < faults->nelts; i++) {
        users_fault fault = list[i];
        size_t place = place_of(fault.field);
        int j = i;
        for (; j > 0 && place_of(list[j - 1].field) > place; j--) {
            list[j] = list[j - 1];
        }
        list[j] = fault;
    }
}
