#include "db/route.h"

#include "core/clock.h"
#include "core/scope.h"
#include "db/result.h"

#include <apr_atomic.h>

#define SAMPLES    4                       /* in UsersReplicaLag */
#define PAUSE_MOST apr_time_from_msec(500) /* between two looks at a replica */

/*
 * How far a primary has flushed its log, in octets; null on a standby, which is none. What is
 * written behind that, of transactions under way, no standby has been sent yet.
 */
static const users_statement flushed = {USERS_LOG_FLUSHED, "flushed",
                                        "select case when not pg_is_in_recovery() then "
                                        "(pg_current_wal_flush_lsn() - '0/0')::bigint end",
                                        0, .reads = true};
/* How far a standby has read that log. */
static const users_statement replayed = {USERS_LOG_REPLAYED, "replayed",
                                         "select (case when pg_is_in_recovery() then "
                                         "pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn()"
                                         " end - '0/0')::bigint",
                                         0, .reads = true};

/* Where the primary was at a time: a replica that has come so far is no older than that. */
typedef struct {
    apr_time_t at; /* users_now() */
    apr_int64_t position;
} sample;

struct users_replica {
    users_db *db;
    apr_interval_time_t lag;
    apr_uint64_t good_until; /* users_now(): until then it is less than lag old */
    apr_uint64_t due;        /* when to examine it again */
    apr_uint32_t examining;  /* is a thread at it? What follows is this one's: */
    sample samples[SAMPLES]; /* a ring */
    unsigned next;           /* the oldest, or one that was never taken */
    apr_time_t sample_due;
    bool behind; /* the log knows */
};

void users_route_add_replica(apr_pool_t *pool, users_db *primary, users_db *replica)
{
    users_replica *added;

    if (!replica) {
        return;
    }
    added = apr_pcalloc(pool, sizeof(*added));
    added->db = replica;
    added->lag = primary->settings->replica_lag;
    replica->primary = primary;
    primary->replica = added;
}

/* Is it good? */

static bool ask_position(users_db *db, const users_statement *statement, apr_time_t end,
                         apr_int64_t *position)
{
    users_limits l = {.connection = end, .end = end};
    PGresult *result;
    bool good = users_now() < end && users_run(db, statement, NULL, &l, &result) == USERS_DB_OK;

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
        users_log_at(&replica->db->log, USERS_LOG_WARNING, 0, "%s %s", replica->db->name,
                     behind ? "is too far behind for UsersReplicaLag: GET reads from the database"
                            : "has caught up");
    }
    replica->behind = behind;
}

/* Returns until when nothing was written that the replica need have seen. */
static apr_time_t take_sample(users_replica *replica, apr_time_t now, apr_time_t end)
{
    users_db *primary = replica->db->primary;
    apr_int64_t position;

    if (now >= replica->sample_due && ask_position(primary, &flushed, end, &position)) {
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

    if (!ask_position(replica->db, &replayed, end, &position)) {
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

static void examine(users_db_call *call, users_replica *replica)
{
    users_limits l = users_limits_of(call, replica->db);
    apr_time_t seen = find_newest_seen(replica, l.end);
    apr_interval_time_t pause = replica->lag / SAMPLES;

    apr_atomic_set64(&replica->good_until, seen ? (apr_uint64_t)(seen + replica->lag) : 0);
    apr_atomic_set64(&replica->due,
                     (apr_uint64_t)(users_now() + (pause < PAUSE_MOST ? pause : PAUSE_MOST)));
    users_limits_spend(call, &l);
}

static bool is_due(users_replica *replica)
{
    return (apr_uint64_t)users_now() >= apr_atomic_read64(&replica->due);
}

/* Where a call is looked up, and until when (users_now()) that database's word counts. */
typedef struct {
    users_db *db; /* NULL: it could not be opened */
    apr_time_t until;
} route;

static route choose(users_db_call *call, bool may_lag)
{
    route chosen = {.db = call->db};
    users_replica *replica = chosen.db && may_lag ? chosen.db->replica : NULL;

    if (!replica) {
        return chosen;
    }
    if (is_due(replica) && apr_atomic_cas32(&replica->examining, 1, 0) == 0) {
        examine(call, replica);
        apr_atomic_xchg32(&replica->examining, 0);
    }
    chosen.until = (apr_time_t)apr_atomic_read64(&replica->good_until);
    if (users_now() < chosen.until) {
        chosen.db = replica->db;
    }
    return chosen;
}

/* Who changes what: a table of hashes, in which a user may share another one's place and then reads
   from the primary for no reason of his own. */

/* Fibonacci hashing: neighbours are far from each other. */
static apr_uint64_t *place_of(struct users_writers *writers, apr_int64_t user)
{
    return &writers->changed[(apr_uint64_t)user * 0x9e3779b97f4a7c15 >> (64 - USERS_WRITERS_BITS)];
}

void users_route_note_change(const users_db_call *call, apr_int64_t user)
{
    struct users_writers *writers = call->db ? call->db->settings->writers : NULL;

    if (writers) {
        apr_atomic_set64(place_of(writers, user), (apr_uint64_t)users_now());
    }
}

static bool has_changed(const users_db *replica, apr_int64_t user)
{
    const users_db_settings *settings = replica->settings;
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
 * Does the replica's answer count? A token or an account may be too new for it, and so may the end
 * of a suspension. The order of the last two matters: who changed something longer ago than the lag
 * may read what had come less than the lag ago when the look-up began.
 */
static bool counts(const route *chosen, users_db_status status, apr_int64_t user)
{
    if (status != USERS_DB_OK) {
        distrust(chosen->db->primary->replica);
        return false;
    }
    return user && !has_changed(chosen->db, user) && users_now() < chosen->until;
}

apr_int64_t users_route_admitted(bool found, const users_principal *principal)
{
    bool admitted =
        found && !principal->suspended && principal->document &&
        (!principal->scopes || users_scope_contains(principal->scopes, USERS_SCOPE_READ));

    return admitted ? principal->user : 0;
}

users_outcome users_route_look_up(users_db_call *call, users_knowledge wanted, users_look_up *find,
                                  void *look_up)
{
    route chosen = choose(call, wanted == USERS_KNOW_RECENT);
    apr_int64_t user;
    users_db_status status = find(call, chosen.db, look_up, &user);

    if (users_is_replica(chosen.db)) {
        bool good = counts(&chosen, status, user);

        users_log_at(&call->log, USERS_LOG_TRACE2, 0, "the replica %s",
                     good ? "has answered" : "has no say: the primary is asked");
        if (!good) {
            status = find(call, call->db, look_up, &user);
        }
    }
    return users_outcome_of_read(status);
}
