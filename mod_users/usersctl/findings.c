#include "usersctl/findings.h"

#include <apr_strings.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    const char *database;
    const char *check;
    users_level level;
    const char *text;
    const char *cure; /* NULL: none */
} finding;

static const char *const levels[] = {[USERS_FINDING_OK] = "ok",
                                     [USERS_FINDING_UNSEEN] = "unseen",
                                     [USERS_FINDING_WARNING] = "warning",
                                     [USERS_FINDING_ERROR] = "error"};

users_findings *users_findings_create(apr_pool_t *pool)
{
    users_findings *findings = apr_pcalloc(pool, sizeof(*findings));

    findings->pool = pool;
    findings->all = apr_array_make(pool, 32, sizeof(finding));
    return findings;
}

void users_findings_add(users_findings *findings, const char *check, users_level level,
                        const char *text, const char *cure)
{
    finding *added = apr_array_push(findings->all);

    *added = (finding){.database = findings->database,
                       .check = apr_pstrdup(findings->pool, check),
                       .level = level,
                       .text = apr_pstrdup(findings->pool, text),
                       .cure = apr_pstrdup(findings->pool, cure && *cure ? cure : NULL)};
}

void users_findings_say(users_findings *findings, const char *check, users_level level,
                        const char *cure, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    users_findings_add(findings, check, level, apr_pvsprintf(findings->pool, format, arguments),
                       cure);
    va_end(arguments);
}

users_level users_findings_level(const char *word)
{
    for (users_level level = USERS_FINDING_OK; level < USERS_FINDING_ERROR; level++) {
        if (strcmp(word, levels[level]) == 0) {
            return level;
        }
    }
    return USERS_FINDING_ERROR;
}

/* The databases are headings. */
static void print_text(const finding *f, const char *before)
{
    if (!before || strcmp(before, f->database) != 0) {
        if (before) {
            users_output_text("\n");
        }
        users_output_line(f->database);
        users_output_text("\n");
    }
    printf("  %-7s  %-11s  ", levels[f->level], f->check);
    users_output_line(f->text);
    users_output_text("\n");
    if (f->cure) {
        printf("%24s", "-> ");
        users_output_line(f->cure);
        users_output_text("\n");
    }
}

static void print_member(const char *before, const char *name, const char *value)
{
    printf("%s\"%s\":", before, name);
    if (value) {
        users_output_json_string(value);
    } else {
        users_output_text("null");
    }
}

static void print_json(const finding *f)
{
    print_member("{", "database", f->database);
    print_member(",", "check", f->check);
    print_member(",", "level", levels[f->level]);
    print_member(",", "text", f->text);
    print_member(",", "cure", f->cure);
    users_output_text("}");
}

users_exit users_findings_print(const users_findings *findings, bool json)
{
    users_level worst = USERS_FINDING_OK;
    const char *before = NULL;
    users_exit status;

    for (int i = 0; i < findings->all->nelts; i++) {
        const finding *f = &APR_ARRAY_IDX(findings->all, i, finding);

        if (json) {
            users_output_text(i ? ",\n" : "[\n");
            print_json(f);
        } else {
            print_text(f, before);
        }
        before = f->database;
        worst = f->level > worst ? f->level : worst;
    }
    if (json) {
        users_output_text(findings->all->nelts ? "\n]\n" : "[]\n");
    }
    status = users_output_finish();
    if (status != USERS_EXIT_DONE) {
        return status;
    }
    return worst == USERS_FINDING_ERROR     ? USERS_EXIT_FAILED
           : worst == USERS_FINDING_WARNING ? USERS_EXIT_REFUSED
                                            : USERS_EXIT_DONE;
}
