#include "core/address.h"

#include "core/unicode.h"

#include <apr_cstr.h>
#include <string.h>

#define DIGITS       "0123456789"
#define ALPHANUMERIC "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" DIGITS
#define ATEXT        ALPHANUMERIC "!#$%&'*+-/=?^_`{|}~"
#define LDH          ALPHANUMERIC "-"

#define LABEL_LIMIT 63  /* octets in ASCII (RFC 1035 section 2.3.4), and no more characters */
#define HOST_LIMIT  190 /* leaves 64 octets for the local part (RFC 5321 section 4.5.3.1) */

/* Punctuation that words of some scripts have, also in a label (RFC 5892 section 2.6). */
static bool is_joint(int32_t character)
{
    static const int32_t joints[] = {0xB7, 0x5F3, 0x5F4, 0xF0B, 0x30FB};

    for (size_t i = 0; i < sizeof(joints) / sizeof(*joints); i++) {
        if (character == joints[i]) {
            return true;
        }
    }
    return false;
}

/* Beyond ASCII: may it stand in an atom or in a label, or at its start? */
static bool is_foreign(int32_t character, bool at_start)
{
    if (is_joint(character) || users_is_mark(character)) {
        return !at_start && !users_is_invisible(character);
    }
    return users_is_word(character);
}

static bool is_in_atom(int32_t character, bool at_start)
{
    return character < 0x80 ? strchr(ATEXT, character) != NULL : is_foreign(character, at_start);
}

/* Full-width letters and the like stand for others there, and are never registered (RFC 5895). */
static bool is_in_label(int32_t character, bool at_start)
{
    return character < 0x80 ? strchr(LDH, character) != NULL
                            : is_foreign(character, at_start) && !users_is_variant(character);
}

/* Count the characters of a part. 0: it is empty, or has one that does not fit. */
static size_t count_characters(users_span part, bool (*fits)(int32_t character, bool at_start))
{
    size_t count = 0;
    size_t length;
    int32_t character;

    for (; part.length > 0; part.start += length, part.length -= length, count++) {
        length = users_character_at(part, &character);
        if (!length || !fits(character, count == 0)) {
            return 0;
        }
    }
    return count;
}

static bool is_atom(users_span part)
{
    return count_characters(part, is_in_atom) > 0;
}

static bool is_label(users_span part)
{
    size_t count = count_characters(part, is_in_label);

    return count > 0 && count <= LABEL_LIMIT && part.start[0] != '-' &&
           part.start[part.length - 1] != '-';
}

/* Is a text made of such parts with a dot between them? */
static bool is_dotted(users_span text, bool (*is_part)(users_span part))
{
    users_span part = text;

    for (size_t i = 0; i < text.length; i++) {
        if (text.start[i] == '.') {
            part.length = (size_t)(text.start + i - part.start);
            if (!is_part(part)) {
                return false;
            }
            part.start = text.start + i + 1;
        }
    }
    part.length = (size_t)(text.start + text.length - part.start);
    return is_part(part);
}

/* An IPv4 address is none: a top-level domain is no number (RFC 3696 section 2). */
static bool is_domain(const char *text)
{
    const char *top = strrchr(text, '.');

    if (!top) {
        return apr_cstr_casecmp(text, "localhost") == 0;
    }
    return top[1 + strspn(top + 1, DIGITS)] && is_dotted(users_span_of(text), is_label);
}

bool users_is_address(const char *text)
{
    const char *at = strchr(text, '@');

    return at && is_dotted((users_span){text, (size_t)(at - text)}, is_atom) && is_domain(at + 1);
}

bool users_is_host_domain(const char *text)
{
    return strlen(text) <= HOST_LIMIT && !text[strspn(text, LDH ".")] && is_domain(text);
}
