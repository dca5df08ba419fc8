#include "db/pool.h"

#include "core/clock.h"
#include "db/count.h"
#include "db/outage.h"

#include <apr_atomic.h>
#include <apr_thread_cond.h>
#include <apr_thread_mutex.h>
#include <poll.h>
#include <stdbool.h>

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
    apr_time_t answered; /* when a connection last came back on which a statement was answered */

    /* those that nobody uses: open ones, the last to come back first, and then closed ones */
    users_connection *idle;
};

#define CONNECTS(end) (USERS_FIGURE_CONNECTS + USERS_ROLES * (end))

static int in_use_of_requests(const users_pool *pool)
{
    return pool->in_use[USERS_POOL_READ] + pool->in_use[USERS_POOL_CHANGE];
}

static int all_in_use(const users_pool *pool)
{
    return in_use_of_requests(pool) + pool->in_use[USERS_POOL_EXAMINE];
}

/* Opening and closing */

void users_connection_close(users_connection *connection)
{
    if (connection->pg) {
        apr_atomic_dec32(&connection->pool->open);
        users_db_count(connection->pool->settings, USERS_FIGURE_POOL_OPEN, -1);
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
        users_db_count(pool->settings, USERS_FIGURE_POOL_OPEN, 1);
        users_db_count(pool->settings, CONNECTS(USERS_CONNECT_DONE), 1);
    } else {
        users_db_count(pool->settings, CONNECTS(USERS_CONNECT_REFUSED), 1);
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

/* The idle ones; these with the mutex held. */

static void count_idle(const users_connection *connection, int change)
{
    if (connection->pg) {
        users_db_count(connection->pool->settings, USERS_FIGURE_POOL_IDLE, change);
    }
}

/* There is always one for whoever has passed the gate. */
static users_connection *pop_idle(users_pool *pool)
{
    users_connection *connection = pool->idle;

    pool->idle = connection->next;
    count_idle(connection, -1);
    return connection;
}

static void push_idle(users_pool *pool, users_connection *connection)
{
    users_connection **link = &pool->idle;

    connection->idle_since = users_now();
    while (!connection->pg && *link) {
        link = &(*link)->next;
    }
    connection->next = *link;
    *link = connection;
    count_idle(connection, 1);
}

static void close_idle(users_connection *connection)
{
    count_idle(connection, -1);
    users_connection_close(connection);
}

static bool has_expired(const users_connection *connection)
{
    return users_now() - connection->idle_since >= connection->pool->settings->db_exptime;
}

/* Those beyond db_keep that have been idle for too long. To close one sends a few octets. */
static void close_expired(users_pool *pool)
{
    int kept = 0;

    for (users_connection *c = pool->idle; c && c->pg; c = c->next) {
        if (++kept > pool->settings->db_keep && has_expired(c)) {
            close_idle(c);
        }
    }
}

/* Those in use, as in a child of prefork that ends in the midst of a request, end with the process.
 */
static apr_status_t close_all_idle(void *pool)
{
    for (users_connection *c = ((users_pool *)pool)->idle; c; c = c->next) {
        close_idle(c);
    }
    return APR_SUCCESS;
}

static void create_connections(users_pool *pool, apr_pool_t *p)
{
    int count = pool->settings->db_max + 1; /* USERS_POOL_EXAMINE's */
    users_connection *connections = apr_pcalloc(p, (size_t)count * sizeof(*connections));

    for (int i = 0; i < count; i++) {
        connections[i].pool = pool;
        connections[i].witness = &pool->witness;
        connections[i].next = pool->idle;
        pool->idle = &connections[i];
    }
    apr_pool_cleanup_register(p, pool, close_all_idle, apr_pool_cleanup_null);
}

users_pool *users_pool_create(apr_pool_t *p, const users_log *log,
                              const users_db_settings *settings, const char *name)
{
    users_pool *pool = apr_pcalloc(p, sizeof(*pool));
    apr_status_t status;

    pool->witness = (users_witness){log, name, settings};
    pool->settings = settings;
    pool->hosts = users_hosts_create(p, settings, log, name);
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
    if (status != APR_SUCCESS) {
        users_log_at(log, USERS_LOG_CRIT, status, "no connection pool could be made");
        return NULL;
    }
    create_connections(pool, p);
    users_db_count(settings, USERS_FIGURE_POOL_MAX, settings->db_max);
    return pool;
}

/* Acquire and release */

/* While no connection can be opened, those that are open are all there is. */

bool users_pool_is_away(users_pool *pool)
{
    return users_outage_lasts(pool->outage) && !apr_atomic_read32(&pool->open);
}

bool users_pool_is_barred(users_pool *pool)
{
    return users_pool_is_away(pool) && users_outage_bars(pool->outage);
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
    return kind == USERS_POOL_EXAMINE ? !pool->in_use[kind] : in_use_of_requests(pool) < max;
}

/* One of each kind, since what is free may not be for the one that waits longest. */
static void wake(users_pool *pool)
{
    for (int kind = 0; kind < USERS_POOL_KINDS; kind++) {
        apr_thread_cond_signal(pool->freed[kind]);
    }
}

/*
 * Returns USERS_DB_BUSY at the deadline and USERS_DB_UNREACHABLE where there is nothing to wait
 * for; else *connection is the caller's until leave_gate(), perhaps not open.
 */
static users_db_status pass_gate(users_pool *pool, users_pool_kind kind, apr_time_t deadline,
                                 users_connection **connection)
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
            users_db_count(pool->settings, USERS_FIGURE_POOL_WAITING, 1);
            apr_thread_cond_timedwait(pool->freed[kind], pool->mutex, left);
            users_db_count(pool->settings, USERS_FIGURE_POOL_WAITING, -1);
        }
    }
    if (status == USERS_DB_OK) {
        pool->in_use[kind]++;
        *connection = pop_idle(pool);
    } else {
        wake(pool); /* it may have been this one's: pass it on */
    }
    apr_thread_mutex_unlock(pool->mutex);
    return status;
}

static void leave_gate(users_pool *pool, users_connection *connection)
{
    apr_thread_mutex_lock(pool->mutex);
    push_idle(pool, connection);
    if (connection->answered) {
        pool->answered = connection->idle_since;
    }
    close_expired(pool);
    pool->in_use[connection->kind]--;
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
    if (connection->pg && PQtransactionStatus(connection->pg) != PQTRANS_IDLE) {
        users_connection_close(connection);
    }
    leave_gate(connection->pool, connection);
}

/* An idle one whose end is known is closed alone: its siblings are looked at when it is their turn.
 */
static bool is_usable(users_connection *connection)
{
    return !has_expired(connection) &&
           connection->generation == current_generation(connection->pool) && is_alive(connection);
}

static users_db_status borrow(users_pool *pool, users_pool_kind kind, apr_time_t deadline,
                              users_connection **connection)
{
    users_connection *c;
    users_db_status status = pass_gate(pool, kind, deadline, &c);

    if (status == USERS_DB_BUSY && kind != USERS_POOL_EXAMINE) {
        users_pool_note_busy(pool, kind);
    }
    if (status != USERS_DB_OK) {
        return status;
    }
    *connection = c;
    c->kind = kind;
    c->answered = false;
    if (c->pg && !is_usable(c)) {
        users_connection_close(c);
    }
    c->was_idle = c->pg != NULL;
    if (!c->pg) {
        c->generation = current_generation(pool);
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

users_db_status users_connection_renew(users_connection *connection, apr_time_t deadline)
{
    users_connection fresh = *connection;
    users_db_status status;

    fresh.pg = NULL;
    fresh.prepared = 0;
    fresh.generation = current_generation(connection->pool);
    users_hosts_pass(connection->pool->hosts, connection->host);
    status = open_connection(&fresh, deadline);
    if (status == USERS_DB_OK) {
        users_connection_close(connection);
        *connection = fresh;
    }
    return status;
}

bool users_pool_answered_since(users_pool *pool, apr_time_t since)
{
    apr_time_t answered;

    apr_thread_mutex_lock(pool->mutex);
    answered = pool->answered;
    apr_thread_mutex_unlock(pool->mutex);
    return answered >= since;
}

void users_pool_note_busy(users_pool *pool, users_pool_kind kind)
{
    users_trouble_busy(&pool->witness, kind == USERS_POOL_CHANGE);
}

void users_pool_count_refusal(users_pool *pool)
{
    users_outage_count(pool->outage);
}
