#include "core/clock.h"
#include "db/result.h"
#include "db/route.h"

#include <apr_atomic.h>

#define PAUSE     apr_time_from_sec(1)    /* between a check and the next */
#define KEPT      apr_time_from_sec(10)   /* for so long what was found last stands for the next */
#define WAIT_MOST apr_time_from_msec(500) /* where nothing was found */
#define WAIT_STEP apr_time_from_msec(5)

/* In shared memory, zero at first. */
struct users_health {
    apr_uint64_t due;  /* users_now(): the next check is not made before */
    apr_uint64_t last; /* what the last one has found, and when: pack() */
};

/*
 * What each GET needs: the view of tokens, and one row of it by its index, where it could be. A
 * transaction is read-only on a standby, and where an administrator says so.
 */
static const users_statement check = {USERS_CHECK_HEALTH, "check_health",
                                      "select current_setting('transaction_read_only') = 'off',"
                                      " exists (select from users_api.token where digest = $1)",
                                      1, .reads = true};

static const users_parameter nobodys_digest[] = {{"\\x", 0}};

apr_size_t users_db_health_size(void)
{
    return sizeof(struct users_health);
}

/* The time may have 62 bits: 146,000 years. */
static apr_uint64_t pack(users_condition condition, apr_time_t now)
{
    return (apr_uint64_t)now << 2 | (apr_uint64_t)condition.reads << 1 |
           (apr_uint64_t)condition.takes_changes;
}

static users_condition unpack(apr_uint64_t packed)
{
    return (users_condition){.reads = packed & 2, .takes_changes = packed & 1};
}

/* 0 where it is too old. */
static apr_uint64_t recall(struct users_health *health)
{
    apr_uint64_t last = apr_atomic_read64(&health->last);

    return users_now() - (apr_time_t)(last >> 2) < KEPT ? last : 0;
}

/* Checking */

/*
 * A host has its whole chance to connect, or a slow one would count as one that is down; and the
 * statement has half of the time in any case.
 */
static users_limits limits_of(const users_db_settings *settings)
{
    apr_interval_time_t half = settings->db_timeout / 2;
    apr_interval_time_t wait =
        half > settings->db_connect_timeout ? half : settings->db_connect_timeout;
    apr_time_t now = users_now();

    if (wait > settings->db_acquire_timeout) {
        wait = settings->db_acquire_timeout;
    }
    return (users_limits){.began = now, .connection = now + wait, .end = now + wait + half};
}

/*
 * A change that is refused by its session tries once more in a fresh one, and on the next host: a
 * session can be older than that its server takes changes. So does this.
 */
static bool takes_changes_afresh(users_db *db, const users_limits *l)
{
    users_connection *connection;
    PGresult *result;
    bool takes_changes = false;

    if (users_pool_acquire(db->pool, USERS_POOL_READ, l->connection, &connection) != USERS_DB_OK) {
        return false;
    }
    if (users_connection_renew(connection, l->end) == USERS_DB_OK &&
        users_execute(connection, &check, nobodys_digest, l->end, &result) == USERS_DB_OK) {
        takes_changes = users_bool_at(result, 0, 0);
        PQclear(result);
    }
    users_connection_release(connection);
    return takes_changes;
}

static users_condition check_primary(const users_db_call *call, users_db *db)
{
    users_condition found = {.reads = false};
    users_limits l = limits_of(db->settings);
    PGresult *result;
    users_db_status status;

    users_log_at(&call->log, USERS_LOG_TRACE2, 0, "the health of %s is checked", db->name);
    status = users_run(db, &check, nobodys_digest, &l, &result);
    if (status == USERS_DB_OK) {
        found.reads = true;
        found.takes_changes = users_bool_at(result, 0, 0);
        PQclear(result);
        found.takes_changes = found.takes_changes || takes_changes_afresh(db, &l);
    } else if (status == USERS_DB_BUSY && users_pool_answered_since(db->pool, l.began)) {
        found.reads = true; /* all connections are in use, but they get on */
        found.takes_changes = unpack(recall(db->settings->health)).takes_changes;
    }
    return found;
}

static users_condition check_replica(users_db *replica)
{
    users_limits l = limits_of(replica->settings);
    PGresult *result = NULL;
    users_condition found = {.reads = false};

    if (users_route_is_good(replica)) {
        found.reads = users_run(replica, &check, nobodys_digest, &l, &result) == USERS_DB_OK;
        PQclear(result);
    }
    return found;
}

static const char *word_of(bool up)
{
    return up ? "UP" : "DOWN";
}

static users_condition check_now(const users_db_call *call, users_db *db)
{
    struct users_health *health = db->settings->health;
    apr_uint64_t last = apr_atomic_read64(&health->last);
    users_condition before = unpack(last);
    users_condition found = users_is_replica(db) ? check_replica(db) : check_primary(call, db);

    if (!last || before.reads != found.reads || before.takes_changes != found.takes_changes) {
        users_log_at(&call->log, USERS_LOG_INFO, 0, "the health of %s: reads %s, writes %s",
                     db->name, word_of(found.reads), word_of(found.takes_changes));
    }
    apr_atomic_set64(&health->last, pack(found, users_now()));
    apr_atomic_set64(&health->due, (apr_uint64_t)(users_now() + PAUSE));
    return found;
}

/* Who else is at it may have begun a moment ago. Nothing is found where that does not end soon. */
static users_condition await(struct users_health *health)
{
    apr_time_t end = users_now() + WAIT_MOST;
    apr_uint64_t last = recall(health);

    while (!last && users_now() < end) {
        apr_sleep(WAIT_STEP);
        last = recall(health);
    }
    return unpack(last);
}

/*
 * Whose turn is it? If whoever takes it never comes to an end, as in a child that ends, another
 * one's turn comes when it must have ended.
 */
static bool take_turn(const users_db *db)
{
    struct users_health *health = db->settings->health;
    apr_uint64_t due = apr_atomic_read64(&health->due);
    users_limits l = limits_of(db->settings);
    apr_time_t until = l.end + PAUSE;

    return (apr_uint64_t)l.began >= due &&
           apr_atomic_cas64(&health->due, (apr_uint64_t)until, due) == due;
}

static users_condition condition_of(const users_db_call *call, users_db *db)
{
    return take_turn(db) ? check_now(call, db) : await(db->settings->health);
}

users_condition users_db_condition(users_db_call *call)
{
    users_condition found = {.reads = false};

    if (!call->db) {
        return found;
    }
    found = condition_of(call, call->db);
    for (int i = 0; i < users_route_replicas(call->db) && !found.reads; i++) {
        found.reads = condition_of(call, users_route_replica(call->db, i)).reads;
    }
    return found;
}
