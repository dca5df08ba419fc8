/* Sets of scopes: nothing but a whole word is in one. Input: a line of scopes, then a scope. */
#include "core/scope.h"

#include "fuzz.h"

/* The same by cutting the set into its words. */
static bool has_word(char *scopes, const char *scope)
{
    char *rest = NULL;
    for (char *word = strtok_r(scopes, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        if (strcmp(word, scope) == 0) {
            return true;
        }
    }
    return false;
}

static void check_scope(const char *text, size_t length, apr_pool_t *pool)
{
    char *scopes = apr_pstrdup(pool, text);
    char *scope = strchr(scopes, '\n');
    (void)length;
    if (scope == NULL) {
        FUZZ_CHECK(!users_scope_contains(NULL, scopes));
        FUZZ_CHECK(!users_scope_contains(scopes, ""));
        return;
    }
    *scope++ = '\0';
    bool contained = users_scope_contains(scopes, scope);
    FUZZ_CHECK(users_scope_contains(apr_pstrcat(pool, scope, " ", scopes, NULL), scope) ==
               (*scope != '\0' && strchr(scope, ' ') == NULL));
    const char *set = users_scope_set(scopes, pool);
    FUZZ_CHECK(users_scope_contains(set, scope) == contained);
    FUZZ_CHECK(strlen(set) <= strlen(scopes) && strcmp(users_scope_set(set, pool), set) == 0);
    FUZZ_CHECK(contained == has_word(scopes, scope));
}

FUZZ_TARGET(check_scope)
