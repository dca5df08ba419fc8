/* Text in UTF-8. */
#ifndef USERS_CORE_UTF8_H
#define USERS_CORE_UTF8_H

#include <stdbool.h>

/*
 * The database takes text in UTF-8 only. The same as jansson's judgement, which needs memory and so
 * can't tell bad text from none being left.
 */
bool users_is_utf8(const char *text);

#endif
