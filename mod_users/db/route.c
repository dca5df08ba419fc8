#include "db/route.h"

#include "core/clock.h"
#include "core/scope.h"
#include "db/count.h"
#include "db/result.h"

#include <apr_atomic.h>

#define SAMPLES    4                       /* in UsersReplicaLag */
#define PAUSE_MOST apr_time_from_msec(500) /* between two looks at a replica */

/*
 * Where a server is in the log that it writes, a timeline of it and how many octets of it: the name
 * of a file of the log begins with the timeline in hexadecimal.
 */
#define WRITTEN                                                                                    \
    "(pg_current_wal_flush_lsn() - '0/0')::bigint,"                                                \
    " ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::bigint"
/*
 * Where a standby is in the log that it reads. The timeline is what it has noted on disk, which
 * comes some time after it has changed to a new one: until then it counts as being on the old one.
 */
#define READ                                                                                       \
    "(pg_last_wal_replay_lsn() - '0/0')::bigint, greatest((select timeline_id from "               \
    "pg_control_checkpoint()), (select min_recovery_end_timeline from pg_control_recovery()))"     \
    "::bigint"

/*
 * How far a primary has flushed its log; no row from a standby, which is none. What is
 * written behind that, of transactions under way, no standby has been sent yet.
 */
static const users_statement flushed = {USERS_LOG_FLUSHED, "flushed",
                                        "select " WRITTEN " where not pg_is_in_recovery()", 0,
                                        .reads = true};
/* How far a replica has come in that log. One that has been promoted writes one of its own. */
static const users_statement replayed = {USERS_LOG_REPLAYED, "replayed",
                                         "select " READ
                                         " where pg_is_in_recovery() union all select " WRITTEN
                                         " where not pg_is_in_recovery()",
                                         0, .reads = true};

/* A place in the log. After a failover the old timeline and the new one go on from the same place.
 */
typedef struct {
    apr_int64_t position;
    apr_int64_t timeline;
} place;

/* Where the primary was at a time: a replica that has come so far is no older than that. */
typedef struct {
    apr_time_t at; /* users_now() */
    place place;
} sample;

typedef enum { IN_TIME, BEHIND, ELSEWHERE } lag_state;

struct users_replica {
    users_db *db;
    apr_interval_time_t lag;
    apr_uint64_t good_until; /* users_now(): until then it is less than lag old */
    apr_uint64_t due;        /* when to examine it again */
    apr_uint32_t examining;  /* is a thread at it? What follows is this one's: */
    sample samples[SAMPLES]; /* a ring */
    unsigned next;           /* the oldest, or one that was never taken */
    apr_time_t sample_due;
    sample missed;  /* the oldest that it was seen not to have passed; at 0: none */
    lag_state told; /* to the log */
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

static bool ask_place(users_db *db, const users_statement *statement, apr_time_t end, place *found)
{
    users_limits l = {.connection = end, .end = end};
    PGresult *result;
    bool good = users_now() < end && users_run(db, statement, NULL, &l, &result) == USERS_DB_OK;

    if (good) {
        good = PQntuples(result) == 1;
        if (good) {
            *found = (place){users_int8_at(result, 0, 0), users_int8_at(result, 0, 1)};
        }
        PQclear(result);
    }
    return good && found->position;
}

static bool has_passed(const place *replica, const place *primary)
{
    return replica->timeline == primary->timeline && replica->position >= primary->position;
}

/* Tell the log what is new: where the replica is beside the oldest sample. */
static void note_lag(users_replica *replica, const place *here, const place *oldest)
{
    const users_log *log = &replica->db->log;
    const char *name = replica->db->name;
    lag_state state = has_passed(here, oldest)             ? IN_TIME
                      : here->timeline == oldest->timeline ? BEHIND
                                                           : ELSEWHERE;

    if (!oldest->position || state == replica->told) {
        return;
    }
    replica->told = state;
    switch (state) {
    case IN_TIME:
        users_log_at(log, USERS_LOG_WARNING, 0, "%s has caught up", name);
        break;
    case BEHIND:
        users_log_at(log, USERS_LOG_WARNING, 0,
                     "%s is too far behind for UsersReplicaLag: GET reads from the database", name);
        break;
    default:
        users_log_at(log, USERS_LOG_WARNING, 0,
                     "%s is on timeline %" APR_INT64_T_FMT ", the database on %" APR_INT64_T_FMT
                     ": GET reads from the database",
                     name, here->timeline, oldest->timeline);
    }
}

/* How far it is behind, at least. */
static void count_lag(users_replica *replica, const place *here)
{
    if (has_passed(here, &replica->missed.place)) {
        replica->missed.at = 0;
    }
    for (unsigned i = 0; i < SAMPLES && !replica->missed.at; i++) {
        const sample *s = &replica->samples[(replica->next + i) % SAMPLES];

        if (s->at && !has_passed(here, &s->place)) {
            replica->missed = *s;
        }
    }
    users_figures_observe(
        replica->db->settings->figures, USERS_FIGURE_REPLICA_LAGS, &users_scale_duration,
        replica->missed.at ? (apr_uint64_t)(users_now() - replica->missed.at) : 0);
}

/* Returns until when nothing was written that the replica need have seen. */
static apr_time_t take_sample(users_replica *replica, apr_time_t now, apr_time_t end)
{
    users_db *primary = replica->db->primary;
    place written;

    if (now >= replica->sample_due && ask_place(primary, &flushed, end, &written)) {
        replica->samples[replica->next] = (sample){now, written};
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
    place here;

    if (!ask_place(replica->db, &replayed, end, &here)) {
        return 0;
    }
    for (int i = 0; i < SAMPLES; i++) {
        const sample *s = &replica->samples[i];

        if (s->at > seen && has_passed(&here, &s->place)) {
            seen = s->at;
        }
    }
    count_lag(replica, &here);
    note_lag(replica, &here, &replica->samples[replica->next].place);
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

static void count_use(const users_db_call *call, users_replica_use use)
{
    users_db_count_one(call->db->settings, USERS_FIGURE_REPLICA_LOOKUPS + (int)use);
}

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
    } else {
        count_use(call, USERS_REPLICA_AVOIDED);
    }
    return chosen;
}

users_db *users_route_replica(const users_db *primary)
{
    return primary->replica ? primary->replica->db : NULL;
}

bool users_route_is_good(users_db_call *call)
{
    return users_is_replica(choose(call, true).db);
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

        count_use(call, good ? USERS_REPLICA_ANSWERED : USERS_REPLICA_UNSURE);
        users_log_at(&call->log, USERS_LOG_TRACE2, 0, "the replica %s",
                     good ? "has answered" : "has no say: the primary is asked");
        if (!good) {
            status = find(call, call->db, look_up, &user);
        }
    }
    return users_outcome_of_read(status);
}
