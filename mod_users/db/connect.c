#include "db/connect.h"

#include "core/clock.h"

#include <apr_atomic.h>
#include <apr_strings.h>
#include <apr_user.h>
#include <limits.h>
#include <poll.h>
#include <string.h>

#define OPTIONS_MAX 64 /* more keywords than libpq has */

/* A connection that lies idle has ended within a minute of its server's silent end. */
#define KEEPALIVES_IDLE     "30" /* seconds */
#define KEEPALIVES_INTERVAL "10"
#define KEEPALIVES_COUNT    "3"

/* What PQconnectStartParams takes: parallel arrays that end in NULL. */
typedef struct {
    const char *keywords[OPTIONS_MAX + 1];
    const char *values[OPTIONS_MAX + 1];
    int count;
} connect_options;

struct users_hosts {
    users_process process;
    apr_interval_time_t timeout; /* of one */
    connect_options *options;    /* one a host of the conninfo, in its order */
    apr_uint32_t count;
    apr_uint32_t first;  /* where to begin: those before it failed last */
    apr_uint32_t failed; /* how many did so in a row */
};

/* Connection strings */

static void add_option(connect_options *options, const char *keyword, const char *value)
{
    if (value && options->count < OPTIONS_MAX) {
        options->keywords[options->count] = keyword;
        options->values[options->count++] = value;
    }
}

/* Item number index of a comma-separated list; its only item for every index; else NULL. */
static const char *list_item(const char *list, apr_uint32_t index, apr_pool_t *pool)
{
    const char *start = list;
    const char *comma;

    if (!list || !strchr(list, ',')) {
        return list;
    }
    for (; index > 0 && start; index--) {
        comma = strchr(start, ',');
        start = comma ? comma + 1 : NULL;
    }
    return start ? apr_pstrmemdup(pool, start, strcspn(start, ",")) : NULL;
}

static apr_uint32_t list_length(const char *list)
{
    apr_uint32_t length = list && *list ? 1 : 0;

    for (; list && *list; list++) {
        length += *list == ',';
    }
    return length;
}

/*
 * The settings of a session stand in its startup packet: nothing is left to a SET that
 * a pooled session could lose. All the contract's work is index look-ups. The server gives up a
 * statement before we do, so that its connection survives. The administrator's own options come
 * last and win. A transaction pooler refuses them, or applies them to some sessions only: behind
 * one the role's settings count.
 */
static const char *session_options(const users_db_settings *settings, const char *own,
                                   apr_pool_t *pool)
{
    apr_interval_time_t deadline = apr_time_as_msec(settings->db_timeout);
    apr_interval_time_t statement = deadline * 9 / 10;
    apr_interval_time_t lock = deadline * 8 / 10;

    if (!settings->db_prepare) {
        return own;
    }
    return apr_psprintf(pool,
                        "-c plan_cache_mode=force_generic_plan -c jit=off -c random_page_cost=1.1"
                        " -c statement_timeout=%" APR_TIME_T_FMT " -c lock_timeout=%" APR_TIME_T_FMT
                        " -c idle_in_transaction_session_timeout=%" APR_TIME_T_FMT
                        " -c default_transaction_isolation=read\\ committed%s%s",
                        statement ? statement : 1, lock ? lock : 1, deadline, own ? " " : "",
                        own ? own : "");
}

/* The options of a conninfo that every host has; the lists of hosts apart. */
typedef struct {
    connect_options common;
    bool prefer_standby;
    const char *host;
    const char *hostaddr;
    const char *port;
} split;

static bool split_conninfo(const users_db_settings *settings, split *into, apr_pool_t *p)
{
    PQconninfoOption *parsed = PQconninfoParse(settings->conninfo, NULL);
    const char *own_options = NULL;

    if (!parsed) {
        return false;
    }
    /* the administrator's own come later and win */
    add_option(&into->common, "fallback_application_name",
               settings->program ? settings->program : "mod_users");
    add_option(&into->common, "keepalives_idle", KEEPALIVES_IDLE);
    add_option(&into->common, "keepalives_interval", KEEPALIVES_INTERVAL);
    add_option(&into->common, "keepalives_count", KEEPALIVES_COUNT);
    add_option(&into->common, "tcp_user_timeout",
               apr_psprintf(p, "%" APR_TIME_T_FMT, apr_time_as_msec(settings->db_timeout)));
    for (const PQconninfoOption *o = parsed; o->keyword; o++) {
        const char *keyword = apr_pstrdup(p, o->keyword);
        const char *value = apr_pstrdup(p, o->val);

        if (strcmp(keyword, "host") == 0) {
            into->host = value;
        } else if (strcmp(keyword, "hostaddr") == 0) {
            into->hostaddr = value;
        } else if (strcmp(keyword, "port") == 0) {
            into->port = value;
        } else if (strcmp(keyword, "options") == 0) {
            own_options = value;
        } else if (strcmp(keyword, "password") == 0 && settings->password) {
            add_option(&into->common, keyword, settings->password);
        } else {
            add_option(&into->common, keyword, value);
            into->prefer_standby |= strcmp(keyword, "target_session_attrs") == 0 && value &&
                                    strcmp(value, "prefer-standby") == 0;
        }
    }
    PQconninfoFree(parsed);
    add_option(&into->common, "client_encoding", "UTF8");
    add_option(&into->common, "options", session_options(settings, own_options, p));
    return true;
}

static const char *os_user(apr_pool_t *pool)
{
    char *name;
    apr_uid_t user;
    apr_gid_t group;

    if (apr_uid_current(&user, &group, pool) != APR_SUCCESS) {
        return "?";
    }
    return apr_uid_name_get(&name, user, pool) == APR_SUCCESS
               ? name
               : apr_psprintf(pool, "%lu", (unsigned long)user);
}

/*
 * One set of options a host, because libpq gives all hosts together no deadline of ours and
 * can hang on the first. Each is asked by itself whether it is what target_session_attrs wants;
 * prefer-standby is a wish, so all are asked for it first, and then once more without it. Hosts of
 * a service file stay with libpq.
 */
users_hosts *users_hosts_create(apr_pool_t *p, const users_db_settings *settings)
{
    users_hosts *hosts = apr_pcalloc(p, sizeof(*hosts));
    split parts = {.host = NULL};
    apr_uint32_t named;

    if (!split_conninfo(settings, &parts, p)) {
        return NULL;
    }
    hosts->process = (users_process){settings->program ? settings->program : "httpd", os_user(p)};
    hosts->timeout = settings->db_connect_timeout;
    named = list_length(parts.hostaddr ? parts.hostaddr : parts.host);
    if (named == 0) {
        named = 1; /* libpq's default: the local socket */
    }
    hosts->count = parts.prefer_standby ? 2 * named : named;
    hosts->options = apr_palloc(p, hosts->count * sizeof(*hosts->options));
    for (apr_uint32_t i = 0; i < hosts->count; i++) {
        connect_options *options = &hosts->options[i];

        *options = parts.common;
        add_option(options, "host", list_item(parts.host, i % named, p));
        add_option(options, "hostaddr", list_item(parts.hostaddr, i % named, p));
        add_option(options, "port", list_item(parts.port, i % named, p));
        if (parts.prefer_standby) {
            add_option(options, "target_session_attrs", i < named ? "standby" : "any");
        }
        options->keywords[options->count] = NULL;
        options->values[options->count] = NULL;
    }
    return hosts;
}

/* Connecting */

bool users_socket_wait(const PGconn *pg, short events, apr_time_t deadline)
{
    struct pollfd fd = {.fd = PQsocket(pg), .events = events};

    for (;;) {
        apr_interval_time_t left = deadline - users_now();
        int ready;

        if (left <= 0) {
            return false;
        }
        left = apr_time_as_msec(left) + 1; /* rounded up: never a busy loop */
        ready = poll(&fd, 1, left > INT_MAX ? INT_MAX : (int)left);
        if (ready > 0 || (ready < 0 && errno != EINTR)) {
            return true; /* an error of the socket is libpq's to report */
        }
    }
}

static void ignore_notice(void *unused, const PGresult *notice)
{
    (void)unused; /* libpq's default is httpd's stderr */
    (void)notice;
}

/* The connection where it is good; otherwise NULL, and why. */
static PGconn *connect_host(const users_hosts *hosts, const connect_options *host,
                            apr_time_t deadline, users_connect_fault *fault)
{
    PGconn *pg = PQconnectStartParams(host->keywords, host->values, 0);
    PostgresPollingStatusType state = PGRES_POLLING_WRITING;

    PQsetNoticeReceiver(pg, ignore_notice, NULL);
    users_diagnose_prepare(pg);
    while (PQstatus(pg) != CONNECTION_BAD && state != PGRES_POLLING_OK &&
           state != PGRES_POLLING_FAILED) {
        if (!users_socket_wait(pg, state == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline)) {
            break;
        }
        state = PQconnectPoll(pg);
    }
    if (PQstatus(pg) == CONNECTION_OK && PQsetnonblocking(pg, 1) == 0) {
        return pg;
    }
    users_diagnose(pg, &hosts->process, fault);
    PQfinish(pg);
    return NULL;
}

bool users_hosts_pass(users_hosts *hosts, apr_uint32_t host)
{
    return apr_atomic_cas32(&hosts->first, (host + 1) % hosts->count, host) == host;
}

/*
 * A host that had no chance, because the caller came late, is not judged. One that failed is
 * not the first next time: else the last of many silent ones would never have its turn. All have
 * failed when each has, for this caller or those before it.
 */
users_connect_status users_hosts_connect(users_hosts *hosts, apr_time_t deadline, PGconn **pg,
                                         apr_uint32_t *host, users_connect_fault *fault)
{
    apr_uint32_t first = apr_atomic_read32(&hosts->first);
    apr_uint32_t judged = 0;
    apr_time_t now = users_now();

    *pg = NULL;
    *fault = (users_connect_fault){.reason = ""};
    for (apr_uint32_t i = 0; i < hosts->count && now < deadline; i++) {
        apr_interval_time_t chance =
            hosts->timeout < deadline - now ? hosts->timeout : deadline - now;

        *host = (first + i) % hosts->count;
        *pg = connect_host(hosts, &hosts->options[*host], now + chance, fault);
        if (*pg) {
            apr_atomic_set32(&hosts->failed, 0);
            return USERS_CONNECTED;
        }
        now = users_now();
        if (now < deadline || chance >= hosts->timeout / 2) {
            judged++;
            if (users_hosts_pass(hosts, *host)) {
                apr_atomic_inc32(&hosts->failed);
            }
        }
    }
    return judged == hosts->count || apr_atomic_read32(&hosts->failed) >= hosts->count
               ? USERS_CONNECT_FAILED
               : USERS_CONNECT_LATE;
}
