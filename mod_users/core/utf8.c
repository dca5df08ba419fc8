#include "core/utf8.h"

#include <stddef.h>

/* RFC 3629 section 4: which second octets the first ones may have; later ones have 80 to BF. */
static const struct {
    unsigned char first, last;
    unsigned char second_first, second_last;
    int continuations;
} sequences[] = {
    {0x01, 0x7F, 0x00, 0x00, 0}, {0xC2, 0xDF, 0x80, 0xBF, 1}, {0xE0, 0xE0, 0xA0, 0xBF, 2},
    {0xE1, 0xEC, 0x80, 0xBF, 2}, {0xED, 0xED, 0x80, 0x9F, 2}, {0xEE, 0xEF, 0x80, 0xBF, 2},
    {0xF0, 0xF0, 0x90, 0xBF, 3}, {0xF1, 0xF3, 0x80, 0xBF, 3}, {0xF4, 0xF4, 0x80, 0x8F, 3},
};

/* The octets of the character that text begins with; 0 where it is none. */
static size_t character_at(const unsigned char *text)
{
    for (size_t i = 0; i < sizeof(sequences) / sizeof(*sequences); i++) {
        if (text[0] < sequences[i].first || text[0] > sequences[i].last) {
            continue;
        }
        for (int n = 1; n <= sequences[i].continuations; n++) {
            unsigned char first = n == 1 ? sequences[i].second_first : 0x80;
            unsigned char last = n == 1 ? sequences[i].second_last : 0xBF;

            if (text[n] < first || text[n] > last) { /* the NUL behind the text, too */
                return 0;
            }
        }
        return (size_t)sequences[i].continuations + 1;
    }
    return 0;
}

bool users_is_utf8(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;

    while (*at) {
        size_t length = character_at(at);

        if (!length) {
            return false;
        }
        at += length;
    }
    return true;
}
