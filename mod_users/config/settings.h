/*
 * The settings that directives fill and everyone reads.
 *
 * A server (the main one or a virtual host) has one users_settings; a <Location> has one
 * users_location. While the configuration is read, zero means "unset", which no directive
 * can set, so that a virtual host inherits what it leaves out and can set a default back. When the
 * configuration is complete, users_startup_check() fills in the defaults: from then on
 * nothing is unset but what may be absent.
 */
#ifndef USERS_CONFIG_SETTINGS_H
#define USERS_CONFIG_SETTINGS_H

#include <httpd.h> /* first: http_config.h needs it */

#include <http_config.h>
#include <stdbool.h>

/* r->handler of an endpoint */
#define USERS_HANDLER         "users-account"
#define USERS_OAUTH_HANDLER   "users-oauth"
#define USERS_OPENAPI_HANDLER "users-openapi"
#define USERS_HEALTH_HANDLER  "users-health"
#define USERS_METRICS_HANDLER "users-metrics"

typedef enum {
    USERS_ENDPOINT_UNSET,
    USERS_ENDPOINT_ACCOUNT,
    USERS_ENDPOINT_TOKEN,      /* RFC 6749 */
    USERS_ENDPOINT_REVOKE,     /* RFC 7009 */
    USERS_ENDPOINT_INTROSPECT, /* RFC 7662 */
    USERS_ENDPOINT_METADATA,   /* RFC 8414 or RFC 9728, as its path says */
    USERS_ENDPOINT_OPENAPI,    /* the description of all this */
    USERS_ENDPOINT_HEALTH,     /* live or ready, as its path says */
    USERS_ENDPOINT_METRICS     /* figures of all children */
} users_endpoint;

typedef enum {
    USERS_CHALLENGE_UNSET,
    USERS_CHALLENGE_BOTH,  /* a 401 asks for Bearer and Basic */
    USERS_CHALLENGE_BEARER /* a 401 asks for Bearer alone: a browser opens no dialog */
} users_challenge;

typedef enum {
    USERS_DUPLICATES_UNSET,
    USERS_DUPLICATES_CREATE,  /* a provider pair may register again: another account */
    USERS_DUPLICATES_CONFLICT /* it gets a 409 */
} users_duplicates;

typedef enum { USERS_FLAG_UNSET, USERS_FLAG_ON, USERS_FLAG_OFF } users_flag;

typedef enum {
    USERS_TOKENS_UNSET,
    USERS_TOKENS_DATABASE,   /* tokens are the database's, API credentials too */
    USERS_TOKENS_ENVIRONMENT /* another module has verified them and set variables */
} users_token_source;

typedef enum {
    USERS_TOKEN_USER_UNSET,
    USERS_TOKEN_USER_EXTERNAL_ID,
    USERS_TOKEN_USER_ID
} users_token_user;

typedef enum {
    USERS_TRACE_UNSET,
    USERS_TRACE_OFF,
    USERS_TRACE_PROPAGATE, /* a valid traceparent is taken */
    USERS_TRACE_GENERATE   /* ... and one is made where there is none */
} users_trace_parent;

#define USERS_NONE (-1) /* a zero that was set, since zero means unset */

/*
 * Every setting of a server, once: type, name, default. Defaults of zero are found by
 * users_startup_check() or stay absent.
 */
/* clang-format off */
#define USERS_SETTINGS(setting) \
    setting(const char *, conninfo, NULL) \
    setting(int, db_keep, 0) \
    setting(int, db_max, 0) \
    setting(apr_interval_time_t, db_exptime, apr_time_from_sec(300)) \
    setting(apr_interval_time_t, db_acquire_timeout, apr_time_from_sec(3)) \
    setting(apr_interval_time_t, db_connect_timeout, apr_time_from_sec(1)) \
    setting(apr_interval_time_t, db_timeout, apr_time_from_sec(3)) \
    setting(apr_interval_time_t, request_timeout, apr_time_from_sec(5)) \
    setting(users_flag, db_prepare, USERS_FLAG_ON) \
    setting(int, read_lanes, 1) \
    setting(int, change_lanes, 1) \
    setting(int, host_lanes, 0) \
    setting(const char *, replica, NULL) \
    setting(apr_interval_time_t, replica_lag, apr_time_from_sec(2)) \
    setting(users_trace_parent, trace_parent, USERS_TRACE_OFF) \
    setting(users_challenge, challenge, USERS_CHALLENGE_BOTH) \
    setting(const char *, realm, "users") \
    setting(const apr_array_header_t *, cors_origins, NULL) /* const char *; empty: none */ \
    setting(const char *, host_name, NULL) \
    setting(int, max_body, 64 * 1024) \
    setting(const char *, default_country, "US") \
    setting(const char *, default_currency, "USD") \
    setting(const char *, default_locale, "en") \
    setting(users_duplicates, duplicates, USERS_DUPLICATES_CREATE) \
    setting(users_flag, audit, USERS_FLAG_OFF) \
    setting(users_flag, events, USERS_FLAG_OFF) \
    setting(const char *, issuer, NULL) \
    setting(apr_interval_time_t, token_lifetime, apr_time_from_sec(2 * 60 * 60)) \
    setting(int, token_rate, 100) \
    setting(users_flag, password_grant, USERS_FLAG_OFF) \
    setting(const char *, cache_provider, "shmcb") \
    setting(int, hash_slots, 1) \
    setting(int, hash_cost, 0) \
    setting(apr_interval_time_t, credential_cache, apr_time_from_sec(300)) \
    setting(int, max_failures, 10) \
    setting(apr_interval_time_t, failure_window, apr_time_from_sec(10 * 60)) \
    setting(int, probe_limit, 20) \
    setting(apr_interval_time_t, probe_window, apr_time_from_sec(60 * 60)) \
    setting(users_token_source, token_source, USERS_TOKENS_DATABASE) \
    setting(const char *, token_application, NULL) \
    setting(users_token_user, token_user, USERS_TOKEN_USER_EXTERNAL_ID) \
    setting(const char *, token_user_variable, "OAUTH2_CLAIM_sub") \
    setting(const char *, token_scope_variable, "OAUTH2_CLAIM_scope")
/* clang-format on */

/* A <Location>. */
typedef struct {
    users_endpoint endpoint;
    const char *path; /* which r->uri must equal */
} users_location;

typedef struct users_settings {
#define USERS_SETTING_DECLARE(type, name, fallback) type name;
    USERS_SETTINGS(USERS_SETTING_DECLARE)
#undef USERS_SETTING_DECLARE

    apr_array_header_t *endpoints; /* users_location: those served here, main's among them */
    const apr_array_header_t *description; /* of the API: const char *, the parts of its text that
                                      stand between the places of the server's URL; NULL: no
                                      endpoint serves it */
    bool tls;                              /* a TLS module serves this server */
    const char *password;         /* what the program of password=exec: printed, empty where it
                                     failed at a reload; NULL where there is none */
    const char *replica_password; /* the same of UsersDBReplica */
    const struct users_settings *given; /* what was set, before defaults were filled in */
} users_settings;

extern module AP_MODULE_DECLARE_DATA users_module;

/* The module record's create and merge functions. */
void *users_settings_create(apr_pool_t *pool, server_rec *s);
void *users_settings_merge(apr_pool_t *pool, void *base, void *add);
void *users_location_create(apr_pool_t *pool, char *path);
void *users_location_merge(apr_pool_t *pool, void *base, void *add);

static inline users_settings *users_settings_of(const server_rec *s)
{
    return ap_get_module_config(s->module_config, &users_module);
}

static inline const users_location *users_location_of(const request_rec *r)
{
    return ap_get_module_config(r->per_dir_config, &users_module);
}

#endif
