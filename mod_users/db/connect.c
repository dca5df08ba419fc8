#include "db/connect.h"

#include "core/clock.h"
#include "db/options.h"

#include <apr_atomic.h>
#include <apr_strings.h>
#include <apr_user.h>
#include <limits.h>
#include <poll.h>
#include <string.h>

struct users_hosts {
    users_process process;
    apr_interval_time_t timeout; /* of one */
    users_options *options;      /* one a host of the conninfo, in its order */
    apr_uint32_t count;
    apr_uint32_t first;  /* where to begin: those before it failed last */
    apr_uint32_t failed; /* how many did so in a row */
};

/* Hosts */

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
 * prefer-standby is a wish, so all are asked for it first, and then once more without it.
 */
users_hosts *users_hosts_create(apr_pool_t *p, const users_db_settings *settings)
{
    users_hosts *hosts = apr_pcalloc(p, sizeof(*hosts));
    users_options_split parts;
    apr_uint32_t named;

    if (!users_options_read(settings, &parts, p)) {
        return NULL;
    }
    hosts->process = (users_process){settings->program ? settings->program : "httpd", os_user(p)};
    hosts->timeout = settings->db_connect_timeout;
    named = users_options_length(parts.hostaddr ? parts.hostaddr : parts.host);
    if (named == 0) {
        named = 1; /* libpq's default: the local socket */
    }
    hosts->count = parts.prefer_standby ? 2 * named : named;
    hosts->options = apr_palloc(p, hosts->count * sizeof(*hosts->options));
    for (apr_uint32_t i = 0; i < hosts->count; i++) {
        users_options *options = &hosts->options[i];

        *options = parts.common;
        users_options_add(options, "host", users_options_item(parts.host, i % named, p));
        users_options_add(options, "hostaddr", users_options_item(parts.hostaddr, i % named, p));
        users_options_add(options, "port", users_options_item(parts.port, i % named, p));
        if (parts.prefer_standby) {
            users_options_add(options, "target_session_attrs", i < named ? "standby" : "any");
        }
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
static PGconn *connect_host(const users_hosts *hosts, const users_options *host,
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
