#include "auth/lockout.h"

#include "config/settings.h"

#include <apr_strings.h>
#include <http_log.h>
#include <openssl/evp.h>

APLOG_USE_MODULE(users);

/* What is remembered of a name and an address. */
typedef struct {
    apr_time_t end; /* of the window, which the first failure opens */
    int count;
} failures;

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

    attempt->followed = false;
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
        ap_log_rerror(APLOG_MARK, APLOG_INFO, 0, r,
                      "%d wrong secrets of one name: it is refused from here until the window ends",
                      known.count);
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
