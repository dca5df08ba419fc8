#include "config/check.h"

#include "config/settings.h"
#include "core/address.h"
#include "db/db.h"

#include <ap_listen.h>
#include <ap_mpm.h>
#include <apr_hash.h>
#include <apr_lib.h>
#include <apr_strings.h>
#include <http_core.h>
#include <http_log.h>
#include <unistd.h>

APLOG_USE_MODULE(users);

#define CONNECTIONS_PER_CHILD 4 /* default of UsersDBMax under a threaded MPM */

/* The configuration is complete */

static void fill_in_defaults(users_settings *settings, const server_rec *s)
{
    int threads = 1;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);

    ap_mpm_query(AP_MPMQ_MAX_THREADS, &threads);
    if (!settings->db_max) {
        settings->db_max = threads > 1 ? CONNECTIONS_PER_CHILD : 1;
    }
    if (!settings->host_lanes) {
        settings->host_lanes = processors > 2 ? (int)processors : 2;
    }
    if (!settings->db_keep) {
        settings->db_keep = settings->db_max;
    }
    if (!settings->host_name) {
        /* a ServerName that no address can have, such as a bare host or an IPv6 address */
        settings->host_name =
            users_is_host_domain(s->server_hostname) ? s->server_hostname : "localhost";
    }
#define DEFAULT(type, name, fallback)                                                              \
    if (!settings->name) {                                                                         \
        settings->name = fallback;                                                                 \
    }
    USERS_SETTINGS(DEFAULT)
#undef DEFAULT
}

static void shorten(apr_interval_time_t *part, apr_interval_time_t whole)
{
    if (*part > whole) {
        *part = whole;
    }
}

/* No part of a request has more time than the whole. */
static void fit_timeouts(users_settings *settings)
{
    shorten(&settings->db_timeout, settings->request_timeout);
    shorten(&settings->db_acquire_timeout, settings->request_timeout);
    shorten(&settings->db_connect_timeout, settings->db_acquire_timeout);
}

/*
 * The path of the first endpoint that needs a database, and, if that is asked, one that clients
 * send secrets to; NULL: there is none.
 */
static const char *first_path(const users_settings *settings, bool has_secrets)
{
    for (int i = 0; i < settings->endpoints->nelts; i++) {
        const users_location *location = &APR_ARRAY_IDX(settings->endpoints, i, users_location);
        bool is_check = location->endpoint == USERS_ENDPOINT_HEALTH;

        if (location->endpoint != USERS_ENDPOINT_METRICS && !(has_secrets && is_check)) {
            return location->path;
        }
    }
    return NULL;
}

int users_startup_check(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    (void)plog;
    (void)ptemp;
    for (; s; s = s->next) {
        users_settings *settings = users_settings_of(s);

        settings->given = apr_pmemdup(pconf, settings, sizeof(*settings));
        fill_in_defaults(settings, s);
        fit_timeouts(settings);
        if (first_path(settings, false) && !settings->conninfo) {
            ap_log_error(APLOG_MARK, APLOG_EMERG, 0, s,
                         "UsersEndpoint of <Location \"%s\"> needs a UsersDB in the server or "
                         "virtual host %s",
                         first_path(settings, false), s->server_hostname);
            return !OK;
        }
        if (settings->db_keep > settings->db_max) {
            ap_log_error(APLOG_MARK, APLOG_EMERG, 0, s,
                         "UsersDBKeep (%d) must not be above UsersDBMax (%d)", settings->db_keep,
                         settings->db_max);
            return !OK;
        }
        if (settings->token_source == USERS_TOKENS_ENVIRONMENT && !settings->token_application) {
            ap_log_error(APLOG_MARK, APLOG_EMERG, 0, s,
                         "UsersTokenSource environment needs a UsersTokenApplication in the server "
                         "or virtual host %s",
                         s->server_hostname);
            return !OK;
        }
    }
    return OK;
}

static bool is_loopback(const apr_sockaddr_t *address)
{
    static const unsigned char v6[16] = {[15] = 1};

    if (address->family == APR_INET) {
        return *(const unsigned char *)address->ipaddr_ptr == 127; /* network byte order */
    }
    return address->family == AF_INET6 && memcmp(address->ipaddr_ptr, v6, sizeof(v6)) == 0;
}

/* Can nobody but this host reach the server? An address with a wildcard is as its listeners. */
static bool on_loopback_alone(const server_rec *s)
{
    for (const ap_listen_rec *l = ap_listeners; l; l = l->next) {
        bool reaches = !s->addrs; /* the main server answers on every listener */

        for (const server_addr_rec *a = s->addrs; a; a = a->next) {
            bool port = !a->host_port || a->host_port == l->bind_addr->port;

            reaches |= port && !is_loopback(a->host_addr);
        }
        if (reaches && !is_loopback(l->bind_addr)) {
            return false;
        }
    }
    return true;
}

/* The way to the database */

/* Once for each connection string. Service files and the like may be others for httpd's user. */
static void warn_of_connection(const server_rec *s, const char *directive, const char *conninfo,
                               apr_hash_t *done, apr_pool_t *pool)
{
    const char *objection;
    const char *host;
    const char *sslmode;

    if (!conninfo || apr_hash_get(done, conninfo, APR_HASH_KEY_STRING)) {
        return;
    }
    apr_hash_set(done, conninfo, APR_HASH_KEY_STRING, conninfo);
    objection = users_conninfo_objection(conninfo, pool);
    if (objection) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s, "%s %s can't be connected to: %s", directive,
                     users_conninfo_name(conninfo, pool), objection);
        return;
    }
    host = users_conninfo_exposed(conninfo, pool, &sslmode);
    if (host) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                     "%s %s: with sslmode=%s whoever sits between can pass for %s, and read and "
                     "change everything: say sslmode=verify-full, and sslrootcert= where its "
                     "certificate is of a CA of your own",
                     directive, users_conninfo_name(conninfo, pool), sslmode, host);
    }
}

static void warn_of_connections(const server_rec *s, apr_pool_t *pool)
{
    apr_hash_t *done = apr_hash_make(pool);

    for (; s; s = s->next) {
        const users_settings *settings = users_settings_of(s);

        if (settings->endpoints->nelts) {
            warn_of_connection(s, "UsersDB", settings->conninfo, done, pool);
            warn_of_connection(s, "UsersDBReplica", settings->replica, done, pool);
        }
    }
}

void users_startup_test(apr_pool_t *pconf, server_rec *s)
{
    if (ap_state_query(AP_SQ_RUN_MODE) == AP_SQ_RM_CONFIG_TEST) {
        warn_of_connections(s, pconf);
    }
}

int users_startup_note_tls(server_rec *s, apr_pool_t *pool, apr_array_header_t *certificates,
                           apr_array_header_t *keys)
{
    (void)pool;
    (void)certificates;
    (void)keys;
    users_settings_of(s)->tls = true;
    return DECLINED; /* we have no certificate to add */
}

int users_startup_run(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    (void)pconf;
    (void)plog;
    if (ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG) {
        return OK; /* httpd reads its configuration twice at start: this is the rehearsal */
    }
    warn_of_connections(s, ptemp);
    for (; s; s = s->next) {
        const users_settings *settings = users_settings_of(s);
        const char *path = first_path(settings, true);

        if (path && !settings->tls && !on_loopback_alone(s)) {
            ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                         "%s:%u serves %s without TLS: anyone on the way can read tokens and "
                         "passwords (RFC 6750 section 5.3)",
                         s->server_hostname, s->port, path);
        }
    }
    return OK;
}
