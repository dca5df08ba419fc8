#include "core/scope.h"

#include <apr_strings.h>
#include <string.h>

bool users_scope_is_valid(const char *scopes)
{
    bool in_word = false;

    for (const char *c = scopes; *c; c++) {
        if (*c == ' ' ? !in_word : *c < '!' || *c > '~' || *c == '"' || *c == '\\') {
            return false;
        }
        in_word = *c != ' ';
    }
    return in_word;
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
