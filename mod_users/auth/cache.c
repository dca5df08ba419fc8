#include "auth/cache.h"

#include "config/settings.h"
#include "http/trace.h"

#include <ap_provider.h>
#include <ap_socache.h>
#include <apr_atomic.h>
#include <apr_strings.h>
#include <http_core.h>
#include <http_log.h>
#include <openssl/rand.h>
#include <util_mutex.h>

APLOG_USE_MODULE(users);

#define MUTEX_TYPE "users-cache"

typedef struct {
    const ap_socache_provider_t *provider;
    ap_socache_instance_t *instance;
    apr_global_mutex_t *mutex;
    apr_uint32_t failing; /* the log has said that nothing can be kept */
    unsigned char secret[USERS_CACHE_KEY_LENGTH];
} users_cache;

static users_cache *cache; /* of this configuration; NULL where no setting needs it */

int users_cache_prepare(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp)
{
    apr_status_t status = ap_mutex_register(pconf, MUTEX_TYPE, NULL, APR_LOCK_DEFAULT, 0);

    (void)ptemp;
    if (status != APR_SUCCESS) {
        ap_log_perror(APLOG_MARK, APLOG_EMERG, status, plog,
                      "the mutex " MUTEX_TYPE " can't be registered");
        return !OK;
    }
    return OK;
}

/* Does any server remember verified passwords? */
static bool is_needed(const server_rec *s)
{
    bool needed = false;

    for (; s; s = s->next) {
        const users_settings *settings = users_settings_of(s);

        needed |= settings->endpoints->nelts && settings->credential_cache > 0;
    }
    return needed;
}

/* UsersCache is a name, and behind a colon what the provider makes of it. */
static const char *provider_name(const char *setting, apr_pool_t *pool)
{
    return apr_pstrmemdup(pool, setting, strcspn(setting, ":"));
}

static const ap_socache_provider_t *find_provider(const char *setting, apr_pool_t *pool)
{
    return ap_lookup_provider(AP_SOCACHE_PROVIDER_GROUP, provider_name(setting, pool),
                              AP_SOCACHE_PROVIDER_VERSION);
}

/* Have the provider judge the arguments. Returns what is wrong, or NULL. */
static const char *create_instance(const ap_socache_provider_t *provider,
                                   ap_socache_instance_t **instance, const char *setting,
                                   apr_pool_t *ptemp, apr_pool_t *pool)
{
    const char *arguments = strchr(setting, ':');

    return provider->create(instance, arguments ? arguments + 1 : NULL, ptemp, pool);
}

int users_cache_check(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    const char *setting = users_settings_of(s)->cache_provider;
    const ap_socache_provider_t *provider = find_provider(setting, ptemp);
    ap_socache_instance_t *unused;
    const char *fault;

    (void)pconf;
    (void)plog;
    if (!is_needed(s)) {
        return OK;
    }
    if (!provider) {
        const char *name = provider_name(setting, ptemp);

        ap_log_error(APLOG_MARK, APLOG_EMERG, 0, s,
                     "UsersCache: there is no socache provider '%s': load mod_socache_%s, or turn "
                     "off what needs it by UsersCredentialCache 0",
                     name, name);
        return !OK;
    }
    fault = create_instance(provider, &unused, setting, ptemp, ptemp);
    if (fault) {
        ap_log_error(APLOG_MARK, APLOG_EMERG, 0, s, "UsersCache '%s': %s", setting, fault);
        return !OK;
    }
    return OK;
}

static apr_status_t close_cache(void *data)
{
    cache->provider->destroy(cache->instance, data);
    cache = NULL;
    return APR_SUCCESS;
}

/* Returns what is wrong, or NULL. */
static const char *open_provider(users_cache *opened, const char *setting, server_rec *s,
                                 apr_pool_t *pconf, apr_pool_t *ptemp)
{
    static const struct ap_socache_hints hints = {
        .avg_id_len = USERS_CACHE_KEY_LENGTH,
        .avg_obj_size = 16,
        .expiry_interval = apr_time_from_sec(60),
    };
    const char *fault;

    opened->provider = find_provider(setting, ptemp);
    fault = create_instance(opened->provider, &opened->instance, setting, ptemp, pconf);
    if (!fault && opened->provider->init(opened->instance, "users-cache", &hints, s, pconf) != OK) {
        fault = "it can't be opened";
    }
    return fault;
}

/*
 * What fails here the administrator could not see before: a file, a mutex, shared memory. All the
 * sites of the server go on, and the module does without the cache, as where it forgets.
 */
int users_cache_start(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    const char *setting = users_settings_of(s)->cache_provider;
    users_cache *opened;
    const char *fault;

    (void)plog;
    if (ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG || !is_needed(s)) {
        return OK;
    }
    opened = apr_pcalloc(pconf, sizeof(*opened));
    if (ap_global_mutex_create(&opened->mutex, NULL, MUTEX_TYPE, NULL, s, pconf, 0) !=
        APR_SUCCESS) {
        fault = "the mutex " MUTEX_TYPE " can't be made";
    } else if (RAND_bytes(opened->secret, sizeof(opened->secret)) != 1) {
        fault = "there is no randomness";
    } else {
        fault = open_provider(opened, setting, s, pconf, ptemp);
    }
    if (fault) {
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, s,
                     "UsersCache '%s': %s: verified passwords are not remembered", setting, fault);
        return OK;
    }
    cache = opened;
    apr_pool_cleanup_register(pconf, s, close_cache, apr_pool_cleanup_null);
    return OK;
}

void users_cache_open(apr_pool_t *pchild, server_rec *s)
{
    const char *file;
    apr_status_t status;

    if (!cache) {
        return;
    }
    file = apr_global_mutex_lockfile(cache->mutex);
    status = apr_global_mutex_child_init(&cache->mutex, file, pchild);
    if (status != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, status, s, "the mutex " MUTEX_TYPE " can't be had");
    }
}

const unsigned char *users_cache_secret(void)
{
    return cache->secret;
}

bool users_cache_is_open(void)
{
    return cache;
}

static bool wants_mutex(void)
{
    return cache->provider->flags & AP_SOCACHE_FLAG_NOTMPSAFE;
}

/* The log says once that nothing can be kept, and once that it can again. */
static void note(request_rec *r, apr_status_t status)
{
    apr_uint32_t failing = status != APR_SUCCESS;

    if (apr_atomic_xchg32(&cache->failing, failing) != failing) {
        users_log_request(r, failing ? APLOG_ERR : APLOG_WARNING, status,
                          failing
                              ? "UsersCache keeps nothing: hashed passwords are hashed each time"
                              : "UsersCache works again");
    }
}

static bool get(request_rec *r, const unsigned char *key, void *value, unsigned length)
{
    unsigned char found[64];
    unsigned found_length = sizeof(found);
    bool good = cache->provider->retrieve(cache->instance, r->server, key, USERS_CACHE_KEY_LENGTH,
                                          found, &found_length, r->pool) == APR_SUCCESS &&
                found_length == length;

    if (good) {
        memcpy(value, found, length);
    }
    return good;
}

static void put(request_rec *r, const unsigned char *key, const void *value, unsigned length,
                apr_time_t until)
{
    unsigned char *copy = apr_pmemdup(r->pool, value, length);

    note(r, cache->provider->store(cache->instance, r->server, key, USERS_CACHE_KEY_LENGTH, until,
                                   copy, length, r->pool));
}

/* False where the mutex is wanted and can't be had: then the cache must not be touched. */
static bool lock(request_rec *r)
{
    apr_status_t status = wants_mutex() ? apr_global_mutex_lock(cache->mutex) : APR_SUCCESS;

    if (status != APR_SUCCESS) {
        note(r, status);
    }
    return status == APR_SUCCESS;
}

static void unlock(void)
{
    if (wants_mutex()) {
        apr_global_mutex_unlock(cache->mutex);
    }
}

bool users_cache_get(request_rec *r, const unsigned char key[USERS_CACHE_KEY_LENGTH], void *value,
                     unsigned length)
{
    bool found = false;

    if (lock(r)) {
        found = get(r, key, value, length);
        unlock();
    }
    return found;
}

void users_cache_put(request_rec *r, const unsigned char key[USERS_CACHE_KEY_LENGTH],
                     const void *value, unsigned length, apr_time_t until)
{
    if (lock(r)) {
        put(r, key, value, length, until);
        unlock();
    }
}
