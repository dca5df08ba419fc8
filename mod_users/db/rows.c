#include "db/rows.h"

#include <apr_atomic.h>
#include <arpa/inet.h>
#include <string.h>

/* Lists */

static apr_size_t length_of(const users_parameter *element)
{
    if (!element->value) {
        return 0;
    }
    return element->length ? (apr_size_t)element->length : strlen(element->value);
}

static char *put_int4(char *end, apr_uint32_t number)
{
    number = htonl(number);
    memcpy(end, &number, sizeof(number));
    return end + sizeof(number);
}

users_parameter users_rows_list(apr_pool_t *pool, users_element_type type,
                                const users_parameter *elements, int count)
{
    apr_size_t size = 5 * sizeof(apr_uint32_t);
    char *list;
    char *end;

    for (int i = 0; i < count; i++) {
        size += sizeof(apr_uint32_t) + length_of(&elements[i]);
    }
    list = end = apr_palloc(pool, size);
    end = put_int4(end, 1); /* dimension */
    end = put_int4(end, 1); /* there may be nulls */
    end = put_int4(end, type);
    end = put_int4(end, (apr_uint32_t)count);
    end = put_int4(end, 1); /* the first one's number */
    for (int i = 0; i < count; i++) {
        apr_size_t length = length_of(&elements[i]);

        end = put_int4(end, elements[i].value ? (apr_uint32_t)length : (apr_uint32_t)-1);
        if (length) {
            memcpy(end, elements[i].value, length);
        }
        end += length;
    }
    return (users_parameter){list, (int)size};
}

/* Rows */

users_rows *users_rows_share(PGresult *result, bool *failed)
{
    bool found = PQntuples(result) > 0;
    users_rows *rows = found ? PQresultAlloc(result, sizeof(*rows)) : NULL;

    *failed = found && !rows;
    if (!rows) {
        PQclear(result);
        return NULL;
    }
    *rows = (users_rows){.result = result};
    return rows;
}

static apr_status_t leave(void *data)
{
    users_rows *rows = data;

    if (!apr_atomic_dec32(&rows->readers)) {
        PQclear(rows->result);
    }
    return APR_SUCCESS;
}

void users_rows_free_with(apr_pool_t *pool, users_rows *rows)
{
    apr_pool_cleanup_register(pool, rows, leave, apr_pool_cleanup_null);
}
