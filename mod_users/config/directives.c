#include "config/directives.h"

#include "config/settings.h"
#include "config/values.h"

#include <stddef.h>

#define CONNECTIONS_LIMIT 1000
#define HOUR              (60 * 60)
#define DAY               (24 * HOUR)
#define BODY_LIMIT        (16 * 1024 * 1024)
#define COUNT_LIMIT       1000000

static const users_choice challenges[] = {
    {"both", USERS_CHALLENGE_BOTH}, {"bearer", USERS_CHALLENGE_BEARER}, {NULL, 0}};
static const users_choice duplicates[] = {
    {"create", USERS_DUPLICATES_CREATE}, {"conflict", USERS_DUPLICATES_CONFLICT}, {NULL, 0}};
static const users_choice flags[] = {{"on", USERS_FLAG_ON}, {"off", USERS_FLAG_OFF}, {NULL, 0}};
static const users_choice traces[] = {{"off", USERS_TRACE_OFF},
                                      {"propagate", USERS_TRACE_PROPAGATE},
                                      {"generate", USERS_TRACE_GENERATE},
                                      {NULL, 0}};
static const users_choice token_sources[] = {
    {"database", USERS_TOKENS_DATABASE}, {"environment", USERS_TOKENS_ENVIRONMENT}, {NULL, 0}};
static const users_choice token_users[] = {
    {"external_id", USERS_TOKEN_USER_EXTERNAL_ID}, {"id", USERS_TOKEN_USER_ID}, {NULL, 0}};

#define SERVER_DIRECTIVE(name, setter, help, ...)                                                  \
    AP_INIT_TAKE1(name, setter, ((void *)&(const users_member){__VA_ARGS__}), RSRC_CONF, help)
#define MEMBER(name)                                                                               \
    .write = _Generic(((users_settings *)0)->name,                                                 \
                      int: users_write_number,                                                     \
                      apr_interval_time_t: users_write_duration,                                   \
                      const char *: users_write_text,                                              \
                      const apr_array_header_t *: users_write_origins,                             \
                      default: users_write_choice),                                                \
    .offset = offsetof(users_settings, name)

const command_rec users_directives[] = {
    AP_INIT_TAKE1(
        "UsersEndpoint", users_set_endpoint, NULL, ACCESS_CONF,
        "What this <Location> serves: account, token, revoke, introspect, metadata, openapi, "
        "health or metrics"),
    SERVER_DIRECTIVE("UsersDB", users_set_conninfo,
                     "Connection string of the database: libpq keywords or a URI; the password may "
                     "be exec:/path/to/program",
                     MEMBER(conninfo), .is_conninfo = true),
    SERVER_DIRECTIVE("UsersDBKeep", users_set_number,
                     "Idle connections that a child keeps open (default: UsersDBMax)",
                     MEMBER(db_keep), 1, CONNECTIONS_LIMIT),
    SERVER_DIRECTIVE("UsersDBMax", users_set_number,
                     "Connections that a child may have (default: 4, under prefork 1)",
                     MEMBER(db_max), 1, CONNECTIONS_LIMIT),
    SERVER_DIRECTIVE("UsersDBExptime", users_set_duration,
                     "How long a connection may lie idle before it is closed (default: 300s)",
                     MEMBER(db_exptime), .bare = HOUR),
    SERVER_DIRECTIVE("UsersDBAcquireTimeout", users_set_duration,
                     "How long a request waits for a connection, its set-up included (default: 3s)",
                     MEMBER(db_acquire_timeout)),
    SERVER_DIRECTIVE("UsersDBConnectTimeout", users_set_duration,
                     "How long one host of UsersDB may take to connect (default: 1s)",
                     MEMBER(db_connect_timeout)),
    SERVER_DIRECTIVE("UsersDBTimeout", users_set_duration,
                     "How long a statement may take (default: 3s)", MEMBER(db_timeout)),
    SERVER_DIRECTIVE("UsersDBPrepare", users_set_choice,
                     "Prepared statements and settings of the session: on (default), or off for a "
                     "transaction pooler",
                     MEMBER(db_prepare), .choices = flags),
    SERVER_DIRECTIVE("UsersRequestTimeout", users_set_duration,
                     "How long all the work of the database for one request may take (default: 5s)",
                     MEMBER(request_timeout)),
    SERVER_DIRECTIVE("UsersReadLanes", users_set_number,
                     "Statements of a child that serve concurrent reads together; 0: a statement "
                     "for each read (default: 1)",
                     MEMBER(read_lanes), 0, CONNECTIONS_LIMIT),
    SERVER_DIRECTIVE("UsersChangeLanes", users_set_number,
                     "Statements of a child that make concurrent changes together; 0: a statement "
                     "and a commit for each change (default: 1)",
                     MEMBER(change_lanes), 0, CONNECTIONS_LIMIT),
    SERVER_DIRECTIVE("UsersHostLanes", users_set_number,
                     "Statements of all children that one database server works on at once for "
                     "requests that share them; 0: any number (default: 2 or, if there are more, "
                     "the number of processors)",
                     MEMBER(host_lanes), 0, CONNECTIONS_LIMIT),
    SERVER_DIRECTIVE("UsersDBReplica", users_set_replica,
                     "Connection string of the replicas of UsersDB, which GET reads from "
                     "(default: none)",
                     MEMBER(replica), .is_conninfo = true),
    SERVER_DIRECTIVE("UsersReplicaLag", users_set_duration,
                     "How old what UsersDBReplica tells may be (default: 2s)", MEMBER(replica_lag)),
    SERVER_DIRECTIVE("UsersTraceParent", users_set_choice,
                     "The trace of a request, by its traceparent: off (default), propagate, or "
                     "generate one where there is none",
                     MEMBER(trace_parent), .choices = traces),
    SERVER_DIRECTIVE("UsersChallenge", users_set_choice,
                     "What a 401 asks for: both (default) or bearer", MEMBER(challenge),
                     .choices = challenges),
    SERVER_DIRECTIVE("UsersRealm", users_set_realm, "The realm that a 401 names (default: users)",
                     MEMBER(realm)),
    AP_INIT_TAKE_ARGV("UsersCORSOrigin", users_set_origins,
                      ((void *)&(const users_member){MEMBER(cors_origins)}), RSRC_CONF,
                      "Origins whose pages may call the account and read the metadata, * for all, "
                      "or none (default)"),
    SERVER_DIRECTIVE("UsersHostName", users_set_host_name,
                     "The domain of generated email addresses (default: ServerName)",
                     MEMBER(host_name)),
    SERVER_DIRECTIVE("UsersMaxBody", users_set_number,
                     "The largest request body in octets (default: 65536)", MEMBER(max_body), 1,
                     BODY_LIMIT),
    SERVER_DIRECTIVE("UsersDefaultCountry", users_set_code,
                     "The country of a new account that names none (default: US)",
                     MEMBER(default_country), .field = "country",
                     .valid = "a code of ISO 3166-1 alpha-2, such as US"),
    SERVER_DIRECTIVE("UsersDefaultCurrency", users_set_code,
                     "The currency of a new account that names none (default: USD)",
                     MEMBER(default_currency), .field = "currency",
                     .valid = "a code of ISO 4217, such as USD"),
    SERVER_DIRECTIVE("UsersDefaultLocale", users_set_code,
                     "The locale of a new account that names none that is known (default: en)",
                     MEMBER(default_locale), .field = "locale",
                     .valid = "a language of ISO 639-1, with an optional script of ISO 15924 and "
                              "region of ISO 3166-1 or UN M.49, such as en, zh-Hant or pt-BR"),
    SERVER_DIRECTIVE("UsersDuplicates", users_set_choice,
                     "What the same provider pair does again: create (default) or conflict",
                     MEMBER(duplicates), .choices = duplicates),
    SERVER_DIRECTIVE("UsersAudit", users_set_choice,
                     "Write with each registration and change who made it: on or off (default)",
                     MEMBER(audit), .choices = flags),
    SERVER_DIRECTIVE("UsersEvents", users_set_choice,
                     "Write with each registration and change an event for usersctl event deliver: "
                     "on or off (default)",
                     MEMBER(events), .choices = flags),
    SERVER_DIRECTIVE("UsersIssuer", users_set_issuer,
                     "The URL that clients know the server by (default: none, as they ask)",
                     MEMBER(issuer)),
    SERVER_DIRECTIVE("UsersTokenLifetime", users_set_duration,
                     "How long a token is valid that a client asked for (default: 2h)",
                     MEMBER(token_lifetime), .least = 1, .limit = 365 * DAY, .bare = 30 * DAY),
    SERVER_DIRECTIVE("UsersTokenRate", users_set_number,
                     "Tokens that an application may have issued in a second; 0: any number "
                     "(default: 100)",
                     MEMBER(token_rate), 0, COUNT_LIMIT),
    SERVER_DIRECTIVE("UsersPasswordGrant", users_set_choice,
                     "May API credentials be exchanged for a token: on or off (default)",
                     MEMBER(password_grant), .choices = flags),
    SERVER_DIRECTIVE("UsersCache", users_set_process_text,
                     "The socache provider that children share, with its arguments behind a colon "
                     "(default: shmcb)",
                     MEMBER(cache_provider)),
    SERVER_DIRECTIVE("UsersHashSlots", users_set_process_number,
                     "Password hashes that a child computes at once (default: 1)",
                     MEMBER(hash_slots), 1, CONNECTIONS_LIMIT),
    SERVER_DIRECTIVE("UsersHashCost", users_set_process_number,
                     "The bcrypt cost of a wrong password, whatever its hash "
                     "(default: the highest that was seen)",
                     MEMBER(hash_cost), 4, 16),
    SERVER_DIRECTIVE("UsersCredentialCache", users_set_duration,
                     "How long a hashed password, once verified, need not be hashed again; 0: it "
                     "always is (default: 300s)",
                     MEMBER(credential_cache), .zero = true, .bare = HOUR),
    SERVER_DIRECTIVE("UsersMaxFailures", users_set_number,
                     "Wrong secrets of a name from one address, after which it gets a 429; 0: "
                     "any number (default: 10)",
                     MEMBER(max_failures), 0, COUNT_LIMIT),
    SERVER_DIRECTIVE("UsersFailureWindow", users_set_duration,
                     "For how long wrong secrets count (default: 10min)", MEMBER(failure_window),
                     .least = 1, .bare = HOUR),
    SERVER_DIRECTIVE("UsersProbeLimit", users_set_number,
                     "Addresses of others that an account may ask for in vain, after which changes "
                     "of its address get a 429; 0: any number (default: 20)",
                     MEMBER(probe_limit), 0, COUNT_LIMIT),
    SERVER_DIRECTIVE("UsersProbeWindow", users_set_duration,
                     "For how long such addresses count (default: 1h)", MEMBER(probe_window),
                     .least = 1, .bare = HOUR),
    SERVER_DIRECTIVE("UsersTokenSource", users_set_choice,
                     "Who verifies tokens: database (default) or environment", MEMBER(token_source),
                     .choices = token_sources),
    SERVER_DIRECTIVE("UsersTokenApplication", users_set_text,
                     "The client_id of the application that external tokens belong to "
                     "(default: none)",
                     MEMBER(token_application)),
    SERVER_DIRECTIVE("UsersTokenUser", users_set_choice,
                     "What an external token names its user by: external_id (default) or id",
                     MEMBER(token_user), .choices = token_users),
    SERVER_DIRECTIVE("UsersTokenUserVariable", users_set_variable,
                     "The variable with an external token's user (default: OAUTH2_CLAIM_sub)",
                     MEMBER(token_user_variable)),
    SERVER_DIRECTIVE("UsersTokenScopeVariable", users_set_variable,
                     "The variable with an external token's scopes (default: OAUTH2_CLAIM_scope)",
                     MEMBER(token_scope_variable)),
    {0}};
