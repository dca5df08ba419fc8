#include "auth/limit.h"

#include "auth/counts.h"
#include "config/settings.h"
#include "core/failures.h"
#include "http/figures.h"
#include "http/trace.h"

#include <apr_strings.h>
#include <http_core.h>
#include <http_log.h>

APLOG_USE_MODULE(users);

/*
 * Only who has proved to be an account or an application has a count here, so none can be driven up
 * by strangers. If in an hour as many honest probes come as there are places, one place in 10^18
 * has 20.
 */
#define PLACES (1u << 16) /* 512 KiB */

/* Zero at first. */
typedef struct {
    users_failures counts[PLACES];
    users_quota lines; /* of the log */
} limits;

static limits *shared; /* NULL: no server has a use for it */

static bool is_needed(const server_rec *s)
{
    bool needed = false;

    for (; s; s = s->next) {
        const users_settings *settings = users_settings_of(s);

        needed |=
            settings->endpoints->nelts && (settings->token_rate > 0 || settings->probe_limit > 0);
    }
    return needed;
}

int users_limit_start(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    (void)pconf;
    (void)plog;
    (void)ptemp;
    shared = NULL;
    if (ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG || !is_needed(s)) {
        return OK;
    }
    shared =
        users_counts_memory(s, "UsersTokenRate and UsersProbeLimit", "limits 1", sizeof(*shared));
    return shared ? OK : !OK;
}

/* The database's ids: virtual hosts that share one share the count. */
static users_failures *count_of(const request_rec *r, const char *kind, apr_int64_t id)
{
    const char *key = apr_psprintf(r->pool, "%s\n%" APR_INT64_T_FMT "\n%s", kind, id,
                                   users_settings_of(r->server)->conninfo);

    users_counts_tell_left_out(r, &shared->lines,
                               "accounts and applications were over a limit of theirs");
    return &shared->counts[users_counts_place(key, PLACES)];
}

static users_refusal refuse(request_rec *r, users_limit limit, users_code code,
                            const char *sentence, apr_interval_time_t left)
{
    users_count(USERS_FIGURE_LIMITED + (int)limit);
    return users_refuse_for_now(r, HTTP_TOO_MANY_REQUESTS, code, sentence,
                                left > 0 ? apr_time_sec(left - 1) + 1 : 1);
}

/* Tokens */

users_refusal users_limit_token(request_rec *r, apr_int64_t application)
{
    int most = users_settings_of(r->server)->token_rate;
    users_failures_now known;

    if (most <= 0) {
        return users_pass();
    }
    known = users_failures_add(count_of(r, "token", application), APR_USEC_PER_SEC);
    if (known.count == (apr_uint32_t)most + 1) {
        users_log_request(r, users_counts_level(&shared->lines), 0,
                          "application %" APR_INT64_T_FMT
                          " asks for more than %d tokens a second, and "
                          "is told to come again (UsersTokenRate)",
                          application, most);
    }
    return known.count <= (apr_uint32_t)most
               ? users_pass()
               : refuse(r, USERS_LIMIT_TOKENS, USERS_CODE_TOO_MANY_REQUESTS,
                        "too many tokens were asked for: try again later", known.left);
}

/* Probes */

static users_refusal refuse_probe(request_rec *r, apr_interval_time_t left)
{
    return refuse(r, USERS_LIMIT_PROBES, USERS_CODE_TOO_MANY_PROBES,
                  "too many addresses were asked for that are taken: try again later", left);
}

users_refusal users_limit_judge_probe(request_rec *r, apr_int64_t account)
{
    int most = users_settings_of(r->server)->probe_limit;
    users_failures_now known;

    if (most <= 0) {
        return users_pass();
    }
    known = users_failures_read(count_of(r, "probe", account));
    return known.count < (apr_uint32_t)most ? users_pass() : refuse_probe(r, known.left);
}

users_refusal users_limit_note_probe(request_rec *r, apr_int64_t account)
{
    const users_settings *settings = users_settings_of(r->server);
    int most = settings->probe_limit;
    users_failures_now known;

    if (most <= 0) {
        return users_pass();
    }
    known = users_failures_add(count_of(r, "probe", account), settings->probe_window);
    if (known.count == (apr_uint32_t)most) {
        users_log_request(r, users_counts_level(&shared->lines), 0,
                          "account %" APR_INT64_T_FMT
                          " has asked for %d addresses that others have; "
                          "changes of its address are refused for %" APR_TIME_T_FMT
                          " s (UsersProbeLimit, UsersProbeWindow)",
                          account, most, apr_time_sec(known.left) + 1);
    }
    return known.count <= (apr_uint32_t)most ? users_pass() : refuse_probe(r, known.left);
}
