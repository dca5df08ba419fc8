#include "db/conninfo.h"

#include "db/db.h"
#include "db/options.h"

#include <apr_strings.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

bool users_conninfo_read(const char *conninfo, const char *keyword, apr_pool_t *pool,
                         const char **value)
{
    PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
    bool readable = options != NULL;

    *value = NULL;
    for (const PQconninfoOption *o = options; o && o->keyword; o++) {
        if (strcmp(o->keyword, keyword) == 0) {
            *value = apr_pstrdup(pool, o->val);
        }
    }
    PQconninfoFree(options);
    return readable;
}

/* Ports as of libpq, which judges them only when it connects: an empty one is the usual one. */
static bool are_ports(const char *list)
{
    while (list) {
        size_t digits = strspn(list, "0123456789");
        long port = strtol(list, NULL, 10);

        if (digits > 5 || (digits && (port < 1 || port > 65535)) ||
            (list[digits] && list[digits] != ',')) {
            return false;
        }
        list = list[digits] ? list + digits + 1 : NULL;
    }
    return true;
}

const char *users_conninfo_fault(const char *conninfo, apr_pool_t *pool)
{
    const char *ports;

    if (!users_conninfo_read(conninfo, "port", pool, &ports)) {
        /* libpq's message may quote the string, which may hold a password */
        return "not a connection string of PostgreSQL: it takes keywords such as "
               "\"host=db.example.com dbname=users\" or a URI postgresql://db.example.com/users";
    }
    return are_ports(ports) ? NULL
                            : apr_psprintf(pool,
                                           "port=%s: a port is a number from 1 to 65535, with a "
                                           "comma between several",
                                           ports);
}

const char *users_conninfo_misfit(const char *conninfo, apr_pool_t *pool)
{
    const char *hosts = NULL;
    const char *addresses = NULL;
    const char *ports = NULL;
    apr_uint32_t count;

    users_conninfo_read(conninfo, "host", pool, &hosts);
    users_conninfo_read(conninfo, "hostaddr", pool, &addresses);
    users_conninfo_read(conninfo, "port", pool, &ports);
    count = users_options_length(users_options_length(addresses) ? addresses : hosts);
    count = count ? count : 1;
    if (users_options_length(hosts) && users_options_length(hosts) != count) {
        return apr_psprintf(pool,
                            "host=%s hostaddr=%s: where there are both, they are as many, with a "
                            "comma between several",
                            hosts, addresses);
    }
    if (users_options_length(ports) > 1 && users_options_length(ports) != count) {
        return apr_psprintf(pool, "port=%s: it takes one port for all hosts, or one for each of %u",
                            ports, count);
    }
    return NULL;
}

/*
 * PQconninfoParse() tells what the string itself says, PQconndefaults() what the environment does;
 * service files are read for a connection only. So one is begun that libpq gives up when it has
 * all options, and before it looks up a host, because of one that can't be.
 */
static PGconn *begin_connection(const char *conninfo, const char *keyword)
{
    const char *const keywords[] = {"dbname", keyword, NULL};
    const char *const values[] = {conninfo, "none, since nothing is to be connected", NULL};

    return PQconnectStartParams(keywords, values, 1);
}

const char *users_conninfo_objection(const char *conninfo, apr_pool_t *pool)
{
    PGconn *pg = begin_connection(conninfo, "target_session_attrs"); /* judged last */
    const char *message = PQerrorMessage(pg);
    const char *objection = !pg || strstr(message, "target_session_attrs")
                                ? NULL
                                : apr_pstrmemdup(pool, message, strcspn(message, "\n"));

    PQfinish(pg);
    return objection;
}

PQconninfoOption *users_conninfo_resolve(const char *conninfo)
{
    PGconn *pg = begin_connection(conninfo, "ssl_min_protocol_version"); /* which nobody asks for */
    PQconninfoOption *options = PQconninfo(pg);

    PQfinish(pg);
    if (!users_conninfo_get(options, "dbname")) { /* the user's name, if nothing else */
        PQconninfoFree(options);
        return NULL;
    }
    return options;
}

const char *users_conninfo_get(const PQconninfoOption *options, const char *keyword)
{
    for (; options && options->keyword; options++) {
        if (strcmp(options->keyword, keyword) == 0) {
            return options->val && *options->val ? options->val : NULL;
        }
    }
    return NULL;
}

const char *users_conninfo_name(const char *conninfo, apr_pool_t *pool)
{
    PQconninfoOption *options = users_conninfo_resolve(conninfo);
    PQconninfoOption *said = options ? options : PQconninfoParse(conninfo, NULL);
    const char *dbname = users_conninfo_get(said, "dbname");
    const char *host = users_conninfo_get(said, "host");
    const char *port = users_conninfo_get(said, "port");
    const char *service = users_conninfo_get(said, "service");
    const char *name;

    if (!host) {
        host = users_conninfo_get(said, "hostaddr");
    }
    if (!options && service) {
        name = apr_pstrcat(pool, "of the service ", service, NULL);
    } else {
        bool usual = !port || strcmp(port, "5432") == 0;

        name = apr_pstrcat(pool, dbname ? dbname : "", "@", host ? host : "[local]",
                           usual ? "" : ":", usual ? "" : port, NULL);
    }
    PQconninfoFree(said);
    return name;
}

/* libpq marks passwords for programs that ask for the options; other secrets it does not mark. */
static bool is_secret(const PQconninfoOption *option)
{
    return strchr(option->dispchar, '*') || strstr(option->keyword, "secret") ||
           strncmp(option->keyword, "scram_", strlen("scram_")) == 0;
}

/* A value of a conninfo string, quoted where it has to be. */
static const char *quote(const char *value, apr_pool_t *pool)
{
    char *quoted = apr_palloc(pool, 2 * strlen(value) + 3);
    char *to = quoted;

    if (*value && !strpbrk(value, " \t\n\r\f\v'\\")) {
        return value;
    }
    *to++ = '\'';
    for (; *value; value++) {
        if (*value == '\'' || *value == '\\') {
            *to++ = '\\';
        }
        *to++ = *value;
    }
    *to++ = '\'';
    *to = '\0';
    return quoted;
}

const char *users_conninfo_conceal(const char *conninfo, const char *password, apr_pool_t *pool)
{
    PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
    const char *text = options ? "" : NULL;

    for (const PQconninfoOption *o = options; o && o->keyword; o++) {
        const char *value = o->val;

        if (value && is_secret(o)) {
            value = !password || strcmp(o->keyword, "password") == 0 ? password : "****";
        }
        if (value) {
            text = apr_pstrcat(pool, text, *text ? " " : "", o->keyword, "=", quote(value, pool),
                               NULL);
        }
    }
    PQconninfoFree(options);
    return text;
}

static const char *const lists[] = {"host", "hostaddr", "port"};

static bool is_list(const char *keyword)
{
    for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++) {
        if (strcmp(keyword, lists[i]) == 0) {
            return true;
        }
    }
    return false;
}

static const char *add(const char *text, const char *keyword, const char *value, apr_pool_t *pool)
{
    return value ? apr_pstrcat(pool, text, *text ? " " : "", keyword, "=", quote(value, pool), NULL)
                 : text;
}

/* own: what the string says; all: what counts, that of a service and of the environment, too. */
static const char *conninfo_for(const PQconninfoOption *own, const PQconninfoOption *all,
                                apr_uint32_t host, apr_pool_t *pool)
{
    const char *text = "";

    for (; own->keyword; own++) {
        text = add(text, own->keyword, is_list(own->keyword) ? NULL : own->val, pool);
    }
    for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++) {
        const char *item = users_options_item(users_conninfo_get(all, lists[i]), host, pool);

        text = add(text, lists[i], item && *item ? item : NULL, pool);
    }
    return text;
}

apr_array_header_t *users_conninfo_hosts(const char *conninfo, apr_pool_t *pool)
{
    PQconninfoOption *own = PQconninfoParse(conninfo, NULL);
    PQconninfoOption *resolved = users_conninfo_resolve(conninfo);
    const PQconninfoOption *all = resolved ? resolved : own;
    const char *addresses = users_conninfo_get(all, "hostaddr");
    apr_uint32_t count =
        users_options_length(addresses ? addresses : users_conninfo_get(all, "host"));
    apr_array_header_t *hosts = apr_array_make(pool, 1, sizeof(const char *));

    for (apr_uint32_t i = 0; own && count > 1 && i < count; i++) {
        APR_ARRAY_PUSH(hosts, const char *) = conninfo_for(own, all, i, pool);
    }
    if (!hosts->nelts) {
        APR_ARRAY_PUSH(hosts, const char *) = conninfo;
    }
    PQconninfoFree(own);
    PQconninfoFree(resolved);
    return hosts;
}

static const char *or_nothing(const char *text)
{
    return text ? text : "";
}

const char *users_conninfo_server(const char *conninfo, apr_pool_t *pool)
{
    PQconninfoOption *options = users_conninfo_resolve(conninfo);
    const char *server =
        options ? apr_pstrcat(pool, or_nothing(users_conninfo_get(options, "host")), " ",
                              or_nothing(users_conninfo_get(options, "hostaddr")), " ",
                              or_nothing(users_conninfo_get(options, "port")), NULL)
                : conninfo;

    PQconninfoFree(options);
    return server;
}

static bool says(const PQconninfoOption *options, const char *keyword, const char *wanted)
{
    const char *value = users_conninfo_get(options, keyword);

    return value && strcmp(value, wanted) == 0;
}

/* By its form alone: a configtest looks up no names. */
static bool is_local(const char *host)
{
    bool v4 = host[strspn(host, "0123456789.")] == '\0';

    return !*host || *host == '/' || *host == '@' || strcasecmp(host, "localhost") == 0 ||
           (v4 && strncmp(host, "127.", 4) == 0) || strcmp(host, "::1") == 0;
}

static const char *exposed_host(const PQconninfoOption *options, apr_pool_t *pool)
{
    const char *list = users_conninfo_get(options, "hostaddr");
    char *hosts = apr_pstrdup(pool, list ? list : users_conninfo_get(options, "host"));

    if (says(options, "sslmode", "verify-full") || says(options, "gssencmode", "require") ||
        says(options, "channel_binding", "require")) {
        return NULL;
    }
    while (hosts) {
        char *next = strchr(hosts, ',');

        if (next) {
            *next++ = '\0';
        }
        if (!is_local(hosts)) {
            return hosts;
        }
        hosts = next;
    }
    return NULL;
}

const char *users_conninfo_exposed(const char *conninfo, apr_pool_t *pool, const char **sslmode)
{
    PQconninfoOption *options = users_conninfo_resolve(conninfo);
    const char *host = exposed_host(options, pool);
    const char *mode = users_conninfo_get(options, "sslmode");

    *sslmode = apr_pstrdup(pool, mode ? mode : "prefer");
    PQconninfoFree(options);
    return host;
}
