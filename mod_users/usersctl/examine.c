#include "usersctl/examine.h"

#include "usersctl/migrate.h"

#include <apr_strings.h>
#include <string.h>

#define OLDEST_SERVER   150000 /* as PQserverVersion() counts */
#define CLOCK_TOLERANCE apr_time_from_sec(2)
#define LAG_PATIENCE    apr_time_from_sec(5)
#define LAG_PAUSE       apr_time_from_msec(20)
#define TEXT_OID        25

#define INSUFFICIENT_PRIVILEGE "42501"

/* What decides which queries can be asked. */
typedef struct {
    const char *role; /* the session's */
    bool is_owner;    /* of the contract, or a superuser */
    unsigned has;     /* users_query_needs */
} facts;

/* Queries */

static void add_failure(users_examination *e, const char *check, const PGresult *result)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    bool is_unseen = state && strcmp(state, INSUFFICIENT_PRIVILEGE) == 0;

    users_findings_say(e->findings, check, is_unseen ? USERS_FINDING_UNSEEN : USERS_FINDING_ERROR,
                       is_unseen ? "run usersctl check as a superuser: runuser -u postgres --"
                                 : NULL,
                       "PostgreSQL does not tell: %s", message ? message : PQerrorMessage(e->pg));
}

/*
 * In a transaction of its own, whose settings no pooler gives to others: names are PostgreSQL's
 * own, and nothing is waited for. NULL, with a finding, where it fails; the caller frees it.
 */
static PGresult *ask(users_examination *e, const char *check, const char *sql,
                     const char *const *parameters, int count)
{
    static const Oid types[USERS_QUERY_PARAMETERS] = {TEXT_OID, TEXT_OID, TEXT_OID, TEXT_OID,
                                                      TEXT_OID, TEXT_OID, TEXT_OID};
    PGresult *result = PQexec(e->pg, "begin read only; set local search_path = pg_catalog, pg_temp;"
                                     " set local lock_timeout = '2s';"
                                     " set local statement_timeout = '30s'");

    if (PQresultStatus(result) == PGRES_COMMAND_OK) {
        PQclear(result);
        result = PQexecParams(e->pg, sql, count, types, parameters, NULL, NULL, 0);
    }
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        add_failure(e, check, result);
        PQclear(result);
        result = NULL;
    }
    PQclear(PQexec(e->pg, "rollback"));
    return result;
}

static bool is_true(const PGresult *result, int column)
{
    return PQgetvalue(result, 0, column)[0] == 't';
}

static void run_queries(users_examination *e, const users_query *queries, const facts *known)
{
    for (const users_query *q = queries; q->check && PQstatus(e->pg) == CONNECTION_OK; q++) {
        unsigned lacks = q->needs & ~known->has;
        PGresult *rows;

        if (lacks == USERS_QUERY_ROWS) {
            users_findings_say(e->findings, q->check, USERS_FINDING_UNSEEN,
                               "run usersctl check as their owner or as a superuser: runuser -u "
                               "postgres -- usersctl check",
                               "the role %s may not read the tables, as it should be", known->role);
        }
        if (lacks) {
            continue;
        }
        rows = ask(e, q->check, q->sql, e->parameters, USERS_QUERY_PARAMETERS);
        for (int i = 0; rows && i < PQntuples(rows); i++) {
            users_findings_add(e->findings, q->check, users_findings_level(PQgetvalue(rows, i, 0)),
                               PQgetvalue(rows, i, 1), PQgetvalue(rows, i, 2));
        }
        PQclear(rows);
    }
}

/* Single examinations */

/* No query on the catalogs needs a right; what a schema has, to_regclass() tells its users only. */
static bool find_facts(users_examination *e, facts *known)
{
    PGresult *row =
        ask(e, "contract",
            "select session_user, coalesce((select pg_has_role(session_user, nspowner, 'usage')"
            "  from pg_namespace where nspname = 'users_api'), false)"
            "  or (select rolsuper from pg_roles where rolname = session_user),"
            " exists (select from pg_namespace where nspname = 'users_api'),"
            " count(*) > 0,"
            " coalesce(bool_and(has_schema_privilege(relnamespace, 'usage')"
            "  and has_table_privilege(pg_class.oid, 'select')), false)"
            " from pg_class join pg_namespace on pg_namespace.oid = relnamespace"
            " where nspname = 'users' and relname in ('account', 'migration') and relkind = 'r'",
            NULL, 0);

    if (!row) {
        return false;
    }
    known->role = apr_pstrdup(e->findings->pool, PQgetvalue(row, 0, 0));
    known->is_owner = is_true(row, 1);
    known->has =
        (is_true(row, 2) ? USERS_QUERY_CONTRACT : 0) | (is_true(row, 3) ? USERS_QUERY_TABLES : 0) |
        (is_true(row, 4) ? USERS_QUERY_ROWS : 0) | (e->is_replica ? 0 : USERS_QUERY_PRIMARY);
    PQclear(row);
    if (!(known->has & USERS_QUERY_CONTRACT)) {
        users_findings_say(
            e->findings, "contract", USERS_FINDING_ERROR,
            "usersctl database install makes it; or name another database by dbname=",
            "the database %s has no schema users_api", PQdb(e->pg));
    }
    return true;
}

/* A pooler tells clients a process id of its own. Returns whether there is one. */
static bool examine_pooler(users_examination *e)
{
    PGresult *row = ask(e, "pooler", "select pg_backend_pid()", NULL, 0);
    bool is_pooled = row && apr_atoi64(PQgetvalue(row, 0, 0)) != PQbackendPID(e->pg);

    if (row && is_pooled && e->knows_usage && e->prepares) {
        users_findings_add(
            e->findings, "pooler", USERS_FINDING_WARNING,
            "a pooler is in between, which may lose prepared statements between two transactions",
            "say UsersDBPrepare off, unless it pools sessions, or carries prepared statements "
            "(max_prepared_statements of PgBouncer 1.21 and later)");
    } else if (row && !is_pooled && e->knows_usage && !e->prepares) {
        users_findings_add(e->findings, "pooler", USERS_FINDING_WARNING,
                           "no pooler is in between, but PostgreSQL plans each statement anew",
                           "say UsersDBPrepare on");
    } else if (row) {
        users_findings_add(e->findings, "pooler", USERS_FINDING_OK,
                           is_pooled ? "a pooler is in between" : "no pooler is in between", NULL);
    }
    PQclear(row);
    return is_pooled;
}

/* Tokens end by the server's clock; what is in between takes time. */
static void examine_clock(users_examination *e)
{
    apr_time_t before = apr_time_now();
    PGresult *row = ask(
        e, "clock", "select (extract(epoch from clock_timestamp()) * 1000000)::bigint", NULL, 0);
    apr_time_t after = apr_time_now();
    apr_interval_time_t ahead;
    apr_interval_time_t apart;

    if (!row) {
        return;
    }
    ahead = apr_atoi64(PQgetvalue(row, 0, 0)) - (before + after) / 2;
    apart = ahead < 0 ? -ahead : ahead;
    PQclear(row);
    if (apart > CLOCK_TOLERANCE + (after - before) / 2) {
        users_findings_say(e->findings, "clock", USERS_FINDING_WARNING,
                           "have both set by NTP (chrony, systemd-timesyncd): tokens end by the "
                           "server's clock",
                           "the server's clock is %" APR_TIME_T_FMT " s %s of this host's",
                           apr_time_sec(apart), ahead > 0 ? "ahead" : "behind");
    } else {
        users_findings_add(e->findings, "clock", USERS_FINDING_OK,
                           "the server's clock and this host's tell the same time", NULL);
    }
}

/* The names of the migrations in a state, with commas between them; NULL where there is none. */
static const char *names_in_state(const PGresult *states, const char *state, apr_pool_t *pool)
{
    const char *names = NULL;

    for (int i = 0; i < PQntuples(states); i++) {
        if (strcmp(PQgetvalue(states, i, 1), state) == 0) {
            names = apr_pstrcat(pool, names ? names : "", names ? ", " : "",
                                PQgetvalue(states, i, 0), NULL);
        }
    }
    return names;
}

static void judge_migrations(users_examination *e, const PGresult *states)
{
    apr_pool_t *pool = e->findings->pool;
    const char *pending = names_in_state(states, "pending", pool);
    const char *changed = names_in_state(states, "changed", pool);
    const char *later = names_in_state(states, "later", pool);

    if (later) {
        users_findings_say(e->findings, "migrations", USERS_FINDING_WARNING,
                           "install the version of mod_users that has upgraded the database",
                           "the database is of a later version than this usersctl: %s", later);
    } else if (pending || changed) {
        users_findings_say(e->findings, "migrations", USERS_FINDING_WARNING,
                           "usersctl database upgrade, while the API works",
                           "the database is of an earlier version, and has not had: %s%s%s",
                           pending ? pending : "", pending && changed ? ", " : "",
                           changed ? changed : "");
    } else {
        users_findings_add(e->findings, "migrations", USERS_FINDING_OK,
                           "the database is of this version", NULL);
    }
}

/* What database status tells. */
static void examine_migrations(users_examination *e, const facts *known)
{
    static const users_query as_if[] = {
        {"migrations", USERS_QUERY_TABLES | USERS_QUERY_ROWS, "select where false"},
        {.check = NULL}};
    users_invocation invocation = *e->invocation;
    PGresult *states;

    if ((known->has & as_if[0].needs) != as_if[0].needs) {
        run_queries(e, as_if, known);
        return;
    }
    invocation.db = e->pg;
    if (users_migrate_read(&invocation, &states) == USERS_EXIT_DONE) {
        judge_migrations(e, states);
        PQclear(states);
    } else {
        users_findings_add(e->findings, "migrations", USERS_FINDING_UNSEEN,
                           "what the database has had can't be compared with this version",
                           "--sql names the directory where the SQL of this version is");
    }
}

static void examine_contents(users_examination *e, const facts *known)
{
    if (e->is_modules || !known->is_owner) {
        e->parameters[USERS_QUERY_ROLE] = known->role;
    }
    if (examine_pooler(e)) { /* whose connections are not PostgreSQL's to count */
        e->parameters[USERS_QUERY_DEMAND] = NULL;
    }
    examine_migrations(e, known);
    run_queries(e, users_queries_of_contents, known);
    examine_clock(e);
}

void users_examine(users_examination *e)
{
    facts known = {.has = e->is_replica ? 0 : USERS_QUERY_PRIMARY};

    run_queries(e, users_queries_of_server, &known);
    if (PQserverVersion(e->pg) >= OLDEST_SERVER && find_facts(e, &known)) {
        examine_contents(e, &known);
    }
    if (PQstatus(e->pg) != CONNECTION_OK) {
        users_findings_add(e->findings, "connection", USERS_FINDING_ERROR,
                           "the connection was lost, so not all was seen",
                           "see the server's log, and run usersctl check again");
    }
}

/* Replicas */

static void say_lag(users_examination *e, bool has_caught_up, apr_interval_time_t waited)
{
    if (has_caught_up) {
        users_findings_say(e->findings, "lag", USERS_FINDING_OK, NULL,
                           "it has what UsersDB had %" APR_TIME_T_FMT " ms ago",
                           apr_time_as_msec(waited));
    } else {
        users_findings_say(e->findings, "lag", USERS_FINDING_WARNING,
                           "see pg_stat_replication on the primary and the log of the replica; "
                           "meanwhile GET asks UsersDB",
                           "it has not yet what UsersDB had %" APR_TIME_T_FMT " ms ago",
                           apr_time_as_msec(waited));
    }
}

/* False, with a finding, where it can't be one of this primary. */
static bool is_standby_of(users_examination *e, PGconn *primary, const char **position)
{
    static const char sql[] = "select pg_is_in_recovery(), case when not pg_is_in_recovery() then"
                              " pg_current_wal_flush_lsn() end, system_identifier,"
                              " pg_postmaster_start_time() from pg_control_system()";
    users_examination of_primary = *e;
    PGresult *there;
    PGresult *here;
    bool is_same = false;

    of_primary.pg = primary;
    there = ask(&of_primary, "lag", sql, NULL, 0);
    here = there ? ask(e, "lag", sql, NULL, 0) : NULL;
    if (here && strcmp(PQgetvalue(here, 0, 2), PQgetvalue(there, 0, 2)) != 0) {
        users_findings_add(
            e->findings, "lag", USERS_FINDING_ERROR,
            "it is of another cluster than UsersDB, so GET would read other accounts",
            "name a streaming replica of UsersDB");
    } else if (here && strcmp(PQgetvalue(here, 0, 3), PQgetvalue(there, 0, 3)) == 0) {
        users_findings_add(e->findings, "lag", USERS_FINDING_OK,
                           "it is the server of UsersDB at present, with a share of the reads",
                           NULL);
    } else if (here && !is_true(here, 0)) {
        users_findings_add(e->findings, "lag", USERS_FINDING_WARNING,
                           "it is no standby, but a server that takes changes",
                           "name a streaming replica of UsersDB, or leave UsersDBReplica out");
    } else if (here && is_true(there, 0)) {
        users_findings_add(e->findings, "lag", USERS_FINDING_UNSEEN,
                           "UsersDB is a standby, too, so it can't be compared", NULL);
    } else if (here) {
        is_same = true;
        *position = apr_pstrdup(e->findings->pool, PQgetvalue(there, 0, 1));
    }
    PQclear(here);
    PQclear(there);
    return is_same;
}

void users_examine_lag(users_examination *replica, PGconn *primary, apr_interval_time_t lag)
{
    apr_time_t begun = apr_time_now();
    apr_interval_time_t patience = lag < LAG_PATIENCE ? lag : LAG_PATIENCE;
    const char *position;
    bool has_caught_up = false;

    if (PQstatus(primary) != CONNECTION_OK || PQserverVersion(primary) < OLDEST_SERVER ||
        PQserverVersion(replica->pg) < OLDEST_SERVER ||
        !is_standby_of(replica, primary, &position)) {
        return;
    }
    for (;;) {
        PGresult *row =
            ask(replica, "lag", "select coalesce(pg_last_wal_replay_lsn() >= $1::pg_lsn, false)",
                &position, 1);

        if (!row) {
            return;
        }
        has_caught_up = is_true(row, 0);
        PQclear(row);
        if (has_caught_up || apr_time_now() - begun > patience) {
            break;
        }
        apr_sleep(LAG_PAUSE);
    }
    say_lag(replica, has_caught_up, apr_time_now() - begun);
}
