#include "config/password.h"

#include "config/settings.h"
#include "core/clock.h"
#include "db/db.h"
#include "http/process.h"

#include <apr_hash.h>
#include <apr_strings.h>
#include <apr_thread_proc.h>
#include <http_core.h>
#include <http_log.h>
#include <signal.h>
#include <unistd.h>

APLOG_USE_MODULE(users);

#define PATIENCE     10                     /* seconds: httpd stands still while a program runs */
#define PAUSE        apr_time_from_msec(10) /* between two looks whether one has ended */
#define PASSWORD_MAX 8192 /* octets, the end included: tokens of clouds are long */

/* What a program printed when it last went well, which outlives reloads. */
typedef struct {
    char password[PASSWORD_MAX]; /* empty: it never did */
} kept;

/* A run of a program, and what came of it. */
typedef struct {
    char line[PASSWORD_MAX]; /* the first that it printed */
    apr_size_t length;
    bool whole;    /* its end was seen */
    bool too_long; /* there was more than fits */
} output;

const char *users_password_program(const char *password)
{
    size_t length = strlen(USERS_PASSWORD_PROGRAM);

    return password && strncmp(password, USERS_PASSWORD_PROGRAM, length) == 0 ? password + length
                                                                              : NULL;
}

/* Running */

static void append(output *o, const char *piece, apr_size_t count)
{
    for (apr_size_t i = 0; i < count && !o->whole && !o->too_long; i++) {
        if (piece[i] == '\n' || piece[i] == '\0') {
            o->whole = true;
        } else if (o->length + 1 < sizeof(o->line)) {
            o->line[o->length++] = piece[i];
        } else {
            o->too_long = true;
        }
    }
    o->line[o->length] = '\0';
}

/* To the end of the output: a program that is not listened to would die of SIGPIPE. */
static apr_status_t read_output(apr_file_t *out, apr_time_t deadline, output *o)
{
    char piece[512];
    apr_status_t status = APR_SUCCESS;

    while (status == APR_SUCCESS) {
        apr_size_t count = sizeof(piece);
        apr_interval_time_t left = deadline - users_now();

        status = left > 0 ? apr_file_pipe_timeout_set(out, left) : APR_TIMEUP;
        if (status == APR_SUCCESS) {
            status = apr_file_read(out, piece, &count);
        }
        if (status == APR_SUCCESS) {
            append(o, piece, count);
        }
    }
    return APR_STATUS_IS_EOF(status) ? APR_SUCCESS : status;
}

/*
 * has_closed: its output has come to an end. Returns NULL where it ended well and in time, else how
 * it ended, or was ended here.
 */
static const char *end_program(apr_proc_t *program, apr_time_t deadline, bool has_closed,
                               apr_pool_t *pool)
{
    apr_exit_why_e why = APR_PROC_EXIT;
    int code = 0;
    apr_status_t status = apr_proc_wait(program, &code, &why, APR_NOWAIT);

    while (status == APR_CHILD_NOTDONE && has_closed && users_now() < deadline) {
        apr_sleep(PAUSE);
        status = apr_proc_wait(program, &code, &why, APR_NOWAIT);
    }
    if (status == APR_CHILD_NOTDONE) {
        apr_proc_kill(program, SIGKILL);
        apr_proc_wait(program, &code, &why, APR_WAIT);
        return apr_psprintf(pool, "did not end within %d seconds, and was killed", PATIENCE);
    }
    if (status != APR_CHILD_DONE) {
        return "ended, and nobody knows how";
    }
    if (APR_PROC_CHECK_SIGNALED(why)) {
        return apr_psprintf(pool, "was ended by the signal %d", code);
    }
    return code == 0 ? NULL : apr_psprintf(pool, "ended with the status %d", code);
}

/* As httpd runs programs: without a shell and with an empty environment; its errors are httpd's. */
static apr_status_t start_program(apr_proc_t *program, const char *command, apr_pool_t *pool)
{
    apr_procattr_t *attributes;
    apr_file_t *nothing;
    char **argv;
    apr_status_t status = apr_tokenize_to_argv(command, &argv, pool);

    if (status == APR_SUCCESS) {
        status = apr_file_open(&nothing, "/dev/null", APR_FOPEN_READ, APR_OS_DEFAULT, pool);
    }
    if (status == APR_SUCCESS) {
        status = apr_procattr_create(&attributes, pool);
    }
    if (status == APR_SUCCESS) {
        status = apr_procattr_io_set(attributes, APR_NO_PIPE, APR_FULL_BLOCK, APR_NO_PIPE);
    }
    if (status == APR_SUCCESS) {
        status = apr_procattr_child_in_set(attributes, nothing, NULL);
    }
    if (status == APR_SUCCESS) {
        status = apr_procattr_error_check_set(attributes, 1); /* tells that there is no program */
    }
    if (status == APR_SUCCESS) {
        status =
            apr_proc_create(program, argv[0], (const char *const *)argv, NULL, attributes, pool);
    }
    return status;
}

/* The password in o->line. Returns what the program did wrong, or NULL. */
static const char *run_program(const char *command, output *o, apr_pool_t *pool)
{
    apr_time_t deadline = users_now() + apr_time_from_sec(PATIENCE);
    apr_proc_t program;
    const char *fault;
    apr_status_t status = start_program(&program, command, pool);

    if (status != APR_SUCCESS) {
        char text[128];

        return apr_pstrcat(pool, "can't be run: ", apr_strerror(status, text, sizeof(text)), NULL);
    }
    status = read_output(program.out, deadline, o);
    apr_file_close(program.out);
    fault = end_program(&program, deadline, status == APR_SUCCESS, pool);
    if (!fault && o->too_long) {
        fault = apr_psprintf(pool, "printed a password of more than %d octets", PASSWORD_MAX - 1);
    }
    if (!fault && o->length == 0) {
        fault = "printed no password";
    }
    return fault;
}

/* Servers */

/* The path alone: an argument can be a secret. */
static const char *path_of(const char *command, apr_pool_t *pool)
{
    return apr_pstrmemdup(pool, command, strcspn(command, " "));
}

static void test_program(const server_rec *s, const char *directive, const char *conninfo,
                         apr_hash_t *done, apr_pool_t *pool)
{
    const char *password = NULL;
    const char *command;
    const char *path;

    if (conninfo) {
        users_conninfo_read(conninfo, "password", pool, &password);
    }
    command = users_password_program(password);
    path = command ? path_of(command, pool) : NULL;
    if (path && !apr_hash_get(done, path, APR_HASH_KEY_STRING) && access(path, X_OK) != 0) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, errno, s,
                     "%s %s: the program %s of password=exec: can't be run", directive,
                     users_conninfo_name(conninfo, pool), path);
        apr_hash_set(done, path, APR_HASH_KEY_STRING, path);
    }
}

/* Returns whether httpd may go on. */
static bool renew(kept *k, const server_rec *s, const char *directive, const char *conninfo,
                  const char *command, apr_pool_t *ptemp)
{
    output *o = apr_pcalloc(ptemp, sizeof(*o));
    const char *fault = run_program(command, o, ptemp);
    bool reload = users_process_is_reload();

    if (!fault) {
        memcpy(k->password, o->line, o->length + 1);
        return true;
    }
    ap_log_error(APLOG_MARK, reload ? APLOG_ERR : APLOG_EMERG, 0, s,
                 "%s %s: the program %s of password=exec: %s: %s", directive,
                 users_conninfo_name(conninfo, ptemp), path_of(command, ptemp), fault,
                 !reload        ? "httpd does not start without the password"
                 : *k->password ? "the password of its last run stays in use"
                                : "there is none from an earlier run, so it connects without one");
    return reload;
}

/*
 * *password: what the program of a conninfo printed, once for all servers that have it; NULL where
 * it has none. Returns whether httpd may go on.
 */
static bool get_password(const server_rec *s, const char *directive, const char *conninfo,
                         const char **password, apr_hash_t *done, apr_pool_t *ptemp)
{
    const char *given = NULL;
    const char *command;
    bool good = true;

    if (conninfo && !users_conninfo_read(conninfo, "password", ptemp, &given)) {
        /* the directive could read it: there is no memory */
        ap_log_error(APLOG_MARK, APLOG_EMERG, 0, s, "%s: it can't be read", directive);
        return false;
    }
    command = users_password_program(given);
    *password = NULL;
    if (command) {
        kept *k = apr_hash_get(done, conninfo, APR_HASH_KEY_STRING);

        if (!k) {
            k = users_process_memory(s, apr_pstrcat(ptemp, "password 1 ", conninfo, NULL),
                                     sizeof(*k));
            good = renew(k, s, directive, conninfo, command, ptemp);
            apr_hash_set(done, conninfo, APR_HASH_KEY_STRING, k);
        }
        *password = k->password;
    }
    return good;
}

void users_password_test(apr_pool_t *pconf, server_rec *s)
{
    apr_hash_t *done = apr_hash_make(pconf);

    if (ap_state_query(AP_SQ_RUN_MODE) != AP_SQ_RM_CONFIG_TEST) {
        return;
    }
    for (; s; s = s->next) {
        test_program(s, "UsersDB", users_settings_of(s)->conninfo, done, pconf);
        test_program(s, "UsersDBReplica", users_settings_of(s)->replica, done, pconf);
    }
}

int users_password_run(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    apr_hash_t *done = apr_hash_make(ptemp);

    (void)pconf;
    (void)plog;
    if (ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG) {
        return OK; /* httpd reads its configuration twice at start: this is the rehearsal */
    }
    for (; s; s = s->next) {
        users_settings *settings = users_settings_of(s);

        if (!get_password(s, "UsersDB", settings->conninfo, &settings->password, done, ptemp) ||
            !get_password(s, "UsersDBReplica", settings->replica, &settings->replica_password, done,
                          ptemp)) {
            return !OK;
        }
    }
    return OK;
}
