#include "core/domain.h"

#include <apr_cstr.h>
#include <apr_lib.h>
#include <string.h>

#define LENGTH_LIMIT 190 /* leaves 64 octets for the local part (RFC 5321 section 4.5.3.1) */

bool users_is_domain(const char *text)
{
    if (!strchr(text, '.')) {
        return apr_cstr_casecmp(text, "localhost") == 0;
    }
    return text[0] != '.' && text[strlen(text) - 1] != '.' && !strstr(text, "..");
}

bool users_is_host_domain(const char *text)
{
    const char *top = strrchr(text, '.');

    if (!users_is_domain(text) || strlen(text) > LENGTH_LIMIT) {
        return false;
    }
    for (const char *c = text; *c; c++) {
        if (!apr_isalnum(*c) && *c != '-' && *c != '.') {
            return false;
        }
    }
    return !top || top[1 + strspn(top + 1, "0123456789")];
}
