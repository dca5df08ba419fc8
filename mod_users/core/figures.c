#include "core/figures.h"

#include "core/clock.h"

#define COUNT(array) ((int)(sizeof(array) / sizeof(*(array))))
#define RECENT       apr_time_from_sec(60)
#define LABEL(name, values)                                                                        \
    {                                                                                              \
        name, values, COUNT(values)                                                                \
    }

/* Labels */

static const char *const operation_values[USERS_OPERATIONS] = {
#define VALUE(name, label) [name] = (label),
    USERS_OPERATION_LIST(VALUE)
#undef VALUE
};

static const char *const status_values[USERS_STATUSES] = {
    "other", "200", "201", "204", "304", "400", "401", "403", "404", "405", "406", "408", "409",
    "411",   "412", "413", "415", "417", "422", "429", "500", "501", "502", "503", "504"};

/* By status - 100. */
static const unsigned char status_places[500] = {
    [100] = 1,  [101] = 2,  [104] = 3,  [204] = 4,  [300] = 5,  [301] = 6,  [303] = 7,  [304] = 8,
    [305] = 9,  [306] = 10, [308] = 11, [309] = 12, [311] = 13, [312] = 14, [313] = 15, [315] = 16,
    [317] = 17, [322] = 18, [329] = 19, [400] = 20, [401] = 21, [402] = 22, [403] = 23, [404] = 24};

static const char *const class_values[USERS_CLASSES] = {"1xx", "2xx", "3xx", "4xx", "5xx"};
static const char *const auth_values[USERS_AUTH_KINDS] = {
    [USERS_AUTH_MISSING] = "missing",   [USERS_AUTH_TOKEN] = "token",
    [USERS_AUTH_PASSWORD] = "password", [USERS_AUTH_CLIENT] = "client_secret",
    [USERS_AUTH_SCOPE] = "scope",       [USERS_AUTH_SUSPENDED] = "suspended"};
static const char *const limit_values[USERS_LIMITS] = {[USERS_LIMIT_SECRETS] = "wrong_secrets",
                                                       [USERS_LIMIT_TOKENS] = "token_rate",
                                                       [USERS_LIMIT_PROBES] = "probes"};
static const char *const hash_values[USERS_HASH_ENDS] = {
    [USERS_HASH_COMPUTED] = "computed", [USERS_HASH_REFUSED] = "refused"};
static const char *const cache_values[USERS_CACHE_ENDS] = {
    [USERS_CACHE_HIT] = "hit", [USERS_CACHE_MISS] = "miss"};
static const char *const role_values[USERS_ROLES] = {
    [USERS_ROLE_PRIMARY] = "primary", [USERS_ROLE_REPLICA] = "replica"};
static const char *const connect_values[USERS_CONNECT_ENDS] = {
    [USERS_CONNECT_DONE] = "connected", [USERS_CONNECT_REFUSED] = "failed"};
static const char *const batch_values[USERS_BATCH_KINDS] = {
    [USERS_BATCH_READS] = "reads", [USERS_BATCH_CHANGES] = "changes"};
static const char *const change_values[USERS_CHANGE_ENDS] = {
    [USERS_CHANGE_SETTLED] = "settled", [USERS_CHANGE_UNKNOWN] = "unknown"};
static const char *const use_values[USERS_REPLICA_USES] = {[USERS_REPLICA_ANSWERED] = "answered",
                                                           [USERS_REPLICA_UNSURE] = "unsure",
                                                           [USERS_REPLICA_AVOIDED] = "avoided"};
static const char *const version_values[] = {USERS_VERSION};

static const users_label operation = LABEL("operation", operation_values);
static const users_label status = LABEL("status", status_values);
static const users_label class = LABEL("status", class_values);
static const users_label auth = LABEL("kind", auth_values);
static const users_label limit = LABEL("limit", limit_values);
static const users_label hash = LABEL("result", hash_values);
static const users_label cache = LABEL("result", cache_values);
static const users_label role = LABEL("role", role_values);
static const users_label connected = LABEL("result", connect_values);
static const users_label batch = LABEL("kind", batch_values);
static const users_label change = LABEL("result", change_values);
static const users_label use = LABEL("result", use_values);
static const users_label version = LABEL("version", version_values);

/* Histograms */

static const apr_uint64_t durations[USERS_DURATION_BOUNDS] = {
    250,    500,    1000,   2500,    5000,    10000,   25000,   50000,
    100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000};
static const char *const durations_shown[USERS_DURATION_BOUNDS] = {
    "0.00025", "0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05",
    "0.1",     "0.25",   "0.5",   "1",      "2.5",   "5",    "10"};
const users_scale users_scale_duration = {USERS_DURATION_BOUNDS, 1000000, durations,
                                          durations_shown};

static const apr_uint64_t batches[USERS_BATCH_BOUNDS] = {1, 2, 4, 8, 16, 32, 64, 128};
static const char *const batches_shown[USERS_BATCH_BOUNDS] = {"1",  "2",  "4",  "8",
                                                              "16", "32", "64", "128"};
const users_scale users_scale_batch = {USERS_BATCH_BOUNDS, 1, batches, batches_shown};

/* The table */

#define FIGURE(word, kind, title, ...)                                                             \
    {                                                                                              \
        .first = USERS_FIGURE_##word, .type = (kind), .name = (title), .help = __VA_ARGS__         \
    }

const users_figure users_figure_table[] = {
    FIGURE(BUILD, USERS_GAUGE, "users_build_info", "The version of mod_users; always 1.",
           .labels = {&version}),
    FIGURE(CHILDREN, USERS_GAUGE, "users_children", "Children of httpd that run."),
    FIGURE(REQUESTS, USERS_COUNTER, "users_requests_total",
           "Requests to endpoints of mod_users, by operation and status.",
           .labels = {&operation, &status}),
    FIGURE(DURATIONS, USERS_HISTOGRAM_TYPE, "http_server_request_duration_seconds",
           "Seconds from the header fields of a request to its entry in the access log.",
           .labels = {&operation, &class}, .scale = &users_scale_duration),
    FIGURE(AUTH_FAILURES, USERS_COUNTER, "users_auth_failures_total",
           "Requests refused for their credentials, by what was wrong.", .labels = {&auth}),
    FIGURE(LOCKOUTS, USERS_COUNTER, "users_lockouts_total",
           "Pairs of a name and an address that UsersMaxFailures locked out."),
    FIGURE(LIMITED, USERS_COUNTER, "users_limited_total",
           "Requests refused with 429, by the limit that they met.", .labels = {&limit}),
    FIGURE(HASH_WAITING, USERS_GAUGE, "users_hash_waiting",
           "Requests that wait for the hash of a password, or have it computed."),
    FIGURE(HASHES, USERS_COUNTER, "users_hashes_total",
           "Hashes of passwords that requests asked for, by what came of it.", .labels = {&hash}),
    FIGURE(CACHE_LOOKUPS, USERS_COUNTER, "users_credential_cache_lookups_total",
           "Hashed passwords looked up in UsersCache.", .labels = {&cache}),
    FIGURE(POOL_MAX, USERS_GAUGE, "users_db_pool_max",
           "Connections that the children may have open.", .labels = {&role}),
    FIGURE(POOL_OPEN, USERS_GAUGE, "users_db_pool_open", "Connections that the children have open.",
           .labels = {&role}),
    FIGURE(POOL_IDLE, USERS_GAUGE, "users_db_pool_idle", "Open connections that no request uses.",
           .labels = {&role}),
    FIGURE(POOL_WAITING, USERS_GAUGE, "users_db_pool_waiting",
           "Statements that wait for a connection.", .labels = {&role}),
    FIGURE(POOL_TIMEOUTS, USERS_COUNTER, "users_db_acquire_timeouts_total",
           "Requests that got no connection within UsersDBAcquireTimeout.", .labels = {&role}),
    FIGURE(CONNECTS, USERS_COUNTER, "users_db_connects_total",
           "Attempts to open a connection, by what came of them.", .labels = {&connected, &role}),
    FIGURE(OUTAGES, USERS_COUNTER, "users_db_outages_total",
           "Times that a child could not connect any more.", .labels = {&role}),
    FIGURE(AWAY, USERS_GAUGE, "users_db_outage_children",
           "Children that could not connect within the last minute, nor have since.",
           .labels = {&role}),
    FIGURE(BATCHES, USERS_HISTOGRAM_TYPE, "users_db_batch_size",
           "Requests that shared a statement.", .labels = {&batch}, .scale = &users_scale_batch),
    FIGURE(UNHEARD, USERS_COUNTER, "users_db_unheard_changes_total",
           "Changes whose outcome was not heard at once, by whether it was found out.",
           .labels = {&change}),
    FIGURE(REPLICA_LOOKUPS, USERS_COUNTER, "users_db_replica_lookups_total",
           "Look-ups that UsersDBReplica may answer, by what came of that.", .labels = {&use}),
    FIGURE(REPLICA_LAGS, USERS_HISTOGRAM_TYPE, "users_db_replica_lag_seconds",
           "Seconds that UsersDBReplica was behind, each time that it was looked at.",
           .scale = &users_scale_duration),
    {0}};

/* Counting */

void users_figures_observe(users_figures *figures, int first, const users_scale *scale,
                           apr_uint64_t value)
{
    int bucket = 0;

    while (bucket < scale->count && value > scale->bounds[bucket]) {
        bucket++;
    }
    users_figures_add(figures, first + bucket, 1);
    atomic_fetch_add_explicit(&figures->words[first + scale->count + 1], value,
                              memory_order_relaxed);
}

void users_figures_request(users_figures *figures, users_operation wanted, int answered,
                           apr_int64_t duration)
{
    bool known = answered >= 100 && answered < 100 + COUNT(status_places);
    int place = known ? status_places[answered - 100] : 0;
    int series = (int)wanted * USERS_CLASSES + (known ? answered / 100 - 1 : USERS_CLASSES - 1);

    users_figures_add(figures, USERS_FIGURE_REQUESTS + (int)wanted * USERS_STATUSES + place, 1);
    users_figures_observe(figures,
                          USERS_FIGURE_DURATIONS + series * USERS_HISTOGRAM(USERS_DURATION_BOUNDS),
                          &users_scale_duration, duration > 0 ? (apr_uint64_t)duration : 0);
}

/* Words */

static int label_count(const users_label *label)
{
    return label ? label->count : 1;
}

static int words_of_series(const users_figure *figure)
{
    return figure->scale ? USERS_HISTOGRAM(figure->scale->count) : 1;
}

static int words_of(const users_figure *figure)
{
    return label_count(figure->labels[0]) * label_count(figure->labels[1]) *
           words_of_series(figure);
}

void users_figures_end(users_figures *figures)
{
    for (const users_figure *figure = users_figure_table; figure->name; figure++) {
        for (int i = 0; figure->type == USERS_GAUGE && i < words_of(figure); i++) {
            atomic_store_explicit(&figures->words[figure->first + i], 0, memory_order_relaxed);
        }
    }
}

/* A child that nobody asks for anything does not see that its database is back. */
static apr_uint64_t is_away(apr_uint64_t when)
{
    return when && users_now() - (apr_time_t)when < RECENT;
}

void users_figures_sum(users_figures *figures, apr_uint64_t *total)
{
    for (int i = 0; i < USERS_FIGURE_SIZE; i++) {
        apr_uint64_t word = atomic_load_explicit(&figures->words[i], memory_order_relaxed);

        total[i] += i >= USERS_FIGURE_AWAY && i <= USERS_FIGURE_AWAY_LAST ? is_away(word) : word;
    }
}

/* Series */

apr_uint64_t users_series_value(const users_series *series)
{
    const users_scale *scale = series->figure->scale;
    apr_uint64_t value = 0;

    if (series->figure->first == USERS_FIGURE_BUILD) {
        return 1;
    }
    for (int i = 0; i <= (scale ? scale->count : 0); i++) {
        value += series->words[i];
    }
    /* parts are read one after the other: what one child has counted up another may count down */
    return series->figure->type == USERS_GAUGE && (apr_int64_t)value < 0 ? 0 : value;
}

bool users_series_is_shown(const users_series *series)
{
    return series->figure->labels[0] != &operation || users_series_value(series) > 0;
}

static void set_values(users_series *series, int index)
{
    const users_label *const *labels = series->figure->labels;
    int last = label_count(labels[1]);

    series->values[0] = labels[0] ? labels[0]->values[index / last] : NULL;
    series->values[1] = labels[1] ? labels[1]->values[index % last] : NULL;
}

bool users_series_next(users_series *series, const apr_uint64_t *total)
{
    int word = 0;

    if (!series->figure) {
        series->figure = users_figure_table;
    } else {
        word = (int)(series->words - total) + words_of_series(series->figure);
        if (word >= series->figure->first + words_of(series->figure)) {
            series->figure++;
        }
    }
    if (!series->figure->name) {
        return false;
    }
    series->words = total + word;
    set_values(series, (word - series->figure->first) / words_of_series(series->figure));
    return true;
}
