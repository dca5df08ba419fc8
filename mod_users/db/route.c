#include "db/route.h"

#include "core/clock.h"
#include "core/scope.h"
#include "db/count.h"
#include "db/replica.h"

#include <apr_atomic.h>

/* Whom to ask */

/* The replica that a call asks, and until when (users_now()) its word counts. */
typedef struct {
    users_replica *replica;
    apr_time_t until;
} route;

/*
 * The good replica that is the least busy with look-ups of this process, but for those that were
 * tried, by their bits; they take turns where several are. False where there is none.
 */
static bool choose(users_db *db, unsigned *tried, route *chosen)
{
    route best[USERS_REPLICAS_MAX];
    apr_uint32_t least = 0;
    unsigned count = 0;

    for (int i = 0; i < db->replica_count; i++) {
        users_replica *each = &db->replicas[i];
        apr_time_t until = (*tried & 1u << i) ? 0 : users_replica_good_until(each);
        apr_uint32_t busy = apr_atomic_read32(&each->under_way);

        if (until && (!count || busy <= least)) {
            count = count && busy == least ? count : 0;
            least = busy;
            best[count++] = (route){each, until};
        }
    }
    if (count) {
        *chosen = best[apr_atomic_inc32(&db->turn) % count];
        *tried |= 1u << (chosen->replica - db->replicas);
    }
    return count > 0;
}

int users_route_replicas(const users_db *db)
{
    return db->replica_count;
}

users_db *users_route_replica(const users_db *db, int number)
{
    return db->replicas[number].db;
}

bool users_route_is_good(const users_db *replica)
{
    return users_replica_good_until(replica->replica) != 0;
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

/*
 * Does the replica's answer count? A token or an account may be too new for it, and so may the end
 * of a suspension. The order of the last two matters: who changed something longer ago than the lag
 * may read what had come less than the lag ago when the look-up began.
 */
static bool counts(const route *chosen, apr_int64_t user)
{
    return user && !has_changed(chosen->replica->db, user) && users_now() < chosen->until;
}

apr_int64_t users_route_admitted(bool found, const users_principal *principal)
{
    bool admitted =
        found && !principal->suspended && principal->document &&
        (!principal->scopes || users_scope_contains(principal->scopes, USERS_SCOPE_READ));

    return admitted ? principal->user : 0;
}

/* Looking up */

static users_db_status ask(users_db_call *call, const route *chosen, users_look_up *find,
                           void *look_up, users_replica_use *use)
{
    users_replica *replica = chosen->replica;
    apr_int64_t user = 0;
    users_db_status status;

    apr_atomic_inc32(&replica->under_way);
    status = find(call, replica->db, look_up, &user);
    apr_atomic_dec32(&replica->under_way);
    if (status == USERS_DB_OK && counts(chosen, user)) {
        *use = USERS_REPLICA_ANSWERED;
    } else {
        *use = USERS_REPLICA_UNSURE;
    }
    users_log_at(&call->log, USERS_LOG_TRACE2, 0, "%s %s", replica->db->name,
                 *use == USERS_REPLICA_ANSWERED ? "has answered"
                 : status == USERS_DB_OK        ? "has no say: the primary is asked"
                                                : "has failed");
    return status;
}

/*
 * Ask a replica, and the next where one has failed, as long as the primary has a quarter of the
 * time left. That one could not be connected to the pool remembers; anything else all processes do.
 */
static bool ask_replicas(users_db_call *call, users_look_up *find, void *look_up)
{
    apr_interval_time_t reserve = call->left / 4;
    users_replica_use use = USERS_REPLICA_AVOIDED;
    users_db_status status = USERS_DB_UNREACHABLE;
    unsigned tried = 0;
    route chosen;

    while (status != USERS_DB_OK && call->left > reserve && choose(call->db, &tried, &chosen)) {
        status = ask(call, &chosen, find, look_up, &use);
        if (status != USERS_DB_OK && status != USERS_DB_UNREACHABLE) {
            users_replica_distrust(chosen.replica);
        }
    }
    users_db_count_one(call->db->settings, USERS_FIGURE_REPLICA_LOOKUPS + (int)use);
    return use == USERS_REPLICA_ANSWERED;
}

users_outcome users_route_look_up(users_db_call *call, users_knowledge wanted, users_look_up *find,
                                  void *look_up)
{
    bool may_lag = wanted == USERS_KNOW_RECENT && call->db && call->db->replica_count > 0;
    apr_int64_t user;

    if (may_lag && ask_replicas(call, find, look_up)) {
        return USERS_OUTCOME_DONE;
    }
    return users_outcome_of_read(find(call, call->db, look_up, &user));
}
