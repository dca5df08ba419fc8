#include "db/db.h"

#include "db/accounts.h"
#include "db/capacity.h"
#include "db/replica.h"
#include "db/route.h"
#include "db/tokens.h"
#include "db/trouble.h"
#include "db/turns.h"

#include <apr_strings.h>
#include <string.h>
#include <unistd.h>

bool users_db_is_same(const users_db_settings *a, const users_db_settings *b)
{
    return strcmp(a->conninfo, b->conninfo) == 0 && a->db_keep == b->db_keep &&
           a->db_max == b->db_max && a->db_exptime == b->db_exptime &&
           a->db_acquire_timeout == b->db_acquire_timeout &&
           a->db_connect_timeout == b->db_connect_timeout && a->db_timeout == b->db_timeout &&
           a->db_prepare == b->db_prepare && a->read_lanes == b->read_lanes &&
           a->change_lanes == b->change_lanes &&
           strcmp(a->replica ? a->replica : "", b->replica ? b->replica : "") == 0 &&
           (!a->replica || a->replica_lag == b->replica_lag);
}

apr_size_t users_db_shared_size(void)
{
    return sizeof(struct users_writers);
}

/* Without shared memory a process tells for itself. */
static void own_memory(apr_pool_t *pool, users_db_settings *settings)
{
    if (!settings->figures) {
        settings->figures = apr_pcalloc(pool, sizeof(*settings->figures));
    }
    if (!settings->noted) {
        settings->noted = apr_pcalloc(pool, users_db_noted_size());
    }
    if (!settings->health) {
        settings->health = apr_pcalloc(pool, users_db_health_size());
    }
    if (!settings->capacity) {
        settings->capacity = apr_pcalloc(pool, users_db_capacity_size());
        users_db_capacity_begin(settings->capacity, 1);
        users_db_capacity_add(settings->capacity, settings->db_max);
    }
}

/* While all of these wait for locks, reads have a connection and other changes another. */
static int turns_of(const users_db_settings *settings)
{
    return settings->db_max > 3 ? settings->db_max - 2 : 1;
}

static users_db *open_one(apr_pool_t *pool, users_db_settings *settings, const users_log *log,
                          const char *kind)
{
    users_db *db = apr_pcalloc(pool, sizeof(*db));

    db->log = *log;
    db->name = apr_pstrcat(pool, kind, " ", users_conninfo_name(settings->conninfo, pool), NULL);
    db->settings = settings;
    own_memory(pool, settings);
    db->pool = users_pool_create(pool, &db->log, settings, db->name);
    if (settings->read_lanes > 0) {
        db->tokens = users_batcher_create(pool, settings->read_lanes, settings->host_lanes,
                                          users_tokens_find_all, db);
    }
    users_accounts_share(pool, db, settings->change_lanes);
    db->turns = users_turns_create(pool, turns_of(settings), settings->threads);
    return db->pool && db->turns ? db : NULL;
}

/* Half of the time that a request has is the primary's, should it have to be asked, too. */
static users_db_settings *replica_settings(apr_pool_t *pool, const users_db_settings *settings,
                                           const users_db_replica *replica)
{
    users_db_settings *own = apr_pmemdup(pool, settings, sizeof(*settings));

    own->role = USERS_ROLE_REPLICA;
    own->conninfo = replica->conninfo;
    own->password = settings->replica_password;
    own->noted = replica->noted;
    own->capacity = replica->capacity;
    own->health = replica->health;
    own->host_lanes = replica->lanes;
    if (own->db_timeout > settings->request_timeout / 2) {
        own->db_timeout = settings->request_timeout / 2;
    }
    return own;
}

/* One that could not be opened, of which the log has a line, is left out. */
static void open_replicas(apr_pool_t *pool, users_db *primary, const users_log *log)
{
    const users_db_settings *settings = primary->settings;
    int count = settings->replica ? settings->replica_count : 0;

    primary->replicas = apr_pcalloc(pool, (apr_size_t)count * sizeof(*primary->replicas));
    primary->turn = (apr_uint32_t)getpid(); /* the children do not all begin with the same */
    for (int i = 0; i < count; i++) {
        const users_db_replica *from = &settings->replicas[i];
        users_replica *replica = &primary->replicas[primary->replica_count];

        replica->db = open_one(pool, replica_settings(pool, settings, from), log, "the replica");
        if (replica->db) {
            replica->db->primary = primary;
            replica->db->replica = replica;
            replica->lag = settings->replica_lag;
            replica->standing =
                from->standing ? from->standing : apr_pcalloc(pool, users_db_standing_size());
            primary->replica_count++;
        }
    }
}

users_db *users_db_open(apr_pool_t *pool, const users_db_settings *settings, const users_log *log)
{
    users_db_settings *own = apr_pmemdup(pool, settings, sizeof(*settings));
    users_db *db;

    own->role = USERS_ROLE_PRIMARY;
    db = open_one(pool, own, log, "the database");
    if (db) {
        open_replicas(pool, db, log);
    }
    return db;
}
