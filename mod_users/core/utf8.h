/* Text in UTF-8. */
#ifndef USERS_UTF8_H
#define USERS_UTF8_H

#include <jansson.h>
#include <stdbool.h>

/* The database takes text in UTF-8 only. jansson makes no string of anything else. */
static inline bool users_is_utf8(const char *text)
{
    json_t *string = json_string(text);
    json_decref(string);
    return string != NULL;
}

#endif
