#include "core/scope.h"

#include <string.h>

bool users_scope_contains(const char *scopes, const char *scope)
{
    size_t length = strlen(scope);
    while (scopes != NULL && *scopes != '\0') {
        size_t word = strcspn(scopes, " ");
        if (word > 0 && word == length && memcmp(scopes, scope, length) == 0) {
            return true;
        }
        scopes += word + strspn(scopes + word, " ");
    }
    return false;
}
