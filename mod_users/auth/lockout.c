#include "auth/lockout.h"

#include "config/settings.h"
#include "core/quota.h"
#include "http/process.h"

#include <apr_strings.h>
#include <http_core.h>
#include <http_log.h>
#include <openssl/evp.h>

APLOG_USE_MODULE(users);

#define LINES_A_MINUTE 10 /* who tries names at random is not to fill the log */
#define NAME_SHOWN     64 /* octets of a name that it has */

/* Of the log; the children's together, or, without memory to share, this child's own. */
static users_quota *lines;
static users_quota own_lines;

/* What is remembered of a name and an address. */
typedef struct {
    apr_time_t end; /* of the window, which the first failure opens */
    int count;
} failures;

int users_lockout_start(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    (void)pconf;
    (void)plog;
    (void)ptemp;
    lines = NULL;
    if (ap_state_query(AP_SQ_MAIN_STATE) != AP_SQ_MS_CREATE_PRE_CONFIG) {
        lines = users_process_shared(s, "lockouts 1", sizeof(*lines));
    }
    if (!lines) {
        lines = &own_lines;
    }
    return OK;
}

/* The log */

/* Whose name, and from where; httpd escapes what is not printable. */
static void tell(request_rec *r, const users_attempt *attempt, const failures *known)
{
    int level = users_quota_take(lines, LINES_A_MINUTE) ? APLOG_WARNING : APLOG_INFO;
    bool cut = strlen(attempt->name) > NAME_SHOWN;

    ap_log_rerror(APLOG_MARK, level, 0, r,
                  "too many wrong secrets (%d) of the %s \"%.*s%s\" came from %s, which is refused "
                  "under this name for %" APR_TIME_T_FMT
                  " s (UsersMaxFailures, UsersFailureWindow)",
                  known->count, attempt->kind, NAME_SHOWN, attempt->name, cut ? "..." : "",
                  r->useragent_ip, apr_time_sec(known->end - apr_time_now()) + 1);
}

static void tell_left_out(const request_rec *r)
{
    apr_uint32_t left_out = users_quota_left_out(lines);

    if (left_out) {
        ap_log_error(
            APLOG_MARK, APLOG_WARNING, 0, r->server,
            "names and addresses were refused for too many wrong secrets %u times more than "
            "the log tells (%d a minute)",
            left_out, LINES_A_MINUTE);
    }
}

/* Attempts */

/* The name stands last, since only there a line's end can't make two pairs look alike. */
static bool derive_key(request_rec *r, const char *kind, const char *name, unsigned char *key)
{
    const char *text = apr_pstrcat(r->pool, kind, "\n", r->useragent_ip, "\n",
                                   users_settings_of(r->server)->conninfo, "\n", name, NULL);

    return EVP_Digest(text, strlen(text), key, NULL, EVP_sha256(), NULL) == 1;
}

static users_refusal lock_out(request_rec *r, const failures *known)
{
    apr_interval_time_t left = known->end - apr_time_now();

    return users_refuse_for_now(r, HTTP_TOO_MANY_REQUESTS,
                                "too many wrong secrets came from this address: try again later",
                                left > 0 ? apr_time_sec(left - 1) + 1 : 1);
}

users_refusal users_lockout_begin(request_rec *r, const char *kind, const char *name,
                                  users_attempt *attempt)
{
    const users_settings *settings = users_settings_of(r->server);

    *attempt = (users_attempt){.kind = kind, .name = name};
    tell_left_out(r);
    attempt->counts = users_cache_is_open() && settings->max_failures > 0 &&
                      derive_key(r, kind, name, attempt->key);
    return users_lockout_again(r, attempt);
}

users_refusal users_lockout_again(request_rec *r, users_attempt *attempt)
{
    failures known;

    if (!attempt->counts || !users_cache_get(r, attempt->key, &known, sizeof(known))) {
        return users_pass();
    }
    attempt->followed = true;
    return known.count < users_settings_of(r->server)->max_failures ? users_pass()
                                                                    : lock_out(r, &known);
}

/* Callback of users_cache_change(). */
static apr_time_t add_failure(void *value, void *context)
{
    failures *known = value;
    const apr_interval_time_t *window = context;

    if (!known->end) {
        known->end = apr_time_now() + *window;
    }
    known->count++;
    return known->end;
}

users_refusal users_lockout_failed(request_rec *r, const users_attempt *attempt)
{
    const users_settings *settings = users_settings_of(r->server);
    apr_interval_time_t window = settings->failure_window;
    failures known;

    if (!attempt->counts) {
        return users_refuse(HTTP_UNAUTHORIZED, NULL);
    }
    users_cache_change(r, attempt->key, &known, sizeof(known), add_failure, &window);
    if (known.count == settings->max_failures) {
        tell(r, attempt, &known);
    }
    return known.count <= settings->max_failures ? users_refuse(HTTP_UNAUTHORIZED, NULL)
                                                 : lock_out(r, &known);
}

void users_lockout_succeeded(request_rec *r, const users_attempt *attempt)
{
    if (attempt->followed) {
        users_cache_remove(r, attempt->key);
    }
}
