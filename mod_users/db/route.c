#include "db/route.h"

#include "core/clock.h"
#include "db/result.h"

#include <apr_atomic.h>
#include <apr_shm.h>
#include <apr_strings.h>
#include <http_core.h>
#include <http_log.h>

APLOG_USE_MODULE(users);

#define SAMPLES         4                       /* in UsersReplicaLag */
#define PAUSE_MOST      apr_time_from_msec(500) /* between two looks at a replica */
#define WRITERS_BITS    13
#define WRITERS         (1u << WRITERS_BITS)
#define WRITERS_PROCESS "users_writers" /* key of httpd's own pool, which outlives restarts */

/* How far a primary has written its log, in octets; null on a standby, which is none. */
static const users_statement written = {
    14, "written",
    "select case when not pg_is_in_recovery() then (pg_current_wal_lsn() - '0/0')::bigint end", 0,
    true};
/* How far a standby has read that log. */
static const users_statement replayed = {
    15, "replayed",
    "select (case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn()"
    " end - '0/0')::bigint",
    0, true};

/* Where the primary was at a time: a replica that has come so far is no older than that. */
typedef struct {
    apr_time_t at; /* users_now() */
    apr_int64_t position;
} sample;

struct users_replica {
    struct users_database *database;
    apr_interval_time_t lag;
    apr_uint64_t good_until; /* users_now(): until then it is less than lag old */
    apr_uint64_t due;        /* when to examine it again */
    apr_uint32_t examining;  /* is a thread at it? What follows is this one's: */
    sample samples[SAMPLES]; /* a ring */
    unsigned next;           /* the oldest, or one that was never taken */
    apr_time_t sample_due;
    bool behind; /* the log knows */
};

/*
 * When users last changed something (users_now(); 0: never): a table of hashes, in which a user may
 * share another one's place and then reads from the primary for no reason of his own.
 */
struct users_writers {
    apr_uint64_t changed[WRITERS];
};

/* Opening */

static bool has_replica(const server_rec *s)
{
    for (; s; s = s->next) {
        if (users_settings_of(s)->replica) {
            return true;
        }
    }
    return false;
}

/* Not of the configuration's memory: what was noted before a restart counts after it. */
int users_replica_start(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    apr_pool_t *process = s->process->pool;
    void *writers = NULL;
    apr_shm_t *memory;
    apr_status_t status;

    (void)pconf;
    (void)plog;
    (void)ptemp;
    if (ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG || !has_replica(s)) {
        return OK;
    }
    apr_pool_userdata_get(&writers, WRITERS_PROCESS, process);
    if (!writers) {
        status = apr_shm_create(&memory, sizeof(struct users_writers), NULL, process);
        if (status != APR_SUCCESS) {
            ap_log_error(APLOG_MARK, APLOG_EMERG, status, s,
                         "UsersDBReplica: no shared memory could be had");
            return !OK;
        }
        writers = apr_shm_baseaddr_get(memory);
        memset(writers, 0, sizeof(struct users_writers));
        apr_pool_userdata_set(writers, WRITERS_PROCESS, NULL, process); /* copies the key */
    }
    for (server_rec *each = s; each; each = each->next) {
        users_settings_of(each)->writers = writers;
    }
    return OK;
}

/* Half of the time that a request has is the primary's, should it have to be asked, too. */
const users_settings *users_replica_settings(apr_pool_t *pool, const users_settings *settings)
{
    users_settings *own = apr_pmemdup(pool, settings, sizeof(*settings));

    own->conninfo = settings->replica;
    own->password = settings->replica_password;
    if (own->db_timeout > settings->request_timeout / 2) {
        own->db_timeout = settings->request_timeout / 2;
    }
    return own;
}

void users_replica_add(apr_pool_t *pchild, struct users_database *primary,
                       struct users_database *database)
{
    users_replica *replica;

    if (!database) {
        return;
    }
    replica = apr_pcalloc(pchild, sizeof(*replica));
    replica->database = database;
    replica->lag = primary->settings->replica_lag;
    database->primary = primary;
    primary->replica = replica;
}

/* Is it good? */

static bool ask_position(struct users_database *database, const users_statement *statement,
                         apr_time_t end, apr_int64_t *position)
{
    users_limits l = {.connection = end, .end = end};
    PGresult *result;
    bool good =
        users_now() < end && users_run(database, statement, NULL, &l, &result) == USERS_DB_OK;

    if (good) {
        *position = users_int8_at(result, 0, 0);
        PQclear(result);
    }
    return good && *position;
}

/* behind: not even the oldest sample has been passed. */
static void note_lag(users_replica *replica, bool behind)
{
    if (behind != replica->behind) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, replica->database->server,
                     behind ? "the replica is too far behind for UsersReplicaLag: GET reads from "
                              "the database"
                            : "the replica has caught up");
    }
    replica->behind = behind;
}

/* Returns until when nothing was written that the replica need have seen. */
static apr_time_t take_sample(users_replica *replica, apr_time_t now, apr_time_t end)
{
    struct users_database *primary = replica->database->primary;
    apr_int64_t position;

    if (now >= replica->sample_due && ask_position(primary, &written, end, &position)) {
        replica->samples[replica->next] = (sample){now, position};
        replica->next = (replica->next + 1) % SAMPLES;
        replica->sample_due = now + replica->lag / SAMPLES;
    }
    /* one that can't be reached writes nothing, and then the replica is all there is */
    return users_pool_is_away(primary->pool) ? now : 0;
}

/*
 * What the primary had written when a sample was taken the replica has seen, once it has come so
 * far. The clocks of the servers don't matter, nor whether the replica knows that it has lost its
 * primary. A busy primary moves on before the replica is asked, and so earlier samples count, too.
 */
static apr_time_t find_newest_seen(users_replica *replica, apr_time_t end)
{
    apr_time_t now = users_now();
    apr_time_t seen = take_sample(replica, now, now + (end - now) / 2);
    apr_int64_t position;

    if (!ask_position(replica->database, &replayed, end, &position)) {
        return 0;
    }
    for (int i = 0; i < SAMPLES; i++) {
        const sample *s = &replica->samples[i];

        if (s->position <= position && s->at > seen) {
            seen = s->at;
        }
    }
    note_lag(replica, replica->samples[replica->next].position > position);
    return seen;
}

static void examine(const request_rec *r, users_replica *replica)
{
    users_limits l = users_limits_of(r, replica->database);
    apr_time_t seen = find_newest_seen(replica, l.end);
    apr_interval_time_t pause = replica->lag / SAMPLES;

    apr_atomic_set64(&replica->good_until, seen ? (apr_uint64_t)(seen + replica->lag) : 0);
    apr_atomic_set64(&replica->due,
                     (apr_uint64_t)(users_now() + (pause < PAUSE_MOST ? pause : PAUSE_MOST)));
    users_limits_spend(r, &l);
}

static bool is_due(users_replica *replica)
{
    return (apr_uint64_t)users_now() >= apr_atomic_read64(&replica->due);
}

users_route users_replica_route(const request_rec *r, bool may_lag)
{
    users_route route = {.database = users_database_of(r)};
    users_replica *replica = route.database && may_lag ? route.database->replica : NULL;

    if (!replica) {
        return route;
    }
    if (is_due(replica) && apr_atomic_cas32(&replica->examining, 1, 0) == 0) {
        examine(r, replica);
        apr_atomic_xchg32(&replica->examining, 0);
    }
    route.until = (apr_time_t)apr_atomic_read64(&replica->good_until);
    if (users_now() < route.until) {
        route.database = replica->database;
    }
    return route;
}

/* Who changes what */

/* Fibonacci hashing: neighbours are far from each other. */
static apr_uint64_t *place_of(struct users_writers *writers, apr_int64_t user)
{
    return &writers->changed[(apr_uint64_t)user * 0x9e3779b97f4a7c15 >> (64 - WRITERS_BITS)];
}

void users_replica_note_change(const request_rec *r, apr_int64_t user)
{
    struct users_writers *writers = users_settings_of(r->server)->writers;

    if (writers) {
        apr_atomic_set64(place_of(writers, user), (apr_uint64_t)users_now());
    }
}

static bool has_changed(const struct users_database *replica, apr_int64_t user)
{
    const users_settings *settings = replica->settings;
    apr_time_t changed = (apr_time_t)apr_atomic_read64(place_of(settings->writers, user));

    return changed && users_now() - changed <= settings->replica_lag;
}

/* What has failed is not tried again for a while. */
static void distrust(users_replica *replica)
{
    apr_atomic_set64(&replica->good_until, 0);
    apr_atomic_set64(&replica->due, (apr_uint64_t)(users_now() + replica->lag));
}

/*
 * A token or an account may be too new for the replica, and so may the end of a suspension. The
 * order of the last two matters: who changed something longer ago than the lag may read what had
 * come less than the lag ago when the look-up began.
 */
bool users_replica_defers(users_route *route, users_db_status status, apr_int64_t user)
{
    struct users_database *replica = route->database;

    if (!users_is_replica(replica)) {
        return false;
    }
    route->database = replica->primary;
    if (status != USERS_DB_OK) {
        distrust(replica->primary->replica);
        return true;
    }
    return !user || has_changed(replica, user) || users_now() >= route->until;
}
