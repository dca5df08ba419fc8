#include "http/database.h"

#include "config/settings.h"
#include "http/trace.h"

#include <apr_hash.h>
#include <apr_strings.h>
#include <http_log.h>

APLOG_USE_MODULE(users);

#define KEY_LENGTH sizeof(void *)

static apr_hash_t *databases; /* users_db by server_rec *; read only once child_init is over */

static void write_to_server(void *context, const char *file, int line, users_log_level level,
                            apr_status_t status, const char *text)
{
    const server_rec *s = context;

    ap_log_error(file, line, APLOG_MODULE_INDEX, (int)level, status, s, "%s", text);
}

static void write_to_request(void *context, const char *file, int line, users_log_level level,
                             apr_status_t status, const char *text)
{
    const request_rec *r = context;

    users_log_request_write(file, line, APLOG_MODULE_INDEX, (int)level, status, r, "%s", text);
}

users_log users_database_log(server_rec *s)
{
    return (users_log){.write = write_to_server,
                       .context = s,
                       .level = ap_get_server_module_loglevel(s, APLOG_MODULE_INDEX)};
}

void users_database_begin(apr_pool_t *pchild)
{
    databases = apr_hash_make(pchild);
}

void users_database_set(const server_rec *s, users_db *db)
{
    const void *key = apr_pmemdup(apr_hash_pool_get(databases), &s, KEY_LENGTH);

    apr_hash_set(databases, key, KEY_LENGTH, db);
}

users_db *users_database_get(const server_rec *s)
{
    return databases ? apr_hash_get(databases, &s, KEY_LENGTH) : NULL;
}

users_db_call *users_database_call(request_rec *r)
{
    users_db_call *call = apr_palloc(r->pool, sizeof(*call));

    *call =
        (users_db_call){.db = users_database_get(r->server),
                        .pool = r->pool,
                        .left = users_settings_of(r->server)->request_timeout,
                        .log = {.write = write_to_request,
                                .context = r,
                                .level = ap_get_request_module_loglevel(r, APLOG_MODULE_INDEX)}};
    return call;
}
