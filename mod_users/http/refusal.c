#include "http/refusal.h"

#include <apr_strings.h>

#define RETRY_AFTER 1 /* seconds: how soon a lost database is tried again */

users_refusal users_refuse_for_now(request_rec *r, int status, users_code code,
                                   const char *sentence, apr_int64_t seconds)
{
    apr_table_setn(r->err_headers_out, "Retry-After",
                   apr_psprintf(r->pool, "%" APR_INT64_T_FMT, seconds));
    return users_refuse_as(status, code, sentence);
}

users_refusal users_refuse_outcome(request_rec *r, users_outcome outcome)
{
    switch (outcome) {
    case USERS_OUTCOME_UNAVAILABLE:
        return users_refuse_for_now(r, HTTP_SERVICE_UNAVAILABLE, USERS_CODE_UNAVAILABLE,
                                    "the service is not available at the moment", RETRY_AFTER);
    case USERS_OUTCOME_LATE:
        return users_refuse(HTTP_GATEWAY_TIME_OUT, "the database did not answer in time");
    case USERS_OUTCOME_UNKNOWN:
        return users_refuse_for_now(
            r, HTTP_SERVICE_UNAVAILABLE, USERS_CODE_OUTCOME_UNKNOWN,
            "the outcome is not known: the change may have been made, or not", RETRY_AFTER);
    default:
        return users_refuse(HTTP_INTERNAL_SERVER_ERROR, USERS_NOT_SERVED);
    }
}
