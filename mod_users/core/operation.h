/* What a request can want of the API. */
#ifndef USERS_CORE_OPERATION_H
#define USERS_CORE_OPERATION_H

/* Each with what figures call it. */
/* clang-format off */
#define USERS_OPERATION_LIST(operation) \
    operation(USERS_OTHER, "other") /* a path or a method that is refused */ \
    operation(USERS_OPTIONS, "options") \
    operation(USERS_SHOW, "read") \
    operation(USERS_UPDATE, "update") \
    operation(USERS_REGISTER, "register") \
    operation(USERS_ISSUE, "token") \
    operation(USERS_REVOKE, "revoke") \
    operation(USERS_INTROSPECT, "introspect") \
    operation(USERS_DESCRIBE, "metadata") \
    operation(USERS_CHECK, "health") \
    operation(USERS_MEASURE, "metrics")
/* clang-format on */

typedef enum {
#define USERS_OPERATION_DECLARE(name, label) name,
    USERS_OPERATION_LIST(USERS_OPERATION_DECLARE)
#undef USERS_OPERATION_DECLARE
        USERS_OPERATIONS
} users_operation;

#endif
