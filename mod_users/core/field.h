/*
 * The rules of an account's fields: what values they take, and in which form those go to the
 * database. Which field has which rule is account.c's table.
 */
#ifndef USERS_CORE_FIELD_H
#define USERS_CORE_FIELD_H

#include <jansson.h>
#include <stdbool.h>

#define USERS_CANT_BE_BLANK "can't be blank"

#define USERS_CODE_LENGTH 12 /* of the longest code, its NUL included */
#define USERS_CODE_FORMS  6

typedef struct users_field users_field;

/*
 * Judge a value. Returns a new reference to its normal form; NULL where the value is bad, and
 * *fault says why, or, with *fault as it was, where memory ran out. strict: a value of another type
 * is bad. Else an integer is taken for a text, and 0, 1 and their names for a boolean.
 */
typedef json_t *users_rule(const users_field *field, json_t *value, bool strict,
                           const char **fault);

/* What becomes of a field in an operation. */
typedef enum {
    USERS_FIELD_UNKNOWN,      /* not its field: ignored, or a fault where the client is strict */
    USERS_FIELD_READ_ONLY,    /* the same, since only GET shows it */
    USERS_FIELD_REQUIRED,     /* the rule judges null, and what is missing as null */
    USERS_FIELD_OPTIONAL,     /* the rule judges null */
    USERS_FIELD_NULL_CLEARS,  /* null goes to the database */
    USERS_FIELD_BLANK_NULLS,  /* the rule judges null, and what is missing or blank as null */
    USERS_FIELD_BLANK_OMITS,  /* null and a blank text are as good as missing */
    USERS_FIELD_MISFIT_OMITS, /* the same, and a text that has none of the forms */
    USERS_FIELD_EMPTY_OMITS,  /* null and an empty list are */
} users_presence;

enum {
    USERS_FIELD_TOP_LEVEL = 1, /* may stand beside "user" as well as in it */
    USERS_FIELD_IN_BODY = 2,   /* judged only, the database reads it from the body */
    USERS_FIELD_OBJECT = 4,    /* GET shows an object, of which "code" counts */
};

struct users_field {
    const char *name;
    users_rule *read;
    users_presence create;
    users_presence update;
    unsigned options;
    const char *forms[USERS_CODE_FORMS]; /* of a code, see users_code_normalize() */
    const char *fault; /* of a code that has none of them, or that the database does not know */
};

/* Text as it is, up to 255 characters, none of which is a control character. */
users_rule users_read_text;

/* The same, trimmed and not blank. */
users_rule users_read_name;

/* A name in lower case; null is the default one. */
users_rule users_read_provider;

/* An address (core/address.h), trimmed and in Normalisation Form C. */
users_rule users_read_email;

/* A code that has one of the field's forms. */
users_rule users_read_code;

users_rule users_read_boolean;
users_rule users_read_object;

/* An object that the labels can take in: each member but a null one will be in them. */
users_rule users_read_labels;

/*
 * Put text into a form of the field: "a" and "A" stand for a letter, to be put in that case, "0"
 * for a digit, and "-" also for "_". False where it has none.
 */
bool users_code_normalize(const users_field *field, const char *text, char code[USERS_CODE_LENGTH]);

/* Is it null, or text that shows nothing? */
bool users_is_unset(const json_t *value);

#endif
