/*
 * A state that lasts for a while: whoever meets it first has the log say so, those after it are
 * counted, and who finds it over has the log say that, too. No locks, and nothing but numbers: it
 * may lie in memory that processes share.
 */
#ifndef USERS_CORE_EPISODE_H
#define USERS_CORE_EPISODE_H

#include <apr.h>
#include <apr_time.h>
#include <stdbool.h>

/* All zero: it does not last. */
typedef struct {
    apr_uint32_t lasts;
    apr_uint32_t count;    /* since it began */
    apr_uint32_t subjects; /* bit n: subject n is affected */
    apr_uint64_t began;    /* users_now(), as is the next: of use while it lasts only */
    apr_uint64_t met;      /* the last time */
} users_episode;

/* What there was of one. */
typedef struct {
    apr_uint32_t count;
    double seconds;
} users_episode_summary;

bool users_episode_lasts(users_episode *episode);

/* Begin it. False where it lasts already. */
bool users_episode_begin(users_episode *episode);

/* Count something that it has caused. */
void users_episode_count(users_episode *episode);

typedef enum {
    USERS_MET_FIRST,   /* it begins */
    USERS_MET_SUBJECT, /* the subject had not been affected so far */
    USERS_MET_AGAIN
} users_met;

/* Met on account of a subject, 0 to 31: begin it, or let it go on, and count. */
users_met users_episode_meet(users_episode *episode, unsigned subject);

/*
 * A subject is not affected, or no longer. True where the episode is over then: none is any more,
 * and it has not been met for so long, lest it end and begin with every other request.
 */
bool users_episode_pass(users_episode *episode, unsigned subject, apr_interval_time_t quiet,
                        users_episode_summary *summary);

/* End it at once. False where it does not last. */
bool users_episode_end(users_episode *episode, users_episode_summary *summary);

#endif
