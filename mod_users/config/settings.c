#include "config/settings.h"

void *users_settings_create(apr_pool_t *pool, server_rec *s)
{
    users_settings *settings = apr_pcalloc(pool, sizeof(*settings));

    (void)s;
    settings->endpoints = apr_array_make(pool, 1, sizeof(users_location));
    return settings;
}

void *users_settings_merge(apr_pool_t *pool, void *base, void *add)
{
    const users_settings *from = base;
    const users_settings *over = add;
    users_settings *merged = apr_pcalloc(pool, sizeof(*merged));

#define MERGE(type, name, fallback) merged->name = over->name ? over->name : from->name;
    USERS_SETTINGS(MERGE)
#undef MERGE
    if (over->conninfo) {
        merged->replica = over->replica; /* base's is the replica of another database */
    }
    merged->endpoints = apr_array_append(pool, from->endpoints, over->endpoints);
    return merged;
}

void *users_location_create(apr_pool_t *pool, char *path)
{
    (void)path;
    return apr_pcalloc(pool, sizeof(users_location));
}

void *users_location_merge(apr_pool_t *pool, void *base, void *add)
{
    const users_location *over = add;

    (void)pool;
    return over->endpoint ? add : base;
}
