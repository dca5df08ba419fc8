#include "db/options.h"

#include "db/conninfo.h"

#include <apr_strings.h>
#include <libpq-fe.h>
#include <string.h>

/* A connection that lies idle has ended within a minute of its server's silent end. */
#define KEEPALIVES_IDLE     "30" /* seconds */
#define KEEPALIVES_INTERVAL "10"
#define KEEPALIVES_COUNT    "3"

void users_options_add(users_options *options, const char *keyword, const char *value)
{
    if (value && options->count < USERS_OPTIONS_MAX) {
        options->keywords[options->count] = keyword;
        options->values[options->count++] = value;
    }
    options->keywords[options->count] = NULL;
    options->values[options->count] = NULL;
}

const char *users_options_item(const char *list, apr_uint32_t index, apr_pool_t *pool)
{
    const char *start = list;
    const char *comma;

    if (!list || !strchr(list, ',')) {
        return list;
    }
    for (; index > 0 && start; index--) {
        comma = strchr(start, ',');
        start = comma ? comma + 1 : NULL;
    }
    return start ? apr_pstrmemdup(pool, start, strcspn(start, ",")) : NULL;
}

apr_uint32_t users_options_length(const char *list)
{
    apr_uint32_t length = list && *list ? 1 : 0;

    for (; list && *list; list++) {
        length += *list == ',';
    }
    return length;
}

/*
 * The settings of a session stand in its startup packet: nothing is left to a SET that
 * a pooled session could lose. All the contract's work is index look-ups. The server gives up a
 * statement before we do, so that its connection survives. The administrator's own options come
 * last and win. A transaction pooler refuses them, or applies them to some sessions only: behind
 * one the role's settings count.
 */
static const char *session_options(const users_db_settings *settings, const char *own,
                                   apr_pool_t *pool)
{
    apr_interval_time_t deadline = apr_time_as_msec(settings->db_timeout);
    apr_interval_time_t statement = deadline * 9 / 10;
    apr_interval_time_t lock = deadline * 8 / 10;

    if (!settings->db_prepare) {
        return own;
    }
    return apr_psprintf(pool,
                        "-c plan_cache_mode=force_generic_plan -c jit=off -c random_page_cost=1.1"
                        " -c statement_timeout=%" APR_TIME_T_FMT " -c lock_timeout=%" APR_TIME_T_FMT
                        " -c idle_in_transaction_session_timeout=%" APR_TIME_T_FMT
                        " -c default_transaction_isolation=read\\ committed%s%s",
                        statement ? statement : 1, lock ? lock : 1, deadline, own ? " " : "",
                        own ? own : "");
}

/* What the string itself leaves out. False where libpq can't tell, as without the service. */
static bool read_hosts(const char *conninfo, users_options_split *into, apr_pool_t *p)
{
    PQconninfoOption *options = users_conninfo_resolve(conninfo);
    const char *wanted = users_conninfo_get(options, "target_session_attrs");

    into->host = apr_pstrdup(p, users_conninfo_get(options, "host"));
    into->hostaddr = apr_pstrdup(p, users_conninfo_get(options, "hostaddr"));
    into->port = apr_pstrdup(p, users_conninfo_get(options, "port"));
    into->prefer_standby = wanted && strcmp(wanted, "prefer-standby") == 0;
    PQconninfoFree(options);
    return options != NULL;
}

static bool is_of_hosts(const char *keyword)
{
    return strcmp(keyword, "host") == 0 || strcmp(keyword, "hostaddr") == 0 ||
           strcmp(keyword, "port") == 0;
}

bool users_options_read(const users_db_settings *settings, users_options_split *into, apr_pool_t *p)
{
    PQconninfoOption *parsed = PQconninfoParse(settings->conninfo, NULL);
    const char *own_options = NULL;
    bool are_known;

    *into = (users_options_split){.host = NULL};
    if (!parsed) {
        return false;
    }
    are_known = read_hosts(settings->conninfo, into, p);
    /* the administrator's own come later and win */
    users_options_add(&into->common, "fallback_application_name",
                      settings->program ? settings->program : "mod_users");
    users_options_add(&into->common, "keepalives_idle", KEEPALIVES_IDLE);
    users_options_add(&into->common, "keepalives_interval", KEEPALIVES_INTERVAL);
    users_options_add(&into->common, "keepalives_count", KEEPALIVES_COUNT);
    users_options_add(&into->common, "tcp_user_timeout",
                      apr_psprintf(p, "%" APR_TIME_T_FMT, apr_time_as_msec(settings->db_timeout)));
    for (const PQconninfoOption *o = parsed; o->keyword; o++) {
        const char *keyword = apr_pstrdup(p, o->keyword);
        const char *value = apr_pstrdup(p, o->val);

        if (are_known && is_of_hosts(keyword)) {
            continue;
        }
        if (strcmp(keyword, "options") == 0) {
            own_options = value;
        } else if (strcmp(keyword, "password") == 0 && settings->password) {
            users_options_add(&into->common, keyword, settings->password);
        } else {
            users_options_add(&into->common, keyword, value);
        }
    }
    PQconninfoFree(parsed);
    users_options_add(&into->common, "client_encoding", "UTF8");
    users_options_add(&into->common, "options", session_options(settings, own_options, p));
    return true;
}
