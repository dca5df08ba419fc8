/* Records on standard input, CSV (RFC 4180) or NDJSON, as objects in JSON. */
#ifndef USERS_RECORDS_H
#define USERS_RECORDS_H

#include <apr_pools.h>
#include <apr_tables.h>
#include <stdbool.h>

#define USERS_RECORD_MAX 65536 /* octets */

/* What a record is, or why it is none. */
typedef struct {
    apr_int64_t line; /* where it begins; the first is 1 */
    const char *text; /* an object or another value in JSON; NULL: there is a fault */
    const char *fault;
} users_record;

typedef struct users_records users_records;

/*
 * Begin to read, in memory of pool. format: csv or ndjson; NULL: NDJSON where the first octet is a
 * brace or a bracket, else CSV. columns: the names that CSV's first line may have (const char *).
 */
users_records *users_records_open(apr_pool_t *pool, const char *format,
                                  const apr_array_header_t *columns);

/*
 * Read the next record, in memory that lasts until the next call. Lines without an octet are left
 * out. False at the end, or where standard input can't be read. What is wrong with CSV's first line
 * is the only record then.
 */
bool users_records_next(users_records *r, users_record *record);

/* Why standard input can't be read (errno); 0: it can. */
int users_records_error(const users_records *r);

#endif
