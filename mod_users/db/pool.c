#include "db/pool.h"

#include "core/clock.h"
#include "db/outage.h"

#include <apr_atomic.h>
#include <apr_reslist.h>
#include <apr_thread_cond.h>
#include <apr_thread_mutex.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>

struct users_pool {
    users_witness witness;
    const users_db_settings *settings;
    users_hosts *hosts;
    users_outage *outage;
    apr_uint32_t open; /* connections, idle ones too */

    apr_thread_mutex_t *mutex;                  /* guards what follows */
    apr_thread_cond_t *freed[USERS_POOL_KINDS]; /* one that this kind may take */
    int in_use[USERS_POOL_KINDS];
    int opening;         /* those of in_use that are being connected */
    unsigned generation; /* goes up when a connection was lost: older idle ones are closed */

    apr_reslist_t *idle;
    apr_pool_t *of_idle;
};

static int all_in_use(const users_pool *pool)
{
    return pool->in_use[USERS_POOL_READ] + pool->in_use[USERS_POOL_CHANGE];
}

/* Opening and closing */

void users_connection_close(users_connection *connection)
{
    if (connection->pg) {
        apr_atomic_dec32(&connection->pool->open);
    }
    PQfinish(connection->pg);
    connection->pg = NULL;
    connection->prepared = 0;
}

static void count_opening(users_pool *pool, int change)
{
    apr_thread_mutex_lock(pool->mutex);
    pool->opening += change;
    apr_thread_mutex_unlock(pool->mutex);
}

static users_db_status open_connection(users_connection *connection, apr_time_t deadline)
{
    users_pool *pool = connection->pool;
    users_permit permit = users_outage_ask(pool->outage);
    users_connect_status status;
    users_connect_fault fault;

    if (permit == USERS_MAY_NOT) {
        return USERS_DB_UNREACHABLE;
    }
    count_opening(pool, 1);
    status = users_hosts_connect(pool->hosts, deadline, &connection->pg, &connection->host, &fault);
    if (status == USERS_CONNECTED) {
        apr_atomic_inc32(&pool->open);
    }
    count_opening(pool, -1);
    users_outage_tell(pool->outage, permit, status, &fault);
    if (status == USERS_CONNECTED) {
        return USERS_DB_OK;
    }
    return status == USERS_CONNECT_FAILED ? USERS_DB_UNREACHABLE : USERS_DB_BUSY;
}

/* Has the server hung up? What waits to be read on an idle connection is a notice or its end. */
static bool is_alive(const users_connection *connection)
{
    struct pollfd fd = {.fd = PQsocket(connection->pg), .events = POLLIN};

    while (poll(&fd, 1, 0) > 0) {
        if (!PQconsumeInput(connection->pg)) {
            return false;
        }
        PQisBusy(connection->pg); /* parses what came */
    }
    return PQstatus(connection->pg) == CONNECTION_OK;
}

/* The list of idle connections (apr_reslist): its lock is held during these two. */

static apr_status_t construct(void **resource, void *pool, apr_pool_t *unused)
{
    users_connection *connection = calloc(1, sizeof(*connection));

    (void)unused; /* a pool for all connections would only grow */
    if (!connection) {
        return APR_ENOMEM;
    }
    connection->pool = pool;
    connection->witness = &connection->pool->witness;
    *resource = connection;
    return APR_SUCCESS;
}

static apr_status_t destruct(void *resource, void *pool, apr_pool_t *unused)
{
    users_connection *connection = resource;

    (void)pool;
    (void)unused;
    users_connection_close(connection);
    free(connection);
    return APR_SUCCESS;
}

/*
 * Closes what is idle. A child of prefork ends in the midst of a request, and apr_reslist aborts
 * where something is out: then the end of the process closes all.
 */
static apr_status_t close_idle(void *pool)
{
    if (all_in_use(pool) == 0) {
        apr_pool_destroy(((users_pool *)pool)->of_idle);
    }
    return APR_SUCCESS;
}

users_pool *users_pool_create(apr_pool_t *p, const users_log *log,
                              const users_db_settings *settings, const char *name)
{
    users_pool *pool = apr_pcalloc(p, sizeof(*pool));
    apr_status_t status;

    pool->witness = (users_witness){log, name, settings};
    pool->settings = settings;
    pool->hosts = users_hosts_create(p, settings);
    if (!pool->hosts) {
        users_log_at(log, USERS_LOG_CRIT, APR_ENOMEM, "the connection string of %s can't be read",
                     name);
        return NULL;
    }
    pool->outage = users_outage_create(p, &pool->witness);
    status = pool->outage ? apr_thread_mutex_create(&pool->mutex, APR_THREAD_MUTEX_DEFAULT, p)
                          : APR_ENOMEM;
    for (int kind = 0; kind < USERS_POOL_KINDS && status == APR_SUCCESS; kind++) {
        status = apr_thread_cond_create(&pool->freed[kind], p);
    }
    if (status == APR_SUCCESS) {
        status = apr_pool_create_unmanaged_ex(&pool->of_idle, NULL, NULL);
    }
    if (status == APR_SUCCESS) {
        apr_pool_cleanup_register(p, pool, close_idle, apr_pool_cleanup_null);
        status = apr_reslist_create(&pool->idle, 0, settings->db_keep, settings->db_max,
                                    settings->db_exptime, construct, destruct, pool, pool->of_idle);
    }
    if (status != APR_SUCCESS) {
        users_log_at(log, USERS_LOG_CRIT, status, "no connection pool could be made");
        return NULL;
    }
    return pool;
}

/* Acquire and release */

/* While no connection can be opened, those that are open are all there is. */

bool users_pool_is_away(users_pool *pool)
{
    return users_outage_lasts(pool->outage) && !apr_atomic_read32(&pool->open);
}

static bool has_place(users_pool *pool, users_pool_kind kind)
{
    int max = pool->settings->db_max;

    if (kind == USERS_POOL_CHANGE && max > 1 && pool->in_use[kind] >= max - 1) {
        return false; /* the last one is for reads */
    }
    if (users_outage_bars(pool->outage)) {
        return all_in_use(pool) - pool->opening < (int)apr_atomic_read32(&pool->open);
    }
    return all_in_use(pool) < max;
}

/* One of each kind, since what is free may not be for the one that waits longest. */
static void wake(users_pool *pool)
{
    for (int kind = 0; kind < USERS_POOL_KINDS; kind++) {
        apr_thread_cond_signal(pool->freed[kind]);
    }
}

/*
 * The gate before the list: apr_reslist's own wait starts its time-out anew at each
 * wake-up. Who has passed finds a place in the list at once. Returns USERS_DB_BUSY at the deadline
 * and USERS_DB_UNREACHABLE where there is nothing to wait for.
 */
static users_db_status pass_gate(users_pool *pool, users_pool_kind kind, apr_time_t deadline)
{
    users_db_status status = USERS_DB_OK;

    apr_thread_mutex_lock(pool->mutex);
    while (status == USERS_DB_OK && !has_place(pool, kind)) {
        apr_interval_time_t left = deadline - users_now();

        if (users_pool_is_away(pool)) {
            status = USERS_DB_UNREACHABLE;
        } else if (left <= 0) {
            status = USERS_DB_BUSY;
        } else {
            apr_thread_cond_timedwait(pool->freed[kind], pool->mutex, left);
        }
    }
    if (status == USERS_DB_OK) {
        pool->in_use[kind]++;
    } else {
        wake(pool); /* it may have been this one's: pass it on */
    }
    apr_thread_mutex_unlock(pool->mutex);
    return status;
}

static void leave_gate(users_pool *pool, users_pool_kind kind)
{
    apr_thread_mutex_lock(pool->mutex);
    pool->in_use[kind]--;
    wake(pool);
    apr_thread_mutex_unlock(pool->mutex);
}

static unsigned current_generation(users_pool *pool)
{
    unsigned generation;

    apr_thread_mutex_lock(pool->mutex);
    generation = pool->generation;
    apr_thread_mutex_unlock(pool->mutex);
    return generation;
}

void users_connection_lose(users_connection *connection)
{
    users_pool *pool = connection->pool;

    users_connection_close(connection);
    apr_thread_mutex_lock(pool->mutex);
    if (connection->generation == pool->generation) {
        pool->generation++;
    }
    apr_thread_mutex_unlock(pool->mutex);
}

void users_connection_release(users_connection *connection)
{
    users_pool *pool = connection->pool;
    users_pool_kind kind = connection->kind;

    if (connection->pg && PQtransactionStatus(connection->pg) != PQTRANS_IDLE) {
        users_connection_close(connection);
    }
    if (connection->pg) {
        apr_reslist_release(pool->idle, connection);
    } else {
        apr_reslist_invalidate(pool->idle, connection);
    }
    leave_gate(pool, kind);
}

static users_db_status borrow(users_pool *pool, users_pool_kind kind, apr_time_t deadline,
                              users_connection **connection)
{
    void *resource;
    users_connection *c;
    users_db_status status = pass_gate(pool, kind, deadline);

    if (status == USERS_DB_BUSY) {
        users_pool_note_busy(pool, kind);
    }
    if (status != USERS_DB_OK) {
        return status;
    }
    if (apr_reslist_acquire(pool->idle, &resource) != APR_SUCCESS) {
        leave_gate(pool, kind);
        return USERS_DB_BUSY;
    }
    c = *connection = resource;
    c->kind = kind;
    if (c->pg && c->generation != current_generation(pool)) {
        users_connection_close(c);
    } else if (c->pg && !is_alive(c)) {
        users_connection_close(c); /* as each of its siblings would be whose end is known */
    }
    c->was_idle = c->pg != NULL;
    if (!c->pg) {
        c->generation = current_generation(pool); /* users_connection_lose() may have raised it */
        status = open_connection(c, deadline);
    }
    if (status != USERS_DB_OK) {
        users_connection_release(c);
    }
    return status;
}

/* Who can't open another one, as where PostgreSQL has too many, waits for one that is open. */
users_db_status users_pool_acquire(users_pool *pool, users_pool_kind kind, apr_time_t deadline,
                                   users_connection **connection)
{
    users_db_status status;

    do {
        status = borrow(pool, kind, deadline, connection);
    } while (status == USERS_DB_UNREACHABLE && !users_pool_is_away(pool));
    return status;
}

users_db_status users_connection_replace(users_connection *connection, bool pass_host,
                                         apr_time_t deadline)
{
    users_pool *pool = connection->pool;

    if (pass_host) {
        users_hosts_pass(pool->hosts, connection->host);
    }
    users_connection_close(connection);
    connection->generation = current_generation(pool);
    connection->is_second = true;
    return open_connection(connection, deadline);
}

void users_pool_note_busy(users_pool *pool, users_pool_kind kind)
{
    users_trouble_busy(&pool->witness, kind == USERS_POOL_CHANGE);
}

void users_pool_count_refusal(users_pool *pool)
{
    users_outage_count(pool->outage);
}
