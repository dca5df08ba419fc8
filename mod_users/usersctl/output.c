#include "usersctl/output.h"

#include "core/unicode.h"

#include <apr_errno.h>
#include <apr_strings.h>
#include <apr_time.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PROGRESS_INTERVAL apr_time_from_msec(200)
#define HANDLE_LENGTH     12 /* digits of a digest that a table shows: 48 bits tell tokens apart */

/*
 * Can a character do more to a terminal than stand there? Control characters, and those that
 * turn the order of the text around or are not to be seen.
 */
static bool is_harmful(int32_t character)
{
    return users_is_control(character) || users_is_separator(character) ||
           users_is_invisible(character);
}

/*
 * Write a text on one line, harmful octets and those that are not UTF-8 as \x1b; out NULL: only
 * measure. Returns its width. That it could not be written is told by users_output_finish().
 */
static int write_text(FILE *out, const char *text)
{
    users_span rest = users_span_of(text);
    int32_t character;
    int width = 0;

    while (rest.length > 0) {
        size_t length = users_character_at(rest, &character);
        bool harmful = !length || is_harmful(character);

        length = length ? length : 1;
        width += harmful ? 4 * (int)length : users_character_width(character);
        for (; length > 0; length--, rest.start++, rest.length--) {
            if (out) {
                (void)fprintf(out, harmful ? "\\x%02x" : "%c", (unsigned char)*rest.start);
            }
        }
    }
    return width;
}

/* \u1234 (RFC 8259 section 7), of the characters beyond the first plane two of them. */
static void write_escape(int32_t character)
{
    if (character > 0xFFFF) {
        printf("\\u%04x\\u%04x", (unsigned)(0xD800 + ((character - 0x10000) >> 10)),
               (unsigned)(0xDC00 + (character & 0x3FF)));
    } else {
        printf("\\u%04x", (unsigned)character);
    }
}

/* Write JSON with its harmful characters escaped: those that can only be in a string. */
static void write_json(users_span json)
{
    int32_t character;
    size_t length;

    for (; json.length > 0; json.start += length, json.length -= length) {
        length = users_character_at(json, &character);
        if (!length) {
            length = 1;
            write_escape(0xFFFD); /* the replacement character */
        } else if (character >= ' ' && is_harmful(character)) {
            write_escape(character);
        } else {
            printf("%.*s", (int)length, json.start);
        }
    }
}

static bool progress_shown;

static void clear_progress(void)
{
    if (progress_shown) {
        (void)fputs("\r\033[K", stderr); /* to the end of the line: ECMA-48, EL */
    }
    progress_shown = false;
}

void users_output_progress(const char *format, ...)
{
    static apr_time_t next;
    char line[128];
    va_list arguments;

    if (apr_time_now() < next || !isatty(STDERR_FILENO)) {
        return;
    }
    next = apr_time_now() + PROGRESS_INTERVAL;
    va_start(arguments, format);
    apr_vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    clear_progress();
    (void)fputs(line, stderr);
    progress_shown = true;
}

void users_output_text(const char *text)
{
    (void)fputs(text, stdout); /* where it fails users_output_finish() tells */
}

void users_output_line(const char *text)
{
    write_text(stdout, text);
}

void users_output_json_string(const char *text)
{
    int32_t character;
    size_t length;

    putchar('"');
    for (users_span rest = users_span_of(text); rest.length > 0;
         rest.start += length, rest.length -= length) {
        length = users_character_at(rest, &character);
        if (!length) {
            length = 1;
            write_escape(0xFFFD); /* the replacement character */
        } else if (is_harmful(character)) {
            write_escape(character);
        } else {
            printf("%s%.*s", character == '"' || character == '\\' ? "\\" : "", (int)length,
                   rest.start);
        }
    }
    putchar('"');
}

users_exit users_output_complain(users_exit status, const char *format, ...)
{
    char line[2048];
    va_list arguments;

    va_start(arguments, format);
    apr_vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    for (size_t end = strlen(line); end > 0 && line[end - 1] == '\n'; end--) {
        line[end - 1] = '\0';
    }
    for (char *c = line; *c; c++) { /* libpq's have several lines */
        if (*c == '\n' || *c == '\t') {
            *c = ' ';
        }
    }
    clear_progress();
    (void)fputs("usersctl: ", stderr); /* where it fails nobody can be told */
    write_text(stderr, line);
    (void)fputc('\n', stderr);
    return status;
}

static bool is_digest(const PGresult *result, int column)
{
    return strcmp(PQfname(result, column), "digest") == 0;
}

/* What a table shows in a cell, in memory of the result or in buffer. */
static const char *cell(const PGresult *result, int row, int column, char buffer[HANDLE_LENGTH + 1])
{
    const char *value = PQgetvalue(result, row, column);

    if (PQgetisnull(result, row, column)) {
        return "-";
    }
    if (is_digest(result, column)) {
        apr_cpystrn(buffer, value, HANDLE_LENGTH + 1);
        return buffer;
    }
    return value;
}

static int width_of_column(const PGresult *result, int rows, int column)
{
    int width = write_text(NULL, PQfname(result, column));
    char buffer[HANDLE_LENGTH + 1];

    for (int row = 0; row < rows; row++) {
        int of_cell = write_text(NULL, cell(result, row, column, buffer));

        width = of_cell > width ? of_cell : width;
    }
    return width;
}

void users_output_table(const PGresult *result, int rows)
{
    int columns = PQnfields(result);
    int widths[columns];
    char buffer[HANDLE_LENGTH + 1];

    for (int column = 0; column < columns; column++) {
        widths[column] = width_of_column(result, rows, column);
    }
    for (int row = -1; row < rows; row++) { /* -1: the names */
        for (int column = 0; column < columns; column++) {
            int width = write_text(stdout, row < 0 ? PQfname(result, column)
                                                   : cell(result, row, column, buffer));

            printf("%*s", column + 1 < columns ? widths[column] - width + 2 : 0, "");
        }
        putchar('\n');
    }
}

void users_output_record(const PGresult *result, const char *name, const char *value)
{
    int columns = PQnfields(result);
    int width = name ? (int)strlen(name) : 0;
    char buffer[HANDLE_LENGTH + 1];

    for (int column = 0; column < columns; column++) {
        int of_name = (int)strlen(PQfname(result, column));

        width = of_name > width ? of_name : width;
    }
    for (int column = 0; column < columns; column++) {
        printf("%-*s  ", width, PQfname(result, column));
        write_text(stdout, cell(result, 0, column, buffer));
        putchar('\n');
    }
    if (name) {
        printf("%-*s  %s\n", width, name, value);
    }
}

void users_output_json_list(const PGresult *result, int rows)
{
    putchar('[');
    for (int row = 0; row < rows; row++) {
        puts(row ? "," : "");
        write_json(users_span_of(PQgetvalue(result, row, 0)));
    }
    puts(rows ? "\n]" : "]");
}

void users_output_json(const PGresult *result, const char *name, const char *value)
{
    users_span object = users_span_of(PQgetvalue(result, 0, 0));

    if (name) {
        object.length--; /* without its brace */
        write_json(object);
        printf(",\"%s\":\"%s\"}\n", name, value);
    } else {
        write_json(object);
        putchar('\n');
    }
}

users_exit users_output_finish(void)
{
    clear_progress();
    if (fflush(stdout) != 0 || ferror(stdout)) {
        char reason[128];

        return users_output_complain(USERS_EXIT_FAILED, "can't write to standard output: %s",
                                     apr_strerror(errno, reason, sizeof(reason)));
    }
    return USERS_EXIT_DONE;
}
