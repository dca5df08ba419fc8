#include "db/connect.h"

#include "core/clock.h"
#include "core/episode.h"
#include "db/names.h"
#include "db/options.h"

#include <apr_atomic.h>
#include <apr_strings.h>
#include <apr_user.h>
#include <limits.h>
#include <poll.h>
#include <string.h>

/* A host's name that has to be looked up. */
typedef struct {
    users_host_name *addresses;
    users_episode unresolved; /* counts connections to old addresses */
} named;

typedef struct {
    users_options options;
    named *name; /* NULL: it has an address, or a socket's path */
} host_entry;

struct users_hosts {
    const users_log *log; /* NULL: nobody is told */
    const char *database; /* as the log calls it */
    users_process process;
    apr_interval_time_t timeout; /* of one */
    host_entry *entries;         /* one a host of the conninfo, in its order */
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

/* False without memory. */
static bool prepare_name(apr_pool_t *p, host_entry *entry, const char *host, const char *hostaddr)
{
    if ((hostaddr && *hostaddr) || !users_is_host_name(host)) {
        return true;
    }
    entry->name = apr_pcalloc(p, sizeof(*entry->name));
    entry->name->addresses = users_host_name_create(p, host);
    return entry->name->addresses != NULL;
}

/* count: of hosts; entries beyond them are the same ones again. */
static bool prepare_entry(apr_pool_t *p, const users_options_split *parts, host_entry *entries,
                          apr_uint32_t index, apr_uint32_t count)
{
    host_entry *entry = &entries[index];
    const char *host = users_options_item(parts->host, index % count, p);
    const char *hostaddr = users_options_item(parts->hostaddr, index % count, p);

    entry->options = parts->common;
    users_options_add(&entry->options, "host", host);
    users_options_add(&entry->options, "hostaddr", hostaddr);
    users_options_add(&entry->options, "port", users_options_item(parts->port, index % count, p));
    if (parts->prefer_standby) {
        users_options_add(&entry->options, "target_session_attrs",
                          index < count ? "standby" : "any");
    }
    if (index >= count) {
        entry->name = entries[index - count].name;
        return true;
    }
    return prepare_name(p, entry, host, hostaddr);
}

/*
 * One set of options a host, because libpq gives all hosts together no deadline of ours and
 * can hang on the first. Each is asked by itself whether it is what target_session_attrs wants;
 * prefer-standby is a wish, so all are asked for it first, and then once more without it.
 */
users_hosts *users_hosts_create(apr_pool_t *p, const users_db_settings *settings,
                                const users_log *log, const char *name)
{
    users_hosts *hosts = apr_pcalloc(p, sizeof(*hosts));
    users_options_split parts;
    apr_uint32_t count;

    if (!users_options_read(settings, &parts, p)) {
        return NULL;
    }
    hosts->log = log;
    hosts->database = name;
    hosts->process = (users_process){settings->program ? settings->program : "httpd", os_user(p)};
    hosts->timeout = settings->db_connect_timeout;
    count = users_options_length(parts.hostaddr ? parts.hostaddr : parts.host);
    if (count == 0) {
        count = 1; /* libpq's default: the local socket */
    }
    hosts->count = parts.prefer_standby ? 2 * count : count;
    hosts->entries = apr_pcalloc(p, hosts->count * sizeof(*hosts->entries));
    for (apr_uint32_t i = 0; i < hosts->count; i++) {
        if (!prepare_entry(p, &parts, hosts->entries, i, count)) {
            return NULL;
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
static PGconn *connect_by(const users_hosts *hosts, const users_options *options,
                          apr_time_t deadline, users_connect_fault *fault)
{
    PGconn *pg = PQconnectStartParams(options->keywords, options->values, 0);
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

/* Names */

/* Tell the log when old addresses begin to be used, and when that is over. */
static void note_trouble(const users_hosts *hosts, named *name, int error, apr_interval_time_t age)
{
    const char *text = users_host_name_text(name->addresses);
    users_episode_summary summary;

    if (!hosts->log) {
        return;
    }
    if (error) {
        if (users_episode_meet(&name->unresolved, 0) == USERS_MET_FIRST) {
            users_log_at(hosts->log, USERS_LOG_WARNING, 0,
                         "the host name %s of %s can't be resolved: %s: its addresses of %d s ago "
                         "are used",
                         text, hosts->database, users_host_name_error(error),
                         (int)apr_time_sec(age));
        }
    } else if (users_episode_end(&name->unresolved, &summary)) {
        users_log_at(hosts->log, USERS_LOG_WARNING, 0,
                     "the host name %s of %s is resolved again after %.1f s, in which its old "
                     "addresses were used %u times",
                     text, hosts->database, summary.seconds, summary.count);
    }
}

/* False where it has no addresses, and why. */
static bool look_up(const users_hosts *hosts, named *name, apr_time_t deadline,
                    users_addresses *addresses, users_connect_fault *fault)
{
    int error;
    apr_interval_time_t age;

    if (!users_host_name_find(name->addresses, deadline, addresses, &error, &age)) {
        *fault = (users_connect_fault){.reason = ""};
        apr_snprintf(fault->reason, sizeof(fault->reason), "the host name %s can't be resolved: %s",
                     users_host_name_text(name->addresses), users_host_name_error(error));
        return false;
    }
    note_trouble(hosts, name, error, age);
    return true;
}

static bool holds(const users_addresses *addresses, const char *address)
{
    for (unsigned i = 0; i < addresses->count; i++) {
        if (strcmp(addresses->list[i], address) == 0) {
            return true;
        }
    }
    return false;
}

/* Each has its part of the time that is left, lest one that is silent take it all. */
static PGconn *connect_first(const users_hosts *hosts, const host_entry *entry,
                             const users_addresses *addresses, const users_addresses *tried,
                             apr_time_t deadline, users_connect_fault *fault)
{
    PGconn *pg = NULL;

    for (unsigned i = 0; i < addresses->count && !pg; i++) {
        apr_time_t now = users_now();
        users_options options = entry->options;

        if (!holds(tried, addresses->list[i]) && now < deadline) {
            users_options_add(&options, "hostaddr", addresses->list[i]);
            pg =
                connect_by(hosts, &options, now + (deadline - now) / (addresses->count - i), fault);
        }
    }
    return pg;
}

/* Where no address is good the name may have moved: it is looked up again, and what is new tried.
 */
static PGconn *connect_named(const users_hosts *hosts, const host_entry *entry, apr_time_t deadline,
                             users_connect_fault *fault)
{
    users_addresses addresses;
    users_addresses tried = {.number = 0};
    PGconn *pg = NULL;

    users_diagnose_silence(users_host_name_text(entry->name->addresses), fault);
    while (!pg && look_up(hosts, entry->name, deadline, &addresses, fault) &&
           addresses.number != tried.number) {
        pg = connect_first(hosts, entry, &addresses, &tried, deadline, fault);
        if (!pg) {
            users_host_name_doubt(entry->name->addresses);
        }
        tried = addresses;
    }
    return pg;
}

static PGconn *connect_host(const users_hosts *hosts, const host_entry *entry, apr_time_t deadline,
                            users_connect_fault *fault)
{
    return entry->name ? connect_named(hosts, entry, deadline, fault)
                       : connect_by(hosts, &entry->options, deadline, fault);
}

static bool begin_with_next(users_hosts *hosts, apr_uint32_t host)
{
    return apr_atomic_cas32(&hosts->first, (host + 1) % hosts->count, host) == host;
}

bool users_hosts_pass(users_hosts *hosts, apr_uint32_t host)
{
    named *name = hosts->entries[host].name;

    if (name) {
        users_host_name_doubt(name->addresses);
    }
    return begin_with_next(hosts, host);
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
        *pg = connect_host(hosts, &hosts->entries[*host], now + chance, fault);
        if (*pg) {
            apr_atomic_set32(&hosts->failed, 0);
            return USERS_CONNECTED;
        }
        now = users_now();
        if (now < deadline || chance >= hosts->timeout / 2) {
            judged++;
            if (begin_with_next(hosts, *host)) {
                apr_atomic_inc32(&hosts->failed);
            }
        }
    }
    return judged == hosts->count || apr_atomic_read32(&hosts->failed) >= hosts->count
               ? USERS_CONNECT_FAILED
               : USERS_CONNECT_LATE;
}
