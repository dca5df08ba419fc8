#include "core/unicode.h"

#include <utf8proc.h>

/* Blank by their glyphs, or by being reserved for what is ignored: no property tells. */
static const int32_t blanks[][2] = {
    {0x2065, 0x2065},   {0x2800, 0x2800},   {0xFFF0, 0xFFF8},   {0x13441, 0x13442},
    {0x16FE4, 0x16FE4}, {0x1D159, 0x1D159}, {0xE0000, 0xE0FFF},
};

size_t users_character_at(users_span text, int32_t *character)
{
    utf8proc_ssize_t length = utf8proc_iterate((const utf8proc_uint8_t *)text.start,
                                               (utf8proc_ssize_t)text.length, character);

    return length > 0 ? (size_t)length : 0;
}

static int category_of(int32_t character)
{
    return utf8proc_get_property(character)->category;
}

bool users_is_control(int32_t character)
{
    return category_of(character) == UTF8PROC_CATEGORY_CC;
}

bool users_is_invisible(int32_t character)
{
    const utf8proc_property_t *property = utf8proc_get_property(character);

    for (size_t i = 0; i < sizeof(blanks) / sizeof(*blanks); i++) {
        if (character >= blanks[i][0] && character <= blanks[i][1]) {
            return true;
        }
    }
    /* of the format characters those show that are put before a number */
    return property->ignorable || (property->category == UTF8PROC_CATEGORY_CF &&
                                   property->boundclass != UTF8PROC_BOUNDCLASS_PREPEND);
}

bool users_is_separator(int32_t character)
{
    int category = category_of(character);

    return category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
}

bool users_is_word(int32_t character)
{
    int category = category_of(character);

    return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL &&
           !users_is_invisible(character);
}

bool users_is_mark(int32_t character)
{
    int category = category_of(character);

    return category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME;
}

bool users_is_variant(int32_t character)
{
    return utf8proc_get_property(character)->decomp_type != 0;
}

int users_character_width(int32_t character)
{
    return utf8proc_charwidth(character);
}

static bool is_space(int32_t character)
{
    return category_of(character) == UTF8PROC_CATEGORY_ZS || users_is_separator(character) ||
           (character >= '\t' && character <= '\r') || character == 0x85;
}

size_t users_white_space(users_span text, bool end)
{
    size_t at = text.length && end ? text.length - 1 : 0;
    users_span rest;
    int32_t character;
    size_t length;

    while (at > 0 && ((unsigned char)text.start[at] & 0xC0) == 0x80) { /* not its first octet */
        at--;
    }
    rest = (users_span){text.start + at, text.length - at};
    length = users_character_at(rest, &character);
    return is_space(character) && (!end || length == rest.length) ? length : 0;
}

/* Pass over the characters at the start of a text that fit. Returns whether that is all of it. */
static bool are_all(users_span text, bool (*fits)(int32_t character))
{
    int32_t character;
    size_t length;

    while ((length = users_character_at(text, &character)) > 0 && fits(character)) {
        text.start += length;
        text.length -= length;
    }
    return !text.length;
}

static bool is_any(int32_t character)
{
    return character != 0; /* which PostgreSQL's texts can't have */
}

bool users_is_utf8(users_span text)
{
    return are_all(text, is_any);
}

static bool is_nothing(int32_t character)
{
    return is_space(character) || users_is_invisible(character);
}

bool users_is_blank(users_span text)
{
    return are_all(text, is_nothing);
}

static bool is_no_control(int32_t character)
{
    return !users_is_control(character);
}

bool users_has_control(users_span text)
{
    return !are_all(text, is_no_control);
}

char *users_normalize(users_span text)
{
    utf8proc_uint8_t *normal;
    utf8proc_ssize_t length =
        utf8proc_map((const utf8proc_uint8_t *)text.start, (utf8proc_ssize_t)text.length, &normal,
                     UTF8PROC_STABLE | UTF8PROC_COMPOSE);

    return length < 0 ? NULL : (char *)normal;
}
