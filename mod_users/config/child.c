#include "config/child.h"

#include "config/settings.h"
#include "config/shared.h"
#include "config/watchdog.h"
#include "http/database.h"
#include "http/figures.h"
#include "http/process.h"

#include <ap_mpm.h>
#include <http_core.h>
#include <http_log.h>

APLOG_USE_MODULE(users);

/* The process's, for changes through any server; NULL where none has a replica. */
static struct users_writers *writers;

static bool has_replica(const server_rec *s)
{
    for (; s; s = s->next) {
        if (users_settings_of(s)->replica) {
            return true;
        }
    }
    return false;
}

static users_db_settings settings_for(const server_rec *s)
{
    const users_settings *from = users_settings_of(s);
    int threads = 1;

    ap_mpm_query(AP_MPMQ_MAX_THREADS, &threads);
    return (users_db_settings){.conninfo = from->conninfo,
                               .password = from->password,
                               .replica = from->replica,
                               .replica_password = from->replica_password,
                               .db_keep = from->db_keep,
                               .db_max = from->db_max,
                               .db_exptime = from->db_exptime,
                               .db_acquire_timeout = from->db_acquire_timeout,
                               .db_connect_timeout = from->db_connect_timeout,
                               .db_timeout = from->db_timeout,
                               .request_timeout = from->request_timeout,
                               .db_prepare = from->db_prepare == USERS_FLAG_ON,
                               .threads = threads > 1 ? threads : 1,
                               .read_lanes = from->read_lanes,
                               .change_lanes = from->change_lanes,
                               .replica_lag = from->replica_lag,
                               .writers = writers};
}

/* Also without an endpoint: AuthType Users may stand anywhere. It connects when it is asked. */
static bool has_database(const server_rec *s)
{
    return users_settings_of(s)->conninfo;
}

/* The first server from s on whose database will do for another one's, which may be itself. */
static const server_rec *first_with_same(const server_rec *s, const users_db_settings *settings)
{
    for (;; s = s->next) {
        if (has_database(s)) {
            users_db_settings other = settings_for(s);

            if (users_db_is_same(&other, settings)) {
                return s;
            }
        }
    }
}

static bool has_own_database(const server_rec *s, const server_rec *each,
                             users_db_settings *settings)
{
    if (!has_database(each)) {
        return false;
    }
    *settings = settings_for(each);
    return first_with_same(s, settings) == each;
}

/* How many connections all children together may open to each server. */
static void count_connections(const server_rec *s)
{
    int children = 1;
    users_db_settings settings;

    ap_mpm_query(AP_MPMQ_MAX_DAEMONS, &children);
    for (const server_rec *each = s; each; each = each->next) {
        if (has_own_database(s, each, &settings)) {
            users_shared_find(each, &settings);
            users_db_capacity_begin(settings.capacity, children);
            for (int i = 0; i < settings.replica_count; i++) {
                users_db_capacity_begin(settings.replicas[i].capacity, children);
            }
        }
    }
    for (const server_rec *each = s; each; each = each->next) {
        if (has_own_database(s, each, &settings)) {
            users_shared_find(each, &settings);
            users_db_capacity_add(settings.capacity, settings.db_max);
            for (int i = 0; i < settings.replica_count; i++) {
                users_db_capacity_add(settings.replicas[i].capacity, settings.db_max);
            }
        }
    }
}

static bool watch_replicas(const server_rec *s, apr_pool_t *pconf)
{
    bool good = true;
    users_db_settings settings;

    users_watchdog_begin(pconf);
    for (const server_rec *each = s; each && good; each = each->next) {
        if (has_own_database(s, each, &settings)) {
            users_shared_find(each, &settings);
            good = users_watchdog_register(each, settings.replica_count, pconf);
        }
    }
    return good;
}

int users_child_prepare(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    (void)plog;
    (void)ptemp;
    writers = NULL;
    if (ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG) {
        return OK;
    }
    users_shared_begin(pconf);
    count_connections(s);
    if (!watch_replicas(s, pconf)) {
        return !OK;
    }
    if (!has_replica(s)) {
        return OK;
    }
    writers = users_process_shared(s, "writers 2", users_db_shared_size());
    if (!writers) {
        ap_log_error(APLOG_MARK, APLOG_EMERG, 0, s,
                     "UsersDBReplica: no shared memory could be had");
        return !OK;
    }
    return OK;
}

void users_child_open(apr_pool_t *pchild, server_rec *s)
{
    users_database_begin(pchild);
    users_shared_attach(pchild);
    for (server_rec *each = s; each; each = each->next) {
        if (has_database(each)) {
            users_db_settings settings = settings_for(each);
            const server_rec *first = first_with_same(s, &settings);
            users_log log = users_database_log(each);

            if (first == each) {
                users_shared_find(each, &settings);
                settings.figures = users_figures_here();
            }
            users_database_set(each, first == each ? users_db_open(pchild, &settings, &log)
                                                   : users_database_get(first));
        }
    }
    users_watchdog_open(pchild);
}
