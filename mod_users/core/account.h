/*
 * The fields of an account that a client may set: names, limits, normalisation.
 * What only the database can judge (known codes, addresses that are taken) is judged there.
 */
#ifndef USERS_CORE_ACCOUNT_H
#define USERS_CORE_ACCOUNT_H

#include "core/code.h"

#include <apr_pools.h>
#include <apr_tables.h>
#include <jansson.h>
#include <stdbool.h>

/* One thing that is wrong with a request. */
typedef struct {
    const char *field;   /* "currency" */
    const char *text;    /* what follows the field in a sentence: "is not a known currency" */
    const char *pointer; /* RFC 6901, into the request: "/user/currency"; NULL: not in the body */
    users_code code;     /* USERS_CODE_NONE: that of the text */
} users_fault;

typedef enum { USERS_ACCOUNT_CREATE, USERS_ACCOUNT_UPDATE } users_account_purpose;

/*
 * Judge what a request body (users_request_parse's) wants to set, all of it at once.
 *
 * Returns a new object (the caller's reference) with those fields that the client named and
 * that are good, normalised: names and addresses trimmed, codes in their case, a currency as its
 * code, null where the client clears. Labels stay in the body: the database reads them from
 * there, since their numbers may have more digits than a C double. NULL where
 * memory ran out.
 *
 * body: also read at its top level for provider, provider_server, provider_username
 * and labels when creating. strict: unknown and read-only members of "user" are faults (RFC 7240
 * handling=strict), otherwise they are ignored; and so are integers for texts and booleans.
 * faults: users_fault appended in the order of the fields, in memory of the array's pool.
 */
json_t *users_account_read(json_t *body, users_account_purpose purpose, bool strict,
                           apr_array_header_t *faults);

/*
 * Is text, as it is, in a form that this field's codes have? Whether there is such a code only the
 * database knows.
 */
bool users_account_is_code(const char *name, const char *text);

/* May the owner of an account change this field? */
bool users_account_is_owners(const char *name);

/*
 * Has the body (users_request_parse's) a member that the database reads from there? Else the fields
 * of users_account_read() are all that it needs.
 */
bool users_account_needs_body(const json_t *body, users_account_purpose purpose);

/*
 * Take out of the body of a change those fields with a fault that are as in account, the members of
 * GET's "user": there they change nothing. Returns whether there are any.
 */
bool users_account_leave_out(json_t *body, const json_t *account, const apr_array_header_t *faults);

/* Append a fault of a field, in memory of the array's pool; field and text are copied. */
void users_fault_add(apr_array_header_t *faults, const char *field, const char *text,
                     const char *pointer);

/* Put faults into the order of the fields; those of one field keep theirs. */
void users_fault_sort(apr_array_header_t *faults);

#endif
