#include "http/process.h"

#include <ap_mpm.h>
#include <apr_hash.h>
#include <apr_shm.h>
#include <apr_strings.h>
#include <http_core.h>
#include <string.h>

#define REGISTRY "mod_users_registry_1" /* the number is that of the form of these two: */

typedef struct {
    apr_hash_t *entries; /* by name and size */
    unsigned reading;    /* counts how often a configuration was read */
} registry;

typedef struct {
    apr_pool_t *pool; /* the entry's own, and everything's in it */
    const char *key;
    void *memory;
    unsigned reading; /* the last that had a use for it */
} entry;

bool users_process_is_reload(void)
{
    int generation = 0;

    ap_mpm_query(AP_MPMQ_GENERATION, &generation);
    return generation > 0;
}

/* In httpd's own pool: configurations come and go, and so does this module. */
static registry *registry_of(const server_rec *s)
{
    apr_pool_t *process = s->process->pool;
    void *found = NULL;
    registry *made;

    apr_pool_userdata_get(&found, REGISTRY, process);
    if (found) {
        return found;
    }
    made = apr_pcalloc(process, sizeof(*made));
    made->entries = apr_hash_make(process);
    apr_pool_userdata_set(made, REGISTRY, NULL, process); /* copies the key */
    return made;
}

static void *make_memory(apr_pool_t *pool, apr_size_t size, bool shared)
{
    apr_shm_t *segment;
    void *memory = NULL;

    if (!shared) {
        return apr_pcalloc(pool, size);
    }
    if (apr_shm_create(&segment, size, NULL, pool) == APR_SUCCESS) {
        memory = apr_shm_baseaddr_get(segment);
        memset(memory, 0, size);
    }
    return memory;
}

static void *find_memory(const server_rec *s, const char *name, apr_size_t size, bool shared)
{
    registry *all = registry_of(s);
    const char *key =
        apr_psprintf(s->process->pconf, "%" APR_SIZE_T_FMT " %d %s", size, shared, name);
    entry *found = apr_hash_get(all->entries, key, APR_HASH_KEY_STRING);
    apr_pool_t *pool;
    void *memory;

    if (!found) {
        if (apr_pool_create(&pool, s->process->pool) != APR_SUCCESS) {
            return NULL;
        }
        memory = make_memory(pool, size, shared);
        if (!memory) {
            apr_pool_destroy(pool);
            return NULL;
        }
        found = apr_palloc(pool, sizeof(*found));
        *found = (entry){.pool = pool, .key = apr_pstrdup(pool, key), .memory = memory};
        apr_hash_set(all->entries, found->key, APR_HASH_KEY_STRING, found);
    }
    found->reading = all->reading;
    return found->memory;
}

void *users_process_memory(const server_rec *s, const char *name, apr_size_t size)
{
    void *memory = find_memory(s, name, size, false);

    return memory ? memory : apr_pcalloc(s->process->pconf, size);
}

void *users_process_shared(const server_rec *s, const char *name, apr_size_t size)
{
    return find_memory(s, name, size, true);
}

int users_process_begin(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    (void)pconf;
    (void)plog;
    (void)ptemp;
    registry_of(s)->reading++;
    return OK;
}

/* Children that still use shared memory have it mapped themselves. */
int users_process_end(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    registry *all = registry_of(s);

    (void)pconf;
    (void)plog;
    for (apr_hash_index_t *i = apr_hash_first(ptemp, all->entries); i; i = apr_hash_next(i)) {
        entry *each = apr_hash_this_val(i);

        if (each->reading != all->reading) {
            apr_hash_set(all->entries, each->key, APR_HASH_KEY_STRING, NULL);
            apr_pool_destroy(each->pool);
        }
    }
    return OK;
}
