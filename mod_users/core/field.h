/*
 * The rules of an account's fields: what values they take, and in which form those go to the
 * database. Which field has which rule is account.c's table.
 */
#ifndef USERS_CORE_FIELD_H
#define USERS_CORE_FIELD_H

#include <jansson.h>
#include <stdbool.h>

#define USERS_CANT_BE_BLANK "can't be blank"

#define USERS_CODE_LENGTH 6 /* of the longest code, its NUL included */

typedef struct users_field users_field;

/*
 * Judge a value. Returns a new reference to its normal form; NULL where the value is bad, and
 * *fault says why, or, with *fault as it was, where memory ran out.
 */
typedef json_t *users_rule(const users_field *field, json_t *value, const char **fault);

/* What becomes of a field in an operation. */
typedef enum {
    USERS_FIELD_UNKNOWN,      /* not its field: ignored, or a fault where the client is strict */
    USERS_FIELD_READ_ONLY,    /* the same, since only GET shows it */
    USERS_FIELD_REQUIRED,     /* the rule judges null, and what is missing as null */
    USERS_FIELD_OPTIONAL,     /* the rule judges null */
    USERS_FIELD_NULL_CLEARS,  /* null goes to the database */
    USERS_FIELD_NULL_OMITS,   /* null is as good as missing */
    USERS_FIELD_BLANK_OMITS,  /* null and a blank string are */
    USERS_FIELD_MISFIT_OMITS, /* null and a string that breaks the rule are */
} users_presence;

enum {
    USERS_FIELD_TOP_LEVEL = 1, /* may stand beside "user" as well as in it */
    USERS_FIELD_IN_BODY = 2,   /* judged only, the database reads it from the body */
};

struct users_field {
    const char *name;
    users_rule *read;
    users_presence create;
    users_presence update;
    unsigned options;
    const char *forms[2]; /* of a code: "a" and "A" stand for a letter, to be put in that case */
    const char *fault;    /* of a code that has none of them, or that the database does not know */
};

/* Text as it is, up to 255 characters. */
users_rule users_read_text;

/* The same, trimmed and not blank. */
users_rule users_read_name;

/* A name in lower case; null is the default one. */
users_rule users_read_provider;

users_rule users_read_email;

/* A code that has one of the field's forms, or GET's object with such a code. */
users_rule users_read_code;
users_rule users_read_code_or_object;

users_rule users_read_boolean;
users_rule users_read_object;

/* Put text into a form of the field. False where it has none. */
bool users_code_normalize(const users_field *field, const char *text, char code[USERS_CODE_LENGTH]);

/* Is it null, or text without anything but white space? */
bool users_is_unset(const json_t *value);

#endif
