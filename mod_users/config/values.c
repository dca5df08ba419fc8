#include "config/values.h"

#include "config/password.h"
#include "core/account.h"
#include "core/address.h"
#include "core/duration.h"
#include "core/origin.h"
#include "db/db.h"
#include "http/urls.h"

#include <apr_fnmatch.h>
#include <apr_lib.h>
#include <apr_strings.h>
#include <stdbool.h>

#define DAY (24 * 60 * 60)

/* Reading */

static const users_choice endpoints[] = {{"account", USERS_ENDPOINT_ACCOUNT},
                                         {"token", USERS_ENDPOINT_TOKEN},
                                         {"revoke", USERS_ENDPOINT_REVOKE},
                                         {"introspect", USERS_ENDPOINT_INTROSPECT},
                                         {"metadata", USERS_ENDPOINT_METADATA},
                                         {"openapi", USERS_ENDPOINT_OPENAPI},
                                         {"health", USERS_ENDPOINT_HEALTH},
                                         {"metrics", USERS_ENDPOINT_METRICS},
                                         {NULL, 0}};

static const char *invalid(cmd_parms *cmd, const char *value, const char *valid)
{
    return apr_psprintf(cmd->pool, "%s: invalid value '%s': it takes %s", cmd->cmd->name, value,
                        valid);
}

static void *member_of(cmd_parms *cmd)
{
    return (char *)users_settings_of(cmd->server) + ((const users_member *)cmd->info)->offset;
}

static const char *choose(cmd_parms *cmd, const char *value, const users_choice *choices,
                          int *chosen)
{
    const char *valid = "";

    for (const users_choice *c = choices; c->word; c++) {
        if (strcasecmp(value, c->word) == 0) {
            *chosen = c->value;
            return NULL;
        }
        valid = apr_pstrcat(cmd->pool, valid, *valid ? " or " : "", c->word, NULL);
    }
    return invalid(cmd, value, valid);
}

const char *users_set_choice(cmd_parms *cmd, void *location, const char *value)
{
    (void)location;
    return choose(cmd, value, ((const users_member *)cmd->info)->choices, member_of(cmd));
}

const char *users_set_number(cmd_parms *cmd, void *location, const char *value)
{
    const users_member *m = cmd->info;
    char *end;
    apr_int64_t number = apr_strtoi64(value, &end, 10);

    (void)location;
    if (!apr_isdigit(*value) || *end || number < m->least || number > m->limit) {
        return invalid(cmd, value,
                       apr_psprintf(cmd->pool, "a number from %d to %d", m->least, m->limit));
    }
    *(int *)member_of(cmd) = number ? (int)number : USERS_NONE;
    return NULL;
}

/*
 * 5000 for a time-out means milliseconds, as PostgreSQL's do, but would be more than an hour: a
 * number that can't be meant in seconds has to have its unit.
 */
const char *users_set_duration(cmd_parms *cmd, void *location, const char *value)
{
    const users_member *m = cmd->info;
    int limit = m->limit ? m->limit : DAY;
    apr_interval_time_t least = m->least ? apr_time_from_sec(m->least) : 1;
    apr_interval_time_t duration;
    bool has_unit;

    (void)location;
    if (!users_duration_parse(value, &duration, &has_unit) ||
        (duration < least && !(m->zero && duration == 0)) || duration > apr_time_from_sec(limit)) {
        return invalid(cmd, value,
                       apr_psprintf(cmd->pool, "%sa duration from %s to %dh, such as %s",
                                    m->zero ? "0 or " : "", m->least ? "1s" : "1ms", limit / 3600,
                                    m->least ? "5s, 2min or 1h" : "500ms, 5s or 2min"));
    }
    if (!has_unit && duration > apr_time_from_sec(m->bare ? m->bare : 60)) {
        return apr_psprintf(cmd->pool,
                            "%s: '%s' has no unit, and is too much for seconds: write %sms or %ss",
                            cmd->cmd->name, value, value, value);
    }
    *(apr_interval_time_t *)member_of(cmd) = duration ? duration : USERS_NONE;
    return NULL;
}

/* The realm stands in a quoted-string (RFC 9110 section 5.6.4), which we send unescaped. */
const char *users_set_realm(cmd_parms *cmd, void *location, const char *value)
{
    (void)location;
    for (const char *c = value; *c; c++) {
        if (!apr_isprint(*c) || *c == '"' || *c == '\\') {
            return invalid(cmd, value, "printable ASCII without quotes and backslashes");
        }
    }
    *(const char **)member_of(cmd) = value;
    return NULL;
}

const char *users_set_host_name(cmd_parms *cmd, void *location, const char *value)
{
    (void)location;
    if (!users_is_host_domain(value)) {
        return invalid(cmd, value, "a domain name with a dot, or localhost");
    }
    *(const char **)member_of(cmd) = value;
    return NULL;
}

/* The form alone: whether there is such a code is the database's to say. */
const char *users_set_code(cmd_parms *cmd, void *location, const char *value)
{
    const users_member *m = cmd->info;

    (void)location;
    if (!users_account_is_code(m->field, value)) {
        return invalid(cmd, value, m->valid);
    }
    *(const char **)member_of(cmd) = value;
    return NULL;
}

/* A variable of r->subprocess_env, as modules and shells name them. */
const char *users_set_variable(cmd_parms *cmd, void *location, const char *value)
{
    (void)location;
    for (const char *c = value; *c || c == value; c++) {
        if (!apr_isalpha(*c) && *c != '_' && (c == value || !apr_isdigit(*c))) {
            return invalid(cmd, value, "the name of an environment variable");
        }
    }
    *(const char **)member_of(cmd) = value;
    return NULL;
}

const char *users_set_issuer(cmd_parms *cmd, void *location, const char *value)
{
    (void)location;
    if (!users_url_can_be_issuer(value, cmd->pool)) {
        return invalid(cmd, value,
                       "a URL without user, query, fragment and final slash, such as "
                       "https://panel.example.com");
    }
    *(const char **)member_of(cmd) = value;
    return NULL;
}

/* Whom a browser names in another way would never be let in, so it is refused here. */
const char *users_set_origins(cmd_parms *cmd, void *location, int count, char *const values[])
{
    static const char valid[] =
        "none, or * for all, or origins as browsers write them, such as https://panel.example or "
        "http://localhost:8080: in lower case, without a default port, a path or a final slash";
    apr_array_header_t *origins = apr_array_make(cmd->pool, count, sizeof(const char *));
    const char *only = count == 1 ? values[0] : "";

    (void)location;
    if (count == 0) {
        return invalid(cmd, "", valid);
    }
    for (int i = 0; i < count && strcasecmp(only, "none") != 0; i++) {
        if (strcmp(only, "*") != 0 && !users_origin_is_serialised(values[i])) {
            return invalid(cmd, values[i], valid);
        }
        APR_ARRAY_PUSH(origins, const char *) = values[i];
    }
    *(const apr_array_header_t **)member_of(cmd) = origins;
    return NULL;
}

const char *users_set_text(cmd_parms *cmd, void *location, const char *value)
{
    (void)location;
    if (!*value) {
        return invalid(cmd, value, "a value");
    }
    *(const char **)member_of(cmd) = value;
    return NULL;
}

/* What the virtual hosts of a process share is not one's to set. */

const char *users_set_process_number(cmd_parms *cmd, void *location, const char *value)
{
    const char *fault = ap_check_cmd_context(cmd, GLOBAL_ONLY);

    return fault ? fault : users_set_number(cmd, location, value);
}

const char *users_set_process_text(cmd_parms *cmd, void *location, const char *value)
{
    const char *fault = ap_check_cmd_context(cmd, GLOBAL_ONLY);

    return fault ? fault : users_set_text(cmd, location, value);
}

const char *users_set_conninfo(cmd_parms *cmd, void *location, const char *value)
{
    const char *fault;
    const char *password;
    const char *program;

    (void)location;
    *(const char **)member_of(cmd) = value;
    fault = users_conninfo_fault(value, cmd->pool);
    if (fault) {
        return apr_pstrcat(cmd->pool, cmd->cmd->name, ": ", fault, NULL);
    }
    users_conninfo_read(value, "password", cmd->pool, &password);
    program = users_password_program(password);
    return program && *program != '/'
               ? apr_pstrcat(cmd->pool, cmd->cmd->name,
                             ": password=exec: takes the absolute path of a program", NULL)
               : NULL;
}

/* Each host is a replica of its own, which one that were named twice would be two of. */
const char *users_set_replica(cmd_parms *cmd, void *location, const char *value)
{
    const char *fault = users_set_conninfo(cmd, location, value);
    const apr_array_header_t *hosts;

    if (!fault) {
        fault = users_conninfo_misfit(value, cmd->pool);
        fault = fault ? apr_pstrcat(cmd->pool, cmd->cmd->name, ": ", fault, NULL) : NULL;
    }
    if (fault) {
        return fault;
    }
    hosts = users_conninfo_hosts(value, cmd->pool);
    if (hosts->nelts > USERS_REPLICAS_MAX) {
        return apr_psprintf(cmd->pool, "%s: it names %d hosts: it takes up to %d", cmd->cmd->name,
                            hosts->nelts, USERS_REPLICAS_MAX);
    }
    for (int i = 0; i < hosts->nelts; i++) {
        const char *host = APR_ARRAY_IDX(hosts, i, const char *);

        for (int k = 0; k < i; k++) {
            if (strcmp(host, APR_ARRAY_IDX(hosts, k, const char *)) == 0) {
                return apr_psprintf(cmd->pool, "%s: it names %s twice", cmd->cmd->name,
                                    users_conninfo_name(host, cmd->pool));
            }
        }
    }
    return NULL;
}

/*
 * An endpoint is one path, which r->uri is compared with: a pattern has none. The access
 * checker runs before fixups and so can't see SetHandler; that is why this directive exists.
 */
const char *users_set_endpoint(cmd_parms *cmd, void *mconfig, const char *value)
{
    users_location *location = mconfig;
    const ap_directive_t *section = cmd->directive->parent;
    int chosen = 0;
    const char *fault;

    if (!section || strcasecmp(section->directive, "<Location") != 0 || *section->args == '~' ||
        *cmd->path != '/' || apr_fnmatch_test(cmd->path)) {
        return apr_pstrcat(cmd->pool, cmd->cmd->name,
                           ": only allowed in a <Location> with a plain path, such as "
                           "<Location \"/api/users\">",
                           NULL);
    }
    fault = choose(cmd, value, endpoints, &chosen);
    if (fault) {
        return fault;
    }
    if (chosen == USERS_ENDPOINT_METADATA && !users_url_is_metadata(cmd->path)) {
        return apr_pstrcat(cmd->pool, cmd->cmd->name,
                           ": metadata is served at " USERS_METADATA_SERVER
                           " (RFC 8414) and at " USERS_METADATA_RESOURCE
                           " with an account's path behind it (RFC 9728)",
                           NULL);
    }
    if (chosen == USERS_ENDPOINT_HEALTH && !users_url_is_health(cmd->path)) {
        return apr_pstrcat(cmd->pool, cmd->cmd->name,
                           ": health is served at paths that end in " USERS_HEALTH_LIVE
                           " and in " USERS_HEALTH_READY,
                           NULL);
    }
    location->endpoint = chosen;
    location->path = apr_pstrdup(cmd->pool, cmd->path);
    APR_ARRAY_PUSH(users_settings_of(cmd->server)->endpoints, users_location) = *location;
    return NULL;
}

/* Writing */

static const char *word_of(const users_choice *choices, int value)
{
    for (; choices->word; choices++) {
        if (choices->value == value) {
            return choices->word;
        }
    }
    return NULL;
}

/* A program has a path that is no secret; its arguments may be. */
static const char *conceal(const char *conninfo, apr_pool_t *pool)
{
    const char *password = NULL;
    const char *program;

    if (!users_conninfo_read(conninfo, "password", pool, &password)) {
        return NULL;
    }
    program = users_password_program(password);
    return users_conninfo_conceal(
        conninfo,
        program ? apr_pstrcat(pool, USERS_PASSWORD_PROGRAM,
                              apr_pstrmemdup(pool, program, strcspn(program, " ")), NULL)
                : USERS_CONCEALED,
        pool);
}

const char *users_write_number(const void *value, const users_member *m, apr_pool_t *pool)
{
    int number = *(const int *)value;

    (void)m;
    return number ? apr_itoa(pool, number == USERS_NONE ? 0 : number) : NULL;
}

const char *users_write_duration(const void *value, const users_member *m, apr_pool_t *pool)
{
    apr_interval_time_t duration = *(const apr_interval_time_t *)value;

    (void)m;
    return duration ? users_duration_write(duration == USERS_NONE ? 0 : duration, pool) : NULL;
}

const char *users_write_choice(const void *value, const users_member *m, apr_pool_t *pool)
{
    (void)pool;
    return word_of(m->choices, *(const int *)value);
}

/* Quoted as a configuration has it (ap_getword_conf). */
const char *users_write_text(const void *value, const users_member *m, apr_pool_t *pool)
{
    const char *text = *(const char *const *)value;
    char *quoted;
    char *to;

    if (!text) {
        return NULL;
    }
    if (m->is_conninfo) {
        text = conceal(text, pool);
    }
    if (!text) {
        return "";
    }
    to = quoted = apr_palloc(pool, 2 * strlen(text) + 3);
    *to++ = '"';
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') {
            *to++ = '\\';
        }
        *to++ = *text;
    }
    *to++ = '"';
    *to = '\0';
    return quoted;
}

const char *users_write_origins(const void *value, const users_member *m, apr_pool_t *pool)
{
    const apr_array_header_t *origins = *(const apr_array_header_t *const *)value;

    (void)m;
    if (!origins) {
        return NULL;
    }
    return origins->nelts ? apr_array_pstrcat(pool, origins, ' ') : "none";
}

const char *users_write_endpoint(users_endpoint endpoint)
{
    return word_of(endpoints, (int)endpoint);
}
