#include "core/account.h"

#include "core/field.h"

#include <apr_strings.h>
#include <string.h>

#define UNKNOWN      USERS_FIELD_UNKNOWN
#define READ_ONLY    USERS_FIELD_READ_ONLY
#define REQUIRED     USERS_FIELD_REQUIRED
#define OPTIONAL     USERS_FIELD_OPTIONAL
#define NULL_CLEARS  USERS_FIELD_NULL_CLEARS
#define BLANK_NULLS  USERS_FIELD_BLANK_NULLS
#define BLANK_OMITS  USERS_FIELD_BLANK_OMITS
#define MISFIT_OMITS USERS_FIELD_MISFIT_OMITS
#define EMPTY_OMITS  USERS_FIELD_EMPTY_OMITS

#define UNKNOWN_FIELD "is not a known field"

/*
 * Every field: name, rule, what POST and PATCH do with it, options, and of a code its forms and its
 * fault. In the order in which faults are listed.
 */
/* clang-format off */
static const users_field fields[] = {
    {"fname", users_read_name, REQUIRED, OPTIONAL, 0, {NULL}, NULL},
    {"lname", users_read_name, REQUIRED, OPTIONAL, 0, {NULL}, NULL},
    {"email", users_read_email, BLANK_OMITS, OPTIONAL, 0, {NULL}, NULL},
    {"locale", users_read_code, MISFIT_OMITS, OPTIONAL, 0, /* ISO 639-1, 15924, 3166-1 or UN M.49 */
     {"aa", "aa-AA", "aa-000", "aa-Aaaa", "aa-Aaaa-AA", "aa-Aaaa-000"}, "is not a known locale"},
    {"city", users_read_text, BLANK_OMITS, NULL_CLEARS, 0, {NULL}, NULL},
    {"state", users_read_text, BLANK_OMITS, NULL_CLEARS, 0, {NULL}, NULL},
    {"zip", users_read_text, BLANK_OMITS, NULL_CLEARS, 0, {NULL}, NULL},
    {"c_sftp_pass", users_read_boolean, BLANK_OMITS, OPTIONAL, 0, {NULL}, NULL},
    {"country", users_read_code, BLANK_OMITS, OPTIONAL, 0, /* ISO 3166-1 alpha-2 */
     {"AA"}, "is not a known country"},
    {"address1", users_read_text, BLANK_OMITS, NULL_CLEARS, 0, {NULL}, NULL},
    {"address2", users_read_text, BLANK_OMITS, NULL_CLEARS, 0, {NULL}, NULL},
    {"company_name", users_read_text, BLANK_OMITS, NULL_CLEARS, 0, {NULL}, NULL},
    {"phone", users_read_text, BLANK_OMITS, NULL_CLEARS, 0, {NULL}, NULL},
    {"currency", users_read_code, BLANK_OMITS, OPTIONAL, USERS_FIELD_OBJECT, /* ISO 4217 */
     {"AAA"}, "is not a known currency"},
    {"merge_labels", users_read_labels, EMPTY_OMITS, EMPTY_OMITS, USERS_FIELD_IN_BODY, {NULL}, NULL},
    {"provider", users_read_provider, BLANK_NULLS, UNKNOWN, USERS_FIELD_TOP_LEVEL, {NULL}, NULL},
    {"provider_server", users_read_name, REQUIRED, UNKNOWN, USERS_FIELD_TOP_LEVEL, {NULL}, NULL},
    {"provider_username", users_read_name, REQUIRED, UNKNOWN, USERS_FIELD_TOP_LEVEL, {NULL}, NULL},
    {"external_id", users_read_text, BLANK_OMITS, READ_ONLY, 0, {NULL}, NULL},
    {"labels", users_read_object, EMPTY_OMITS, UNKNOWN, USERS_FIELD_TOP_LEVEL | USERS_FIELD_IN_BODY,
     {NULL}, NULL},
    {"id", NULL, READ_ONLY, READ_ONLY, 0, {NULL}, NULL},
    {"timezone", NULL, READ_ONLY, READ_ONLY, 0, {NULL}, NULL},
    {"vat", NULL, READ_ONLY, READ_ONLY, 0, {NULL}, NULL},
    {"created_at", NULL, READ_ONLY, READ_ONLY, 0, {NULL}, NULL},
    {"updated_at", NULL, READ_ONLY, READ_ONLY, 0, {NULL}, NULL},
    {"billing_plan", NULL, READ_ONLY, READ_ONLY, 0, {NULL}, NULL},
    {"services", NULL, READ_ONLY, READ_ONLY, 0, {NULL}, NULL},
    {"quota", NULL, READ_ONLY, READ_ONLY, 0, {NULL}, NULL},
    {"unprocessed_usage", NULL, READ_ONLY, READ_ONLY, 0, {NULL}, NULL},
};
/* clang-format on */

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

bool users_account_is_code(const char *name, const char *text)
{
    size_t place = place_of(name);
    char code[USERS_CODE_LENGTH];

    return place < FIELD_COUNT && fields[place].forms[0] &&
           users_code_normalize(&fields[place], text, code) && strcmp(text, code) == 0;
}

bool users_account_is_owners(const char *name)
{
    size_t place = place_of(name);

    return place < FIELD_COUNT && fields[place].update != UNKNOWN &&
           fields[place].update != READ_ONLY;
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

    for (; *key; key++) {
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

static users_presence kind_of(const users_field *f, users_account_purpose purpose)
{
    return purpose == USERS_ACCOUNT_CREATE ? f->create : f->update;
}

/* Is a member as good as missing? */
static bool is_omitted(const json_t *value, users_presence kind)
{
    switch (kind) {
    case BLANK_NULLS:
    case BLANK_OMITS:
    case MISFIT_OMITS:
        return !value || users_is_unset(value);
    case EMPTY_OMITS:
        return !value || json_is_null(value) ||
               (json_is_array(value) && json_array_size(value) == 0);
    default:
        return !value;
    }
}

/* The member that sets a field, in an object; NULL where that leaves it out. */
static json_t *member_of(const json_t *object, const users_field *f, users_presence kind)
{
    json_t *value = json_object_get(object, f->name);
    json_t *code = f->options & USERS_FIELD_OBJECT ? json_object_get(value, "code") : NULL;

    value = code ? code : value;
    return is_omitted(value, kind) ? NULL : value;
}

/* Judge what a field is given, value: NULL where it is missing. False where memory ran out. */
static bool judge(const reading *r, const users_field *f, users_presence kind, json_t *value,
                  const char *parent)
{
    const char *fault = NULL;
    json_t *good;

    if (!value && kind != REQUIRED && kind != BLANK_NULLS) {
        return true;
    }
    if (json_is_null(value) && kind == NULL_CLEARS) {
        return json_object_set(r->result, f->name, value) == 0;
    }
    good = f->read(f, value ? value : json_null(), r->strict, &fault);
    if (fault) {
        if (kind != MISFIT_OMITS || fault != f->fault) {
            add_fault(r, parent, f->name, fault);
        }
        return true;
    }
    if (f->options & USERS_FIELD_IN_BODY) {
        json_decref(good);
        return true;
    }
    return json_object_set_new(r->result, f->name, good) == 0;
}

/* Find and judge the members that set a field. False where memory ran out. */
static bool read_field(const reading *r, const users_field *f)
{
    users_presence kind = kind_of(f, r->purpose);
    json_t *inner = member_of(r->user, f, kind);
    json_t *outer = f->options & USERS_FIELD_TOP_LEVEL ? member_of(r->body, f, kind) : NULL;

    if (kind == UNKNOWN || kind == READ_ONLY) {
        if (r->strict && inner) {
            add_fault(r, "/user", f->name, kind == READ_ONLY ? "is read-only" : UNKNOWN_FIELD);
        }
        return true;
    }
    if (inner && outer && !json_equal(inner, outer)) {
        add_fault(r, "/user", f->name, "is given twice with different values");
        return true;
    }
    if (!inner && outer) {
        return judge(r, f, kind, outer, "");
    }
    return judge(r, f, kind, inner, "/user");
}

/* Members of "user" that no operation knows. */
static void reject_unknown_fields(const reading *r)
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
        reject_unknown_fields(&r);
    }
    return r.result;
}

bool users_account_needs_body(const json_t *body, users_account_purpose purpose)
{
    const json_t *user = json_object_get(body, "user");

    for (size_t i = 0; i < FIELD_COUNT; i++) {
        const users_field *f = &fields[i];
        users_presence kind = kind_of(f, purpose);

        if (f->options & USERS_FIELD_IN_BODY && kind != UNKNOWN &&
            (member_of(user, f, kind) ||
             (f->options & USERS_FIELD_TOP_LEVEL && member_of(body, f, kind)))) {
            return true;
        }
    }
    return false;
}

bool users_account_leave_out(json_t *body, const json_t *account, const apr_array_header_t *faults)
{
    json_t *user = json_object_get(body, "user");
    size_t before = json_object_size(user);

    for (int i = 0; i < faults->nelts; i++) {
        size_t place = place_of(APR_ARRAY_IDX(faults, i, users_fault).field);
        const users_field *f = place < FIELD_COUNT ? &fields[place] : NULL;
        const json_t *own = f && kind_of(f, USERS_ACCOUNT_UPDATE) != READ_ONLY
                                ? member_of(account, f, OPTIONAL)
                                : NULL;

        if (own && json_equal(own, member_of(user, f, OPTIONAL))) {
            json_object_del(user, f->name);
        }
    }
    return json_object_size(user) < before;
}

void users_fault_add(apr_array_header_t *faults, const char *field, const char *text,
                     const char *pointer)
{
    APR_ARRAY_PUSH(faults, users_fault) = (users_fault){
        .field = apr_pstrdup(faults->pool, field),
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
