#include "db/capacity.h"

#include <apr_atomic.h>
#include <apr_strings.h>

#define QUIET         apr_time_from_sec(10) /* without a refusal, and it is over */
#define DEMAND_LENGTH 160
#define REMEDY(limit)                                                                              \
    "lower MaxRequestWorkers or UsersDBMax, raise " limit ", or put a pooler such as PgBouncer "   \
    "between"

/* Counting */

apr_size_t users_db_capacity_size(void)
{
    return sizeof(struct users_capacity);
}

void users_db_capacity_begin(struct users_capacity *capacity, int children)
{
    if (capacity) {
        apr_atomic_set32(&capacity->children, (apr_uint32_t)children);
        apr_atomic_set32(&capacity->each, 0);
    }
}

void users_db_capacity_add(struct users_capacity *capacity, int connections)
{
    if (capacity) {
        apr_atomic_add32(&capacity->each, (apr_uint32_t)connections);
    }
}

apr_uint32_t users_capacity_demand(struct users_capacity *capacity)
{
    return apr_atomic_read32(&capacity->children) * apr_atomic_read32(&capacity->each);
}

/* Telling */

static void describe_demand(struct users_capacity *capacity, char text[DEMAND_LENGTH])
{
    apr_snprintf(text, DEMAND_LENGTH,
                 "this httpd may open %u connections (children: %u, each up to %u by UsersDBMax)",
                 users_capacity_demand(capacity), apr_atomic_read32(&capacity->children),
                 apr_atomic_read32(&capacity->each));
}

void users_capacity_learn(const users_witness *witness, apr_uint32_t allowed, const char *limit)
{
    struct users_capacity *capacity = witness->settings->capacity;
    apr_uint32_t most = users_capacity_demand(capacity);

    apr_cpystrn(capacity->limit, limit, sizeof(capacity->limit));
    apr_atomic_set32(&capacity->allowed, allowed);
    if (most > allowed && apr_atomic_xchg32(&capacity->told, most) != most) {
        char demand[DEMAND_LENGTH];

        describe_demand(capacity, demand);
        users_log_at(
            witness->log, USERS_LOG_WARNING, 0,
            "%s: %s, but PostgreSQL allows %u (%s): under load requests will be refused: " REMEDY(
                "that limit"),
            witness->name, demand, allowed, limit);
    }
}

void users_capacity_exhausted(const users_witness *witness, const char *reason)
{
    struct users_capacity *capacity = witness->settings->capacity;
    apr_uint32_t allowed = apr_atomic_read32(&capacity->allowed);
    char demand[DEMAND_LENGTH];

    if (users_episode_meet(&capacity->full, 0) != USERS_MET_FIRST) {
        return;
    }
    describe_demand(capacity, demand);
    if (!allowed) {
        users_log_at(witness->log, USERS_LOG_ERR, 0,
                     "%s has no connection left: %s: %s, more than PostgreSQL has free: " REMEDY(
                         "max_connections"),
                     witness->name, reason, demand);
    } else if (users_capacity_demand(capacity) > allowed) {
        users_log_at(witness->log, USERS_LOG_ERR, 0,
                     "%s has no connection left: %s: %s, but PostgreSQL allows %u (%.*s): " REMEDY(
                         "that limit"),
                     witness->name, reason, demand, allowed, (int)sizeof(capacity->limit),
                     capacity->limit);
    } else {
        users_log_at(
            witness->log, USERS_LOG_ERR, 0,
            "%s has no connection left: %s: %s, and PostgreSQL allows %u (%.*s), but others "
            "have them, as pg_stat_activity tells: raise that limit",
            witness->name, reason, demand, allowed, (int)sizeof(capacity->limit), capacity->limit);
    }
}

void users_capacity_pass(const users_witness *witness)
{
    users_episode_summary summary;

    if (users_episode_pass(&witness->settings->capacity->full, 0, QUIET, &summary)) {
        users_log_at(witness->log, USERS_LOG_WARNING, 0,
                     "%s has connections left again after %.1f s, in which it refused %u",
                     witness->name, summary.seconds, summary.count);
    }
}
