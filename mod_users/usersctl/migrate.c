#include "usersctl/migrate.h"

#include "usersctl/runner.h"

#include <apr_strings.h>
#include <string.h>

#define FUNCTIONS     "functions" /* the row of users.migration for what every upgrade runs */
#define OLDEST_SERVER 150000      /* as PQserverVersion() counts */
#define PATIENCE      apr_time_from_sec(600) /* with locks */

/* The SQL of this version, beside the database that it is for. */
typedef struct {
    users_invocation *invocation;
    users_runner runner;
    apr_array_header_t *migrations; /* users_script */
    apr_array_header_t *repeated;   /* users_script */
    const char *digest;             /* of those */
} migration;

/* What the database is */

static users_exit check_server(const migration *m)
{
    const char *encoding = PQparameterStatus(m->runner.db, "server_encoding");

    if (PQserverVersion(m->runner.db) < OLDEST_SERVER) {
        return users_output_complain(USERS_EXIT_REFUSED,
                                     "mod_users needs PostgreSQL 15 or later, not %s",
                                     PQparameterStatus(m->runner.db, "server_version"));
    }
    if (!encoding || strcmp(encoding, "UTF8") != 0) {
        return users_output_complain(USERS_EXIT_REFUSED,
                                     "mod_users needs a database in UTF-8, not %s: createdb "
                                     "--encoding=UTF8 --template=template0 %s",
                                     encoding ? encoding : "?", PQdb(m->runner.db));
    }
    return USERS_EXIT_DONE;
}

/* Read the SQL, and look whom the tables belong to. */
static users_exit open_migration(migration *m, users_invocation *invocation)
{
    const char *directory = invocation->values[USERS_ARG_SQL];
    users_exit status;

    *m = (migration){.invocation = invocation,
                     .runner = {.pool = invocation->pool,
                                .db = invocation->db,
                                .patience = apr_time_now() + PATIENCE}};
    status = check_server(m);
    if (status == USERS_EXIT_DONE) {
        status = users_scripts_read_migrations(invocation->pool, directory, &m->migrations);
    }
    if (status == USERS_EXIT_DONE) {
        status = users_scripts_read_repeated(invocation->pool, directory, &m->repeated, &m->digest);
    }
    /* names are qualified; nothing that lies elsewhere is to be found in their place */
    if (status == USERS_EXIT_DONE) {
        status = users_runner_execute(&m->runner, "set search_path = pg_catalog, pg_temp; "
                                                  "set statement_timeout = 0; "
                                                  "set client_min_messages = warning");
    }
    if (status == USERS_EXIT_DONE) {
        status = users_runner_query(&m->runner,
                                    "select quote_ident(rolname) from pg_roles join pg_class"
                                    " on relowner = pg_roles.oid where pg_class.oid ="
                                    " to_regclass('users.account')",
                                    &m->runner.owner);
    }
    return status;
}

/* open_migration() of a database that has the tables already. */
static users_exit open_existing(migration *m, users_invocation *invocation)
{
    users_exit status = open_migration(m, invocation);

    if (status == USERS_EXIT_DONE && !m->runner.owner) {
        return users_output_complain(USERS_EXIT_REFUSED,
                                     "the database \"%s\" has no tables of mod_users: usersctl "
                                     "database install makes them",
                                     PQdb(m->runner.db));
    }
    return status;
}

/*
 * Read name, state (applied, pending, changed, unknown, later) and applied_at, a row for each. The
 * result is the caller's; NULL, with a complaint, where it fails.
 */
static PGresult *read_state(const migration *m, bool json)
{
    apr_pool_t *pool = m->invocation->pool;
    const char *names = "";
    const char *noted;
    const char *sql;
    const char *parameters[2];
    PGresult *result;

    if (users_runner_query(&m->runner, "select to_regclass('users.migration')", &noted) !=
        USERS_EXIT_DONE) {
        return NULL;
    }
    for (int i = 0; i < m->migrations->nelts; i++) {
        names =
            apr_pstrcat(pool, names, APR_ARRAY_IDX(m->migrations, i, users_script).name, ",", NULL);
    }
    parameters[0] = apr_pstrcat(pool, "{", names, FUNCTIONS "}", NULL);
    parameters[1] = m->digest;
    sql = apr_psprintf(
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
        noted ? noted
              : "(select null::text as name, null::bytea as digest, now() as applied_at where "
                "false)");
    result = PQexecParams(m->runner.db, sql, 2, NULL, parameters, NULL, NULL, 0);
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        users_runner_complain(&m->runner, "database", result);
        PQclear(result);
        return NULL;
    }
    return result;
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

static users_exit print_state(const migration *m)
{
    bool json = m->invocation->values[USERS_ARG_JSON] != NULL;
    PGresult *state = read_state(m, json);

    if (!state) {
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
static users_exit warn_of_log(const migration *m)
{
    const char *known;
    const char *roles = NULL;
    users_exit status = users_runner_query(
        &m->runner, "select to_regprocedure('users_admin.logged_roles()')", &known);

    if (status == USERS_EXIT_DONE && known) {
        status = users_runner_query(
            &m->runner,
            "select string_agg(quote_ident(role), ', ') from users_admin.logged_roles()", &roles);
    }
    if (roles) {
        users_output_complain(
            USERS_EXIT_DONE,
            "warning: what clients send, personal data and passwords, can reach PostgreSQL's log "
            "by "
            "the settings of %s: let httpd log in as mod_users (pg_ident.conf), or have a "
            "superuser "
            "set log_parameter_max_length and log_parameter_max_length_on_error to 0 by alter role",
            roles);
    }
    return status;
}

static users_exit print_outcome(const migration *m)
{
    users_exit status = print_state(m);

    return status == USERS_EXIT_DONE ? warn_of_log(m) : status;
}

/* Commands */

users_exit users_migrate_install(users_invocation *invocation)
{
    migration m;
    apr_array_header_t *scripts;
    const char *there;
    users_exit status = open_migration(&m, invocation);

    if (status != USERS_EXIT_DONE) {
        return status;
    }
    status = users_runner_query(&m.runner, "select to_regnamespace('users')", &there);
    if (there) {
        return users_output_complain(USERS_EXIT_REFUSED,
                                     "the database \"%s\" has a schema \"users\" already: usersctl "
                                     "database upgrade turns that of an earlier version into this "
                                     "one's",
                                     PQdb(m.runner.db));
    }
    if (status != USERS_EXIT_DONE) {
        return status;
    }
    status =
        users_scripts_read_install(invocation->pool, invocation->values[USERS_ARG_SQL], &scripts);
    if (status == USERS_EXIT_DONE) {
        status = users_runner_run_together(&m.runner, FUNCTIONS, scripts, m.digest);
    }
    /* small tables, which autovacuum leaves alone, though plans depend on them */
    if (status == USERS_EXIT_DONE) {
        status = users_runner_execute(&m.runner,
                                      "analyze users.country, users.currency, users.language, "
                                      "users.billing_plan, users.account_group, users.group_quota");
    }
    return status == USERS_EXIT_DONE ? print_outcome(&m) : status;
}

/* The states of migrations come first, in their order. */
static users_exit run_pending(migration *m, const PGresult *states)
{
    users_exit status = USERS_EXIT_DONE;

    for (int i = 0; status == USERS_EXIT_DONE && i < m->migrations->nelts; i++) {
        if (strcmp(PQgetvalue(states, i, 1), "pending") == 0) {
            status = users_runner_run(&m->runner, &APR_ARRAY_IDX(m->migrations, i, users_script));
        }
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
    status = users_runner_query(
        &m.runner, "select nullif(pg_try_advisory_lock(hashtext('usersctl database')), false)",
        &alone);
    if (status == USERS_EXIT_DONE && !alone) {
        return users_output_complain(USERS_EXIT_REFUSED, "another usersctl upgrades this database");
    }
    if (status != USERS_EXIT_DONE) {
        return status;
    }
    states = read_state(&m, false);
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
        status = users_runner_run_together(&m.runner, FUNCTIONS, m.repeated, m.digest);
    }
    return status == USERS_EXIT_DONE ? print_outcome(&m) : status;
}

users_exit users_migrate_read(users_invocation *invocation, PGresult **states)
{
    migration m;
    users_exit status = open_existing(&m, invocation);

    *states = status == USERS_EXIT_DONE ? read_state(&m, false) : NULL;
    return status == USERS_EXIT_DONE && !*states ? USERS_EXIT_FAILED : status;
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
    states = read_state(&m, false);
    if (!states) {
        return USERS_EXIT_FAILED;
    }
    pending = has_state(states, "pending") || has_state(states, "changed");
    PQclear(states);
    status = print_outcome(&m);
    return status == USERS_EXIT_DONE && pending ? USERS_EXIT_REFUSED : status;
}
