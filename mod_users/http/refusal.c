#include "http/refusal.h"

#include <apr_strings.h>

#define RETRY_AFTER 1 /* seconds: how soon a lost database is tried again */

users_refusal users_refuse_for_now(request_rec *r, int status, const char *sentence,
                                   apr_int64_t seconds)
{
    apr_table_setn(r->err_headers_out, "Retry-After",
                   apr_psprintf(r->pool, "%" APR_INT64_T_FMT, seconds));
    return users_refuse(status, sentence);
}

users_refusal users_refuse_failure(request_rec *r, users_db_status status, bool is_read)
{
    const char *unavailable = "the service is not available at the moment";

    switch (status) {
    case USERS_DB_INVALID:
        return users_refuse(HTTP_BAD_REQUEST, "the request body has a number that is out of range");
    case USERS_DB_TIMEOUT:
    case USERS_DB_LATE:
        if (is_read) {
            return users_refuse(HTTP_GATEWAY_TIME_OUT, "the database did not answer in time");
        }
        break;
    case USERS_DB_UNKNOWN:
        unavailable = "the outcome is not known: the change may have been made, or not";
        break;
    case USERS_DB_BUSY:
    case USERS_DB_UNREACHABLE:
    case USERS_DB_READ_ONLY:
    case USERS_DB_LOST:
    case USERS_DB_CONFLICT:
        break;
    default:
        return users_refuse(HTTP_INTERNAL_SERVER_ERROR, USERS_NOT_SERVED);
    }
    return users_refuse_for_now(r, HTTP_SERVICE_UNAVAILABLE, unavailable, RETRY_AFTER);
}
