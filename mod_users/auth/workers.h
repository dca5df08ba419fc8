/*
 * A few threads for work that takes long, shared fairly among those that it is for: whoever has
 * much of it done waits behind whoever has little. Knows nothing of httpd.
 *
 * Who waits for a job may leave before it ends: a job belongs to who waits for it and to the thread
 * that is at it, and the last of the two frees it. Every wait has an end, by a clock that nobody
 * sets.
 */
#ifndef USERS_AUTH_WORKERS_H
#define USERS_AUTH_WORKERS_H

#include <apr.h>
#include <apr_time.h>
#include <pthread.h>
#include <stdbool.h>

#define USERS_WORKERS_MOST 1000 /* threads */
#define USERS_RESTING_MOST 256

/* One piece of work: the beginning of what its maker has of it, in memory that destroy() frees. */
typedef struct users_job {
    /* on a thread of the workers'; returns for how long nothing else of its owner's is begun */
    apr_interval_time_t (*run)(struct users_job *job);
    void (*destroy)(struct users_job *job);
    apr_uint64_t owner; /* whom it is for */

    /* the workers' */
    struct users_job *next;
    apr_uint64_t round;
    unsigned references;
    enum { USERS_JOB_QUEUED, USERS_JOB_RUNNING, USERS_JOB_DONE, USERS_JOB_REFUSED } state;
    pthread_cond_t ended;
} users_job;

/* An owner that rests, and until when (users_now()). */
typedef struct {
    apr_uint64_t owner;
    apr_time_t until;
} users_resting;

/* In memory that stays: a thread that is not through in time is left behind by an end. */
typedef struct {
    void (*begin)(void); /* each thread's first call */
    unsigned limit;      /* threads */
    unsigned room;       /* jobs that may be queued */

    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t wanted; /* there may be something to do */
    pthread_cond_t left;   /* a thread has ended */
    pthread_t threads[USERS_WORKERS_MOST];
    unsigned started;
    unsigned alive;
    unsigned idle;
    bool ending;
    users_job *first; /* of those that are queued or running, by arrival */
    unsigned queued;
    apr_uint64_t round; /* the highest of those that were begun */
    apr_time_t owed;    /* users_now(): the end of all rest that is owed, one behind the other */
    users_resting resting[USERS_RESTING_MOST];
} users_workers;

/* What came of a job. */
typedef enum {
    USERS_WORK_DONE,
    USERS_WORK_REFUSED, /* there is no room, no memory for a thread, or an end */
    USERS_WORK_LATE     /* it was not done in time */
} users_work_end;

/* Threads start when they are wanted. limit: at most USERS_WORKERS_MOST. begin may be NULL. */
void users_workers_open(users_workers *workers, unsigned limit, unsigned room, void (*begin)(void));

/*
 * Have a job done, and wait for that until a deadline (users_now()). Whatever comes of it, the
 * caller may read what it has of the job, and then releases it.
 */
users_work_end users_workers_run(users_workers *workers, users_job *job, apr_time_t deadline);
void users_workers_release(users_workers *workers, users_job *job);

/*
 * Refuse what is queued, and wait for the threads to end, for no longer than patience. False where
 * one is still at work: it is left behind, and the memory of workers with it.
 */
bool users_workers_close(users_workers *workers, apr_interval_time_t patience);

#endif
