/*
 * Decoding: results come in binary format, whose text has a NUL behind it all the same. Custom
 * contracts may use other integer widths, so statements cast. What is null comes as NULL, 0 or
 * false.
 */
#ifndef USERS_DB_RESULT_H
#define USERS_DB_RESULT_H

#include "db/db.h"

#include <apr.h>
#include <endian.h>
#include <libpq-fe.h>
#include <stdbool.h>
#include <string.h>

static inline const char *users_text_at(const PGresult *result, int row, int column)
{
    return PQgetisnull(result, row, column) ? NULL : PQgetvalue(result, row, column);
}

static inline apr_int64_t users_int8_at(const PGresult *result, int row, int column)
{
    apr_uint64_t number = 0;

    if (!PQgetisnull(result, row, column)) {
        memcpy(&number, PQgetvalue(result, row, column), sizeof(number));
    }
    return (apr_int64_t)be64toh(number);
}

static inline bool users_bool_at(const PGresult *result, int row, int column)
{
    return !PQgetisnull(result, row, column) && *PQgetvalue(result, row, column);
}

/* A SHA-256 digest; NULL also where it can't be one. */
static inline const unsigned char *users_digest_at(const PGresult *result, int row, int column)
{
    return PQgetlength(result, row, column) == USERS_DIGEST_LENGTH
               ? (const unsigned char *)PQgetvalue(result, row, column)
               : NULL;
}

/* The owner in a row of (application, user, scopes, suspended, document). Memory of the result. */
static inline users_principal users_principal_at(const PGresult *result, int row)
{
    return (users_principal){.application = users_int8_at(result, row, 0),
                             .user = users_int8_at(result, row, 1),
                             .scopes = users_text_at(result, row, 2),
                             .suspended = users_bool_at(result, row, 3),
                             .document = users_text_at(result, row, 4),
                             .document_length = (apr_size_t)PQgetlength(result, row, 4)};
}

#endif
