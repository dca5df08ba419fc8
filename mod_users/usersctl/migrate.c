#include "usersctl/migrate.h"

#include "usersctl/database.h"
#include "usersctl/scripts.h"

#include <apr_strings.h>
#include <apr_time.h>
#include <string.h>

#define FUNCTIONS     "functions" /* the row of users.migration for what every upgrade runs */
#define OLDEST_SERVER 150000      /* as PQserverVersion() counts */
#define LOCK_TIMEOUT  "100ms"     /* the API waits no longer behind us */
#define PAUSE         apr_time_from_sec(1)   /* before a lock is asked for again */
#define PATIENCE      apr_time_from_sec(600) /* for all of that */

/* The SQL of this version, beside the database that it is for. */
typedef struct {
    users_invocation *invocation;
    PGconn *db;
    apr_array_header_t *migrations; /* users_script */
    apr_array_header_t *repeated;   /* users_script */
    const char *digest;             /* of those */
    const char *owner;              /* of the tables, quoted; NULL: there are none */
    apr_time_t patience;            /* apr_time_now(): until then locks are waited for */
    bool told;                      /* of somebody who holds a lock */
} migration;

/* How an attempt ended. */
typedef enum {
    ATTEMPT_DONE,
    ATTEMPT_BUSY, /* it could not have a lock; nothing has changed */
    ATTEMPT_FAILED
} attempt_status;

/* Statements */

static attempt_status complain(const migration *m, const char *name, const PGresult *result)
{
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);

    users_output_complain(USERS_EXIT_FAILED, "%s: %s%s%s", name,
                          message ? message : PQerrorMessage(m->db), hint ? ". " : "",
                          hint ? hint : "");
    return ATTEMPT_FAILED;
}

/* Run SQL, of which name tells what it is. Complains where that fails for another reason. */
static attempt_status run(const migration *m, const char *name, const char *sql)
{
    PGresult *result = PQexec(m->db, sql);
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    attempt_status status = ATTEMPT_DONE;

    if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK) {
        bool busy = state && (strcmp(state, "55P03") == 0 || strcmp(state, "40P01") == 0);

        status = busy ? ATTEMPT_BUSY : complain(m, name, result);
    }
    PQclear(result);
    return status;
}

/* One value of one row, in memory of the invocation; NULL for null, and where it failed. */
static const char *query(const migration *m, const char *sql)
{
    PGresult *result = PQexec(m->db, sql);
    const char *value = NULL;

    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        complain(m, "database", result);
    } else if (PQntuples(result) > 0 && !PQgetisnull(result, 0, 0)) {
        value = apr_pstrdup(m->invocation->pool, PQgetvalue(result, 0, 0));
    }
    PQclear(result);
    return value;
}

/* digest: NULL for a migration, which is what it was when it was run. */
static const char *record(const migration *m, const char *name, const char *digest)
{
    return apr_psprintf(m->invocation->pool,
                        "insert into users.migration (name, digest) values ('%s', %s%s%s)"
                        " on conflict (name) do update"
                        " set digest = excluded.digest, applied_at = excluded.applied_at",
                        name, digest ? "'\\x" : "", digest ? digest : "null", digest ? "'" : "");
}

/* Attempts */

/* The scripts, and the statement after them, in one transaction. */
static attempt_status attempt(const migration *m, const char *name,
                              const apr_array_header_t *scripts, const char *last)
{
    attempt_status status = run(m, name, "begin; set local lock_timeout = '" LOCK_TIMEOUT "'");

    for (int i = 0; status == ATTEMPT_DONE && i < scripts->nelts; i++) {
        const users_script *script = &APR_ARRAY_IDX(scripts, i, users_script);

        if (m->owner) {
            status = run(m, name,
                         script->owner
                             ? apr_pstrcat(m->invocation->pool, "set local role ", m->owner, NULL)
                             : "reset role");
        }
        if (status == ATTEMPT_DONE) {
            status = run(m, script->name, script->text);
        }
    }
    if (status == ATTEMPT_DONE) {
        status = run(m, name, last);
    }
    if (status == ATTEMPT_DONE) {
        return run(m, name, "commit");
    }
    PQclear(PQexec(m->db, "rollback"));
    return status;
}

static attempt_status drop_invalid(const migration *m, const char *index)
{
    apr_pool_t *pool = m->invocation->pool;
    const char *invalid =
        query(m, apr_psprintf(pool,
                              "select 1 from pg_index where indexrelid = to_regclass('%s')"
                              " and not indisvalid",
                              index));

    return invalid ? run(m, index, apr_psprintf(pool, "drop index concurrently %s", index))
                   : ATTEMPT_DONE;
}

/*
 * What commits by itself. To build an index takes no lock that anybody waits behind, but waits
 * itself for each transaction that is older: no time-out counts there.
 */
static attempt_status attempt_alone(const migration *m, const users_script *script)
{
    attempt_status status = ATTEMPT_DONE;

    if (m->owner) {
        status =
            run(m, script->name, apr_pstrcat(m->invocation->pool, "set role ", m->owner, NULL));
    }
    if (status == ATTEMPT_DONE && script->index) {
        status = drop_invalid(m, script->index);
    }
    if (status == ATTEMPT_DONE && !script->index) {
        status = run(m, script->name, "set lock_timeout = '" LOCK_TIMEOUT "'");
    }
    if (status == ATTEMPT_DONE) {
        status = run(m, script->name, script->text);
    }
    if (status == ATTEMPT_DONE) {
        status = run(m, script->name, record(m, script->name, NULL));
    }
    PQclear(PQexec(m->db, "reset lock_timeout; reset role"));
    return status;
}

/* Tell once who may be in the way: the oldest transaction that holds a lock on our tables. */
static void tell_who_is_in_the_way(migration *m, const char *name)
{
    const char *who =
        query(m, "select format('process %s (%s of %s), in a transaction since %s', pid,"
                 " coalesce(nullif(application_name, ''), 'an unnamed program'), usename,"
                 " date_trunc('second', xact_start))"
                 " from pg_stat_activity where pid <> pg_backend_pid() and exists ("
                 "select from pg_locks join pg_class on pg_class.oid = relation"
                 " where pg_locks.pid = pg_stat_activity.pid and granted"
                 " and relnamespace in (select oid from pg_namespace where nspname ~ '^users'))"
                 " order by xact_start limit 1");

    if (!m->told) {
        users_output_complain(USERS_EXIT_DONE, "%s waits for a lock%s%s", name,
                              who ? " held by " : "", who ? who : "");
    }
    m->told = true;
}

/* script: one that is not run in a transaction; NULL: scripts are, and the statement last. */
static users_exit persevere(migration *m, const char *name, const users_script *script,
                            const apr_array_header_t *scripts, const char *last)
{
    for (;;) {
        attempt_status status = script ? attempt_alone(m, script) : attempt(m, name, scripts, last);

        if (users_database_interrupted() || status == ATTEMPT_FAILED) {
            return USERS_EXIT_FAILED;
        }
        if (status == ATTEMPT_DONE) {
            return USERS_EXIT_DONE;
        }
        if (apr_time_now() > m->patience) {
            return users_output_complain(USERS_EXIT_FAILED,
                                         "%s could not have a lock in time: "
                                         "what was done before it stays, and an upgrade goes on "
                                         "with it",
                                         name);
        }
        tell_who_is_in_the_way(m, name);
        apr_sleep(PAUSE);
    }
}

/* What the database is */

static users_exit check_server(const migration *m)
{
    const char *encoding = PQparameterStatus(m->db, "server_encoding");

    if (PQserverVersion(m->db) < OLDEST_SERVER) {
        return users_output_complain(USERS_EXIT_REFUSED,
                                     "mod_users needs PostgreSQL 15 or later, not %s",
                                     PQparameterStatus(m->db, "server_version"));
    }
    if (!encoding || strcmp(encoding, "UTF8") != 0) {
        return users_output_complain(USERS_EXIT_REFUSED,
                                     "mod_users needs a database in UTF-8, not %s: createdb "
                                     "--encoding=UTF8 --template=template0 %s",
                                     encoding ? encoding : "?", PQdb(m->db));
    }
    return USERS_EXIT_DONE;
}

/* Read the SQL, and look whom the tables belong to. */
static users_exit open_migration(migration *m, users_invocation *invocation)
{
    const char *directory = invocation->values[USERS_ARG_SQL];
    users_exit status;

    *m = (migration){.invocation = invocation, .db = invocation->db};
    m->patience = apr_time_now() + PATIENCE;
    status = check_server(m);
    if (status == USERS_EXIT_DONE) {
        status = users_scripts_read_migrations(invocation->pool, directory, &m->migrations);
    }
    if (status == USERS_EXIT_DONE) {
        status = users_scripts_read_repeated(invocation->pool, directory, &m->repeated, &m->digest);
    }
    /* names are qualified; nothing that lies elsewhere is to be found in their place */
    if (status == USERS_EXIT_DONE && run(m, "database",
                                         "set search_path = pg_catalog, pg_temp; "
                                         "set statement_timeout = 0; "
                                         "set client_min_messages = warning") != ATTEMPT_DONE) {
        status = USERS_EXIT_FAILED;
    }
    if (status == USERS_EXIT_DONE) {
        m->owner = query(m, "select quote_ident(rolname) from pg_roles join pg_class"
                            " on relowner = pg_roles.oid where pg_class.oid ="
                            " to_regclass('users.account')");
    }
    return status;
}

/* open_migration() of a database that has the tables already. */
static users_exit open_existing(migration *m, users_invocation *invocation)
{
    users_exit status = open_migration(m, invocation);

    if (status == USERS_EXIT_DONE && !m->owner) {
        return users_output_complain(USERS_EXIT_REFUSED,
                                     "the database \"%s\" has no tables of mod_users: usersctl "
                                     "database install makes them",
                                     PQdb(m->db));
    }
    return status;
}

/* name, state (applied, pending, changed, unknown, later), applied_at: a row for each. */
static PGresult *read_state(const migration *m, bool json)
{
    apr_pool_t *pool = m->invocation->pool;
    const char *names = "";
    const char *parameters[2];
    bool noted = query(m, "select to_regclass('users.migration')") != NULL;
    const char *sql = apr_psprintf(
        pool,
        "select %s from (select coalesce(known.name, noted.name) as name, case"
        " when noted.name is null then 'pending' when known.name is null then 'later'"
        " when known.name <> '" FUNCTIONS "' then 'applied'"
        " when noted.digest is null then 'unknown'"
        " when noted.digest <> decode($2, 'hex') then 'changed' else 'applied' end as state,"
        " date_trunc('second', noted.applied_at) as applied_at"
        " from unnest($1::text[]) with ordinality as known (name, place)"
        " full join %s as noted using (name) order by place, name) as answer",
        json ? "row_to_json(answer)" : "*",
        noted ? "users.migration"
              : "(select null::text as name, null::bytea as digest, now() as applied_at where "
                "false)");

    for (int i = 0; i < m->migrations->nelts; i++) {
        names =
            apr_pstrcat(pool, names, APR_ARRAY_IDX(m->migrations, i, users_script).name, ",", NULL);
    }
    parameters[0] = apr_pstrcat(pool, "{", names, FUNCTIONS "}", NULL);
    parameters[1] = m->digest;
    return PQexecParams(m->db, sql, 2, NULL, parameters, NULL, NULL, 0);
}

/* Is there a row in this state? */
static bool has_state(const PGresult *result, const char *state)
{
    for (int row = 0; row < PQntuples(result); row++) {
        if (strcmp(PQgetvalue(result, row, 1), state) == 0) {
            return true;
        }
    }
    return false;
}

/* The result is the caller's, NULL where it fails. */
static PGresult *read_states(const migration *m)
{
    PGresult *states = read_state(m, false);

    if (PQresultStatus(states) == PGRES_TUPLES_OK) {
        return states;
    }
    complain(m, "database", states);
    PQclear(states);
    return NULL;
}

static users_exit print_state(const migration *m)
{
    bool json = m->invocation->values[USERS_ARG_JSON] != NULL;
    PGresult *state = read_state(m, json);

    if (PQresultStatus(state) != PGRES_TUPLES_OK) {
        complain(m, "database", state);
        PQclear(state);
        return USERS_EXIT_FAILED;
    }
    if (json) {
        users_output_json_list(state, PQntuples(state));
    } else {
        users_output_table(state, PQntuples(state));
    }
    PQclear(state);
    return users_output_finish();
}

/* Whose requests reach PostgreSQL's log, where the functions are there that know. */
static void warn_of_log(const migration *m)
{
    const char *roles =
        query(m, "select to_regprocedure('users_admin.logged_roles()')")
            ? query(m, "select string_agg(quote_ident(role), ', ') from users_admin.logged_roles()")
            : NULL;

    if (roles) {
        users_output_complain(
            USERS_EXIT_DONE,
            "warning: what clients send, personal data and passwords, can reach "
            "PostgreSQL's log by the settings of %s: let httpd log in as mod_users "
            "(pg_ident.conf), or have a superuser set log_parameter_max_length and "
            "log_parameter_max_length_on_error to 0 by alter role",
            roles);
    }
}

static users_exit print_outcome(const migration *m)
{
    users_exit status = print_state(m);

    warn_of_log(m);
    return status;
}

/* Commands */

users_exit users_migrate_install(users_invocation *invocation)
{
    migration m;
    apr_array_header_t *scripts;
    users_exit status = open_migration(&m, invocation);

    if (status != USERS_EXIT_DONE) {
        return status;
    }
    if (query(&m, "select to_regnamespace('users')")) {
        return users_output_complain(USERS_EXIT_REFUSED,
                                     "the database \"%s\" has a schema \"users\" already: usersctl "
                                     "database upgrade turns that of an earlier version into this "
                                     "one's",
                                     PQdb(m.db));
    }
    status =
        users_scripts_read_install(invocation->pool, invocation->values[USERS_ARG_SQL], &scripts);
    if (status == USERS_EXIT_DONE) {
        status = persevere(&m, "database install", NULL, scripts, record(&m, FUNCTIONS, m.digest));
    }
    /* small tables, which autovacuum leaves alone, though plans depend on them */
    if (status == USERS_EXIT_DONE &&
        run(&m, "analyze",
            "analyze users.country, users.currency, users.language, "
            "users.billing_plan, users.account_group, users.group_quota") != ATTEMPT_DONE) {
        status = USERS_EXIT_FAILED;
    }
    return status == USERS_EXIT_DONE ? print_outcome(&m) : status;
}

static users_exit run_pending(migration *m, const PGresult *states)
{
    users_exit status = USERS_EXIT_DONE;

    for (int i = 0; status == USERS_EXIT_DONE && i < m->migrations->nelts; i++) {
        const users_script *script = &APR_ARRAY_IDX(m->migrations, i, users_script);
        apr_array_header_t *one;

        if (strcmp(PQgetvalue(states, i, 1), "pending") != 0) {
            continue;
        }
        one = apr_array_make(m->invocation->pool, 1, sizeof(*script));
        APR_ARRAY_PUSH(one, users_script) = *script;
        m->told = false;
        status = persevere(m, script->name, script->transaction ? NULL : script, one,
                           record(m, script->name, NULL));
    }
    return status;
}

users_exit users_migrate_upgrade(users_invocation *invocation)
{
    migration m;
    PGresult *states;
    users_exit status = open_existing(&m, invocation);
    const char *alone;

    if (status != USERS_EXIT_DONE) {
        return status;
    }
    alone = query(&m, "select nullif(pg_try_advisory_lock(hashtext('usersctl database')), false)");
    if (!alone) {
        return users_output_complain(USERS_EXIT_REFUSED, "another usersctl upgrades this database");
    }
    states = read_states(&m);
    if (!states) {
        return USERS_EXIT_FAILED;
    }
    if (has_state(states, "later")) {
        status = users_output_complain(USERS_EXIT_REFUSED,
                                       "the database is of a later version than this usersctl: see "
                                       "usersctl database status");
    } else {
        status = run_pending(&m, states);
    }
    PQclear(states);
    if (status == USERS_EXIT_DONE) {
        m.told = false;
        status = persevere(&m, FUNCTIONS, NULL, m.repeated, record(&m, FUNCTIONS, m.digest));
    }
    return status == USERS_EXIT_DONE ? print_outcome(&m) : status;
}

users_exit users_migrate_status(users_invocation *invocation)
{
    migration m;
    PGresult *states;
    users_exit status = open_existing(&m, invocation);
    bool pending;

    if (status != USERS_EXIT_DONE) {
        return status;
    }
    states = read_states(&m);
    if (!states) {
        return USERS_EXIT_FAILED;
    }
    pending = has_state(states, "pending") || has_state(states, "changed");
    PQclear(states);
    status = print_outcome(&m);
    return status == USERS_EXIT_DONE && pending ? USERS_EXIT_REFUSED : status;
}
