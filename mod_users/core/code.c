#include "core/code.h"

#include <stddef.h>
#include <string.h>

#define ENTRIES(array) (sizeof(array) / sizeof(*(array)))

const char *users_code_name(users_code code)
{
    static const char *const names[] = {
#define NAME(code, name) [USERS_CODE_##code] = (name),
        USERS_CODES(NAME)
#undef NAME
    };

    return names[code];
}

users_code users_code_of_status(int status)
{
    static const struct {
        int status;
        users_code code;
    } codes[] = {
        {400, USERS_CODE_UNREADABLE_BODY},    {401, USERS_CODE_CREDENTIALS_REQUIRED},
        {403, USERS_CODE_FORBIDDEN},          {404, USERS_CODE_NOT_FOUND},
        {405, USERS_CODE_METHOD_NOT_ALLOWED}, {406, USERS_CODE_NOT_ACCEPTABLE},
        {408, USERS_CODE_REQUEST_TIMEOUT},    {412, USERS_CODE_STALE},
        {413, USERS_CODE_BODY_TOO_LARGE},     {415, USERS_CODE_UNSUPPORTED_TYPE},
        {429, USERS_CODE_TOO_MANY_REQUESTS},  {501, USERS_CODE_METHOD_NOT_KNOWN},
        {503, USERS_CODE_UNAVAILABLE},        {504, USERS_CODE_TIMEOUT},
    };

    for (size_t i = 0; i < ENTRIES(codes); i++) {
        if (codes[i].status == status) {
            return codes[i].code;
        }
    }
    return status < 500 ? USERS_CODE_INVALID : USERS_CODE_INTERNAL_ERROR;
}

users_code users_code_of_fault(const char *text)
{
    static const struct {
        const char *beginning; /* what follows is a limit or a name; a longer one stands first */
        users_code code;
    } codes[] = {
        {"can't be blank", USERS_CODE_BLANK},
        {"can't have control characters", USERS_CODE_CONTROL_CHARACTERS},
        {"has already been taken", USERS_CODE_TAKEN},
        {"is given twice", USERS_CODE_AMBIGUOUS},
        {"is not a known field", USERS_CODE_UNKNOWN_FIELD},
        {"is not a known ", USERS_CODE_NOT_KNOWN},
        {"is not supported", USERS_CODE_NOT_SUPPORTED},
        {"is read-only", USERS_CODE_READ_ONLY},
        {"is too large", USERS_CODE_TOO_LARGE},
        {"is too long", USERS_CODE_TOO_LONG},
        {"must be ", USERS_CODE_WRONG_TYPE},
    };

    for (size_t i = 0; i < ENTRIES(codes); i++) {
        if (strncmp(text, codes[i].beginning, strlen(codes[i].beginning)) == 0) {
            return codes[i].code;
        }
    }
    return USERS_CODE_INVALID;
}
