#include "core/list.h"

#include <apr_cstr.h>
#include <apr_strings.h>
#include <string.h>

const char *users_span_text(users_span text, apr_pool_t *pool)
{
    return apr_pstrmemdup(pool, text.start, text.length);
}

users_span users_trim_optional(users_span text)
{
    return users_trim(text, users_optional_white_space);
}

bool users_span_is(users_span text, const char *word)
{
    return text.length == strlen(word) && apr_cstr_casecmpn(text.start, word, text.length) == 0;
}

bool users_list_next(users_span *rest, char separator, users_span *part)
{
    bool quoted = false;
    size_t i = 0;

    if (!rest->start) {
        *part = *rest;
        return false;
    }
    for (; i < rest->length && (quoted || rest->start[i] != separator); i++) {
        if (rest->start[i] == '"') {
            quoted = !quoted;
        } else if (quoted && rest->start[i] == '\\' && i + 1 < rest->length) {
            i++;
        }
    }
    *part = users_trim_optional((users_span){rest->start, i});
    if (i < rest->length) {
        rest->start += i + 1;
        rest->length -= i + 1;
    } else {
        rest->start = NULL;
    }
    return true;
}

bool users_is_token(users_span text)
{
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.start[i];

        if (c <= ' ' || c >= 0x7f || strchr("\"(),/:;<=>?@[\\]{}", c)) {
            return false;
        }
    }
    return text.length > 0;
}

bool users_is_quoted_string(users_span text)
{
    if (text.length < 2 || text.start[0] != '"' || text.start[text.length - 1] != '"') {
        return false;
    }
    for (size_t i = 1; i < text.length - 1; i++) {
        if (text.start[i] == '"' || (text.start[i] == '\\' && ++i == text.length - 1)) {
            return false;
        }
    }
    return true;
}

/* Backslashes stay: nothing that we compare with has a character that needs one. */
static users_span unquoted(users_span word)
{
    return users_is_quoted_string(word) ? (users_span){word.start + 1, word.length - 2} : word;
}

users_pair users_pair_of(users_span part)
{
    users_span rest = part;
    users_pair result = {.value = {"", 0}};

    users_list_next(&rest, '=', &result.name);
    result.well_formed = users_is_token(result.name);
    if (rest.start) {
        users_span word = users_trim_optional(rest);

        result.value = unquoted(word);
        result.well_formed =
            result.well_formed && (users_is_token(word) || users_is_quoted_string(word));
    }
    return result;
}
