#include "auth/hash.h"

#include "auth/workers.h"
#include "config/settings.h"
#include "core/clock.h"
#include "core/episode.h"
#include "http/figures.h"
#include "http/network.h"
#include "http/process.h"
#include "http/trace.h"

#include <ap_mpm.h>
#include <apr_atomic.h>
#include <apr_lib.h>
#include <apr_md5.h>
#include <http_core.h>
#include <http_log.h>
#include <openssl/crypto.h>
#include <sched.h>
#include <stdlib.h>

APLOG_USE_MODULE(users);

#define REST         9                     /* times as long as a wrong password took */
#define LONGEST_REST apr_time_from_sec(1)  /* of one wrong password */
#define LAST_WORDS   apr_time_from_sec(1)  /* for a hash under way when the child ends */
#define QUIET        apr_time_from_sec(10) /* without a refusal, and it is over */

/* This child's. Static, since a thread that is not through at the child's end still has it. */
static struct {
    users_workers workers;
    users_episode refusing; /* as there are too many, or they wait too long */
} hashers;

/*
 * Work is counted in bcrypts of the lowest cost: one of cost n is 2^(n - LOWEST_COST) of them. How
 * much a wrong password costs must not tell what hash there is, or that there is none.
 */
#define LOWEST_COST  4
#define HIGHEST_COST 14 /* almost a second: a hash that costs more tells itself apart */

static apr_uint32_t *highest; /* cost that was seen; all children's. NULL: UsersHashCost counts */
static apr_uint32_t fixed;    /* UsersHashCost */

/* A password to be compared with a hash, and copies of both behind it. */
typedef struct {
    users_job job; /* first */
    size_t size;
    users_attempt attempt; /* without what is the request's */
    bool own;              /* the name's, which the password may be right for */
    apr_status_t status;   /* apr_password_validate()'s */
    apr_uint32_t work;
    const char *hash;
    char password[];
} comparison;

/* On Linux the policy is a thread's own, and one that gave way can't be promoted again. */
static void give_way(void)
{
#ifdef SCHED_IDLE
    sched_setscheduler(0, SCHED_IDLE, &(struct sched_param){0});
#endif
}

static apr_status_t close_hashers(void *unused)
{
    (void)unused;
    users_workers_close(&hashers.workers, LAST_WORDS);
    return APR_SUCCESS;
}

void users_hash_open(apr_pool_t *pchild, server_rec *s)
{
    unsigned slots = (unsigned)users_settings_of(s)->hash_slots;
    int threads = 1;
    unsigned crowd;

    ap_mpm_query(AP_MPMQ_MAX_THREADS, &threads);
    crowd = (unsigned)threads / 4;
    memset(&hashers, 0, sizeof(hashers));
    users_workers_open(&hashers.workers, slots, crowd > slots ? crowd - slots : 1, give_way);
    apr_pool_cleanup_register(pchild, NULL, close_hashers, apr_pool_cleanup_null);
}

/* Cost */

static apr_uint32_t work_of(apr_uint32_t cost)
{
    return cost > LOWEST_COST ? 1u << (cost - LOWEST_COST) : 1;
}

/* 0 where it is no bcrypt, whose beginning is $2y$10$. */
static apr_uint32_t cost_of(const char *hash)
{
    apr_uint32_t cost;
    bool is_bcrypt = strncmp(hash, "$2", 2) == 0 && apr_isalpha(hash[2]) && hash[3] == '$' &&
                     apr_isdigit(hash[4]) && apr_isdigit(hash[5]);

    cost = is_bcrypt ? (apr_uint32_t)(10 * (hash[4] - '0') + hash[5] - '0') : 0;
    return cost < 31 ? cost : 31; /* as much as there is */
}

static apr_uint32_t cost_of_wrong(void)
{
    return highest ? apr_atomic_read32(highest) : fixed;
}

static void note_cost(apr_uint32_t cost)
{
    apr_uint32_t known = cost_of_wrong();

    cost = cost < HIGHEST_COST ? cost : HIGHEST_COST;
    while (highest && cost > known && apr_atomic_cas32(highest, cost, known) != known) {
        known = cost_of_wrong();
    }
}

void users_hash_note(const char *hash)
{
    note_cost(cost_of(hash));
}

int users_hash_start(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    (void)pconf;
    (void)plog;
    (void)ptemp;
    fixed = (apr_uint32_t)users_settings_of(s)->hash_cost;
    highest = NULL;
    if (!fixed && ap_state_query(AP_SQ_MAIN_STATE) != AP_SQ_MS_CREATE_PRE_CONFIG) {
        highest = users_process_shared(s, "hash cost 1", sizeof(*highest));
        highest = highest ? highest : users_process_memory(s, "hash cost 1", sizeof(*highest));
    }
    return OK;
}

/* On a thread of the workers' */

/* Microseconds of the processor that the thread has had. */
static apr_time_t time_worked(void)
{
    struct timespec worked;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &worked);
    return apr_time_from_sec(worked.tv_sec) + worked.tv_nsec / 1000;
}

static void work_in_vain(comparison *c, apr_uint32_t cost)
{
    char salt[] = "$2y$00$abcdefghijklmnopqrstuu";

    salt[4] = (char)('0' + cost / 10);
    salt[5] = (char)('0' + cost % 10);
    apr_password_validate(c->password, salt);
    c->work += work_of(cost);
}

/* Of a hash that does not say what it costs, by that of a bcrypt that does. */
static void measure(comparison *c, apr_time_t worked)
{
    apr_uint32_t cost = LOWEST_COST + 2;
    apr_time_t before = time_worked();
    apr_time_t unit;

    work_in_vain(c, cost);
    unit = (time_worked() - before) / work_of(cost) + 1;
    c->work += (apr_uint32_t)((worked + unit / 2) / unit);
    while (cost < HIGHEST_COST && work_of(cost) < c->work) {
        cost++;
    }
    note_cost(cost);
}

static apr_status_t compare(comparison *c)
{
    apr_uint32_t cost = cost_of(c->hash);
    apr_time_t before = time_worked();
    apr_status_t status = apr_password_validate(c->password, c->hash);

    if (cost) {
        c->work = work_of(cost);
    } else if (status != APR_SUCCESS || !c->own) {
        measure(c, time_worked() - before);
    }
    return status;
}

/* Each bit of what is missing is a bcrypt. */
static void work_off(comparison *c)
{
    apr_uint32_t wanted = work_of(cost_of_wrong());
    apr_uint32_t missing = wanted > c->work ? wanted - c->work : 0;

    for (apr_uint32_t cost = LOWEST_COST; missing; cost++, missing >>= 1) {
        if (missing & 1) {
            work_in_vain(c, cost);
        }
    }
}

/* A users_job's. */
static apr_interval_time_t compute(users_job *job)
{
    comparison *c = (comparison *)job;
    apr_time_t began = users_now();
    apr_interval_time_t rest;

    if (c->own) {
        c->status = compare(c);
        if (c->status == APR_SUCCESS && !users_lockout_holds(&c->attempt)) {
            return 0;
        }
    } else {
        if (highest && !cost_of(c->hash)) {
            compare(c); /* for what it costs */
        }
        c->status = APR_EMISMATCH;
    }
    work_off(c);
    rest = REST * (users_now() - began);
    return rest < LONGEST_REST ? rest : LONGEST_REST;
}

static void forget(users_job *job)
{
    comparison *c = (comparison *)job;

    OPENSSL_cleanse(c, c->size);
    free(c);
}

/* NULL without memory. */
static comparison *make_comparison(const request_rec *r, const users_attempt *attempt,
                                   const char *password, bool own, const char *hash)
{
    size_t length = strlen(password) + 1;
    size_t size = sizeof(comparison) + length + strlen(hash) + 1;
    comparison *c = calloc(1, size);

    if (c) {
        c->job = (users_job){.run = compute, .destroy = forget, .owner = users_network_of(r)};
        c->size = size;
        c->own = own;
        c->attempt = (users_attempt){.failures = attempt->failures, .most = attempt->most};
        c->hash = c->password + length;
        memcpy(c->password, password, length);
        memcpy(c->password + length, hash, strlen(hash) + 1);
    }
    return c;
}

/* Tell the log when requests begin to be refused, and when that is over. */
static void note(request_rec *r, bool computed)
{
    users_episode_summary summary;

    if (computed) {
        if (users_episode_pass(&hashers.refusing, 0, QUIET, &summary)) {
            users_log_request(
                r, APLOG_WARNING, 0,
                "hashed passwords are computed in time again after %.1f s, in which %u "
                "requests were refused",
                summary.seconds, summary.count);
        }
    } else if (users_episode_meet(&hashers.refusing, 0) == USERS_MET_FIRST) {
        users_log_request(
            r, APLOG_WARNING, 0,
            "more hashed passwords come than UsersHashSlots computes in time: requests "
            "with them are refused");
    }
}

bool users_hash_compare(request_rec *r, const users_attempt *attempt, const char *password,
                        bool own, const char *hash, bool *right)
{
    apr_time_t deadline = users_now() + users_settings_of(r->server)->db_acquire_timeout;
    comparison *c = make_comparison(r, attempt, password, own, hash);
    bool done = false;

    users_count(USERS_FIGURE_HASH_WAITING);
    if (c) {
        done = users_workers_run(&hashers.workers, &c->job, deadline) == USERS_WORK_DONE &&
               c->status != APR_ENOMEM;
        *right = done && c->status == APR_SUCCESS;
        if (done && !*right) {
            users_log_request(r, APLOG_TRACE3, 0,
                              "a wrong password has cost as much as %u bcrypts of cost %d", c->work,
                              LOWEST_COST);
        }
        users_workers_release(&hashers.workers, &c->job);
    }
    users_figures_add(users_figures_here(), USERS_FIGURE_HASH_WAITING, -1);
    users_count(USERS_FIGURE_HASHES + (done ? USERS_HASH_COMPUTED : USERS_HASH_REFUSED));
    note(r, done);
    return done;
}
