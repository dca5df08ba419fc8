#include "config/directives.h"

#include "config/password.h"
#include "config/settings.h"
#include "core/account.h"
#include "core/address.h"
#include "core/duration.h"
#include "db/db.h"
#include "http/urls.h"

#include <apr_fnmatch.h>
#include <apr_lib.h>
#include <apr_strings.h>
#include <stdbool.h>
#include <stddef.h>

#define CONNECTIONS_LIMIT 1000
#define HOUR              (60 * 60)
#define DAY               (24 * HOUR)
#define BODY_LIMIT        (16 * 1024 * 1024)
#define COUNT_LIMIT       1000000

/* Setters: each returns NULL, or what is wrong, beginning with the directive's name. */

typedef struct {
    const char *word;
    int value;
} choice;

static const choice endpoints[] = {
    {"account", USERS_ENDPOINT_ACCOUNT},   {"token", USERS_ENDPOINT_TOKEN},
    {"revoke", USERS_ENDPOINT_REVOKE},     {"introspect", USERS_ENDPOINT_INTROSPECT},
    {"metadata", USERS_ENDPOINT_METADATA}, {NULL, 0}};
static const choice challenges[] = {
    {"both", USERS_CHALLENGE_BOTH}, {"bearer", USERS_CHALLENGE_BEARER}, {NULL, 0}};
static const choice duplicates[] = {
    {"create", USERS_DUPLICATES_CREATE}, {"conflict", USERS_DUPLICATES_CONFLICT}, {NULL, 0}};
static const choice flags[] = {{"on", USERS_FLAG_ON}, {"off", USERS_FLAG_OFF}, {NULL, 0}};
static const choice token_sources[] = {
    {"database", USERS_TOKENS_DATABASE}, {"environment", USERS_TOKENS_ENVIRONMENT}, {NULL, 0}};
static const choice token_users[] = {
    {"external_id", USERS_TOKEN_USER_EXTERNAL_ID}, {"id", USERS_TOKEN_USER_ID}, {NULL, 0}};

static const char *invalid(cmd_parms *cmd, const char *value, const char *valid)
{
    return apr_psprintf(cmd->pool, "%s: invalid value '%s': it takes %s", cmd->cmd->name, value,
                        valid);
}

/* What a directive of a server sets: a member of its settings, and the values that it takes. */
typedef struct {
    size_t offset;
    int least; /* of a duration: seconds; 0: a millisecond */
    int limit; /* of a duration: seconds; 0: a day */
    int bare;  /* of a duration: the most that is taken for seconds without a unit; 0: a minute */
    bool zero; /* a duration may be 0, which turns off what it is the duration of */
    const choice *choices;
    const char *field; /* of an account, whose codes it takes */
    const char *valid; /* which those are */
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

/*
 * 5000 for a time-out means milliseconds, as PostgreSQL's do, but would be more than an hour: a
 * number that can't be meant in seconds has to have its unit.
 */
static const char *set_duration(cmd_parms *cmd, void *location, const char *value)
{
    const member *m = cmd->info;
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

static const char *set_host_name(cmd_parms *cmd, void *location, const char *value)
{
    (void)location;
    if (!users_is_host_domain(value)) {
        return invalid(cmd, value, "a domain name with a dot, or localhost");
    }
    *(const char **)member_of(cmd) = value;
    return NULL;
}

/* The form alone: whether there is such a code is the database's to say. */
static const char *set_code(cmd_parms *cmd, void *location, const char *value)
{
    const member *m = cmd->info;

    (void)location;
    if (!users_account_is_code(m->field, value)) {
        return invalid(cmd, value, m->valid);
    }
    *(const char **)member_of(cmd) = value;
    return NULL;
}

/* A variable of r->subprocess_env, as modules and shells name them. */
static const char *set_variable(cmd_parms *cmd, void *location, const char *value)
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

static const char *set_issuer(cmd_parms *cmd, void *location, const char *value)
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

static const char *set_text(cmd_parms *cmd, void *location, const char *value)
{
    (void)location;
    if (!*value) {
        return invalid(cmd, value, "a value");
    }
    *(const char **)member_of(cmd) = value;
    return NULL;
}

/* What the virtual hosts of a process share is not one's to set. */

static const char *set_process_number(cmd_parms *cmd, void *location, const char *value)
{
    const char *fault = ap_check_cmd_context(cmd, GLOBAL_ONLY);

    return fault ? fault : set_number(cmd, location, value);
}

static const char *set_process_text(cmd_parms *cmd, void *location, const char *value)
{
    const char *fault = ap_check_cmd_context(cmd, GLOBAL_ONLY);

    return fault ? fault : set_text(cmd, location, value);
}

static const char *set_conninfo(cmd_parms *cmd, void *location, const char *value)
{
    const char *password;
    const char *program;

    (void)location;
    *(const char **)member_of(cmd) = value;
    if (!users_conninfo_read(value, "password", cmd->pool, &password)) {
        /* libpq's message may quote the string, which may hold a password */
        return apr_pstrcat(cmd->pool, cmd->cmd->name,
                           ": not a connection string of PostgreSQL: it takes keywords such as "
                           "\"host=db.example.com dbname=users\" or a URI postgresql://…",
                           NULL);
    }
    program = users_password_program(password);
    return program && *program != '/'
               ? apr_pstrcat(cmd->pool, cmd->cmd->name,
                             ": password=exec: takes the absolute path of a program", NULL)
               : NULL;
}

/* A replica is examined by itself: what one of several hosts has seen tells nothing of the others.
 */
static const char *set_replica(cmd_parms *cmd, void *location, const char *value)
{
    static const char *const keywords[] = {"host", "hostaddr"};
    const char *fault = set_conninfo(cmd, location, value);
    const char *hosts;

    for (size_t i = 0; !fault && i < sizeof(keywords) / sizeof(*keywords); i++) {
        if (users_conninfo_read(value, keywords[i], cmd->pool, &hosts) && hosts &&
            strchr(hosts, ',')) {
            fault = apr_pstrcat(cmd->pool, cmd->cmd->name, ": it takes one host", NULL);
        }
    }
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
    if (chosen == USERS_ENDPOINT_METADATA && !users_url_is_metadata(cmd->path)) {
        return apr_pstrcat(cmd->pool, cmd->cmd->name,
                           ": metadata is served at " USERS_METADATA_SERVER
                           " (RFC 8414) and at " USERS_METADATA_RESOURCE
                           " with an account's path behind it (RFC 9728)",
                           NULL);
    }
    location->endpoint = chosen;
    location->path = apr_pstrdup(cmd->pool, cmd->path);
    APR_ARRAY_PUSH(users_settings_of(cmd->server)->endpoints, users_location) = *location;
    return NULL;
}

#define SERVER_DIRECTIVE(name, setter, help, ...)                                                  \
    AP_INIT_TAKE1(name, setter, ((void *)&(const member){__VA_ARGS__}), RSRC_CONF, help)
#define MEMBER(name) .offset = offsetof(users_settings, name)

const command_rec users_directives[] = {
    AP_INIT_TAKE1("UsersEndpoint", set_endpoint, NULL, ACCESS_CONF,
                  "What this <Location> serves: account, token, revoke, introspect or metadata"),
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
                     MEMBER(db_exptime), .bare = HOUR),
    SERVER_DIRECTIVE("UsersDBAcquireTimeout", set_duration,
                     "How long a request waits for a connection, its set-up included (default: 3s)",
                     MEMBER(db_acquire_timeout)),
    SERVER_DIRECTIVE("UsersDBConnectTimeout", set_duration,
                     "How long one host of UsersDB may take to connect (default: 1s)",
                     MEMBER(db_connect_timeout)),
    SERVER_DIRECTIVE("UsersDBTimeout", set_duration, "How long a statement may take (default: 3s)",
                     MEMBER(db_timeout)),
    SERVER_DIRECTIVE("UsersDBPrepare", set_choice,
                     "Prepared statements and settings of the session: on (default), or off for a "
                     "transaction pooler",
                     MEMBER(db_prepare), .choices = flags),
    SERVER_DIRECTIVE("UsersRequestTimeout", set_duration,
                     "How long all the work of the database for one request may take (default: 5s)",
                     MEMBER(request_timeout)),
    SERVER_DIRECTIVE("UsersReadLanes", set_number,
                     "Statements of a child that serve concurrent reads together; 0: a statement "
                     "for each read (default: 1)",
                     MEMBER(read_lanes), 0, CONNECTIONS_LIMIT),
    SERVER_DIRECTIVE("UsersChangeLanes", set_number,
                     "Statements of a child that make concurrent changes together; 0: a statement "
                     "and a commit for each change (default: 1)",
                     MEMBER(change_lanes), 0, CONNECTIONS_LIMIT),
    SERVER_DIRECTIVE("UsersHostLanes", set_number,
                     "Statements of all children that one database server works on at once for "
                     "requests that share them; 0: any number (default: 2 or, if there are more, "
                     "the number of processors)",
                     MEMBER(host_lanes), 0, CONNECTIONS_LIMIT),
    SERVER_DIRECTIVE("UsersDBReplica", set_replica,
                     "Connection string of a replica of UsersDB, which GET reads from "
                     "(default: none)",
                     MEMBER(replica)),
    SERVER_DIRECTIVE("UsersReplicaLag", set_duration,
                     "How old what UsersDBReplica tells may be (default: 2s)", MEMBER(replica_lag)),
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
    SERVER_DIRECTIVE("UsersDefaultCountry", set_code,
                     "The country of a new account that names none (default: US)",
                     MEMBER(default_country), .field = "country",
                     .valid = "a code of ISO 3166-1 alpha-2, such as US"),
    SERVER_DIRECTIVE("UsersDefaultCurrency", set_code,
                     "The currency of a new account that names none (default: USD)",
                     MEMBER(default_currency), .field = "currency",
                     .valid = "a code of ISO 4217, such as USD"),
    SERVER_DIRECTIVE("UsersDefaultLocale", set_code,
                     "The locale of a new account that names none that is known (default: en)",
                     MEMBER(default_locale), .field = "locale",
                     .valid = "a language of ISO 639-1, with an optional script of ISO 15924 and "
                              "region of ISO 3166-1 or UN M.49, such as en, zh-Hant or pt-BR"),
    SERVER_DIRECTIVE("UsersDuplicates", set_choice,
                     "What the same provider pair does again: create (default) or conflict",
                     MEMBER(duplicates), .choices = duplicates),
    SERVER_DIRECTIVE("UsersIssuer", set_issuer,
                     "The URL that clients know the server by (default: none, as they ask)",
                     MEMBER(issuer)),
    SERVER_DIRECTIVE("UsersTokenLifetime", set_duration,
                     "How long a token is valid that a client asked for (default: 2h)",
                     MEMBER(token_lifetime), .least = 1, .limit = 365 * DAY, .bare = 30 * DAY),
    SERVER_DIRECTIVE("UsersTokenRate", set_number,
                     "Tokens that an application may have issued in a second; 0: any number "
                     "(default: 100)",
                     MEMBER(token_rate), 0, COUNT_LIMIT),
    SERVER_DIRECTIVE("UsersPasswordGrant", set_choice,
                     "May API credentials be exchanged for a token: on or off (default)",
                     MEMBER(password_grant), .choices = flags),
    SERVER_DIRECTIVE("UsersCache", set_process_text,
                     "The socache provider that children share, with its arguments behind a colon "
                     "(default: shmcb)",
                     MEMBER(cache_provider)),
    SERVER_DIRECTIVE("UsersHashSlots", set_process_number,
                     "Password hashes that a child computes at once (default: 1)",
                     MEMBER(hash_slots), 1, CONNECTIONS_LIMIT),
    SERVER_DIRECTIVE("UsersHashCost", set_process_number,
                     "The bcrypt cost of a wrong password, whatever its hash "
                     "(default: the highest that was seen)",
                     MEMBER(hash_cost), 4, 16),
    SERVER_DIRECTIVE("UsersCredentialCache", set_duration,
                     "How long a hashed password, once verified, need not be hashed again; 0: it "
                     "always is (default: 300s)",
                     MEMBER(credential_cache), .zero = true, .bare = HOUR),
    SERVER_DIRECTIVE("UsersMaxFailures", set_number,
                     "Wrong secrets of a name from one address, after which it gets a 429; 0: "
                     "any number (default: 10)",
                     MEMBER(max_failures), 0, COUNT_LIMIT),
    SERVER_DIRECTIVE("UsersFailureWindow", set_duration,
                     "For how long wrong secrets count (default: 10min)", MEMBER(failure_window),
                     .least = 1, .bare = HOUR),
    SERVER_DIRECTIVE("UsersProbeLimit", set_number,
                     "Addresses of others that an account may ask for in vain, after which changes "
                     "of its address get a 429; 0: any number (default: 20)",
                     MEMBER(probe_limit), 0, COUNT_LIMIT),
    SERVER_DIRECTIVE("UsersProbeWindow", set_duration,
                     "For how long such addresses count (default: 1h)", MEMBER(probe_window),
                     .least = 1, .bare = HOUR),
    SERVER_DIRECTIVE("UsersTokenSource", set_choice,
                     "Who verifies tokens: database (default) or environment", MEMBER(token_source),
                     .choices = token_sources),
    SERVER_DIRECTIVE("UsersTokenApplication", set_text,
                     "The client_id of the application that external tokens belong to "
                     "(default: none)",
                     MEMBER(token_application)),
    SERVER_DIRECTIVE("UsersTokenUser", set_choice,
                     "What an external token names its user by: external_id (default) or id",
                     MEMBER(token_user), .choices = token_users),
    SERVER_DIRECTIVE("UsersTokenUserVariable", set_variable,
                     "The variable with an external token's user (default: OAUTH2_CLAIM_sub)",
                     MEMBER(token_user_variable)),
    SERVER_DIRECTIVE("UsersTokenScopeVariable", set_variable,
                     "The variable with an external token's scopes (default: OAUTH2_CLAIM_scope)",
                     MEMBER(token_scope_variable)),
    {0}};
