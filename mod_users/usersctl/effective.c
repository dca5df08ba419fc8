#include "usersctl/effective.h"

#include "core/duration.h"
#include "db/db.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIMIT ((size_t)16 * 1024 * 1024) /* octets: thousands of virtual hosts */
#define CHUNK 4096

/* While it is read. */
typedef struct {
    apr_pool_t *pool;
    const char *path;
    int line;
    users_effective *settings;
    users_effective_server server; /* the one that the lines are of */
    int threads;
    int workers;
    int depth; /* of sections */
} reader;

static const users_effective_server defaults = {.name = "",
                                                .identity = "",
                                                .db_max = 1,
                                                .db_prepare = true,
                                                .db_connect_timeout = apr_time_from_sec(1),
                                                .replica_lag = apr_time_from_sec(2)};

static users_exit complain(const reader *r, const char *what)
{
    return users_output_complain(USERS_EXIT_USAGE,
                                 "--settings %s, line %d: %s: it takes what apache2ctl -t -D "
                                 "DUMP_USERS prints",
                                 r->path, r->line ? r->line : 1, what);
}

/* All of it; NULL, with a complaint, where it can't be read. */
static char *read_all(apr_pool_t *pool, const char *path)
{
    bool is_input = strcmp(path, "-") == 0;
    FILE *file = is_input ? stdin : fopen(path, "r");
    char *text = apr_palloc(pool, CHUNK + 1);
    size_t size = CHUNK;
    size_t length = 0;
    size_t count;

    if (!file) {
        char reason[128];

        users_output_complain(USERS_EXIT_USAGE, "--settings %s: %s", path,
                              apr_strerror(errno, reason, sizeof(reason)));
        return NULL;
    }
    while ((count = fread(text + length, 1, size - length, file)) > 0 && size < LIMIT) {
        length += count;
        if (length == size) {
            char *larger = apr_palloc(pool, 2 * size + 1);

            memcpy(larger, text, length);
            text = larger;
            size *= 2;
        }
    }
    text[length] = '\0';
    if (ferror(file)) {
        users_output_complain(USERS_EXIT_USAGE, "--settings %s: it can't be read", path);
        text = NULL;
    }
    if (!is_input) {
        (void)fclose(file); /* nothing was written */
    }
    return text;
}

/* What ap_getword_conf() makes of a quoted value; one without quotes is what it is. */
static const char *unquote(apr_pool_t *pool, char *value)
{
    size_t length = strlen(value);
    char *to = value;

    if (length < 2 || value[0] != '"' || value[length - 1] != '"') {
        return apr_pstrdup(pool, value);
    }
    for (const char *from = value + 1; from < value + length - 1; from++) {
        if (from[0] == '\\' && (from[1] == '"' || from[1] == '\\')) {
            from++;
        }
        *to++ = *from;
    }
    return apr_pstrmemdup(pool, value, (apr_size_t)(to - value));
}

/* Directives */

static bool set_number(const char *value, int *number)
{
    char *end;
    apr_int64_t read = apr_strtoi64(value, &end, 10);

    *number = (int)read;
    return apr_isdigit(*value) && !*end && read >= 0 && read <= 1000000;
}

static bool set_duration(const char *value, apr_interval_time_t *duration)
{
    bool has_unit;

    return users_duration_parse(value, duration, &has_unit);
}

static bool set_conninfo(const reader *r, const char *value, const char **conninfo, bool *concealed)
{
    const char *password;

    if (!users_conninfo_read(value, "password", r->pool, &password)) {
        return false;
    }
    *concealed = password != NULL;
    *conninfo = users_conninfo_conceal(value, NULL, r->pool);
    return *conninfo != NULL;
}

/* As users_db_is_same() judges. */
static bool is_of_connections(const char *name)
{
    return strncmp(name, "UsersDB", strlen("UsersDB")) == 0 ||
           strcmp(name, "UsersReadLanes") == 0 || strcmp(name, "UsersChangeLanes") == 0 ||
           strcmp(name, "UsersReplicaLag") == 0;
}

/* False where the value is none of the directive's. Those that a check does not need are skipped.
 */
static bool set(reader *r, const char *name, const char *value)
{
    users_effective_server *server = &r->server;

    if (is_of_connections(name)) {
        server->identity = apr_pstrcat(r->pool, server->identity, name, " ", value, "\n", NULL);
    }
    if (strcmp(name, "UsersDB") == 0) {
        return set_conninfo(r, value, &server->conninfo, &server->concealed);
    }
    if (strcmp(name, "UsersDBReplica") == 0) {
        return set_conninfo(r, value, &server->replica, &server->replica_concealed);
    }
    if (strcmp(name, "UsersDBMax") == 0) {
        return set_number(value, &server->db_max);
    }
    if (strcmp(name, "UsersDBConnectTimeout") == 0) {
        return set_duration(value, &server->db_connect_timeout);
    }
    if (strcmp(name, "UsersReplicaLag") == 0) {
        return set_duration(value, &server->replica_lag);
    }
    if (strcmp(name, "ThreadsPerChild") == 0) {
        return set_number(value, &r->threads) && r->threads > 0;
    }
    if (strcmp(name, "MaxRequestWorkers") == 0) {
        return set_number(value, &r->workers);
    }
    if (strcmp(name, "UsersDBPrepare") == 0) {
        server->db_prepare = strcmp(value, "on") == 0;
    } else if (strcmp(name, "UsersDefaultCountry") == 0) {
        server->country = value;
    } else if (strcmp(name, "UsersDefaultCurrency") == 0) {
        server->currency = value;
    } else if (strcmp(name, "UsersDefaultLocale") == 0) {
        server->locale = value;
    } else if (strcmp(name, "UsersAudit") == 0 || strcmp(name, "UsersEvents") == 0) {
        server->notes = server->notes || strcmp(value, "on") == 0;
    } else if (strcmp(name, "ServerName") == 0) {
        server->name = value;
    } else if (strcmp(name, "User") == 0) {
        r->settings->user = value;
    }
    return true;
}

/* Lines */

static void end_server(reader *r)
{
    if (r->server.conninfo) {
        APR_ARRAY_PUSH(r->settings->servers, users_effective_server) = r->server;
    }
    r->server = defaults;
}

static users_exit read_section(reader *r, const char *line)
{
    bool ends = line[1] == '/';
    const char *name = line + (ends ? 2 : 1);
    bool is_server = strncmp(name, "VirtualHost", strlen("VirtualHost")) == 0;

    if (!is_server && strncmp(name, "Location", strlen("Location")) != 0) {
        return complain(r, "there is no such section");
    }
    if (is_server) {
        end_server(r);
    }
    r->depth += ends ? -1 : 1;
    return r->depth < 0 ? complain(r, "a section ends that has not begun") : USERS_EXIT_DONE;
}

/* A directive with a # before it is at its default, without a value it has none. */
static users_exit read_line(reader *r, char *line)
{
    bool is_default = strncmp(line, "#Users", strlen("#Users")) == 0;
    char *name = line + is_default;
    char *value = name + strcspn(name, " ");

    if (!*line || (*line == '#' && !is_default)) {
        return USERS_EXIT_DONE;
    }
    if (*line == '<') {
        return read_section(r, line);
    }
    if (*value) {
        *value++ = '\0';
    }
    if (!apr_isalpha(*name)) {
        return complain(r, "there is no directive");
    }
    if (!*value) {
        return is_default ? USERS_EXIT_DONE : complain(r, "there is no value");
    }
    return set(r, name, unquote(r->pool, value)) ? USERS_EXIT_DONE
                                                 : complain(r, "the value can't be read");
}

users_exit users_effective_read(apr_pool_t *pool, const char *path, users_effective *settings)
{
    reader r = {.pool = pool, .path = path, .settings = settings, .server = defaults, .threads = 1};
    char *text = read_all(pool, path);
    users_exit status = USERS_EXIT_DONE;

    if (!text) {
        return USERS_EXIT_USAGE;
    }
    *settings =
        (users_effective){.servers = apr_array_make(pool, 4, sizeof(users_effective_server))};
    while (*text && status == USERS_EXIT_DONE) {
        char *line = text + strspn(text, " \t");
        size_t length = strcspn(line, "\n");

        text = line + length + (line[length] ? 1 : 0);
        line[length] = '\0';
        r.line++;
        status = read_line(&r, line);
    }
    if (status != USERS_EXIT_DONE) {
        return status;
    }
    end_server(&r);
    if (r.depth > 0) {
        return complain(&r, "a section has no end");
    }
    if (settings->servers->nelts == 0) {
        return complain(&r, "there is no UsersDB");
    }
    settings->children = (r.workers + r.threads - 1) / r.threads;
    return USERS_EXIT_DONE;
}
