#include "auth/lockout.h"

#include "auth/counts.h"
#include "config/settings.h"
#include "http/figures.h"
#include "http/network.h"
#include "http/trace.h"

#include <apr_escape.h>
#include <apr_strings.h>
#include <http_core.h>
#include <http_log.h>

APLOG_USE_MODULE(users);

#define NAME_SHOWN 64 /* octets of a name that the log has */

/*
 * Counts have fixed places, so nothing pushes one out; names that share a place share its count.
 * Nobody can aim at a place without the key. What can be done is to fill many: the more failures F
 * there are in a window, the more places of N have ten or more, a part of about (F/N)^10/10! while
 * F is below N.
 *
 * Only a failure that cost a hash can stand where a hashed password would be refused. A hash of
 * cost 10 takes 48 ms, and its thread then owes nine times as much rest: two a second, so with six
 * children of one slot 7,500 in ten minutes. F/N is 0.014: no name of 10^24 is locked out by that.
 * In a window of 24 h they are 1,080,000: F/N is 2, and one of 20,000 names.
 *
 * Elsewhere the right secret is let in whatever the count is, so whoever fills all places has
 * wrong secrets answered with 429 instead of 401, and nothing else.
 */
#define HASHED (1u << 19) /* 4 MiB */
#define OTHERS (1u << 16) /* 512 KiB */

/* Zero at first. */
typedef struct {
    users_failures hashed[HASHED];
    users_failures others[OTHERS];
    users_quota lines; /* of the log */
} counters;

static counters *shared; /* NULL: no server has a use for it */

static bool is_needed(const server_rec *s)
{
    bool needed = false;

    for (; s; s = s->next) {
        const users_settings *settings = users_settings_of(s);

        needed |= settings->endpoints->nelts && settings->max_failures > 0;
    }
    return needed;
}

int users_lockout_start(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    (void)pconf;
    (void)plog;
    (void)ptemp;
    shared = NULL;
    if (ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG || !is_needed(s)) {
        return OK;
    }
    shared = users_counts_memory(s, "UsersMaxFailures", "lockouts 2", sizeof(*shared));
    return shared ? OK : !OK;
}

/* The log */

/* Whose name, and from where; httpd escapes what is not printable. */
static void tell(request_rec *r, const users_attempt *attempt, const users_failures_now *known)
{
    int level = users_counts_level(&shared->lines);
    bool cut = strlen(attempt->name) > NAME_SHOWN;

    users_log_request(
        r, level, 0,
        "too many wrong secrets (%u) of the %s \"%.*s%s\" came from %s, which is refused "
        "under this name for %" APR_TIME_T_FMT " s (UsersMaxFailures, UsersFailureWindow)",
        known->count, attempt->kind, NAME_SHOWN, attempt->name, cut ? "..." : "", r->useragent_ip,
        apr_time_sec(known->left) + 1);
}

/* Attempts */

static const char *text_of(const users_secret *stored, apr_pool_t *pool)
{
    if (!stored) {
        return "";
    }
    return stored->digest ? apr_pescape_hex(pool, stored->digest, USERS_DIGEST_LENGTH, 0)
                          : stored->hash;
}

/* The name stands last, since only there a line's end can't make two attempts look alike. */
static const char *key_of(request_rec *r, const char *kind, const char *name,
                          const users_secret *stored)
{
    return apr_psprintf(r->pool, "%s\n%" APR_UINT64_T_HEX_FMT "\n%s\n%s\n%s", kind,
                        users_network_of(r), users_settings_of(r->server)->conninfo,
                        text_of(stored, r->pool), name);
}

users_attempt users_lockout_begin(request_rec *r, const char *kind, const char *name,
                                  const users_secret *stored, bool hashed)
{
    users_attempt attempt = {.kind = kind, .name = name};
    int most = users_settings_of(r->server)->max_failures;
    const char *key;

    if (shared && most > 0) {
        attempt.most = (apr_uint32_t)most;
        users_counts_tell_left_out(r, &shared->lines,
                                   "names and addresses were refused for too many wrong secrets");
        key = key_of(r, kind, name, stored);
        attempt.failures = hashed ? &shared->hashed[users_counts_place(key, HASHED)]
                                  : &shared->others[users_counts_place(key, OTHERS)];
    }
    return attempt;
}

static users_refusal lock_out(request_rec *r, const users_failures_now *known)
{
    users_count(USERS_FIGURE_LIMITED + USERS_LIMIT_SECRETS);
    return users_refuse_for_now(r, HTTP_TOO_MANY_REQUESTS, USERS_CODE_TOO_MANY_FAILURES,
                                "too many wrong secrets came from this address: try again later",
                                known->left > 0 ? apr_time_sec(known->left - 1) + 1 : 1);
}

bool users_lockout_holds(const users_attempt *attempt)
{
    return attempt->failures && users_failures_read(attempt->failures).count >= attempt->most;
}

users_refusal users_lockout_judge(request_rec *r, const users_attempt *attempt)
{
    users_failures_now known;

    if (!users_lockout_holds(attempt)) {
        return users_pass();
    }
    known = users_failures_read(attempt->failures);
    return lock_out(r, &known);
}

users_refusal users_lockout_failed(request_rec *r, const users_attempt *attempt)
{
    users_failures_now known;

    if (!attempt->failures) {
        return users_refuse(HTTP_UNAUTHORIZED, NULL);
    }
    known = users_failures_add(attempt->failures, users_settings_of(r->server)->failure_window);
    if (known.count == attempt->most) {
        users_count(USERS_FIGURE_LOCKOUTS);
        tell(r, attempt, &known);
    }
    return known.count <= attempt->most ? users_refuse(HTTP_UNAUTHORIZED, NULL)
                                        : lock_out(r, &known);
}

void users_lockout_succeeded(const users_attempt *attempt)
{
    if (attempt->failures) {
        users_failures_forget(attempt->failures);
    }
}
