/*
 * The module record: which function answers which httpd hook, and nothing else.
 */
#include <httpd.h> /* first: http_config.h needs it */

#include <http_config.h>
#include <http_protocol.h>
#include <http_request.h>
#include <http_ssl.h>
#include <mod_status.h>

#include "api/account.h"
#include "api/endpoint.h"
#include "api/health.h"
#include "api/metrics.h"
#include "api/oauth.h"
#include "api/openapi.h"
#include "api/status.h"
#include "auth/access.h"
#include "auth/cache.h"
#include "auth/guard.h"
#include "auth/hash.h"
#include "auth/limit.h"
#include "auth/lockout.h"
#include "config/check.h"
#include "config/child.h"
#include "config/directives.h"
#include "config/dump.h"
#include "config/password.h"
#include "config/settings.h"
#include "config/watchdog.h"
#include "http/cors.h"
#include "http/figures.h"
#include "http/process.h"
#include "http/trace.h"

static void register_hooks(apr_pool_t *pool)
{
    static const char *const header_modules[] = {"mod_headers.c", NULL};
    static const char *const tls_modules[] = {"mod_ssl.c", "mod_tls.c", NULL};

    users_guard_register(pool);
    users_cors_register();
    ap_hook_pre_config(users_cache_prepare, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_check_config(users_startup_check, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_check_config(users_watchdog_check, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_check_config(users_cache_check, NULL, NULL, APR_HOOK_LAST); /* wants the defaults */
    ap_hook_ssl_add_cert_files(users_startup_note_tls, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_test_config(users_startup_test, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_test_config(users_dump_test, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_test_config(users_password_test, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_config(users_process_begin, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_post_config(users_process_end, NULL, NULL, APR_HOOK_REALLY_LAST);
    ap_hook_post_config(users_password_run, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_config(users_startup_run, tls_modules, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_config(users_figures_start, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_config(users_lockout_start, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_config(users_limit_start, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_config(users_hash_start, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_config(users_cache_start, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_config(users_openapi_start, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_config(users_child_prepare, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_init(users_figures_open, NULL, NULL, APR_HOOK_FIRST);
    ap_hook_child_init(users_cache_open, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_init(users_hash_open, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_init(users_child_open, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_status(users_figures_note_child, NULL, NULL, APR_HOOK_MIDDLE);

    /* behind those who remove what clients send: RequestHeader unset traceparent early */
    ap_hook_post_read_request(users_trace_begin, header_modules, NULL, APR_HOOK_FIRST);
    ap_hook_map_to_storage(users_endpoint_map, NULL, NULL, APR_HOOK_FIRST);
    ap_hook_check_access(users_access_check, NULL, NULL, APR_HOOK_LAST, AP_AUTH_INTERNAL_PER_CONF);
    ap_hook_check_authn(users_guard_authenticate, NULL, NULL, APR_HOOK_MIDDLE,
                        AP_AUTH_INTERNAL_PER_CONF);
    ap_hook_check_authz(users_guard_authorize, NULL, NULL, APR_HOOK_FIRST,
                        AP_AUTH_INTERNAL_PER_CONF);
    ap_hook_fixups(users_access_complete, NULL, NULL, APR_HOOK_LAST);
    ap_hook_fixups(users_endpoint_choose, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_insert_filter(users_cors_insert, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_insert_error_filter(users_cors_insert, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_handler(users_account_run, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_handler(users_oauth_run, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_handler(users_openapi_run, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_handler(users_health_run, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_handler(users_metrics_run, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_log_transaction(users_access_count, NULL, NULL, APR_HOOK_MIDDLE);
    APR_OPTIONAL_HOOK(ap, status_hook, users_status_show, NULL, NULL, APR_HOOK_MIDDLE);
}

module AP_MODULE_DECLARE_DATA users_module = {
    STANDARD20_MODULE_STUFF, users_location_create, users_location_merge, users_settings_create,
    users_settings_merge, users_directives, register_hooks,
    /* a server that sets nothing has settings all the same: its name and its TLS are its own */
    AP_MODULE_FLAG_ALWAYS_MERGE};
