/*
 * What characters are to those who read a text, in any script: by Unicode's properties, which
 * utf8proc knows. Texts are UTF-8; what is not has no character there.
 */
#ifndef USERS_CORE_UNICODE_H
#define USERS_CORE_UNICODE_H

#include "core/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The character (code point) that a text begins with. Returns its octets; 0 where the text is empty
 * or begins with none.
 */
size_t users_character_at(users_span text, int32_t *character);

/* C0, DEL, C1: they move a terminal's cursor, or end the line of a header. */
bool users_is_control(int32_t character);

/* Shows nothing, and is no white space: zero-width and bidi controls, fillers, blank symbols. */
bool users_is_invisible(int32_t character);

/* Ends a line or a paragraph, beside the controls that do. */
bool users_is_separator(int32_t character);

/* A letter, mark, digit or letter-like number (Roman ones) that shows. */
bool users_is_word(int32_t character);

/* Combines with what stands before it. */
bool users_is_mark(int32_t character);

/* Another look of what is a character by itself, such as a full-width letter. */
bool users_is_variant(int32_t character);

/* The columns of a terminal that it takes: 0 to 2. */
int users_character_width(int32_t character);

/* Unicode's White_Space. */
users_space users_white_space;

/*
 * The database takes text in UTF-8 only. The same as jansson's judgement, which needs memory and so
 * can't tell bad text from none being left.
 */
bool users_is_utf8(users_span text);

/* Is it empty, or does it show nothing at all? */
bool users_is_blank(users_span text);

/* Has it a control character, or what is none at all? */
bool users_has_control(users_span text);

/* Normalisation Form C, which the caller frees; NULL where memory ran out. text: is UTF-8. */
char *users_normalize(users_span text);

#endif
