/* Stretches of text, and where they begin and end. */
#ifndef USERS_CORE_TEXT_H
#define USERS_CORE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Not terminated. */
typedef struct {
    const char *start;
    size_t length;
} users_span;

/* NULL gives one without a start. */
users_span users_span_of(const char *text);

/* The octets of the space that text begins with, or ends with; 0 where it does not. */
typedef size_t users_space(users_span text, bool end);

/* Space and tab: OWS of RFC 9110 section 5.6.3. */
users_space users_optional_white_space;

/* What remains without the space at both ends. */
users_span users_trim(users_span text, users_space *space);

#endif
