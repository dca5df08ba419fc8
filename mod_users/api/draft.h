/* What a request wants stored, from its body to the faults that are found in it. */
#ifndef USERS_API_DRAFT_H
#define USERS_API_DRAFT_H

#include "auth/access.h"
#include "db/db.h"

#include <httpd.h>
#include <jansson.h>
#include <stdbool.h>

/* It lives as long as its request. */
typedef struct {
    json_t *json;               /* users_request_parse()'s */
    const char *text;           /* what that was */
    json_t *fields;             /* what of it is good */
    apr_array_header_t *faults; /* users_fault: what is not */
    users_submission wanted;    /* what the database is asked for */
    bool lacks_country;         /* the client named none that is good */
} users_draft;

/* What stands between a request and any answer with content: a 406. */
users_refusal users_judge_accept(const users_admission *admission);

/* Add the fault of a version that we do not serve. */
void users_judge_version(request_rec *r, const users_accept *accept, apr_array_header_t *faults);

/* Read the body of a PATCH or POST, and judge it. */
users_refusal users_draft_read(request_rec *r, const users_admission *admission,
                               users_draft *draft);

/* Judge its json anew: sets all members below that. */
void users_draft_judge(request_rec *r, const users_admission *admission, users_draft *draft);

/* Add faults that the database has found: an array of {"field", "text"}, or NULL. */
void users_draft_add_faults(users_draft *draft, const json_t *found);

/* Answer with all faults, in the order of the fields. */
int users_draft_reply(request_rec *r, const users_admission *admission, const users_draft *draft);

#endif
