#include "usersctl/runner.h"

#include "usersctl/database.h"

#include <apr_strings.h>
#include <string.h>

#define LOCK_TIMEOUT "100ms"              /* nobody waits longer behind us */
#define PAUSE        apr_time_from_sec(1) /* before a lock is asked for again */

/* How an attempt ended. */
typedef enum {
    ATTEMPT_DONE,
    ATTEMPT_BUSY, /* it could not have a lock; nothing has changed */
    ATTEMPT_FAILED
} attempt_status;

/* Statements */

users_exit users_runner_complain(const users_runner *r, const char *name, const PGresult *result)
{
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);

    return users_output_complain(USERS_EXIT_FAILED, "%s: %s%s%s", name,
                                 message ? message : PQerrorMessage(r->db), hint ? ". " : "",
                                 hint ? hint : "");
}

/* Run SQL, of which name tells what it is. Complains where that fails for another reason. */
static attempt_status run(const users_runner *r, const char *name, const char *sql)
{
    PGresult *result = PQexec(r->db, sql);
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    attempt_status status = ATTEMPT_DONE;

    if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK) {
        bool busy = state && (strcmp(state, "55P03") == 0 || strcmp(state, "40P01") == 0);

        status = busy ? ATTEMPT_BUSY : ATTEMPT_FAILED;
        if (!busy) {
            users_runner_complain(r, name, result);
        }
    }
    PQclear(result);
    return status;
}

users_exit users_runner_query(const users_runner *r, const char *sql, const char **value)
{
    PGresult *result = PQexec(r->db, sql);
    users_exit status = USERS_EXIT_DONE;

    *value = NULL;
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        status = users_runner_complain(r, "database", result);
    } else if (PQntuples(result) > 0 && !PQgetisnull(result, 0, 0)) {
        *value = apr_pstrdup(r->pool, PQgetvalue(result, 0, 0));
    }
    PQclear(result);
    return status;
}

/* digest: NULL for a migration, which is what it was when it was run. */
static const char *record(const users_runner *r, const char *name, const char *digest)
{
    return apr_psprintf(r->pool,
                        "insert into users.migration (name, digest) values ('%s', %s%s%s)"
                        " on conflict (name) do update"
                        " set digest = excluded.digest, applied_at = excluded.applied_at",
                        name, digest ? "decode('" : "", digest ? digest : "null",
                        digest ? "', 'hex')" : "");
}

/* Attempts */

/* The scripts, and that they were run, in one transaction. */
static attempt_status attempt(const users_runner *r, const char *name,
                              const apr_array_header_t *scripts, const char *digest)
{
    attempt_status status = run(r, name, "begin; set local lock_timeout = '" LOCK_TIMEOUT "'");

    for (int i = 0; status == ATTEMPT_DONE && i < scripts->nelts; i++) {
        const users_script *script = &APR_ARRAY_IDX(scripts, i, users_script);

        if (r->owner) {
            status = run(r, name,
                         script->owner ? apr_pstrcat(r->pool, "set local role ", r->owner, NULL)
                                       : "reset role");
        }
        if (status == ATTEMPT_DONE) {
            status = run(r, script->name, script->text);
        }
    }
    if (status == ATTEMPT_DONE) {
        status = run(r, name, record(r, name, digest));
    }
    if (status == ATTEMPT_DONE) {
        return run(r, name, "commit");
    }
    PQclear(PQexec(r->db, "rollback"));
    return status;
}

static attempt_status drop_invalid(const users_runner *r, const char *index)
{
    const char *invalid;
    const char *sql = apr_psprintf(r->pool,
                                   "select 1 from pg_index where indexrelid = to_regclass('%s')"
                                   " and not indisvalid",
                                   index);

    if (users_runner_query(r, sql, &invalid) != USERS_EXIT_DONE) {
        return ATTEMPT_FAILED;
    }
    return invalid ? run(r, index, apr_psprintf(r->pool, "drop index concurrently %s", index))
                   : ATTEMPT_DONE;
}

/*
 * What commits by itself. To build an index takes no lock that anybody waits behind, but waits
 * itself for each transaction that is older: no time-out counts there.
 */
static attempt_status attempt_alone(const users_runner *r, const users_script *script)
{
    attempt_status status = ATTEMPT_DONE;

    if (r->owner) {
        status = run(r, script->name, apr_pstrcat(r->pool, "set role ", r->owner, NULL));
    }
    if (status == ATTEMPT_DONE && script->index) {
        status = drop_invalid(r, script->index);
    }
    if (status == ATTEMPT_DONE && !script->index) {
        status = run(r, script->name, "set lock_timeout = '" LOCK_TIMEOUT "'");
    }
    if (status == ATTEMPT_DONE) {
        status = run(r, script->name, script->text);
    }
    if (status == ATTEMPT_DONE) {
        status = run(r, script->name, record(r, script->name, NULL));
    }
    PQclear(PQexec(r->db, "reset lock_timeout; reset role"));
    return status;
}

/* Tell who may be in the way: the oldest transaction that holds a lock on our tables. */
static void tell_who_is_in_the_way(const users_runner *r, const char *name)
{
    const char *who;
    users_exit status = users_runner_query(
        r,
        "select format('process %s (%s of %s), in a transaction since %s', pid,"
        " coalesce(nullif(application_name, ''), 'an unnamed program'), usename,"
        " date_trunc('second', xact_start))"
        " from pg_stat_activity where pid <> pg_backend_pid() and exists ("
        "select from pg_locks join pg_class on pg_class.oid = relation"
        " where pg_locks.pid = pg_stat_activity.pid and granted"
        " and relnamespace in (select oid from pg_namespace where nspname ~ '^users'))"
        " order by xact_start limit 1",
        &who);

    if (status == USERS_EXIT_DONE) {
        users_output_complain(USERS_EXIT_DONE, "%s waits for a lock%s%s", name,
                              who ? " held by " : "", who ? who : "");
    }
}

/* script: one that is not run in a transaction; NULL: scripts are. */
static users_exit persevere(users_runner *r, const char *name, const users_script *script,
                            const apr_array_header_t *scripts, const char *digest)
{
    bool told = false;

    for (;;) {
        attempt_status status =
            script ? attempt_alone(r, script) : attempt(r, name, scripts, digest);

        if (users_database_interrupted() || status == ATTEMPT_FAILED) {
            return USERS_EXIT_FAILED;
        }
        if (status == ATTEMPT_DONE) {
            return USERS_EXIT_DONE;
        }
        if (apr_time_now() > r->patience) {
            return users_output_complain(USERS_EXIT_FAILED,
                                         "%s could not have a lock in time; what was done before "
                                         "it stays, and an upgrade goes on from there",
                                         name);
        }
        if (!told) {
            tell_who_is_in_the_way(r, name);
        }
        told = true;
        apr_sleep(PAUSE);
    }
}

users_exit users_runner_run(users_runner *r, const users_script *script)
{
    apr_array_header_t *one = apr_array_make(r->pool, 1, sizeof(*script));

    APR_ARRAY_PUSH(one, users_script) = *script;
    return persevere(r, script->name, script->transaction ? NULL : script, one, NULL);
}

users_exit users_runner_run_together(users_runner *r, const char *name,
                                     const apr_array_header_t *scripts, const char *digest)
{
    return persevere(r, name, NULL, scripts, digest);
}

users_exit users_runner_execute(const users_runner *r, const char *sql)
{
    return run(r, "database", sql) == ATTEMPT_DONE ? USERS_EXIT_DONE : USERS_EXIT_FAILED;
}
