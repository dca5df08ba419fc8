#include "usersctl/check.h"

#include "core/clock.h"
#include "db/connect.h"
#include "db/conninfo.h"
#include "usersctl/database.h"
#include "usersctl/effective.h"
#include "usersctl/examine.h"

#include <apr_strings.h>
#include <apr_user.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_TIMEOUT apr_time_from_sec(10) /* of a host, where no setting says */
#define ALL_TIMEOUT     apr_time_from_sec(60) /* of all hosts */

typedef struct {
    users_invocation *invocation;
    users_findings *findings;
    users_effective settings; /* no servers: none were given */
    int hosts;                /* of httpd, with these settings */
} checkup;

/* A database that is to be examined. */
typedef struct {
    const char *source; /* the directive or option that names it */
    const char *conninfo;
    bool concealed; /* its password is not known */
    bool is_replica;
    const users_effective_server *server; /* the first that uses it; NULL: none is known */
} target;

/* Connecting */

/* dbname@host, the role, and who named it. */
static void begin_target(checkup *c, const target *t)
{
    PQconninfoOption *options = users_conninfo_resolve(t->conninfo);
    const char *role = users_conninfo_get(options, "user");
    apr_pool_t *pool = c->findings->pool;

    c->findings->database =
        apr_pstrcat(pool, users_conninfo_name(t->conninfo, pool), role ? " as " : "",
                    role ? role : "", " (", t->source, ")", NULL);
    PQconninfoFree(options);
}

/* What httpd's user may, another one may not: to read a passfile, to be let in as the role. */
static const char *advise_user(const checkup *c, const target *t)
{
    char *name;
    apr_uid_t user;
    apr_gid_t group;

    if (t->server && c->settings.user && apr_uid_current(&user, &group, c->findings->pool) == 0 &&
        apr_uid_name_get(&name, user, c->findings->pool) == 0 &&
        strcmp(name, c->settings.user) != 0) {
        return apr_psprintf(c->findings->pool, "run this as the user %s, which httpd runs as",
                            c->settings.user);
    }
    return NULL;
}

static void add_fault(checkup *c, const target *t, users_connect_fault *fault)
{
    apr_pool_t *pool = c->findings->pool;
    const char *cure = fault->hint ? apr_pstrdup(pool, fault->reason + fault->hint) : "";
    const char *user = advise_user(c, t);

    if (fault->hint) { /* ": " is before it */
        fault->reason[fault->hint - 2] = '\0';
    } else {
        cure = apr_psprintf(pool, "see that the server runs, and that %s names its host and port",
                            t->source);
    }
    if (fault->needs_password && t->concealed) {
        cure = apr_pstrcat(pool,
                           "the settings conceal the password: name it by PGPASSWORD or "
                           "PGPASSFILE. ",
                           cure, NULL);
    }
    users_findings_say(c->findings, "connection", USERS_FINDING_ERROR,
                       user ? apr_pstrcat(pool, user, "; or: ", cure, NULL) : cure,
                       "there is no connection: %s", fault->reason);
}

/* As the module connects. NULL, with a finding, where that fails. */
static PGconn *connect_to(checkup *c, const target *t)
{
    const users_db_settings settings = {
        .program = "usersctl",
        .conninfo = t->conninfo,
        .db_connect_timeout = t->server ? t->server->db_connect_timeout : CONNECT_TIMEOUT,
        .db_timeout = apr_time_from_sec(60),
        .db_prepare = !t->server || t->server->db_prepare};
    users_hosts *hosts = users_hosts_create(c->findings->pool, &settings, NULL, NULL);
    users_connect_fault fault = {.reason = "the connection string can't be read"};
    apr_uint32_t host;
    PGconn *pg = NULL;

    if (hosts) {
        users_hosts_connect(hosts, users_now() + ALL_TIMEOUT, &pg, &host, &fault);
    }
    if (!pg || PQsetnonblocking(pg, 0) != 0) {
        add_fault(c, t, &fault);
        PQfinish(pg);
        return NULL;
    }
    users_findings_say(c->findings, "connection", USERS_FINDING_OK, NULL, "connected as %s to %s",
                       PQuser(pg), PQhost(pg) ? PQhost(pg) : "the server");
    return pg;
}

static void examine_transport(checkup *c, const target *t, PGconn *pg)
{
    const char *sslmode;
    const char *host = users_conninfo_exposed(t->conninfo, c->findings->pool, &sslmode);

    if (host) {
        users_findings_say(
            c->findings, "transport", USERS_FINDING_WARNING,
            "say sslmode=verify-full, and sslrootcert= where its certificate is of a "
            "CA of your own",
            "%s, and with sslmode=%s whoever sits between can pass for %s",
            PQsslInUse(pg) ? "TLS is used" : "nothing is encrypted", sslmode, host);
    } else if (PQsslInUse(pg)) {
        users_findings_say(c->findings, "transport", USERS_FINDING_OK, NULL, "%s with sslmode=%s",
                           PQsslAttribute(pg, "protocol"), sslmode);
    } else {
        users_findings_add(c->findings, "transport", USERS_FINDING_OK,
                           "nothing leaves this host, or GSSAPI protects it", NULL);
    }
}

/* Demand */

/* Is there one before this that has the same connections? */
static bool shares_connections(const checkup *c, int index)
{
    const users_effective_server *servers =
        (const users_effective_server *)c->settings.servers->elts;

    for (int i = 0; i < index; i++) {
        if (strcmp(servers[i].identity, servers[index].identity) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_at(const char *conninfo, const char *server, apr_pool_t *pool)
{
    return conninfo && strcmp(users_conninfo_server(conninfo, pool), server) == 0;
}

/* How many of the replicas that a connection string names are at a server. */
static int count_at(const char *replicas, const char *server, apr_pool_t *pool)
{
    const apr_array_header_t *hosts = replicas ? users_conninfo_hosts(replicas, pool) : NULL;
    int count = 0;

    for (int i = 0; hosts && i < hosts->nelts; i++) {
        count += is_at(APR_ARRAY_IDX(hosts, i, const char *), server, pool);
    }
    return count;
}

/* How many connections all children of all hosts may open to the server of a target. */
static void find_demand(const checkup *c, const target *t, users_examination *e)
{
    apr_pool_t *pool = c->findings->pool;
    const char *server = users_conninfo_server(t->conninfo, pool);
    int each = 0;

    for (int i = 0; i < c->settings.servers->nelts; i++) {
        const users_effective_server *s =
            &APR_ARRAY_IDX(c->settings.servers, i, users_effective_server);

        if (!shares_connections(c, i)) {
            each += is_at(s->conninfo, server, pool) ? s->db_max : 0;
            each += count_at(s->replica, server, pool) * s->db_max;
        }
    }
    if (each && c->settings.children) {
        e->parameters[USERS_QUERY_DEMAND] = apr_psprintf(
            pool, "%" APR_INT64_T_FMT, (apr_int64_t)c->hosts * c->settings.children * each);
        e->parameters[USERS_QUERY_DEMAND_REASON] =
            apr_psprintf(pool, "hosts: %d, children of each: %d, each up to %d by UsersDBMax",
                         c->hosts, c->settings.children, each);
    }
}

/*
 * What all servers with this database want of it: the codes that they give to new accounts, with
 * commas between them, and whether changes bring notes.
 */
static void find_wants(const checkup *c, const target *t, users_examination *e)
{
    apr_pool_t *pool = c->findings->pool;

    for (int i = 0; i < c->settings.servers->nelts; i++) {
        const users_effective_server *s =
            &APR_ARRAY_IDX(c->settings.servers, i, users_effective_server);
        const char *codes[] = {s->country, s->currency, s->locale};

        if (s->notes && strcmp(s->conninfo, t->conninfo) == 0) {
            e->parameters[USERS_QUERY_NOTES] = "on";
        }
        for (int k = 0; strcmp(s->conninfo, t->conninfo) == 0 && k < 3; k++) {
            const char **list = &e->parameters[USERS_QUERY_COUNTRY + k];

            *list = codes[k]
                        ? apr_pstrcat(pool, *list ? *list : "", *list ? "," : "", codes[k], NULL)
                        : *list;
        }
    }
}

/* Targets */

/* Returns the connection, which the caller finishes; NULL where there was none. */
static PGconn *examine_target(checkup *c, const target *t, PGconn *primary)
{
    users_examination e = {.findings = c->findings,
                           .invocation = c->invocation,
                           .is_replica = t->is_replica,
                           .is_modules = t->server != NULL,
                           .knows_usage = t->server != NULL,
                           .prepares = t->server && t->server->db_prepare};

    begin_target(c, t);
    e.pg = connect_to(c, t);
    if (!e.pg) {
        return NULL;
    }
    examine_transport(c, t, e.pg);
    if (t->server) {
        find_demand(c, t, &e);
        find_wants(c, t, &e);
    }
    users_examine(&e);
    if (t->is_replica && primary) {
        users_examine_lag(&e, primary, t->server->replica_lag);
    }
    return e.pg;
}

/* Has a server before this one named the same, to be used in the same way? */
static bool is_repeated(const checkup *c, int index, bool replica)
{
    const users_effective_server *servers =
        (const users_effective_server *)c->settings.servers->elts;
    const users_effective_server *s = &servers[index];

    for (int i = 0; i < index; i++) {
        bool is_same =
            strcmp(servers[i].conninfo, s->conninfo) == 0 && servers[i].db_prepare == s->db_prepare;

        if (is_same &&
            (!replica || (servers[i].replica && strcmp(servers[i].replica, s->replica) == 0))) {
            return true;
        }
    }
    return false;
}

static void examine_replicas(checkup *c, const users_effective_server *s, PGconn *primary)
{
    const apr_array_header_t *hosts = users_conninfo_hosts(s->replica, c->findings->pool);

    for (int i = 0; i < hosts->nelts; i++) {
        target t = {"UsersDBReplica", APR_ARRAY_IDX(hosts, i, const char *), s->replica_concealed,
                    true, s};

        PQfinish(examine_target(c, &t, primary));
    }
}

/* A primary, which is connected while its replicas are looked at. */
static void examine_server(checkup *c, int index)
{
    const users_effective_server *servers =
        (const users_effective_server *)c->settings.servers->elts;
    const users_effective_server *s = &servers[index];
    target t = {"UsersDB", s->conninfo, s->concealed, false, s};
    PGconn *primary = examine_target(c, &t, NULL);

    for (int i = index; i < c->settings.servers->nelts; i++) {
        const users_effective_server *with = &servers[i];

        if (with->replica && strcmp(with->conninfo, s->conninfo) == 0 &&
            with->db_prepare == s->db_prepare && !is_repeated(c, i, true)) {
            examine_replicas(c, with, primary);
        }
    }
    PQfinish(primary);
}

/* --db may be a name alone, as for every other command. */
static const char *conninfo_of(const char *db, apr_pool_t *pool)
{
    const char *quoted = "";

    if (!db || strchr(db, '=') || strncmp(db, "postgres://", strlen("postgres://")) == 0 ||
        strncmp(db, "postgresql://", strlen("postgresql://")) == 0) {
        return db ? db : "";
    }
    for (; *db; db++) {
        quoted = apr_pstrcat(pool, quoted, *db == '\'' || *db == '\\' ? "\\" : "",
                             apr_pstrmemdup(pool, db, 1), NULL);
    }
    return apr_pstrcat(pool, "dbname='", quoted, "'", NULL);
}

users_exit users_check_run(users_invocation *invocation)
{
    const char *const *values = invocation->values;
    checkup c = {.invocation = invocation,
                 .findings = users_findings_create(invocation->pool),
                 .settings = {.servers = apr_array_make(invocation->pool, 1,
                                                        sizeof(users_effective_server))},
                 .hosts = (int)strtol(values[USERS_ARG_HOSTS], NULL, 10)};
    users_exit status = USERS_EXIT_DONE;

    if (values[USERS_ARG_SETTINGS]) {
        status = users_effective_read(invocation->pool, values[USERS_ARG_SETTINGS], &c.settings);
    }
    if (status == USERS_EXIT_DONE && (values[USERS_ARG_DB] || !values[USERS_ARG_SETTINGS])) {
        status = users_database_judge(values[USERS_ARG_DB]);
    }
    if (status != USERS_EXIT_DONE) {
        return status;
    }
    for (int i = 0; i < c.settings.servers->nelts; i++) {
        if (!is_repeated(&c, i, false)) {
            examine_server(&c, i);
        }
    }
    if (values[USERS_ARG_DB] || !values[USERS_ARG_SETTINGS]) {
        target t = {"--db", conninfo_of(values[USERS_ARG_DB], invocation->pool), false, false,
                    NULL};

        users_database_set_defaults();
        PQfinish(examine_target(&c, &t, NULL));
    }
    return users_findings_print(c.findings, values[USERS_ARG_JSON] != NULL);
}
