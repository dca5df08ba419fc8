#include "http/process.h"

#include <apr_shm.h>
#include <apr_strings.h>
#include <string.h>

/* The key is one of httpd's own pool: configurations come and go, and so does this module. */
void *users_process_shared(const server_rec *s, const char *name, apr_size_t size)
{
    apr_pool_t *process = s->process->pool;
    const char *key =
        apr_psprintf(s->process->pconf, "mod_users %" APR_SIZE_T_FMT " %s", size, name);
    void *memory = NULL;
    apr_shm_t *shared;

    apr_pool_userdata_get(&memory, key, process);
    if (!memory && apr_shm_create(&shared, size, NULL, process) == APR_SUCCESS) {
        memory = apr_shm_baseaddr_get(shared);
        memset(memory, 0, size);
        apr_pool_userdata_set(memory, key, NULL, process); /* copies the key */
    }
    return memory;
}
