/*
 * The figures of the module: one table of what is counted, and the memory that it is counted in.
 * What is shown of them (metrics, server-status) is made from the table alone.
 *
 * A figure has a series for each combination of its labels' values, which are written down here: no
 * user, token or address is among them. A series is one word, but a histogram's is a word for each
 * bucket and one for the sum. Words are changed atomically and without an order among them, so that
 * they may lie in memory that processes share.
 */
#ifndef USERS_CORE_FIGURES_H
#define USERS_CORE_FIGURES_H

#include "core/operation.h"

#include <apr.h>
#include <apr_time.h>
#include <stdatomic.h>
#include <stdbool.h>

#define USERS_STATUSES 25 /* that have a series; the first is that of all others */
#define USERS_CLASSES  5  /* of statuses: 1xx to 5xx */

typedef enum {
    USERS_AUTH_MISSING, /* no credentials */
    USERS_AUTH_TOKEN,
    USERS_AUTH_PASSWORD,
    USERS_AUTH_CLIENT, /* the secret of an application */
    USERS_AUTH_SCOPE,  /* the right credentials, for something else */
    USERS_AUTH_SUSPENDED,
    USERS_AUTH_KINDS
} users_auth_kind;

typedef enum {
    USERS_LIMIT_SECRETS, /* UsersMaxFailures */
    USERS_LIMIT_TOKENS,  /* UsersTokenRate */
    USERS_LIMIT_PROBES,  /* UsersProbeLimit */
    USERS_LIMITS
} users_limit;

typedef enum { USERS_HASH_COMPUTED, USERS_HASH_REFUSED, USERS_HASH_ENDS } users_hash_end;

typedef enum { USERS_CACHE_HIT, USERS_CACHE_MISS, USERS_CACHE_ENDS } users_cache_end;

/* The last label of what is of a database. */
typedef enum { USERS_ROLE_PRIMARY, USERS_ROLE_REPLICA, USERS_ROLES } users_role;

typedef enum { USERS_CONNECT_DONE, USERS_CONNECT_REFUSED, USERS_CONNECT_ENDS } users_connect_end;

typedef enum { USERS_BATCH_READS, USERS_BATCH_CHANGES, USERS_BATCH_KINDS } users_batch_kind;

/* Of a change that was not heard of at once. */
typedef enum { USERS_CHANGE_SETTLED, USERS_CHANGE_UNKNOWN, USERS_CHANGE_ENDS } users_change_end;

/* Of a look-up that a replica may answer. */
typedef enum {
    USERS_REPLICA_ANSWERED,
    USERS_REPLICA_UNSURE,  /* the primary was asked, too */
    USERS_REPLICA_AVOIDED, /* it is too old, or can't be reached */
    USERS_REPLICA_USES
} users_replica_use;

#define USERS_DURATION_BOUNDS   15
#define USERS_BATCH_BOUNDS      8
#define USERS_HISTOGRAM(bounds) ((bounds) + 2) /* words: those above all bounds, and the sum */

/* Every figure and how many words it has. */
/* clang-format off */
#define USERS_FIGURE_LIST(figure) \
    figure(BUILD, 1) \
    figure(CHILDREN, 1) \
    figure(REQUESTS, USERS_OPERATIONS * USERS_STATUSES) \
    figure(DURATIONS, USERS_OPERATIONS * USERS_CLASSES * USERS_HISTOGRAM(USERS_DURATION_BOUNDS)) \
    figure(AUTH_FAILURES, USERS_AUTH_KINDS) \
    figure(LOCKOUTS, 1) \
    figure(LIMITED, USERS_LIMITS) \
    figure(HASH_WAITING, 1) \
    figure(HASHES, USERS_HASH_ENDS) \
    figure(CACHE_LOOKUPS, USERS_CACHE_ENDS) \
    figure(POOL_MAX, USERS_ROLES) \
    figure(POOL_OPEN, USERS_ROLES) \
    figure(POOL_IDLE, USERS_ROLES) \
    figure(POOL_WAITING, USERS_ROLES) \
    figure(POOL_TIMEOUTS, USERS_ROLES) \
    figure(CONNECTS, USERS_CONNECT_ENDS * USERS_ROLES) \
    figure(OUTAGES, USERS_ROLES) \
    figure(AWAY, USERS_ROLES) \
    figure(BATCHES, USERS_BATCH_KINDS * USERS_HISTOGRAM(USERS_BATCH_BOUNDS)) \
    figure(UNHEARD, USERS_CHANGE_ENDS) \
    figure(REPLICA_LOOKUPS, USERS_REPLICA_USES) \
    figure(REPLICA_LAGS, USERS_HISTOGRAM(USERS_DURATION_BOUNDS))
/* clang-format on */

/* The first word of each; the others follow by the values of its labels, the last changing first.
 */
enum {
#define USERS_FIGURE_WORDS(name, words)                                                            \
    USERS_FIGURE_##name, USERS_FIGURE_##name##_LAST = USERS_FIGURE_##name + (words)-1,
    USERS_FIGURE_LIST(USERS_FIGURE_WORDS)
#undef USERS_FIGURE_WORDS
        USERS_FIGURE_SIZE
};

/* Zero at first. */
typedef struct {
    _Atomic(apr_uint64_t) words[USERS_FIGURE_SIZE];
} users_figures;

typedef enum { USERS_COUNTER, USERS_GAUGE, USERS_HISTOGRAM_TYPE } users_figure_type;

typedef struct {
    const char *name;
    const char *const *values;
    int count;
} users_label;

/* The bounds of a histogram: whole numbers of its unit, and as they are shown. */
typedef struct {
    int count;
    apr_uint64_t unit; /* so many are 1 in what is shown */
    const apr_uint64_t *bounds;
    const char *const *shown;
} users_scale;

typedef struct {
    const char *name;
    const char *help;
    users_figure_type type;
    int first; /* word */
    const users_label *labels[2];
    const users_scale *scale; /* a histogram's */
} users_figure;

/* In the order of their words; ends in one without a name. */
extern const users_figure users_figure_table[];

extern const users_scale users_scale_duration; /* microseconds, shown as seconds */
extern const users_scale users_scale_batch;

static inline void users_figures_add(users_figures *figures, int word, int change)
{
    atomic_fetch_add_explicit(&figures->words[word], (apr_uint64_t)change, memory_order_relaxed);
}

/* When something is so (users_now()), or 0: that figure tells how many have seen it just now. */
static inline void users_figures_note(users_figures *figures, int word, apr_time_t when)
{
    atomic_store_explicit(&figures->words[word], (apr_uint64_t)when, memory_order_relaxed);
}

/* A value more in the histogram that begins with this word. */
void users_figures_observe(users_figures *figures, int first, const users_scale *scale,
                           apr_uint64_t value);

/* A request for this was answered with a status, after so many microseconds. */
void users_figures_request(users_figures *figures, users_operation wanted, int answered,
                           apr_int64_t duration);

/* The process whose these were has ended: what it counts on is kept, what it had is no more. */
void users_figures_end(users_figures *figures);

/* Add them to a total: USERS_FIGURE_SIZE words. */
void users_figures_sum(users_figures *figures, apr_uint64_t *total);

/* A series of a figure. */
typedef struct {
    const users_figure *figure;
    const char *values[2];     /* of its labels */
    const apr_uint64_t *words; /* of a total */
} users_series;

/* What a counter or gauge is; of a histogram how many values there were. */
apr_uint64_t users_series_value(const users_series *series);

/* Is it to be shown? Of an operation only what there was. */
bool users_series_is_shown(const users_series *series);

/*
 * The series behind this one, whose words must be of the same total; one without a figure begins
 * with the first. False where there is none.
 */
bool users_series_next(users_series *series, const apr_uint64_t *total);

#endif
