#include "db/replica.h"

#include "core/clock.h"
#include "db/count.h"
#include "db/result.h"

#include <apr_atomic.h>
#include <unistd.h>

#define PAUSE_MOST    apr_time_from_msec(500)  /* between two examinations */
#define PATIENCE      apr_time_from_msec(500)  /* with an examiner who is late */
#define TIME_MOST     apr_time_from_msec(2500) /* of an examination */
#define DISTRUST_MOST apr_time_from_sec(2)

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
static const users_statement flushed = {
    USERS_LOG_FLUSHED, "flushed",       "select " WRITTEN " where not pg_is_in_recovery()", 0,
    .reads = true,     .examines = true};
/* How far a replica has come in that log. One that has been promoted writes one of its own. */
static const users_statement replayed = {USERS_LOG_REPLAYED,
                                         "replayed",
                                         "select " READ
                                         " where pg_is_in_recovery() union all select " WRITTEN
                                         " where not pg_is_in_recovery()",
                                         0,
                                         .reads = true,
                                         .examines = true};

typedef enum { IN_TIME, BEHIND, ELSEWHERE } lag_state;

apr_size_t users_db_standing_size(void)
{
    return sizeof(struct users_standing);
}

/* Is it good? */

static apr_time_t good_until(users_replica *replica)
{
    apr_time_t until = (apr_time_t)apr_atomic_read64(&replica->standing->good_until);
    apr_time_t failed_until = (apr_time_t)apr_atomic_read64(&replica->standing->failed_until);
    apr_time_t now = users_now();

    return now < until && now >= failed_until ? until : 0;
}

apr_time_t users_replica_good_until(users_replica *replica)
{
    apr_time_t until = good_until(replica);

    return until && !users_pool_is_barred(replica->db->pool) ? until : 0;
}

void users_replica_distrust(users_replica *replica)
{
    apr_interval_time_t pause = replica->lag < DISTRUST_MOST ? replica->lag : DISTRUST_MOST;

    apr_atomic_set64(&replica->standing->failed_until, (apr_uint64_t)(users_now() + pause));
}

/* Looking */

static bool ask_place(users_db *db, const users_statement *statement, apr_time_t end,
                      users_place *found)
{
    users_limits l = {.connection = end, .end = end};
    PGresult *result;
    bool good = users_now() < end && users_run(db, statement, NULL, &l, &result) == USERS_DB_OK;

    if (good) {
        good = PQntuples(result) == 1;
        if (good) {
            *found = (users_place){users_int8_at(result, 0, 0), users_int8_at(result, 0, 1)};
        }
        PQclear(result);
    }
    return good && found->position;
}

static bool has_passed(const users_place *replica, const users_place *primary)
{
    return replica->timeline == primary->timeline && replica->position >= primary->position;
}

/* Tell the log what is new: where the replica is beside the oldest sample. */
static void note_lag(users_replica *replica, const users_place *here)
{
    struct users_standing *standing = replica->standing;
    const users_place *oldest = &standing->samples[standing->next].place;
    const users_log *log = &replica->db->log;
    const char *name = replica->db->name;
    lag_state state = has_passed(here, oldest)             ? IN_TIME
                      : here->timeline == oldest->timeline ? BEHIND
                                                           : ELSEWHERE;

    if (!oldest->position || apr_atomic_xchg32(&standing->told, state) == state) {
        return;
    }
    switch (state) {
    case IN_TIME:
        users_log_at(log, USERS_LOG_WARNING, 0, "%s has caught up", name);
        break;
    case BEHIND:
        users_log_at(log, USERS_LOG_WARNING, 0,
                     "%s is too far behind for UsersReplicaLag: no GET reads from it", name);
        break;
    default:
        users_log_at(log, USERS_LOG_WARNING, 0,
                     "%s is on timeline %" APR_INT64_T_FMT ", the database on %" APR_INT64_T_FMT
                     ": no GET reads from it",
                     name, here->timeline, oldest->timeline);
    }
}

/* How far it is behind, at least. */
static void count_lag(users_replica *replica, const users_place *here)
{
    struct users_standing *standing = replica->standing;
    users_sample *missed = &standing->missed;

    if (has_passed(here, &missed->place)) {
        missed->at = 0;
    }
    for (unsigned i = 0; i < USERS_SAMPLES && !missed->at; i++) {
        const users_sample *s = &standing->samples[(standing->next + i) % USERS_SAMPLES];

        if (s->at && !has_passed(here, &s->place)) {
            *missed = *s;
        }
    }
    users_figures_observe(replica->db->settings->figures, USERS_FIGURE_REPLICA_LAGS,
                          &users_scale_duration,
                          missed->at ? (apr_uint64_t)(users_now() - missed->at) : 0);
}

static void take_sample(users_replica *replica, apr_time_t now, apr_time_t end)
{
    struct users_standing *standing = replica->standing;
    users_place written;

    if (now >= standing->sample_due && ask_place(replica->db->primary, &flushed, end, &written)) {
        standing->samples[standing->next] = (users_sample){now, written};
        standing->next = (standing->next + 1) % USERS_SAMPLES;
        standing->sample_due = now + replica->lag / USERS_SAMPLES;
    }
}

/* Has another replica all that the primary was last seen to have written? */
static bool is_another_in_time(const users_replica *replica)
{
    const users_db *primary = replica->db->primary;

    for (int i = 0; i < primary->replica_count; i++) {
        users_replica *other = &primary->replicas[i];

        if (other != replica && apr_atomic_read32(&other->standing->told) == IN_TIME &&
            good_until(other)) {
            return true;
        }
    }
    return false;
}

/*
 * A primary that can't be reached writes nothing, as far as this host knows, and then replicas are
 * all there is: those that have all that it was last seen to have written, and, if there is none
 * left, any.
 */
static bool is_all_there_is(const users_replica *replica)
{
    return users_pool_is_away(replica->db->primary->pool) &&
           (apr_atomic_read32(&replica->standing->told) == IN_TIME || !is_another_in_time(replica));
}

/*
 * What the primary had written when a sample was taken the replica has seen, once it has come so
 * far. The clocks of the servers don't matter, nor whether the replica knows that it has lost its
 * primary. A busy primary moves on before the replica is asked, and so earlier samples count, too.
 */
static apr_time_t find_newest_seen(users_replica *replica, apr_time_t end)
{
    const users_sample *samples = replica->standing->samples;
    apr_time_t now = users_now();
    apr_time_t seen = 0;
    users_place here;

    take_sample(replica, now, now + (end - now) / 2);
    if (!ask_place(replica->db, &replayed, end, &here)) {
        return 0;
    }
    for (int i = 0; i < USERS_SAMPLES; i++) {
        if (samples[i].at > seen && has_passed(&here, &samples[i].place)) {
            seen = samples[i].at;
        }
    }
    count_lag(replica, &here);
    note_lag(replica, &here);
    return is_all_there_is(replica) ? now : seen;
}

/*
 * One process has the turn until it is late: so the others need no connection for it. Who takes it
 * and does not come back, since its process was killed, is late when it must have ended.
 */
static bool take_turn(struct users_standing *standing)
{
    apr_uint32_t me = (apr_uint32_t)getpid();
    bool is_mine = apr_atomic_read32(&standing->examiner) == me;
    apr_uint64_t due = apr_atomic_read64(&standing->due);
    apr_time_t now = users_now();

    if (due && now < (apr_time_t)due + (is_mine ? 0 : PATIENCE)) {
        return false;
    }
    if (apr_atomic_cas64(&standing->due, (apr_uint64_t)(now + TIME_MOST), due) != due) {
        return false;
    }
    apr_atomic_set32(&standing->examiner, me);
    return true;
}

void users_db_examine_replica(users_db *db, int replica)
{
    users_replica *r = db && replica < db->replica_count ? &db->replicas[replica] : NULL;
    apr_interval_time_t time;
    apr_interval_time_t pause;
    apr_time_t seen;

    if (!r || !take_turn(r->standing)) {
        return;
    }
    time = db->settings->request_timeout / 2;
    seen = find_newest_seen(r, users_now() + (time < TIME_MOST ? time : TIME_MOST));
    apr_atomic_set64(&r->standing->good_until, seen ? (apr_uint64_t)(seen + r->lag) : 0);
    pause = r->lag / USERS_SAMPLES;
    apr_atomic_set64(&r->standing->due,
                     (apr_uint64_t)(users_now() + (pause < PAUSE_MOST ? pause : PAUSE_MOST)));
}
