#include "config/shared.h"

#include "config/settings.h"
#include "http/process.h"

#include <apr_hash.h>
#include <apr_strings.h>
#include <http_log.h>

APLOG_USE_MODULE(users);

/* Of a connection string. */
typedef struct {
    struct users_noted *noted;
    struct users_health *health;
    struct users_capacity *capacity;
    struct users_lanes *lanes;
} memory;

/* What outlives it. */
typedef struct {
    struct users_lanes *lanes;
} kept_lanes;

/* Of this configuration: by connection string, and by server. */
static apr_hash_t *memories;
static apr_hash_t *lanes;

void users_shared_begin(apr_pool_t *pconf)
{
    memories = apr_hash_make(pconf);
    lanes = apr_hash_make(pconf);
}

/*
 * Those of a database server, of which the first virtual host that has it says how many. They
 * outlive reloads: APR destroys a lock when it is in no process's use, and one of a child that was
 * forked but has not begun yet is not counted.
 */
static struct users_lanes *lanes_of(const server_rec *s, const char *server)
{
    int count = users_settings_of(s)->host_lanes;
    struct users_lanes *found = apr_hash_get(lanes, server, APR_HASH_KEY_STRING);
    kept_lanes *kept;

    if (found || count == USERS_NONE) {
        return found;
    }
    kept = users_process_memory(
        s, apr_psprintf(apr_hash_pool_get(lanes), "lanes 1 %d %s", count, server), sizeof(*kept));
    if (!kept->lanes) {
        kept->lanes = users_db_lanes(s->process->pool, count);
    }
    if (!kept->lanes) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                     "UsersHostLanes: the system has no such locks, so there may be any number");
    }
    apr_hash_set(lanes, server, APR_HASH_KEY_STRING, kept->lanes);
    return kept->lanes;
}

void users_shared_attach(apr_pool_t *pchild)
{
    for (apr_hash_index_t *i = apr_hash_first(pchild, lanes); i; i = apr_hash_next(i)) {
        users_db_lanes_attach(apr_hash_this_val(i), pchild);
    }
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
        found->health = users_process_shared(s, apr_pstrcat(pool, "health 1 ", conninfo, NULL),
                                             users_db_health_size());
        found->capacity = users_process_shared(s, apr_pstrcat(pool, "capacity 1 ", server, NULL),
                                               users_db_capacity_size());
        found->lanes = lanes_of(s, server);
        apr_hash_set(memories, conninfo, APR_HASH_KEY_STRING, found);
    }
    return *found;
}

/* What has been seen of a replica is so for all that have the same primary and the same lag. */
static struct users_standing *standing_of(const server_rec *s, const users_db_settings *settings,
                                          const char *replica)
{
    return users_process_shared(s,
                                apr_psprintf(apr_hash_pool_get(memories),
                                             "standing 1 %" APR_TIME_T_FMT " %s %s",
                                             settings->replica_lag, replica, settings->conninfo),
                                users_db_standing_size());
}

static void find_replicas(const server_rec *s, users_db_settings *settings)
{
    apr_pool_t *pool = apr_hash_pool_get(memories);
    const apr_array_header_t *hosts = users_conninfo_hosts(settings->replica, pool);
    users_db_replica *replicas = apr_pcalloc(pool, (apr_size_t)hosts->nelts * sizeof(*replicas));

    for (int i = 0; i < hosts->nelts; i++) {
        const char *conninfo = APR_ARRAY_IDX(hosts, i, const char *);
        memory own = memory_of(s, conninfo);

        replicas[i] = (users_db_replica){.conninfo = conninfo,
                                         .noted = own.noted,
                                         .capacity = own.capacity,
                                         .health = own.health,
                                         .lanes = own.lanes,
                                         .standing = standing_of(s, settings, conninfo)};
    }
    settings->replicas = replicas;
    settings->replica_count = hosts->nelts;
}

void users_shared_find(const server_rec *s, users_db_settings *settings)
{
    memory own = memory_of(s, settings->conninfo);

    settings->noted = own.noted;
    settings->health = own.health;
    settings->capacity = own.capacity;
    settings->host_lanes = own.lanes;
    if (settings->replica) {
        find_replicas(s, settings);
    }
}
