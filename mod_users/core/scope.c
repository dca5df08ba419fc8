#include "core/scope.h"

#include <apr_hash.h>
#include <apr_strings.h>
#include <string.h>

bool users_scope_is_valid(const char *scopes)
{
    bool has_word = false;

    for (const char *c = scopes; *c; c++) {
        if (*c < ' ' || *c > '~' || *c == '"' || *c == '\\') {
            return false;
        }
        has_word = has_word || *c != ' ';
    }
    return has_word;
}

const char *users_scope_set(const char *scopes, apr_pool_t *pool)
{
    apr_hash_t *seen = apr_hash_make(pool);
    char *set = apr_palloc(pool, strlen(scopes) + 1);
    char *end = set;

    for (size_t length; *(scopes += strspn(scopes, " ")); scopes += length) {
        length = strcspn(scopes, " ");
        if (apr_hash_get(seen, scopes, (apr_ssize_t)length)) {
            continue;
        }
        apr_hash_set(seen, scopes, (apr_ssize_t)length, scopes);
        if (end > set) {
            *end++ = ' ';
        }
        memcpy(end, scopes, length);
        end += length;
    }
    *end = '\0';
    return set;
}

bool users_scope_fits(const char *set)
{
    int words = 1;

    for (const char *c = set; *c; c++) {
        words += *c == ' ';
    }
    return words <= USERS_SCOPE_WORDS && strlen(set) <= USERS_SCOPE_LENGTH;
}

bool users_scope_contains(const char *scopes, const char *scope)
{
    size_t length = strlen(scope);

    while (scopes && *scopes) {
        size_t word = strcspn(scopes, " ");

        if (word > 0 && word == length && memcmp(scopes, scope, length) == 0) {
            return true;
        }
        scopes += word + strspn(scopes + word, " ");
    }
    return false;
}

bool users_scope_covers(const char *scopes, const char *asked, apr_pool_t *pool)
{
    char *rest = apr_pstrdup(pool, asked);
    char *word;

    while ((word = apr_strtok(rest, " ", &rest))) {
        if (!users_scope_contains(scopes, word)) {
            return false;
        }
    }
    return true;
}
