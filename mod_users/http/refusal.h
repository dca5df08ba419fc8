/* What stands between a request and its answer: one type for the access checker and handlers. */
#ifndef USERS_HTTP_REFUSAL_H
#define USERS_HTTP_REFUSAL_H

#include "core/code.h"
#include "db/db.h"

#include <httpd.h>

#include <stdbool.h>

/* The header fields that go with it are set on the request when it is made. */
typedef struct {
    int status;           /* OK: there is none; AP_FILTER_ERROR: a filter has answered already */
    const char *sentence; /* for the client, in memory of the request */
    users_code code;      /* USERS_CODE_NONE: what the status says */
    const char *error;    /* RFC 6749 section 5.2, at an OAuth endpoint; NULL: anywhere else */
} users_refusal;

#define USERS_NOT_SERVED "the request could not be served" /* what a 500 says */

static inline users_refusal users_refuse(int status, const char *sentence)
{
    return (users_refusal){.status = status, .sentence = sentence};
}

/* The same, where the status does not say enough to a program. */
static inline users_refusal users_refuse_as(int status, users_code code, const char *sentence)
{
    return (users_refusal){.status = status, .code = code, .sentence = sentence};
}

/* The request may go on. */
static inline users_refusal users_pass(void)
{
    return (users_refusal){.status = OK};
}

/* A refusal that ends by itself. seconds: when to try again (Retry-After). */
users_refusal users_refuse_for_now(request_rec *r, int status, users_code code,
                                   const char *sentence, apr_int64_t seconds);

/* What an outcome of the database, but DONE, is to the client. */
users_refusal users_refuse_outcome(request_rec *r, users_outcome outcome);

#endif
