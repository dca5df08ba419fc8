/* Statements of the contract (schema users_api). */
#ifndef USERS_DB_STATEMENT_H
#define USERS_DB_STATEMENT_H

#include <stdbool.h>

/* Each is a bit of a connection, which knows what is prepared there. */
typedef enum {
    USERS_FIND_TOKEN,
    USERS_FIND_TOKEN_ACCOUNT,
    USERS_FIND_TOKENS,
    USERS_FIND_OWNERS,
    USERS_FIND_CREDENTIAL,
    USERS_FIND_CREDENTIAL_ACCOUNT,
    USERS_FIND_EXTERNAL,
    USERS_FIND_EXTERNAL_ACCOUNT,
    USERS_FIND_BY_ID,
    USERS_FIND_BY_ID_ACCOUNT,
    USERS_FIND_APPLICATION,
    USERS_FIND_ACCOUNT,
    USERS_INTROSPECT_TOKEN,
    USERS_UPDATE_ACCOUNT,
    USERS_UPDATE_ACCOUNT_WITH_NOTE,
    USERS_UPDATE_ACCOUNTS,
    USERS_UPDATE_ACCOUNTS_WITH_NOTE,
    USERS_REGISTER_ACCOUNT,
    USERS_REGISTER_ACCOUNT_WITH_NOTE,
    USERS_REGISTER_ACCOUNTS,
    USERS_REGISTER_ACCOUNTS_WITH_NOTE,
    USERS_ISSUE_TOKEN,
    USERS_REVOKE_TOKEN,
    USERS_LOG_FLUSHED,
    USERS_LOG_REPLAYED,
    USERS_CHECK_HEALTH,
    USERS_INSPECT_SESSION, /* which runs too seldom to be prepared */
    USERS_STATEMENTS
} users_statement_number;

_Static_assert(USERS_STATEMENTS <= 32, "an unsigned has no bit for every statement");

#define USERS_PARAMETERS_MAX 14

/* Prepared on a connection when it first runs there, where db_prepare says so. */
typedef struct {
    users_statement_number number;
    const char *name;
    const char *sql;
    int parameters; /* USERS_PARAMETERS_MAX at most */
    bool reads;     /* it changes nothing, so that it may run twice */
    bool examines;  /* it is no request's: it has a connection beyond db_max, if it needs one */
    bool optional;  /* a contract of one's own may lack the function */
    bool with_note; /* it is for UsersAudit and UsersEvents */
} users_statement;

/* A parameter: text where length is 0 (value then ends in NUL), else that many octets. */
typedef struct {
    const char *value; /* NULL: SQL's null */
    int length;
} users_parameter;

#endif
