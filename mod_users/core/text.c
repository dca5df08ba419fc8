#include "core/text.h"

#include <string.h>

users_span users_span_of(const char *text)
{
    return (users_span){text, text ? strlen(text) : 0};
}

size_t users_optional_white_space(users_span text, bool end)
{
    const char *at = text.start;

    if (!text.length) {
        return 0;
    }
    if (end) {
        at += text.length - 1;
    }
    return *at == ' ' || *at == '\t';
}

users_span users_trim(users_span text, users_space *space)
{
    size_t length;

    while ((length = space(text, false)) > 0) {
        text.start += length;
        text.length -= length;
    }
    while ((length = space(text, true)) > 0) {
        text.length -= length;
    }
    return text;
}
