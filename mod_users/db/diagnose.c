#include "db/diagnose.h"

#include "db/conninfo.h"

#include <apr_file_io.h>
#include <apr_lib.h>
#include <apr_strings.h>
#include <string.h>

#define SQLSTATE_LENGTH 5
#define HINT_LENGTH     512

/* Messages */

void users_diagnose_prepare(PGconn *pg)
{
    PQsetErrorVerbosity(pg, PQERRORS_VERBOSE);
}

/* The verbose form has where in PostgreSQL's source a message comes from. */
static bool is_location(const char *line)
{
    static const char location[] = "LOCATION:";

    return strncmp(line, location, sizeof(location) - 1) == 0;
}

void users_diagnose_join(char *line, const char *message, size_t size)
{
    size_t used = 0;

    line[0] = '\0';
    while (*message && used + 1 < size) {
        size_t length = strcspn(message, "\n");

        if (length > 0 && !is_location(message)) {
            used += (size_t)apr_snprintf(line + used, size - used, "%s%.*s", used ? "; " : "",
                                         (int)length, message);
        }
        message += length;
        message += strspn(message, "\n\t ");
    }
}

/*
 * The SQLSTATE of the last error in a verbose message, behind a severity in the server's language:
 * "FATAL:  28000: …". Empty where there is none, as the server was not reached.
 */
static void find_sqlstate(const char *message, char state[SQLSTATE_LENGTH + 1])
{
    state[0] = '\0';
    while ((message = strstr(message, ":  ")) != NULL) {
        size_t length = 0;

        message += strlen(":  ");
        while (apr_isdigit(message[length]) || apr_isupper(message[length])) {
            length++;
        }
        if (length == SQLSTATE_LENGTH && message[length] == ':') {
            apr_cpystrn(state, message, SQLSTATE_LENGTH + 1);
        }
    }
}

/* Hints */

/*
 * libpq passes over a passfile that it can't use without a word in its message. It is this process
 * that must be able to read it.
 */
static void explain_passfile(const char *path, const users_process *process, char hint[HINT_LENGTH],
                             apr_pool_t *pool)
{
    apr_file_t *file;
    apr_finfo_t info;
    apr_status_t status = apr_file_open(&file, path, APR_FOPEN_READ, APR_OS_DEFAULT, pool);

    if (status == APR_SUCCESS) {
        status = apr_file_info_get(&info, APR_FINFO_TYPE | APR_FINFO_PROT, file);
    }
    if (status != APR_SUCCESS) {
        char text[128];

        apr_snprintf(hint, HINT_LENGTH,
                     "the passfile %s can't be read by the user \"%s\" that %s runs as: %s", path,
                     process->user, process->program, apr_strerror(status, text, sizeof(text)));
    } else if (info.filetype != APR_REG) {
        apr_snprintf(hint, HINT_LENGTH, "the passfile %s is not a plain file", path);
    } else if (info.protection & (APR_FPROT_GREAD | APR_FPROT_GWRITE | APR_FPROT_GEXECUTE |
                                  APR_FPROT_WREAD | APR_FPROT_WWRITE | APR_FPROT_WEXECUTE)) {
        apr_snprintf(hint, HINT_LENGTH,
                     "libpq passes over the passfile %s, since others than its owner have access "
                     "to it: set its mode to 0600",
                     path);
    } else {
        apr_snprintf(hint, HINT_LENGTH,
                     "the passfile %s has no line for this host, port, database and role", path);
    }
}

static void explain_missing_password(PGconn *pg, const users_process *process,
                                     char hint[HINT_LENGTH])
{
    PQconninfoOption *options = PQconninfo(pg);
    const char *path = users_conninfo_get(options, "passfile");
    apr_pool_t *pool;

    if (path && apr_pool_create_unmanaged_ex(&pool, NULL, NULL) == APR_SUCCESS) {
        explain_passfile(path, process, hint, pool);
        apr_pool_destroy(pool);
    }
    PQconninfoFree(options);
}

/* What an administrator can do about it; empty where the message says so itself. */
static void explain(PGconn *pg, const char *state, const users_process *process,
                    char hint[HINT_LENGTH])
{
    const char *role = PQuser(pg);

    hint[0] = '\0';
    if (PQconnectionNeedsPassword(pg)) {
        explain_missing_password(pg, process, hint);
    } else if (strcmp(state, "28000") == 0) {
        apr_snprintf(hint, HINT_LENGTH,
                     "%s runs as the user \"%s\" and asked for the role \"%s\": there must be "
                     "that role, and a line of pg_hba.conf (for peer authentication also of "
                     "pg_ident.conf) that lets this user be it",
                     process->program, process->user, role ? role : "");
    } else if (strcmp(state, "28P01") == 0) {
        apr_snprintf(hint, HINT_LENGTH,
                     "the password is not that of the role \"%s\": it comes from the connection "
                     "string, its program (password=exec:), or its passfile",
                     role ? role : "");
    } else if (strcmp(state, "3D000") == 0) {
        apr_snprintf(
            hint, HINT_LENGTH,
            "create it, and run \"usersctl database install\"; or name another by dbname=");
    } else if (strcmp(state, "42501") == 0) {
        apr_snprintf(hint, HINT_LENGTH, "grant connect on the database to the role \"%s\"",
                     role ? role : "");
    } else if (strcmp(state, "08P01") == 0) {
        apr_snprintf(hint, HINT_LENGTH,
                     "a pooler such as PgBouncer wants \"UsersDBPrepare off\" and no options=, or "
                     "ignore_startup_parameters = options of its own");
    }
}

/* libpq does not name a host whose address it was given. */
static void join_with_host(PGconn *pg, char reason[USERS_REASON_LENGTH])
{
    const char *message = PQerrorMessage(pg);
    const char *host = PQhost(pg);
    char quoted[HINT_LENGTH];
    size_t used = 0;

    apr_snprintf(quoted, sizeof(quoted), "\"%s\"", host ? host : "");
    if (host && *host && *host != '/' && *host != '@' && !strstr(message, quoted)) {
        used = (size_t)apr_snprintf(reason, USERS_REASON_LENGTH, "%s: ", host);
    }
    users_diagnose_join(reason + used, message, USERS_REASON_LENGTH - used);
}

void users_diagnose_silence(const char *host, users_connect_fault *fault)
{
    *fault = (users_connect_fault){.reason = ""};
    apr_snprintf(fault->reason, sizeof(fault->reason),
                 "no answer from %s in time (UsersDBConnectTimeout)", host ? host : "the server");
}

void users_diagnose(PGconn *pg, const users_process *process, users_connect_fault *fault)
{
    char state[SQLSTATE_LENGTH + 1];
    char hint[HINT_LENGTH];
    size_t used;

    if (PQstatus(pg) != CONNECTION_BAD) {
        users_diagnose_silence(PQhost(pg), fault);
        return;
    }
    *fault = (users_connect_fault){.needs_password = PQconnectionNeedsPassword(pg)};
    join_with_host(pg, fault->reason);
    find_sqlstate(PQerrorMessage(pg), state);
    fault->full = strcmp(state, "53300") == 0;
    explain(pg, state, process, hint);
    used = strlen(fault->reason);
    if (*hint) {
        apr_snprintf(fault->reason + used, sizeof(fault->reason) - used, ": %s", hint);
        fault->hint = used + strlen(": ") < sizeof(fault->reason) ? used + strlen(": ") : 0;
    }
}
