#include "usersctl/records.h"

#include "core/json.h"
#include "core/request.h"
#include "core/unicode.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define INPUT_SIZE 65536
#define END        (-1)
#define BOM        "\xEF\xBB\xBF"

#define TOO_LONG "it is too long (maximum is " APR_STRINGIFY(USERS_RECORD_MAX) " bytes)"
#define BODY     "the request body" /* what sentences of users_request_load() begin with */

struct users_records {
    apr_pool_t *pool;     /* of a record */
    apr_pool_t *lasting;  /* of all */
    unsigned char *input; /* INPUT_SIZE */
    size_t filled;
    size_t at;
    apr_int64_t line; /* which is being read */
    int error;        /* errno of reading; 0: none */
    bool drained;     /* there is no more input */
    bool csv;
    bool ended;                        /* no record follows */
    const apr_array_header_t *known;   /* const char *: columns that there may be */
    const apr_array_header_t *columns; /* const char *: those of the first line; NULL: not read */
    char *octets; /* of a record, or of the values of one, each with a NUL behind it */
    size_t length;
};

/* Octets */

static int peek(users_records *r)
{
    if (r->at == r->filled && !r->drained) {
        r->filled = fread(r->input, 1, INPUT_SIZE, stdin);
        r->at = 0;
        r->drained = r->filled < INPUT_SIZE; /* a signal may have ended it: it is not asked again */
        r->error = ferror(stdin) ? errno : 0;
    }
    return r->at < r->filled ? r->input[r->at] : END;
}

/* The next octet, where a line break is one, \n, however it is written. */
static int take(users_records *r)
{
    int octet = peek(r);

    r->at += octet != END;
    if (octet == '\r' && peek(r) == '\n') {
        octet = '\n';
        r->at++;
    }
    r->line += octet == '\n';
    return octet == '\0' ? '\1' : octet; /* a NUL ends what is kept; both are refused alike */
}

/* False where the record has become too long. */
static bool keep(users_records *r, int octet)
{
    if (r->length == USERS_RECORD_MAX) {
        return false;
    }
    r->octets[r->length++] = (char)octet;
    return true;
}

/* Go to the end of a line, of which octet is the last that was read. */
static void skip_line(users_records *r, int octet)
{
    while (octet != '\n' && octet != END) {
        octet = take(r);
    }
}

static void skip_empty_lines(users_records *r)
{
    while (peek(r) == '\n' || peek(r) == '\r') {
        take(r);
    }
}

/* Where the text begins, and in which format. */
static void open_text(users_records *r, const char *format)
{
    int first = peek(r);

    if (r->filled >= 3 && memcmp(r->input, BOM, 3) == 0) {
        r->at = 3;
        first = peek(r);
    }
    r->csv = format ? strcmp(format, "csv") == 0 : first != '{' && first != '[';
}

/* NDJSON */

/* Nothing more can be read. */
static void give_up(users_records *r)
{
    r->ended = true;
    r->error = ENOMEM;
}

static void read_json(users_records *r, users_record *record)
{
    const char *error = NULL;
    json_t *value;
    int octet;

    for (octet = take(r); octet != '\n' && octet != END; octet = take(r)) {
        if (!keep(r, octet)) {
            record->fault = TOO_LONG;
            skip_line(r, octet);
            return;
        }
    }
    value = users_request_load(r->octets, r->length, &error);
    if (value) {
        record->text = apr_pstrmemdup(r->pool, r->octets, r->length);
    } else if (error) {
        record->fault = apr_pstrcat(r->pool, "it", error + strlen(BODY), NULL);
    } else {
        give_up(r);
    }
    json_decref(value);
}

/* CSV */

/* Read a quoted value behind its first quotation mark. Returns the octet behind the last one. */
static int read_quoted(users_records *r, const char **fault)
{
    for (int octet = take(r);; octet = take(r)) {
        if (octet == '"') {
            octet = take(r);
            if (octet != '"') { /* doubled, it is a mark of the value */
                return octet;
            }
        } else if (octet == END) {
            *fault = "it has a quoted value that does not end";
            return octet;
        }
        if (!keep(r, octet)) {
            *fault = TOO_LONG;
            return octet;
        }
    }
}

static int read_plain(users_records *r, int octet, const char **fault)
{
    for (; octet != ',' && octet != '\n' && octet != END; octet = take(r)) {
        if (octet == '"') {
            *fault = "it has a quotation mark in a value that is not quoted";
            return octet;
        }
        if (!keep(r, octet)) {
            *fault = TOO_LONG;
            return octet;
        }
    }
    return octet;
}

/* Read the values of a record, each with a NUL behind it. Returns how many. */
static int read_values(users_records *r, const char **fault)
{
    int octet;
    int count = 0;

    do {
        octet = take(r);
        octet = octet == '"' ? read_quoted(r, fault) : read_plain(r, octet, fault);
        if (!*fault && octet != ',' && octet != '\n' && octet != END) {
            *fault = "it has something behind a quoted value";
        }
        if (!*fault && !keep(r, '\0')) {
            *fault = TOO_LONG;
        }
        count++;
    } while (octet == ',' && !*fault);
    if (*fault) {
        skip_line(r, octet);
        return 0;
    }
    for (size_t at = 0; at < r->length; at += strlen(r->octets + at) + 1) {
        if (!users_is_utf8(users_span_of(r->octets + at))) {
            *fault = "it is not valid UTF-8";
        }
    }
    return count;
}

static const char *column(const apr_array_header_t *columns, int i)
{
    return APR_ARRAY_IDX(columns, i, const char *);
}

static bool contains(const apr_array_header_t *columns, const char *name)
{
    for (int i = 0; i < columns->nelts; i++) {
        if (strcmp(column(columns, i), name) == 0) {
            return true;
        }
    }
    return false;
}

/* The first line, which names the columns. */
static void read_columns(users_records *r, users_record *record)
{
    apr_array_header_t *names = apr_array_make(r->lasting, 8, sizeof(const char *));
    int count = read_values(r, &record->fault);
    const char *name = r->octets;

    for (int i = 0; i < count && !record->fault; i++, name += strlen(name) + 1) {
        if (!contains(r->known, name)) {
            record->fault = apr_psprintf(r->pool, "\"%s\" is not a column: they are %s", name,
                                         apr_array_pstrcat(r->pool, r->known, ' '));
        } else if (contains(names, name)) {
            record->fault = apr_psprintf(r->pool, "the column %s is there twice", name);
        }
        APR_ARRAY_PUSH(names, const char *) = apr_pstrdup(r->lasting, name);
    }
    r->columns = names;
    r->ended = record->fault != NULL;
}

/* The values by their columns' names. */
static void read_row(users_records *r, users_record *record)
{
    int count = read_values(r, &record->fault);
    const char *value = r->octets;
    json_t *row;
    bool complete;

    if (!record->fault && count != r->columns->nelts) {
        record->fault = apr_psprintf(r->pool, "it has %d values, where the first line has %d",
                                     count, r->columns->nelts);
    }
    if (record->fault) {
        return;
    }
    row = json_object();
    complete = row != NULL;
    for (int i = 0; i < count && !record->fault; i++, value += strlen(value) + 1) {
        if (users_has_control(users_span_of(value))) {
            record->fault =
                apr_psprintf(r->pool, "%s can't have control characters", column(r->columns, i));
        }
        complete =
            complete && json_object_set_new(row, column(r->columns, i), json_string(value)) == 0;
    }
    record->text = complete && !record->fault ? users_json_text(row, r->pool) : NULL;
    if (!record->text && !record->fault) {
        give_up(r);
    }
    json_decref(row);
}

/* Both */

users_records *users_records_open(apr_pool_t *pool, const char *format,
                                  const apr_array_header_t *columns)
{
    users_records *r = apr_pcalloc(pool, sizeof(*r));

    r->lasting = pool;
    r->input = apr_palloc(pool, INPUT_SIZE);
    r->octets = apr_palloc(pool, USERS_RECORD_MAX);
    r->line = 1;
    r->known = columns;
    if (apr_pool_create(&r->pool, pool) != APR_SUCCESS) {
        return NULL;
    }
    open_text(r, format);
    return r;
}

bool users_records_next(users_records *r, users_record *record)
{
    apr_pool_clear(r->pool);
    skip_empty_lines(r);
    if (r->csv && !r->columns) {
        *record = (users_record){.line = r->line};
        r->length = 0;
        read_columns(r, record);
        if (record->fault) {
            return true;
        }
        skip_empty_lines(r);
    }
    if (r->ended || peek(r) == END) {
        return false;
    }
    *record = (users_record){.line = r->line};
    r->length = 0;
    if (r->csv) {
        read_row(r, record);
    } else {
        read_json(r, record);
    }
    return record->text || record->fault;
}

int users_records_error(const users_records *r)
{
    return r->error;
}
