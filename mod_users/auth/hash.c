#include "auth/hash.h"

#include "auth/workers.h"
#include "config/settings.h"
#include "core/clock.h"
#include "core/episode.h"
#include "http/network.h"

#include <ap_mpm.h>
#include <apr_md5.h>
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

/* A password to be compared with a hash, and copies of both behind it. */
typedef struct {
    users_job job; /* first */
    size_t size;
    apr_status_t status; /* apr_password_validate()'s */
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

/* A users_job's. */
static apr_interval_time_t compute(users_job *job)
{
    comparison *c = (comparison *)job;
    apr_time_t began = users_now();
    apr_interval_time_t rest;

    c->status = apr_password_validate(c->password, c->hash);
    if (c->status == APR_SUCCESS) {
        return 0;
    }
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
static comparison *make_comparison(const request_rec *r, const char *password, const char *hash)
{
    size_t length = strlen(password) + 1;
    size_t size = sizeof(comparison) + length + strlen(hash) + 1;
    comparison *c = calloc(1, size);

    if (c) {
        c->job = (users_job){.run = compute, .destroy = forget, .owner = users_network_of(r)};
        c->size = size;
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
            ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, r,
                          "hashed passwords are computed in time again after %.1f s, in which %u "
                          "requests were refused",
                          summary.seconds, summary.count);
        }
    } else if (users_episode_meet(&hashers.refusing, 0) == USERS_MET_FIRST) {
        ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, r,
                      "more hashed passwords come than UsersHashSlots computes in time: requests "
                      "with them are refused");
    }
}

bool users_hash_compare(request_rec *r, const char *password, const char *hash, bool *right)
{
    apr_time_t deadline = users_now() + users_settings_of(r->server)->db_acquire_timeout;
    comparison *c = make_comparison(r, password, hash);
    bool done = false;

    if (c) {
        done = users_workers_run(&hashers.workers, &c->job, deadline) == USERS_WORK_DONE &&
               c->status != APR_ENOMEM;
        *right = done && c->status == APR_SUCCESS;
        users_workers_release(&hashers.workers, &c->job);
    }
    note(r, done);
    return done;
}
