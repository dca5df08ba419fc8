#include "db/names.h"

#include "core/clock.h"

#include <apr_atomic.h>
#include <apr_strings.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define FRESH    apr_time_from_sec(30)   /* for so long addresses are good */
#define AHEAD    apr_time_from_sec(15)   /* older ones are looked up while they are used */
#define PAUSE    apr_time_from_sec(1)    /* between a look-up and the next */
#define PATIENCE apr_time_from_msec(500) /* with the resolver, where old addresses are known */

/*
 * In memory of its own, and freed by the last of those that have it: its owner, and the thread that
 * looks it up, which a child of httpd leaves behind when it ends.
 */
struct users_host_name {
    apr_uint32_t references;
    pthread_mutex_t mutex; /* guards what follows; never held while it is looked up */
    pthread_cond_t ended;  /* a look-up */
    bool looking;
    bool doubted;
    unsigned begun;   /* look-ups */
    apr_time_t began; /* users_now(): the last look-up */
    apr_time_t left;  /* the end of the last one that has ended */
    apr_time_t found; /* the end of the one that found the addresses */
    int error;        /* of the last one that has ended */
    users_addresses addresses;
    char text[];
};

bool users_is_host_name(const char *host)
{
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;

    if (!host || !*host || *host == '/' || *host == '@') {
        return false;
    }
    if (getaddrinfo(host, NULL, &hints, &found) != 0) {
        return true;
    }
    freeaddrinfo(found);
    return false;
}

static void release(users_host_name *name)
{
    if (apr_atomic_dec32(&name->references) == 0) {
        free(name);
    }
}

/*
 * A child of prefork ends in the handler of a signal, which may have come in the midst of
 * users_host_name_find(): so this takes no lock, and pthread_cond_destroy(), which waits for who
 * waits, is not called.
 */
static apr_status_t let_go(void *name)
{
    release(name);
    return APR_SUCCESS;
}

users_host_name *users_host_name_create(apr_pool_t *pool, const char *text)
{
    size_t size = strlen(text) + 1;
    users_host_name *name = calloc(1, sizeof(*name) + size);
    pthread_condattr_t attributes;

    if (!name) {
        return NULL;
    }
    memcpy(name->text, text, size);
    name->references = 1;
    pthread_mutex_init(&name->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC); /* that of users_now() */
    pthread_cond_init(&name->ended, &attributes);
    pthread_condattr_destroy(&attributes);
    apr_pool_cleanup_register(pool, name, let_go, apr_pool_cleanup_null);
    return name;
}

const char *users_host_name_text(const users_host_name *name)
{
    return name->text;
}

/* Looking up, on a thread of its own */

static void collect(const struct addrinfo *from, users_addresses *into)
{
    for (; from && into->count < USERS_ADDRESSES_MOST; from = from->ai_next) {
        if (getnameinfo(from->ai_addr, from->ai_addrlen, into->list[into->count],
                        USERS_ADDRESS_LENGTH, NULL, 0, NI_NUMERICHOST) == 0) {
            into->count++;
        }
    }
}

/* As libpq does it. */
static int resolve(const char *name, users_addresses *into)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int error = getaddrinfo(name, NULL, &hints, &found);

    if (error) {
        return error;
    }
    collect(found, into);
    freeaddrinfo(found);
    return into->count ? 0 : EAI_NONAME;
}

/* Touches nothing but the name: httpd's child, its pools and its log may be at their end. */
static void *look_up(void *data)
{
    users_host_name *name = data;
    users_addresses found = {.count = 0};
    int error = resolve(name->text, &found);

    pthread_mutex_lock(&name->mutex);
    name->looking = false;
    name->left = users_now();
    name->error = error;
    if (!error) {
        found.number = name->addresses.number + 1;
        name->addresses = found;
        name->found = name->left;
        name->doubted = false;
    }
    pthread_cond_broadcast(&name->ended);
    pthread_mutex_unlock(&name->mutex);
    release(name);
    return NULL;
}

/* These with the mutex held. */

/* Signals are for the threads of httpd: under prefork their handlers end the process. */
static bool start_thread(users_host_name *name)
{
    pthread_t thread;
    sigset_t all;
    sigset_t before;
    bool started;

    apr_atomic_inc32(&name->references);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    started = pthread_create(&thread, NULL, look_up, name) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (started) {
        pthread_detach(thread);
    } else {
        apr_atomic_dec32(&name->references); /* the caller has another one */
    }
    return started;
}

static void begin_look_up(users_host_name *name)
{
    name->began = users_now();
    name->looking = start_thread(name);
    if (name->looking) {
        name->begun++;
    } else {
        name->left = name->began;
        name->error = USERS_NAME_NO_THREADS;
    }
}

static bool is_known(const users_host_name *name)
{
    return name->addresses.count > 0;
}

/* Must they be looked up before they are used? */
static bool is_due(const users_host_name *name)
{
    return !is_known(name) || name->doubted || users_now() - name->found >= FRESH;
}

static bool may_begin(const users_host_name *name)
{
    return !name->looking && (!is_known(name) || users_now() - name->left >= PAUSE);
}

static void wait_for_end(users_host_name *name, apr_time_t until)
{
    struct timespec end = {.tv_sec = apr_time_sec(until), .tv_nsec = apr_time_usec(until) * 1000};
    unsigned number = name->begun;

    while (name->looking && name->begun == number && users_now() < until) {
        pthread_cond_timedwait(&name->ended, &name->mutex, &end);
    }
}

/* With what is known half of the time is left for a connection. */
static apr_time_t patience_until(const users_host_name *name, apr_time_t deadline)
{
    apr_time_t now = users_now();
    apr_time_t half = now + (deadline - now) / 2;

    if (!is_known(name)) {
        return deadline;
    }
    return half < name->began + PATIENCE ? half : name->began + PATIENCE;
}

/* Have it looked up where that is time, and wait for that where it has to be. */
static void refresh(users_host_name *name, apr_time_t deadline)
{
    bool due = is_due(name);

    if ((due || users_now() - name->found >= AHEAD) && may_begin(name)) {
        begin_look_up(name);
    }
    if (due && name->looking) {
        wait_for_end(name, patience_until(name, deadline));
    }
}

/* Whose deadline came too soon has learnt nothing new of the resolver. */
static int trouble_of(const users_host_name *name)
{
    if (!is_due(name)) {
        return 0;
    }
    if (name->looking && users_now() - name->began >= PATIENCE) {
        return USERS_NAME_SILENT;
    }
    return name->error || is_known(name) ? name->error : USERS_NAME_SILENT;
}

bool users_host_name_find(users_host_name *name, apr_time_t deadline, users_addresses *addresses,
                          int *error, apr_interval_time_t *age)
{
    bool known;

    pthread_mutex_lock(&name->mutex);
    refresh(name, deadline);
    known = is_known(name);
    *addresses = name->addresses;
    *age = users_now() - name->found;
    *error = trouble_of(name);
    pthread_mutex_unlock(&name->mutex);
    return known;
}

void users_host_name_doubt(users_host_name *name)
{
    pthread_mutex_lock(&name->mutex);
    if (users_now() - name->found >= PAUSE) {
        name->doubted = true;
    }
    pthread_mutex_unlock(&name->mutex);
}

const char *users_host_name_error(int error)
{
    switch (error) {
    case USERS_NAME_SILENT:
        return "the resolver has not answered in time";
    case USERS_NAME_NO_THREADS:
        return "the system has no thread for that";
    default:
        return gai_strerror(error);
    }
}
