/* What usersctl's commands take: options and operands, and what each may hold. */
#ifndef USERS_ARGUMENTS_H
#define USERS_ARGUMENTS_H

#include <stdbool.h>
#include <stdint.h>

typedef enum {
    USERS_ARG_NONE, /* ends a list of them */
    USERS_ARG_DB,
    USERS_ARG_JSON,
    USERS_ARG_HELP,
    USERS_ARG_VERSION,
    USERS_ARG_APPLICATION,
    USERS_ARG_CLIENT_ID,
    USERS_ARG_SCOPES,
    USERS_ARG_DEFAULT_SCOPES,
    USERS_ARG_USER,
    USERS_ARG_USERNAME,
    USERS_ARG_EXPIRES,
    USERS_ARG_SECRET,
    USERS_ARG_HASH,
    USERS_ARG_KEEP_OLD,
    USERS_ARG_OLDER_THAN,
    USERS_ARG_AUDIT_OLDER_THAN,
    USERS_ARG_EVENTS_OLDER_THAN,
    USERS_ARG_BATCH,
    USERS_ARG_LIMIT,
    USERS_ARG_SQL,
    USERS_ARG_PLAN,
    USERS_ARG_GROUP,
    USERS_ARG_COUNTRY,
    USERS_ARG_DOMAIN,
    USERS_ARG_CREATED_SINCE,
    USERS_ARG_ACTION,
    USERS_ARG_SINCE,
    USERS_ARG_UNTIL,
    USERS_ARG_SUSPENDED,
    USERS_ARG_NEWEST,
    USERS_ARG_AFTER,
    USERS_ARG_YES,
    USERS_ARG_FORMAT,
    USERS_ARG_SETTINGS,
    USERS_ARG_HOSTS,
    USERS_ARG_ENDPOINT,
    USERS_ARG_ONCE,
    USERS_ARG_PARALLEL,
    USERS_ARG_TIMEOUT,
    USERS_ARG_ATTEMPTS,
    USERS_ARG_STATE,
    USERS_ARG_FAILING,
    USERS_ARG_DEAD,
    USERS_ARG_EVENTS,
    USERS_ARG_HANDLE,
    USERS_ARG_NAME,
    USERS_ARG_KIND,
    USERS_ARG_DIGEST, /* of a secret; made, never given */
    USERS_ARG_FIELDS, /* the words FIELD=VALUE, as an object in JSON */
    USERS_ARG_LABELS, /* of those words, in JSON */
    USERS_ARG_COUNT
} users_argument;

/* A set of them. */
typedef uint64_t users_argument_set;

#define USERS_BIT(argument) (UINT64_C(1) << (argument))
#define USERS_ARGS_OF_ALL                                                                          \
    (USERS_BIT(USERS_ARG_DB) | USERS_BIT(USERS_ARG_JSON) | USERS_BIT(USERS_ARG_HELP) |             \
     USERS_BIT(USERS_ARG_VERSION))

typedef struct {
    const char *option;  /* its name behind the two dashes; NULL: an operand only */
    const char *operand; /* what stands for its value; NULL: an option without one */
    const char *help;
    const char *words;   /* known ones that it may hold, with ", " between them; NULL: none */
    const char *initial; /* the value where none is given; NULL: none */
    bool (*accepts)(const char *); /* can it hold this value? NULL: any */
    const char *wanted;            /* what it can hold */
} users_argument_kind;

/* By users_argument. */
extern const users_argument_kind users_arguments[USERS_ARG_COUNT];

/* A DURATION, such as 30d, in seconds; 0: it is none. */
int64_t users_argument_seconds(const char *text);

/* What a client secret or a token that is given to us may be (RFC 6749 appendix A). */
bool users_argument_is_secret(const char *text);

/* Is it a password's hash of a kind that the module can verify (as in htpasswd)? */
bool users_argument_is_hash(const char *text);

#endif
