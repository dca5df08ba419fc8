#include "auth/hash.h"

#include "config/settings.h"
#include "core/clock.h"
#include "core/episode.h"

#include <ap_mpm.h>
#include <apr_atomic.h>
#include <apr_md5.h>
#include <apr_strings.h>
#include <apr_thread_cond.h>
#include <apr_thread_mutex.h>
#include <apr_thread_pool.h>
#include <http_log.h>
#include <sched.h>

APLOG_USE_MODULE(users);

#define REST         9                     /* times as long as a wrong password took */
#define LONGEST_REST apr_time_from_sec(1)  /* a child waits for it at its end */
#define QUIET        apr_time_from_sec(10) /* without a refusal, and it is over */

/* This child's. */
static struct {
    apr_thread_pool_t *threads;
    apr_thread_mutex_t *mutex; /* guards the state of every comparison */
    apr_uint32_t waiting;      /* requests */
    apr_uint32_t crowd;        /* how many may wait */
    users_episode refusing;    /* as there are too many, or they wait too long */
} hashers;                     /* without threads until the child has begun */

/* A password to be compared with a hash. In memory of its request, which waits for it. */
typedef struct {
    const char *password;
    const char *hash;
    apr_thread_cond_t *computed;
    bool done;
    apr_status_t status; /* apr_password_validate()'s */
} comparison;

void users_hash_open(apr_pool_t *pchild, server_rec *s)
{
    int limit = users_settings_of(s)->hash_slots;
    int threads = 1;
    apr_status_t status;

    memset(&hashers, 0, sizeof(hashers));
    ap_mpm_query(AP_MPMQ_MAX_THREADS, &threads);
    hashers.crowd = (apr_uint32_t)(threads / 4 > limit ? threads / 4 : limit);
    status = apr_thread_mutex_create(&hashers.mutex, APR_THREAD_MUTEX_DEFAULT, pchild);
    if (status == APR_SUCCESS) {
        status = apr_thread_pool_create(&hashers.threads, 0, (apr_size_t)limit, pchild);
    }
    if (status != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, status, s, "UsersHashSlots: no threads can be had");
        hashers.threads = NULL;
    }
}

/* On Linux the policy is a thread's own, and one that gave way can't be promoted again. */
static void give_way(void)
{
#ifdef SCHED_IDLE
    sched_setscheduler(0, SCHED_IDLE, &(struct sched_param){0});
#endif
}

/* A task of the thread pool. */
static void *APR_THREAD_FUNC compute(apr_thread_t *thread, void *data)
{
    comparison *c = data;
    apr_time_t began = users_now();
    apr_interval_time_t rest;
    apr_status_t status;

    (void)thread;
    give_way();
    status = apr_password_validate(c->password, c->hash);
    apr_thread_mutex_lock(hashers.mutex);
    c->status = status;
    c->done = true;
    apr_thread_cond_signal(c->computed);
    apr_thread_mutex_unlock(hashers.mutex); /* from here on the comparison may be gone */
    if (status != APR_SUCCESS) {
        rest = REST * (users_now() - began);
        apr_sleep(rest < LONGEST_REST ? rest : LONGEST_REST);
    }
    return NULL;
}

static bool wait_for_answer(comparison *c, apr_interval_time_t patience)
{
    apr_time_t deadline = users_now() + patience;
    apr_interval_time_t left;
    bool done;

    apr_thread_mutex_lock(hashers.mutex);
    while (!c->done && (left = deadline - users_now()) > 0) {
        apr_thread_cond_timedwait(c->computed, hashers.mutex, left);
    }
    done = c->done;
    apr_thread_mutex_unlock(hashers.mutex);
    return done;
}

/* Have a thread compute it. At the end no thread knows of it any more, whatever came of that. */
static bool submit(comparison *c, apr_interval_time_t patience)
{
    bool done;

    if (apr_thread_pool_push(hashers.threads, compute, c, APR_THREAD_TASK_PRIORITY_NORMAL, c) !=
        APR_SUCCESS) {
        return false;
    }
    done = wait_for_answer(c, patience);
    if (!done) {
        apr_thread_pool_tasks_cancel(hashers.threads, c); /* waits for a thread that is at it */
    }
    return done;
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
    const users_settings *settings = users_settings_of(r->server);
    comparison *c = apr_pcalloc(r->pool, sizeof(*c));
    bool done = false;

    *c = (comparison){.password = password, .hash = hash};
    if (!hashers.threads || apr_thread_cond_create(&c->computed, r->pool) != APR_SUCCESS) {
        return false;
    }
    if (apr_atomic_inc32(&hashers.waiting) < hashers.crowd) {
        done = submit(c, settings->db_acquire_timeout);
    }
    apr_atomic_dec32(&hashers.waiting);
    *right = c->status == APR_SUCCESS;
    done = done && c->status != APR_ENOMEM;
    note(r, done);
    return done;
}
