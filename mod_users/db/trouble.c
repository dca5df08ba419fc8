#include "db/trouble.h"

#include "db/diagnose.h"

#include <apr_atomic.h>
#include <apr_strings.h>
#include <stdlib.h>
#include <string.h>

#define QUIET             apr_time_from_sec(10) /* without it, and it is over */
#define MESSAGE_LENGTH    512
#define REFUSALS_A_MINUTE 10

/* Noting */

apr_size_t users_db_noted_size(void)
{
    return sizeof(struct users_noted);
}

static users_met meet(const users_witness *witness, users_trouble trouble, unsigned subject)
{
    return users_episode_meet(&witness->settings->noted->troubles[trouble], subject);
}

/*
 * Once at the level of what an administrator has to see, and then for who looks closer.
 * (users_log_at() evaluates a level twice.)
 */
static users_log_level level_of(users_met met, users_log_level level)
{
    return met == USERS_MET_FIRST ? level : USERS_LOG_INFO;
}

/* Refusals */

/*
 * The statements themselves name what the contract has. What a function or a trigger names is its
 * author's, and then there is a context.
 */
static users_trouble trouble_of(const PGresult *result, const char *state)
{
    static const char *const absent[] = {"42P01", "42883", "42703", "3F000", "42704"};

    if (PQresultErrorField(result, PG_DIAG_CONTEXT)) {
        return USERS_TROUBLE_REFUSED;
    }
    for (size_t i = 0; i < sizeof(absent) / sizeof(*absent); i++) {
        if (strcmp(state, absent[i]) == 0) {
            return USERS_TROUBLE_UNPREPARED;
        }
    }
    return strcmp(state, "42501") == 0 ? USERS_TROUBLE_FORBIDDEN : USERS_TROUBLE_REFUSED;
}

/*
 * Has the log not been told of this error of the statement? A SQLSTATE is five letters and digits:
 * a number to the base of 36.
 */
static bool is_news(struct users_noted *noted, const users_statement *statement, const char *state)
{
    apr_uint32_t error = (apr_uint32_t)strtoul(state, NULL, 36);

    return apr_atomic_xchg32(&noted->refused[statement->number], error) != error &&
           users_quota_take(&noted->refusals, REFUSALS_A_MINUTE);
}

static void forget_errors(struct users_noted *noted)
{
    for (size_t i = 0; i < sizeof(noted->refused) / sizeof(*noted->refused); i++) {
        apr_atomic_set32(&noted->refused[i], 0);
    }
}

void users_trouble_refused(const users_witness *witness, const users_statement *statement,
                           const PGresult *result, const char *role)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    users_trouble trouble = trouble_of(result, state);
    users_met met = meet(witness, trouble, statement->number);
    users_log_level level = level_of(met, USERS_LOG_ERR);
    bool news;
    char message[MESSAGE_LENGTH];

    /* the primary one alone: others may quote values of the request */
    users_diagnose_join(message, primary ? primary : "", sizeof(message));
    switch (trouble) {
    case USERS_TROUBLE_UNPREPARED:
        users_log_at(witness->log, level, 0,
                     "%s is not prepared for this version of mod_users, and refused %s: %s %s: %s",
                     witness->name, statement->name, state, message,
                     statement->with_note
                         ? "UsersAudit and UsersEvents need \"usersctl database upgrade\""
                         : "run \"usersctl database status\"");
        break;
    case USERS_TROUBLE_FORBIDDEN:
        users_log_at(witness->log, level, 0,
                     "the role \"%s\" may not use the schema users_api of %s, which refused %s: %s "
                     "%s: connect as mod_users, to which \"usersctl database upgrade\" grants what "
                     "it needs, or make that role a member of mod_users",
                     role ? role : "", witness->name, statement->name, state, message);
        break;
    default: /* each may have a cause of its own */
        news = is_news(witness->settings->noted, statement, state);
        level = news ? USERS_LOG_ERR : USERS_LOG_INFO;
        users_log_at(witness->log, level, 0, "%s refused %s: %s %s", witness->name, statement->name,
                     state, message);
    }
}

/* Time */

void users_trouble_late(const users_witness *witness, const users_statement *statement,
                        const char *state)
{
    users_log_level level = level_of(meet(witness, USERS_TROUBLE_LATE, 0), USERS_LOG_WARNING);
    const char *why =
        "nothing came until then: it may wait for a lock, be overloaded, or be out of reach";

    if (state && strcmp(state, "55P03") == 0) {
        why = "it waited for a lock: pg_blocking_pids() and pg_stat_activity tell who holds it";
    } else if (state) {
        why = "it took too long, or was cancelled: pg_stat_activity tells what else goes on";
    }
    users_log_at(witness->log, level, 0,
                 "%s did not answer %s in time (UsersDBTimeout %" APR_TIME_T_FMT
                 "ms, UsersRequestTimeout %" APR_TIME_T_FMT "ms): %s",
                 witness->name, statement->name, apr_time_as_msec(witness->settings->db_timeout),
                 apr_time_as_msec(witness->settings->request_timeout), why);
}

void users_trouble_busy(const users_witness *witness, bool for_change)
{
    users_log_level level = level_of(meet(witness, USERS_TROUBLE_BUSY, 0), USERS_LOG_WARNING);
    int max = witness->settings->db_max;

    users_log_at(witness->log, level, 0,
                 "no connection to %s was free in time (UsersDBAcquireTimeout %" APR_TIME_T_FMT
                 "ms): all %d of UsersDBMax%s: raise that, or see what keeps them, in "
                 "pg_stat_activity",
                 witness->name, apr_time_as_msec(witness->settings->db_acquire_timeout),
                 for_change && max > 1 ? max - 1 : max,
                 for_change
                     ? " that changes may have are in use, or what they would change is locked"
                     : " are in use");
}

void users_trouble_read_only(const users_witness *witness, const users_statement *statement)
{
    users_log_level level =
        level_of(meet(witness, USERS_TROUBLE_READ_ONLY, statement->number), USERS_LOG_ERR);

    users_log_at(witness->log, level, 0,
                 "%s takes no changes and refused %s: it is a standby, or has "
                 "default_transaction_read_only: name the primary, or all hosts with "
                 "target_session_attrs=read-write",
                 witness->name, statement->name);
}

/* Passing */

typedef struct {
    const char *is_over; /* what the database does */
    const char *counted;
} words;

static const words endings[USERS_TROUBLES] = {
    [USERS_TROUBLE_LATE] = {"answers in time again", "statements had no answer in time"},
    [USERS_TROUBLE_BUSY] = {"has connections free again", "requests waited for one in vain"},
    [USERS_TROUBLE_READ_ONLY] = {"takes changes again", "were refused"},
    [USERS_TROUBLE_UNPREPARED] = {"is prepared now", "statements were refused"},
    [USERS_TROUBLE_FORBIDDEN] = {"lets the role use the schema users_api again",
                                 "statements were refused"},
    [USERS_TROUBLE_REFUSED] = {"takes what it refused again", "statements were refused"},
};

void users_trouble_pass(const users_witness *witness, const users_statement *statement)
{
    users_episode_summary summary;

    for (int i = 0; i < USERS_TROUBLES; i++) {
        bool of_all = i == USERS_TROUBLE_LATE || i == USERS_TROUBLE_BUSY;

        if (users_episode_pass(&witness->settings->noted->troubles[i],
                               of_all ? 0 : statement->number, QUIET, &summary)) {
            users_log_at(witness->log, USERS_LOG_WARNING, 0, "%s %s after %.1f s, in which %u %s",
                         witness->name, endings[i].is_over, summary.seconds, summary.count,
                         endings[i].counted);
            if (i == USERS_TROUBLE_REFUSED) {
                forget_errors(witness->settings->noted);
            }
        }
    }
}
