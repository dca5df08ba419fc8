#include "usersctl/deliver.h"

#include "core/clock.h"
#include "usersctl/actions.h"
#include "usersctl/database.h"
#include "usersctl/endpoint.h"
#include "usersctl/webhook.h"

#include <apr_strings.h>
#include <apr_time.h>
#include <openssl/rand.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>

#define LOOK_INTERVAL   apr_time_from_sec(1)  /* between looks for due events that found none */
#define LEASE_MARGIN    apr_time_from_sec(10) /* beyond what a message may take */
#define FIRST_DELAY     apr_time_from_sec(5)  /* before another attempt; then three times as long */
#define LAST_DELAY      apr_time_from_sec(43200)
#define RETRY_AFTER_MAX apr_time_from_sec(86400)
#define PAUSE_MAX       apr_time_from_sec(60) /* of all events, where the receiver is overloaded */
#define RECONNECT_FIRST apr_time_from_sec(1)
#define RECONNECT_LAST  apr_time_from_sec(30)
#define LAST_RECORDS    apr_time_from_sec(5) /* for a database that is away when a signal comes */

/* An event that is claimed. */
typedef struct {
    apr_pool_t *pool; /* NULL: the place is free */
    const char *id;
    const char *lease;
    const char *user_id;
    int attempts;
    users_message message;
} claimed_event;

typedef struct {
    users_invocation *invocation;
    users_webhook *webhook;
    claimed_event *events; /* parallel of them */
    int parallel;
    int attempts_max;
    apr_interval_time_t timeout;

    apr_time_t next_look;    /* for due events: not before */
    apr_time_t paused_until; /* nor before this */
    bool exhausted;          /* the last look found none, and nothing has ended since */
    bool failing;            /* the last message was not delivered */
    bool gone;               /* the receiver wants no more */
    apr_time_t stop_until;   /* a signal came: what ended is recorded until then; 0: none came */

    apr_interval_time_t trouble; /* with the database: how long it is left alone; 0: none */
    apr_time_t next_try;         /* then */

    long long delivered, failed, dead;
} delivery;

/* The database */

static void note_trouble(delivery *d)
{
    apr_interval_time_t longer = d->trouble ? 2 * d->trouble : RECONNECT_FIRST;

    d->trouble = longer < RECONNECT_LAST ? longer : RECONNECT_LAST;
    d->next_try = users_now() + d->trouble;
}

/* Can the database be asked now? After trouble of any kind it is asked on a new connection. */
static bool is_ready(delivery *d)
{
    if (d->trouble == 0) {
        return true;
    }
    if (users_now() < d->next_try) {
        return false;
    }
    if (!users_database_reconnect(d->invocation->db)) {
        note_trouble(d);
        return false;
    }
    return true;
}

/*
 * Call a function of users_admin. False: it was not called or failed. A signal that comes
 * meanwhile cancels the call, which is no trouble with the database.
 */
static bool call(delivery *d, const char *function, const char *const *parameters, int count,
                 PGresult **result)
{
    bool interrupted = users_database_interrupted();

    if (!is_ready(d)) {
        return false;
    }
    if (users_database_call(d->invocation->db, function, parameters, count, false, result) !=
        USERS_EXIT_DONE) {
        if (interrupted == users_database_interrupted()) {
            note_trouble(d);
        }
        return false;
    }
    if (d->trouble) {
        users_output_complain(USERS_EXIT_DONE, "the database answers again");
    }
    d->trouble = 0;
    return true;
}

/* Attempts */

/* A time from 80 to 120 per cent of that, so that what failed together does not come back together.
 */
static apr_interval_time_t jittered(apr_interval_time_t delay)
{
    uint16_t random = 0;

    (void)RAND_bytes((unsigned char *)&random, sizeof(random)); /* 0 will do */
    return delay / 10 * 8 + delay / 10 * 4 / UINT16_MAX * random;
}

/* How long after a failure another attempt is made. */
static apr_interval_time_t delay_of(const claimed_event *e)
{
    apr_interval_time_t delay = FIRST_DELAY;
    apr_interval_time_t wanted = e->message.retry_after;

    for (int i = 1; i < e->attempts && delay < LAST_DELAY; i++) {
        delay *= 3;
    }
    delay = jittered(delay < LAST_DELAY ? delay : LAST_DELAY);
    wanted = wanted < RETRY_AFTER_MAX ? wanted : RETRY_AFTER_MAX;
    return delay > wanted ? delay : wanted;
}

/* What a failure means for the others. */
static void heed(delivery *d, const users_message *message)
{
    bool overloaded = message->status == 429 || message->status == 503;
    apr_interval_time_t pause = message->retry_after;

    if (overloaded && pause) {
        d->paused_until = users_now() + (pause < PAUSE_MAX ? pause : PAUSE_MAX);
    }
    d->gone |= message->status == 410;
}

/* Tell when things change, and what is lost. */
static void tell(delivery *d, const claimed_event *e, bool dead)
{
    const char *failure = e->message.failure;

    if (failure && !d->failing) {
        users_output_complain(USERS_EXIT_DONE, "event %s of user %s was not delivered: %s", e->id,
                              e->user_id, failure);
    } else if (!failure && d->failing) {
        users_output_complain(USERS_EXIT_DONE, "events are delivered again");
    }
    if (dead) {
        users_output_complain(USERS_EXIT_DONE,
                              "event %s of user %s is given up after %d attempts: %s", e->id,
                              e->user_id, e->attempts, failure);
    }
    d->failing = failure != NULL;
}

/* Record what became of an event. False: later. */
static bool record(delivery *d, claimed_event *e)
{
    const users_message *message = &e->message;
    bool dead = message->failure && e->attempts >= d->attempts_max;
    char delay[48];
    const char *parameters[] = {e->id, e->lease, message->failure, delay, dead ? "true" : "false"};
    PGresult *result;

    apr_snprintf(delay, sizeof(delay), "%" APR_TIME_T_FMT " milliseconds",
                 apr_time_as_msec(delay_of(e)));
    if (!call(d, "finish_event", parameters, 5, &result)) {
        return false;
    }
    if (PQgetvalue(result, 0, 0)[0] == 't') {
        tell(d, e, dead);
        d->delivered += !message->failure;
        d->failed += message->failure != NULL;
        d->dead += dead;
    }
    PQclear(result);
    return true;
}

/* Record what has ended. Returns how many are being sent. */
static int record_ended(delivery *d)
{
    int sending = 0;

    for (claimed_event *e = d->events; e < d->events + d->parallel; e++) {
        if (!e->pool) {
            continue;
        }
        if (!e->message.ended) {
            sending++;
        } else if (record(d, e)) {
            d->next_look = 0;
            d->exhausted = false;
            heed(d, &e->message);
            apr_pool_destroy(e->pool);
            e->pool = NULL;
        }
    }
    return sending;
}

/* Claims */

/* How many more events can be sent. */
static int places_of(const delivery *d)
{
    int count = 0;

    for (int i = 0; i < d->parallel; i++) {
        count += d->events[i].pool == NULL;
    }
    return count;
}

static claimed_event *find_place(delivery *d)
{
    claimed_event *e = d->events;

    while (e->pool) {
        e++;
    }
    return e;
}

/* Send the event of a row of claim_events. */
static void send_row(delivery *d, const PGresult *rows, int row)
{
    claimed_event *e = find_place(d);
    apr_pool_t *pool;

    if (apr_pool_create(&pool, d->invocation->pool) != APR_SUCCESS) {
        return; /* the lease ends, and somebody else sends it */
    }
    *e = (claimed_event){.pool = pool,
                         .id = apr_pstrdup(pool, PQgetvalue(rows, row, 0)),
                         .lease = apr_pstrdup(pool, PQgetvalue(rows, row, 1)),
                         .user_id = apr_pstrdup(pool, PQgetvalue(rows, row, 3)),
                         .attempts = (int)strtol(PQgetvalue(rows, row, 4), NULL, 10),
                         .message = {.pool = pool,
                                     .id = apr_pstrdup(pool, PQgetvalue(rows, row, 2)),
                                     .body = apr_pstrdup(pool, PQgetvalue(rows, row, 5))}};
    users_webhook_send(d->webhook, &e->message);
}

/* Claim as many as there are places, and send them. Returns how many. */
static int claim(delivery *d)
{
    char places[16];
    char lease[48];
    const char *parameters[] = {places, lease};
    PGresult *rows;
    int count = places_of(d);

    if (count == 0 || users_now() < d->next_look || users_now() < d->paused_until) {
        return 0;
    }
    apr_snprintf(places, sizeof(places), "%d", count);
    apr_snprintf(lease, sizeof(lease), "%" APR_TIME_T_FMT " milliseconds",
                 apr_time_as_msec(d->timeout + LEASE_MARGIN));
    if (!call(d, "claim_events", parameters, 2, &rows)) {
        return 0;
    }
    count = PQntuples(rows);
    for (int row = 0; row < count; row++) {
        send_row(d, rows, row);
    }
    d->exhausted = count == 0;
    d->next_look = d->exhausted ? users_now() + LOOK_INTERVAL : 0;
    PQclear(rows);
    return count;
}

/* The loop */

static int ended(const delivery *d)
{
    int count = 0;

    for (int i = 0; i < d->parallel; i++) {
        count += d->events[i].pool && d->events[i].message.ended;
    }
    return count;
}

/* A signal or a receiver that wants no more ends it, once what was begun has been recorded. */
static void note_stop(delivery *d)
{
    if (!d->stop_until && (d->gone || users_database_interrupted())) {
        d->stop_until = users_now() + d->timeout + LAST_RECORDS;
    }
}

/* Is it over, where that many are being sent? What is not recorded then is sent again by the next.
 */
static bool is_over(const delivery *d, int sending)
{
    bool once = d->invocation->values[USERS_ARG_ONCE] != NULL;

    if (sending > 0) {
        return false;
    }
    if (once && d->trouble) {
        return true;
    }
    if (ended(d) > 0) {
        return d->stop_until && users_now() > d->stop_until;
    }
    return d->stop_until || (once && (d->exhausted || users_now() < d->paused_until));
}

/* How long nothing has to be done but to send. */
static apr_interval_time_t idle_time(const delivery *d)
{
    apr_time_t next = d->next_look > d->paused_until ? d->next_look : d->paused_until;
    apr_interval_time_t idle;

    if (ended(d) == 0 && (d->stop_until || places_of(d) == 0)) { /* the database is not asked */
        return LOOK_INTERVAL;
    }
    if (d->trouble) {
        next = d->next_try;
    } else if (ended(d) > 0) { /* a signal cancelled the record */
        return 0;
    }
    idle = next - users_now();
    return idle < 0 ? 0 : idle < LOOK_INTERVAL ? idle : LOOK_INTERVAL;
}

static void work(delivery *d)
{
    for (;;) {
        int sending = record_ended(d);

        note_stop(d);
        if (!d->stop_until) {
            sending += claim(d);
        }
        if (is_over(d, sending)) {
            return;
        }
        users_webhook_run(d->webhook, idle_time(d));
    }
}

users_exit users_deliver(users_invocation *invocation)
{
    static const char *const names[] = {"delivered", "failed", "dead"};
    const char **values = invocation->values;
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    users_endpoint endpoint;
    delivery d = {.invocation = invocation,
                  .parallel = (int)strtol(values[USERS_ARG_PARALLEL], NULL, 10),
                  .attempts_max = (int)strtol(values[USERS_ARG_ATTEMPTS], NULL, 10),
                  .timeout = apr_time_from_sec(users_argument_seconds(values[USERS_ARG_TIMEOUT]))};
    users_exit status =
        users_endpoint_read(invocation->pool, values[USERS_ARG_ENDPOINT], &endpoint);

    if (status == USERS_EXIT_DONE) {
        status = users_database_connect(&invocation->db, values[USERS_ARG_DB]);
    }
    if (status != USERS_EXIT_DONE) {
        return status;
    }
    sigaction(SIGPIPE, &ignore, NULL); /* libcurl's connections are closed by others */
    d.events = apr_pcalloc(invocation->pool, sizeof(*d.events) * (size_t)d.parallel);
    d.webhook = users_webhook_create(invocation->pool, &endpoint, d.parallel, d.timeout);
    if (!d.webhook) {
        return users_output_complain(USERS_EXIT_FAILED, "libcurl can't be used: no memory");
    }
    work(&d);
    status = users_action_print(invocation, names, (long long[]){d.delivered, d.failed, d.dead}, 3);
    if (d.gone) {
        return users_output_complain(USERS_EXIT_REFUSED,
                                     "the receiver wants no more events (status "
                                     "410): is its url the right one?");
    }
    return status == USERS_EXIT_DONE && d.trouble && !users_database_interrupted()
               ? USERS_EXIT_FAILED
               : status;
}
