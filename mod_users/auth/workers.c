#include "auth/workers.h"

#include "core/clock.h"

#include <signal.h>
#include <string.h>

#define OWED_MOST apr_time_from_sec(5) /* of rest, until all rest and not the owners alone */

void users_workers_open(users_workers *workers, unsigned limit, unsigned room, void (*begin)(void))
{
    pthread_condattr_t attributes;

    memset(workers, 0, sizeof(*workers));
    workers->begin = begin;
    workers->limit = limit;
    workers->room = room;
    pthread_mutex_init(&workers->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC); /* that of users_now() */
    pthread_cond_init(&workers->wanted, &attributes);
    pthread_cond_init(&workers->left, &attributes);
    pthread_condattr_destroy(&attributes);
}

/* All below but what says otherwise: with the mutex held. */

static void wait_until(users_workers *workers, pthread_cond_t *condition, apr_time_t until)
{
    struct timespec end = {.tv_sec = apr_time_sec(until), .tv_nsec = apr_time_usec(until) * 1000};

    pthread_cond_timedwait(condition, &workers->mutex, &end);
}

/* Rest */

/* Until when an owner rests; 0: it does not. */
static apr_time_t owner_rests(const users_workers *workers, apr_uint64_t owner)
{
    apr_time_t until = 0;

    for (int i = 0; i < USERS_RESTING_MOST; i++) {
        if (workers->resting[i].owner == owner && workers->resting[i].until > until) {
            until = workers->resting[i].until;
        }
    }
    return until;
}

/*
 * Its owner alone rests, lest others wait for that; but where many owners keep on owing rest, all
 * do: together they take no more of the processor than one of them may.
 */
static void note_rest(users_workers *workers, apr_uint64_t owner, apr_interval_time_t rest)
{
    apr_time_t now = users_now();
    users_resting *place = workers->resting;

    if (rest <= 0) {
        return;
    }
    for (int i = 1; i < USERS_RESTING_MOST; i++) {
        if (workers->resting[i].until < place->until) {
            place = &workers->resting[i];
        }
    }
    *place = (users_resting){owner, now + rest};
    workers->owed = (workers->owed > now ? workers->owed : now) + rest / (int)workers->limit;
}

/* When a job may begin. */
static apr_time_t may_begin(const users_workers *workers, const users_job *job)
{
    apr_time_t own = owner_rests(workers, job->owner);
    apr_time_t of_all = workers->owed - OWED_MOST;

    return own > of_all ? own : of_all;
}

/* The queue */

static void leave_list(users_workers *workers, users_job *job)
{
    users_job **link = &workers->first;

    while (*link != job) {
        link = &(*link)->next;
    }
    *link = job->next;
}

static void enter_list(users_workers *workers, users_job *job)
{
    users_job **link = &workers->first;

    while (*link) {
        link = &(*link)->next;
    }
    job->next = NULL;
    *link = job;
}

/* True for the last reference: the caller frees the job, without the mutex. */
static bool let_go(users_job *job)
{
    return --job->references == 0;
}

static void dispose(users_job *job)
{
    pthread_cond_destroy(&job->ended);
    job->destroy(job);
}

/* No thread will take it any more. Its requester has it still. */
static void unqueue(users_workers *workers, users_job *job)
{
    leave_list(workers, job);
    workers->queued--;
    let_go(job);
}

static void refuse(users_workers *workers, users_job *job)
{
    unqueue(workers, job);
    job->state = USERS_JOB_REFUSED;
    pthread_cond_signal(&job->ended);
}

/* Jobs take turns by their rounds, and an owner has one job in each. */
static apr_uint64_t next_round(const users_workers *workers, apr_uint64_t owner)
{
    apr_uint64_t round = workers->round;

    for (const users_job *job = workers->first; job; job = job->next) {
        if (job->owner == owner && job->round >= round) {
            round = job->round + 1;
        }
    }
    return round;
}

/* Where there is none left, whoever has the most in the queue makes room for who has less. */
static bool make_room(users_workers *workers, apr_uint64_t round)
{
    users_job *last = NULL;

    if (workers->queued < workers->room) {
        return true;
    }
    for (users_job *job = workers->first; job; job = job->next) {
        if (job->state == USERS_JOB_QUEUED && (!last || job->round >= last->round)) {
            last = job;
        }
    }
    if (!last || last->round <= round) {
        return false;
    }
    refuse(workers, last);
    return true;
}

/* The job whose turn it is; or NULL, and from when on there may be one: 0 where none is queued. */
static users_job *find_next(const users_workers *workers, apr_time_t *from)
{
    apr_time_t now = users_now();
    users_job *found = NULL;

    *from = 0;
    for (users_job *job = workers->first; job; job = job->next) {
        apr_time_t begin;

        if (job->state != USERS_JOB_QUEUED) {
            continue;
        }
        begin = may_begin(workers, job);
        if (begin > now) {
            *from = *from && *from < begin ? *from : begin;
        } else if (!found || job->round < found->round) {
            found = job;
        }
    }
    return found;
}

/* Threads */

/* Takes the mutex; gives it back for the work itself. */
static void work(users_workers *workers, users_job *job)
{
    apr_interval_time_t rest;
    bool last;

    job->state = USERS_JOB_RUNNING;
    workers->queued--;
    if (job->round > workers->round) {
        workers->round = job->round;
    }
    pthread_mutex_unlock(&workers->mutex);
    rest = job->run(job);
    pthread_mutex_lock(&workers->mutex);
    leave_list(workers, job);
    note_rest(workers, job->owner, rest);
    job->state = USERS_JOB_DONE;
    pthread_cond_signal(&job->ended);
    last = let_go(job);
    pthread_mutex_unlock(&workers->mutex);
    if (last) {
        dispose(job);
    }
    pthread_mutex_lock(&workers->mutex);
}

/* Without the mutex. */
static void *serve(void *data)
{
    users_workers *workers = data;
    apr_time_t from;

    if (workers->begin) {
        workers->begin();
    }
    pthread_mutex_lock(&workers->mutex);
    while (!workers->ending) {
        users_job *job = find_next(workers, &from);

        if (job) {
            work(workers, job);
            continue;
        }
        workers->idle++;
        if (from) {
            wait_until(workers, &workers->wanted, from);
        } else {
            pthread_cond_wait(&workers->wanted, &workers->mutex);
        }
        workers->idle--;
    }
    workers->alive--;
    pthread_cond_signal(&workers->left);
    pthread_mutex_unlock(&workers->mutex);
    return NULL;
}

/* Signals are for the threads of httpd: under prefork their handlers end the process. */
static bool start_thread(users_workers *workers)
{
    sigset_t all;
    sigset_t before;
    bool started;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    started = pthread_create(&workers->threads[workers->started], NULL, serve, workers) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (started) {
        workers->started++;
        workers->alive++;
    }
    return started;
}

/* One that can't be had is missed only where there is no other. */
static bool have_thread(users_workers *workers)
{
    if (workers->idle <= workers->queued && workers->started < workers->limit) {
        start_thread(workers);
    }
    return workers->started > 0;
}

/* Jobs */

static users_work_end wait_for_end(users_workers *workers, users_job *job, apr_time_t deadline)
{
    while (job->state < USERS_JOB_DONE && users_now() < deadline) {
        wait_until(workers, &job->ended, deadline);
    }
    if (job->state == USERS_JOB_QUEUED) {
        unqueue(workers, job);
    }
    if (job->state < USERS_JOB_DONE) {
        return USERS_WORK_LATE;
    }
    return job->state == USERS_JOB_DONE ? USERS_WORK_DONE : USERS_WORK_REFUSED;
}

/* Without the mutex, as what follows. */
users_work_end users_workers_run(users_workers *workers, users_job *job, apr_time_t deadline)
{
    users_work_end end = USERS_WORK_REFUSED;
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&job->ended, &attributes);
    pthread_condattr_destroy(&attributes);
    job->references = 1; /* the requester's */

    pthread_mutex_lock(&workers->mutex);
    job->round = next_round(workers, job->owner);
    if (!workers->ending && have_thread(workers) && make_room(workers, job->round)) {
        job->references++; /* the queue's, and then its thread's */
        job->state = USERS_JOB_QUEUED;
        workers->queued++;
        enter_list(workers, job);
        pthread_cond_signal(&workers->wanted);
        end = wait_for_end(workers, job, deadline);
    }
    pthread_mutex_unlock(&workers->mutex);
    return end;
}

void users_workers_release(users_workers *workers, users_job *job)
{
    bool last;

    pthread_mutex_lock(&workers->mutex);
    last = let_go(job);
    pthread_mutex_unlock(&workers->mutex);
    if (last) {
        dispose(job);
    }
}

bool users_workers_close(users_workers *workers, apr_interval_time_t patience)
{
    apr_time_t end = users_now() + patience;
    users_job *next;
    bool all;

    pthread_mutex_lock(&workers->mutex);
    workers->ending = true;
    for (users_job *job = workers->first; job; job = next) {
        next = job->next;
        if (job->state == USERS_JOB_QUEUED) {
            refuse(workers, job);
        }
    }
    pthread_cond_broadcast(&workers->wanted);
    while (workers->alive && users_now() < end) {
        wait_until(workers, &workers->left, end);
    }
    all = !workers->alive;
    pthread_mutex_unlock(&workers->mutex);
    for (unsigned i = 0; i < workers->started; i++) {
        if (all) {
            pthread_join(workers->threads[i], NULL);
        } else {
            pthread_detach(workers->threads[i]);
        }
    }
    return all;
}
