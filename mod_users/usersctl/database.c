#include "usersctl/database.h"

#include <apr_strings.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

/*
 * A host that goes without a word, or a firewall that forgets the connection, is noticed within a
 * minute, and not after hours. As the module has it; conninfo may say otherwise.
 */
#define KEEPALIVE_KEYWORDS                                                                         \
    "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"
#define KEEPALIVE_VALUES "30", "10", "3", "30000" /* seconds, and milliseconds */

static PGcancel *volatile to_cancel;
static volatile sig_atomic_t interrupted;

/* PQcancel is made for signal handlers. What it cancels is rolled back. */
static void interrupt(int number)
{
    char ignored[256];

    (void)number;
    interrupted = 1;
    PQcancel(to_cancel, ignored, sizeof(ignored));
}

bool users_database_interrupted(void)
{
    return interrupted;
}

/* Everybody sees a program's arguments. */
static bool holds_password(const char *conninfo)
{
    PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
    bool found = false;

    for (const PQconninfoOption *o = options; o && o->keyword; o++) {
        found |= o->val &&
                 (strcmp(o->keyword, "password") == 0 || strcmp(o->keyword, "sslpassword") == 0);
    }
    PQconninfoFree(options);
    return found;
}

/* What the database says besides: on a line like ours, where libpq would write its own. */
static void print_notice(void *unused, const PGresult *result)
{
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
    bool warning = severity && strcmp(severity, "WARNING") == 0;

    (void)unused;
    users_output_complain(USERS_EXIT_DONE, "%s: %s%s%s", warning ? "warning" : "notice",
                          message ? message : "no message", hint ? ". " : "", hint ? hint : "");
}

users_exit users_database_judge(const char *conninfo)
{
    if (conninfo && holds_password(conninfo)) {
        return users_output_complain(
            USERS_EXIT_USAGE, "--db must not hold a password, which every user of this machine can "
                              "see: use passfile=FILE, service=NAME or ~/.pgpass");
    }
    return USERS_EXIT_DONE;
}

void users_database_set_defaults(void)
{
    /* behind all that libpq reads, service files too; there is no other thread */
    setenv("PGDATABASE", "users", 0);     /* NOLINT(concurrency-mt-unsafe) */
    setenv("PGCONNECT_TIMEOUT", "10", 0); /* NOLINT(concurrency-mt-unsafe) */
}

/*
 * What the functions of sql and their answers rely on, whatever the database or its roles say: a
 * time that is told in another style can be read back as another time.
 */
static users_exit begin_session(PGconn *db)
{
    return users_database_run(db, "set client_min_messages = notice; set datestyle = iso;"
                                  " set default_transaction_isolation = 'read committed'");
}

users_exit users_database_connect(PGconn **db, const char *conninfo)
{
    const char *keywords[] = {KEEPALIVE_KEYWORDS, "dbname", "client_encoding",
                              "fallback_application_name", NULL};
    const char *values[] = {KEEPALIVE_VALUES, conninfo, "UTF8", "usersctl", NULL};
    struct sigaction action = {.sa_handler = interrupt};
    PGconn *connection;

    *db = NULL;
    if (users_database_judge(conninfo) != USERS_EXIT_DONE) {
        return USERS_EXIT_USAGE;
    }
    users_database_set_defaults();
    connection = PQconnectdbParams(keywords, values, 1);
    if (PQstatus(connection) != CONNECTION_OK) {
        users_output_complain(USERS_EXIT_FAILED, "%s", PQerrorMessage(connection));
        PQfinish(connection);
        return USERS_EXIT_FAILED;
    }
    PQsetNoticeReceiver(connection, print_notice, NULL);
    to_cancel = PQgetCancel(connection);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    *db = connection;
    return begin_session(connection);
}

bool users_database_reconnect(PGconn *db)
{
    PGcancel *before = to_cancel;

    to_cancel = NULL; /* which PQcancel() takes for nothing to cancel */
    PQfreeCancel(before);
    PQreset(db);
    to_cancel = PQgetCancel(db);
    return PQstatus(db) == CONNECTION_OK && begin_session(db) == USERS_EXIT_DONE;
}

/* What admin.sql refuses has a SQLSTATE of class 22 or 23, or P0002; of wrong values 22P02. */
static users_exit status_of(const char *sqlstate)
{
    if (strcmp(sqlstate, "22P02") == 0) {
        return USERS_EXIT_USAGE;
    }
    return strncmp(sqlstate, "22", 2) == 0 || strncmp(sqlstate, "23", 2) == 0 ||
                   strcmp(sqlstate, "P0002") == 0
               ? USERS_EXIT_REFUSED
               : USERS_EXIT_FAILED;
}

static users_exit complain_of_connection(const PGconn *db)
{
    const char *message = PQerrorMessage(db);

    return users_output_complain(USERS_EXIT_FAILED, "%s",
                                 *message ? message : "the connection to the database failed");
}

static users_exit complain(const PGconn *db, const PGresult *result)
{
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);

    if (interrupted) {
        return USERS_EXIT_FAILED; /* nobody needs to be told why */
    }
    if (!message || !sqlstate) { /* the connection is lost */
        return complain_of_connection(db);
    }
    if (strcmp(sqlstate, "3F000") == 0 || strcmp(sqlstate, "42883") == 0) {
        return users_output_complain(USERS_EXIT_FAILED,
                                     "%s: the database \"%s\" is not of this version: see "
                                     "usersctl database status",
                                     message, PQdb(db));
    }
    return users_output_complain(status_of(sqlstate), "%s", message);
}

users_exit users_database_run(PGconn *db, const char *statement)
{
    PGresult *result = PQexec(db, statement);
    users_exit status = USERS_EXIT_DONE;

    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        status = complain(db, result);
    }
    PQclear(result);
    return status;
}

void users_database_hide_parameters(PGconn *db)
{
    const char *superuser = PQparameterStatus(db, "is_superuser");

    if (superuser && strcmp(superuser, "on") == 0) {
        PQclear(PQexec(db, "set log_parameter_max_length = 0; "
                           "set log_parameter_max_length_on_error = 0"));
    }
}

users_exit users_database_copy_begin(PGconn *db, const char *statement)
{
    PGresult *result = PQexec(db, statement);
    users_exit status = USERS_EXIT_DONE;

    if (PQresultStatus(result) != PGRES_COPY_IN) {
        status = complain(db, result);
    }
    PQclear(result);
    return status;
}

users_exit users_database_copy_put(PGconn *db, const char *text, size_t length)
{
    if (interrupted) {
        return USERS_EXIT_FAILED;
    }
    if (PQputCopyData(db, text, (int)length) != 1) {
        return complain_of_connection(db);
    }
    return USERS_EXIT_DONE;
}

users_exit users_database_copy_end(PGconn *db)
{
    users_exit status = USERS_EXIT_DONE;
    PGresult *result;

    if (PQputCopyEnd(db, NULL) != 1) {
        return complain_of_connection(db);
    }
    result = PQgetResult(db);
    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        status = complain(db, result);
    }
    PQclear(result);
    while ((result = PQgetResult(db)) != NULL) { /* there is no other, but that has to be read */
        PQclear(result);
    }
    return status;
}

users_exit users_database_call(PGconn *db, const char *function, const char *const *parameters,
                               int count, bool json, PGresult **result)
{
    static const char placeholders[] = "$1, $2, $3, $4, $5, $6, $7, $8, $9";
    char statement[256];
    int length = count ? 4 * count - 2 : 0;

    apr_snprintf(statement, sizeof(statement),
                 "select %s from (select * from users_admin.%s(%.*s)) as answer",
                 json ? "row_to_json(answer)" : "*", function, length, placeholders);
    *result = PQexecParams(db, statement, count, NULL, parameters, NULL, NULL, 0);
    if (PQresultStatus(*result) != PGRES_TUPLES_OK) {
        users_exit status = complain(db, *result);

        PQclear(*result);
        *result = NULL;
        return status;
    }
    return USERS_EXIT_DONE;
}
