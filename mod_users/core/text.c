#include "core/text.h"

#include <string.h>

/* The octets of UTF-8 say where a character begins: these can be looked for at either end. */
static const char *const white_space[] = {
    "\t",           "\n",           "\v",           "\f",           "\r",           " ",
    "\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80", "\xE2\x80\x80", "\xE2\x80\x81", "\xE2\x80\x82",
    "\xE2\x80\x83", "\xE2\x80\x84", "\xE2\x80\x85", "\xE2\x80\x86", "\xE2\x80\x87", "\xE2\x80\x88",
    "\xE2\x80\x89", "\xE2\x80\x8A", "\xE2\x80\xA8", "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F",
    "\xE3\x80\x80",
};

users_span users_span_of(const char *text)
{
    return (users_span){text, text ? strlen(text) : 0};
}

size_t users_white_space(users_span text, bool end)
{
    for (size_t i = 0; i < sizeof(white_space) / sizeof(*white_space); i++) {
        size_t length = strlen(white_space[i]);

        if (length <= text.length && memcmp(end ? text.start + text.length - length : text.start,
                                            white_space[i], length) == 0) {
            return length;
        }
    }
    return 0;
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
