#include "config/watchdog.h"

#include "config/settings.h"
#include "db/db.h"
#include "http/database.h"

#include <apr_optional.h>
#include <apr_strings.h>
#include <http_log.h>
#include <mod_watchdog.h>
#include <stdatomic.h>

APLOG_USE_MODULE(users);

/* Has this child a database that can be examined? */
typedef enum { CLOSED, OPEN, EXAMINING } watch_state;

/* What one thread of each child watches: the number of a replica of a server's database. */
typedef struct {
    const server_rec *s;
    int replica;
    _Atomic(watch_state) state;
} watch;

static apr_array_header_t *watches; /* watch *, of this configuration */

int users_watchdog_check(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    (void)pconf;
    (void)plog;
    (void)ptemp;
    for (; s; s = s->next) {
        if (users_settings_of(s)->replica && !APR_RETRIEVE_OPTIONAL_FN(ap_watchdog_get_instance)) {
            ap_log_error(APLOG_MARK, APLOG_EMERG, 0, s,
                         "UsersDBReplica needs mod_watchdog, which looks how far a replica has "
                         "come: LoadModule watchdog_module modules/mod_watchdog.so");
            return !OK;
        }
    }
    return OK;
}

/*
 * An ap_watchdog_callback_fn_t, ten times a second. mod_watchdog's threads outlive the memory of a
 * child that ends.
 */
static apr_status_t examine(int state, void *data, apr_pool_t *pool)
{
    watch *w = data;
    watch_state open = OPEN;

    (void)pool;
    if (state == AP_WATCHDOG_STATE_RUNNING &&
        atomic_compare_exchange_strong(&w->state, &open, EXAMINING)) {
        users_db_examine_replica(users_database_get(w->s), w->replica);
        atomic_store(&w->state, OPEN);
    }
    return APR_SUCCESS;
}

void users_watchdog_begin(apr_pool_t *pconf)
{
    watches = apr_array_make(pconf, 1, sizeof(watch *));
}

/*
 * Not one of mod_watchdog's singletons: with these another child takes ten seconds to step in for
 * one that has ended. And each replica has a thread, lest one that is silent holds the others up.
 */
bool users_watchdog_register(const server_rec *s, int replicas, apr_pool_t *pconf)
{
    APR_OPTIONAL_FN_TYPE(ap_watchdog_get_instance) *get =
        APR_RETRIEVE_OPTIONAL_FN(ap_watchdog_get_instance);
    APR_OPTIONAL_FN_TYPE(ap_watchdog_register_callback) *call =
        APR_RETRIEVE_OPTIONAL_FN(ap_watchdog_register_callback);

    for (int i = 0; i < replicas; i++) {
        watch *w = apr_pcalloc(pconf, sizeof(*w));
        ap_watchdog_t *watchdog = NULL;
        const char *name = apr_psprintf(pconf, "users_replica_%d", watches->nelts);
        apr_status_t status = get && call ? get(&watchdog, name, 0, 0, pconf) : APR_ENOTIMPL;

        w->s = s;
        w->replica = i;
        if (status == APR_SUCCESS) {
            status = call(watchdog, 0, w, examine);
        }
        if (status != APR_SUCCESS) {
            ap_log_error(APLOG_MARK, APLOG_EMERG, status, s,
                         "UsersDBReplica: mod_watchdog does not take it");
            return false;
        }
        APR_ARRAY_PUSH(watches, watch *) = w;
    }
    return true;
}

/* Waits for the end of what is under way. */
static apr_status_t stop(void *unused)
{
    (void)unused;
    for (int i = 0; i < watches->nelts; i++) {
        watch *w = APR_ARRAY_IDX(watches, i, watch *);
        watch_state open = OPEN;

        while (!atomic_compare_exchange_strong(&w->state, &open, CLOSED) && open != CLOSED) {
            open = OPEN;
            apr_sleep(apr_time_from_msec(1));
        }
    }
    return APR_SUCCESS;
}

void users_watchdog_open(apr_pool_t *pchild)
{
    if (watches->nelts) {
        apr_pool_pre_cleanup_register(pchild, NULL, stop);
    }
    for (int i = 0; i < watches->nelts; i++) {
        atomic_store(&APR_ARRAY_IDX(watches, i, watch *)->state, OPEN);
    }
}
