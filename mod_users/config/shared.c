#include "config/shared.h"

#include "http/process.h"

#include <apr_hash.h>
#include <apr_strings.h>

/* Of a connection string. */
typedef struct {
    struct users_noted *noted;
    struct users_capacity *capacity;
} memory;

static apr_hash_t *memories; /* by connection string; of this configuration */

void users_shared_begin(apr_pool_t *pconf)
{
    memories = apr_hash_make(pconf);
}

/* A name's number is that of the layout: users_process_shared(). */
static memory memory_of(const server_rec *s, const char *conninfo)
{
    memory *found = apr_hash_get(memories, conninfo, APR_HASH_KEY_STRING);
    apr_pool_t *pool = apr_hash_pool_get(memories);
    const char *server;

    if (!found) {
        server = users_conninfo_server(conninfo, pool);
        found = apr_palloc(pool, sizeof(*found));
        found->noted = users_process_shared(s, apr_pstrcat(pool, "noted 1 ", conninfo, NULL),
                                            users_db_noted_size());
        found->capacity = users_process_shared(s, apr_pstrcat(pool, "capacity 1 ", server, NULL),
                                               users_db_capacity_size());
        apr_hash_set(memories, conninfo, APR_HASH_KEY_STRING, found);
    }
    return *found;
}

void users_shared_find(const server_rec *s, users_db_settings *settings)
{
    memory own = memory_of(s, settings->conninfo);

    settings->noted = own.noted;
    settings->capacity = own.capacity;
    if (settings->replica) {
        memory replicas = memory_of(s, settings->replica);

        settings->replica_noted = replicas.noted;
        settings->replica_capacity = replicas.capacity;
    }
}
