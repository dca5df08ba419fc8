#include "directives.h"

#include "settings.h"

#include <ap_listen.h>
#include <ap_mpm.h>
#include <apr_fnmatch.h>
#include <apr_hash.h>
#include <apr_lib.h>
#include <apr_strings.h>
#include <http_core.h>
#include <http_log.h>
#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>

APLOG_USE_MODULE(users);

#define CONNECTIONS_PER_CHILD 4 /* default of UsersDBMax under a threaded MPM */
#define CONNECTIONS_LIMIT     1000
#define DURATION_LIMIT        apr_time_from_sec(24 * 60 * 60)
#define BODY_LIMIT            (16 * 1024 * 1024)
#define EXEC_PREFIX           "exec:" /* of a password that a program prints */

/* Creation and merging */

void *users_settings_create(apr_pool_t *pool, server_rec *s)
{
    users_settings *settings = apr_pcalloc(pool, sizeof(*settings));

    (void)s;
    settings->paths = apr_array_make(pool, 1, sizeof(const char *));
    return settings;
}

void *users_settings_merge(apr_pool_t *pool, void *base, void *add)
{
    const users_settings *from = base;
    const users_settings *over = add;
    users_settings *merged = apr_pcalloc(pool, sizeof(*merged));

#define MERGE(type, name, fallback) merged->name = over->name ? over->name : from->name;
    USERS_SETTINGS(MERGE)
#undef MERGE
    merged->paths = apr_array_append(pool, from->paths, over->paths);
    return merged;
}

void *users_location_create(apr_pool_t *pool, char *path)
{
    (void)path;
    return apr_pcalloc(pool, sizeof(users_location));
}

void *users_location_merge(apr_pool_t *pool, void *base, void *add)
{
    const users_location *over = add;

    (void)pool;
    return over->endpoint ? add : base;
}

/* Setters: each returns NULL, or what is wrong, beginning with the directive's name. */

typedef struct {
    const char *word;
    int value;
} choice;

static const choice endpoints[] = {{"account", USERS_ENDPOINT_ACCOUNT}, {NULL, 0}};
static const choice challenges[] = {
    {"both", USERS_CHALLENGE_BOTH}, {"bearer", USERS_CHALLENGE_BEARER}, {NULL, 0}};
static const choice duplicates[] = {
    {"create", USERS_DUPLICATES_CREATE}, {"conflict", USERS_DUPLICATES_CONFLICT}, {NULL, 0}};

static const char *invalid(cmd_parms *cmd, const char *value, const char *valid)
{
    return apr_psprintf(cmd->pool, "%s: invalid value '%s': it takes %s", cmd->cmd->name, value,
                        valid);
}

/* What a directive of a server sets: a member of its settings, and the values that it takes. */
typedef struct {
    size_t offset;
    int least;
    int limit;
    const choice *choices;
} member;

static void *member_of(cmd_parms *cmd)
{
    return (char *)users_settings_of(cmd->server) + ((const member *)cmd->info)->offset;
}

static const char *choose(cmd_parms *cmd, const char *value, const choice *choices, int *chosen)
{
    const char *valid = "";

    for (const choice *c = choices; c->word; c++) {
        if (strcasecmp(value, c->word) == 0) {
            *chosen = c->value;
            return NULL;
        }
        valid = apr_pstrcat(cmd->pool, valid, *valid ? " or " : "", c->word, NULL);
    }
    return invalid(cmd, value, valid);
}

static const char *set_choice(cmd_parms *cmd, void *location, const char *value)
{
    (void)location;
    return choose(cmd, value, ((const member *)cmd->info)->choices, member_of(cmd));
}

static const char *set_number(cmd_parms *cmd, void *location, const char *value)
{
    const member *m = cmd->info;
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

static const char *set_duration(cmd_parms *cmd, void *location, const char *value)
{
    apr_interval_time_t duration;

    (void)location;
    if (!apr_isdigit(*value) || ap_timeout_parameter_parse(value, &duration, "s") != APR_SUCCESS ||
        duration <= 0 || duration > DURATION_LIMIT) {
        return invalid(cmd, value, "a duration from 1ms to 24h, such as 500ms, 5s or 2min");
    }
    *(apr_interval_time_t *)member_of(cmd) = duration;
    return NULL;
}

/* The realm stands in a quoted-string (RFC 9110 section 5.6.4), which we send unescaped. */
static const char *set_realm(cmd_parms *cmd, void *location, const char *value)
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

/*
 * A domain that an email address may have: letters, digits and hyphens between dots, or
 * "localhost". An IPv4 address is none: a top-level domain is not a number (RFC 3696 section 2).
 */
static bool is_mail_domain(const char *name)
{
    const char *top = strrchr(name, '.');

    if (!top) {
        return strcasecmp(name, "localhost") == 0;
    }
    if (strlen(name) > 190) { /* leaves 64 octets for the local part (RFC 5321 section 4.5.3.1) */
        return false;
    }
    for (const char *c = name; *c; c++) {
        bool label = apr_isalnum(*c) || *c == '-';

        if (!label && (*c != '.' || c == name || c[1] == '.' || c[1] == '\0')) {
            return false;
        }
    }
    return top[1 + strspn(top + 1, "0123456789")] != '\0';
}

static const char *set_host_name(cmd_parms *cmd, void *location, const char *value)
{
    (void)location;
    if (!is_mail_domain(value)) {
        return invalid(cmd, value, "a domain name with a dot, or localhost");
    }
    *(const char **)member_of(cmd) = value;
    return NULL;
}

/* The form alone: whether a currency or locale is known is the database's to say. */
static const char *set_currency(cmd_parms *cmd, void *location, const char *value)
{
    (void)location;
    if (strlen(value) != 3 || !apr_isupper(value[0]) || !apr_isupper(value[1]) ||
        !apr_isupper(value[2])) {
        return invalid(cmd, value, "a code of ISO 4217, such as USD");
    }
    *(const char **)member_of(cmd) = value;
    return NULL;
}

static const char *set_locale(cmd_parms *cmd, void *location, const char *value)
{
    size_t length = strlen(value);
    bool language = length >= 2 && apr_islower(value[0]) && apr_islower(value[1]);
    bool region = length == 5 && value[2] == '-' && apr_isupper(value[3]) && apr_isupper(value[4]);

    (void)location;
    if (!language || (length != 2 && !region)) {
        return invalid(cmd, value,
                       "a language of ISO 639-1 with an optional region of ISO 3166-1, "
                       "such as en or pt-BR");
    }
    *(const char **)member_of(cmd) = value;
    return NULL;
}

/* The value of a keyword in parsed options, NULL where it is absent. */
static const char *option(const PQconninfoOption *options, const char *keyword)
{
    for (; options->keyword; options++) {
        if (strcmp(options->keyword, keyword) == 0) {
            return options->val;
        }
    }
    return NULL;
}

static const char *set_conninfo(cmd_parms *cmd, void *location, const char *value)
{
    char *error = NULL;
    PQconninfoOption *options = PQconninfoParse(value, &error);
    const char *password;
    const char *fault = NULL;

    (void)location;
    if (!options) {
        /* libpq's message may quote the string, which may hold a password */
        fault = apr_pstrcat(cmd->pool, cmd->cmd->name,
                            ": not a connection string of PostgreSQL: it takes keywords such as "
                            "\"host=db.example.com dbname=users\" or a URI postgresql://…",
                            NULL);
    } else {
        password = option(options, "password");
        if (password && strncmp(password, EXEC_PREFIX, strlen(EXEC_PREFIX)) == 0 &&
            password[strlen(EXEC_PREFIX)] != '/') {
            fault = apr_pstrcat(cmd->pool, cmd->cmd->name,
                                ": password=exec: takes the absolute path of a program", NULL);
        }
    }
    PQconninfoFree(options);
    PQfreemem(error);
    *(const char **)member_of(cmd) = value;
    return fault;
}

/*
 * An endpoint is one path, which r->uri is compared with: a pattern has none. The access
 * checker runs before fixups and so can't see SetHandler; that is why this directive exists.
 */
static const char *set_endpoint(cmd_parms *cmd, void *mconfig, const char *value)
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
    location->endpoint = chosen;
    location->path = apr_pstrdup(cmd->pool, cmd->path);
    APR_ARRAY_PUSH(users_settings_of(cmd->server)->paths, const char *) = location->path;
    return NULL;
}

#define SERVER_DIRECTIVE(name, setter, help, ...)                                                  \
    AP_INIT_TAKE1(name, setter, ((void *)&(const member){__VA_ARGS__}), RSRC_CONF, help)
#define MEMBER(name) .offset = offsetof(users_settings, name)

const command_rec users_directives[] = {
    AP_INIT_TAKE1("UsersEndpoint", set_endpoint, NULL, ACCESS_CONF,
                  "What this <Location> serves: account"),
    SERVER_DIRECTIVE("UsersDB", set_conninfo,
                     "Connection string of the database: libpq keywords or a URI; the password may "
                     "be exec:/path/to/program",
                     MEMBER(conninfo)),
    SERVER_DIRECTIVE("UsersDBKeep", set_number,
                     "Idle connections that a child keeps open (default: UsersDBMax)",
                     MEMBER(db_keep), 1, CONNECTIONS_LIMIT),
    SERVER_DIRECTIVE("UsersDBMax", set_number,
                     "Connections that a child may have (default: 4, under prefork 1)",
                     MEMBER(db_max), 1, CONNECTIONS_LIMIT),
    SERVER_DIRECTIVE("UsersDBExptime", set_duration,
                     "How long a connection may lie idle before it is closed (default: 300s)",
                     MEMBER(db_exptime)),
    SERVER_DIRECTIVE("UsersDBAcquireTimeout", set_duration,
                     "How long a request waits for a connection, its set-up included (default: 3s)",
                     MEMBER(db_acquire_timeout)),
    SERVER_DIRECTIVE("UsersDBConnectTimeout", set_duration,
                     "How long one host of UsersDB may take to connect (default: 1s)",
                     MEMBER(db_connect_timeout)),
    SERVER_DIRECTIVE("UsersDBTimeout", set_duration, "How long a statement may take (default: 3s)",
                     MEMBER(db_timeout)),
    SERVER_DIRECTIVE("UsersReadLanes", set_number,
                     "Statements of a child that serve concurrent reads together; 0: a statement "
                     "for each read (default: 1)",
                     MEMBER(read_lanes), 0, CONNECTIONS_LIMIT),
    SERVER_DIRECTIVE("UsersChallenge", set_choice, "What a 401 asks for: both (default) or bearer",
                     MEMBER(challenge), .choices = challenges),
    SERVER_DIRECTIVE("UsersRealm", set_realm, "The realm that a 401 names (default: users)",
                     MEMBER(realm)),
    SERVER_DIRECTIVE("UsersHostName", set_host_name,
                     "The domain of generated email addresses (default: ServerName)",
                     MEMBER(host_name)),
    SERVER_DIRECTIVE("UsersMaxBody", set_number,
                     "The largest request body in octets (default: 65536)", MEMBER(max_body), 1,
                     BODY_LIMIT),
    SERVER_DIRECTIVE("UsersDefaultCurrency", set_currency,
                     "The currency of a new account that names none (default: USD)",
                     MEMBER(default_currency)),
    SERVER_DIRECTIVE("UsersDefaultLocale", set_locale,
                     "The locale of a new account that names none that is known (default: en)",
                     MEMBER(default_locale)),
    SERVER_DIRECTIVE("UsersDuplicates", set_choice,
                     "What the same provider pair does again: create (default) or conflict",
                     MEMBER(duplicates), .choices = duplicates),
    {0}};

/* Hooks */

static void fill_in_defaults(users_settings *settings, const server_rec *s)
{
    int threads = 1;

    ap_mpm_query(AP_MPMQ_MAX_THREADS, &threads);
    if (!settings->db_max) {
        settings->db_max = threads > 1 ? CONNECTIONS_PER_CHILD : 1;
    }
    if (!settings->db_keep) {
        settings->db_keep = settings->db_max;
    }
    if (!settings->host_name) {
        /* a ServerName that no address can have, such as a bare host or an IPv6 address */
        settings->host_name = is_mail_domain(s->server_hostname) ? s->server_hostname : "localhost";
    }
#define DEFAULT(type, name, fallback)                                                              \
    if (!settings->name) {                                                                         \
        settings->name = fallback;                                                                 \
    }
    USERS_SETTINGS(DEFAULT)
#undef DEFAULT
}

static const char *first_path(const users_settings *settings)
{
    return APR_ARRAY_IDX(settings->paths, 0, const char *);
}

int users_directives_check(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    (void)pconf;
    (void)plog;
    (void)ptemp;
    for (; s; s = s->next) {
        users_settings *settings = users_settings_of(s);

        fill_in_defaults(settings, s);
        if (settings->paths->nelts && !settings->conninfo) {
            ap_log_error(APLOG_MARK, APLOG_EMERG, 0, s,
                         "UsersEndpoint of <Location \"%s\"> needs a UsersDB in the server or "
                         "virtual host %s",
                         first_path(settings), s->server_hostname);
            return !OK;
        }
        if (settings->db_keep > settings->db_max) {
            ap_log_error(APLOG_MARK, APLOG_EMERG, 0, s,
                         "UsersDBKeep (%d) must not be above UsersDBMax (%d)", settings->db_keep,
                         settings->db_max);
            return !OK;
        }
    }
    return OK;
}

/*
 * Run the program of a conninfo's password=exec:PROGRAM, once for each conninfo: virtual
 * hosts that inherit it share what it printed. Returns false where it printed nothing.
 */
static bool run_password_program(users_settings *settings, apr_hash_t *printed, apr_pool_t *pool)
{
    PQconninfoOption *options = PQconninfoParse(settings->conninfo, NULL);
    const char *password = options ? option(options, "password") : NULL;
    bool good = true;

    if (password && strncmp(password, EXEC_PREFIX, strlen(EXEC_PREFIX)) == 0) {
        settings->password = apr_hash_get(printed, settings->conninfo, APR_HASH_KEY_STRING);
        if (!settings->password) {
            char **argv;

            if (apr_tokenize_to_argv(password + strlen(EXEC_PREFIX), &argv, pool) == APR_SUCCESS) {
                settings->password = ap_get_exec_line(pool, argv[0], (const char *const *)argv);
            }
            apr_hash_set(printed, settings->conninfo, APR_HASH_KEY_STRING, settings->password);
        }
        good = settings->password && *settings->password;
    }
    PQconninfoFree(options);
    return good;
}

static bool is_loopback(const apr_sockaddr_t *address)
{
    static const unsigned char v6[16] = {[15] = 1};

    if (address->family == APR_INET) {
        return *(const unsigned char *)address->ipaddr_ptr == 127; /* network byte order */
    }
    return address->family == AF_INET6 && memcmp(address->ipaddr_ptr, v6, sizeof(v6)) == 0;
}

/* Can nobody but this host reach the server? An address with a wildcard is as its listeners. */
static bool on_loopback_alone(const server_rec *s)
{
    for (const ap_listen_rec *l = ap_listeners; l; l = l->next) {
        bool reaches = !s->addrs; /* the main server answers on every listener */

        for (const server_addr_rec *a = s->addrs; a; a = a->next) {
            bool port = !a->host_port || a->host_port == l->bind_addr->port;

            reaches |= port && !is_loopback(a->host_addr);
        }
        if (reaches && !is_loopback(l->bind_addr)) {
            return false;
        }
    }
    return true;
}

int users_directives_note_tls(server_rec *s, apr_pool_t *pool, apr_array_header_t *certificates,
                              apr_array_header_t *keys)
{
    (void)pool;
    (void)certificates;
    (void)keys;
    users_settings_of(s)->tls = true;
    return DECLINED; /* we have no certificate to add */
}

int users_directives_start(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    apr_hash_t *printed = apr_hash_make(ptemp);

    (void)plog;
    if (ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG) {
        return OK; /* httpd reads its configuration twice at start: this is the rehearsal */
    }
    for (; s; s = s->next) {
        users_settings *settings = users_settings_of(s);

        if (settings->conninfo && !run_password_program(settings, printed, pconf)) {
            ap_log_error(APLOG_MARK, APLOG_EMERG, 0, s,
                         "UsersDB: the program of password=exec: printed no password");
            return !OK;
        }
        if (settings->paths->nelts && !settings->tls && !on_loopback_alone(s)) {
            ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                         "%s:%u serves %s without TLS: anyone on the way can read tokens and "
                         "passwords (RFC 6750 section 5.3)",
                         s->server_hostname, s->port, first_path(settings));
        }
    }
    return OK;
}
