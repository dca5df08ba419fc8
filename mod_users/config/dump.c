#include "config/dump.h"

#include "config/directives.h"
#include "config/settings.h"
#include "config/values.h"

#include <ap_mpm.h>
#include <apr_file_io.h>
#include <apr_strings.h>
#include <http_core.h>
#include <http_log.h>
#include <stdarg.h>
#include <string.h>
#include <unixd.h>

APLOG_USE_MODULE(users);

typedef struct {
    apr_file_t *out;
    apr_status_t status; /* of all that was written */
    apr_pool_t *pool;
    const char *indent;
} dump;

static void print(dump *d, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void print(dump *d, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    if (d->status == APR_SUCCESS) {
        d->status = apr_file_puts(apr_pvsprintf(d->pool, format, arguments), d->out);
    }
    va_end(arguments);
}

/* What determines how many connections the children open together. */
static void print_mpm(dump *d)
{
    int children = 1;
    int threads = 1;

    ap_mpm_query(AP_MPMQ_MAX_DAEMONS, &children);
    ap_mpm_query(AP_MPMQ_MAX_THREADS, &threads);
    threads = threads > 1 ? threads : 1;
    print(d,
          "# The settings of mod_users in effect; those with # before them are not set.\n"
          "# MPM %s, children: %d\n"
          "User %s\n"
          "ThreadsPerChild %d\n"
          "MaxRequestWorkers %d\n",
          ap_show_mpm(), children, ap_unixd_config.user_name, threads, children * threads);
}

/* As in conf/users.conf. A time-out may be less than what was set: users_startup_check(). */
static void print_setting(dump *d, const command_rec *directive, const users_settings *settings)
{
    const users_member *m = directive->cmd_data;
    const char *value = m->write((const char *)settings + m->offset, m, d->pool);
    const char *given = m->write((const char *)settings->given + m->offset, m, d->pool);

    if ((value && !*value) || (given && !*given)) {
        d->status = APR_ENOMEM;
    }
    if (given && value && strcmp(given, value) != 0) {
        print(d, "%s# set to %s, but a time-out around it is shorter\n", d->indent, given);
    }
    print(d, "%s%s%s%s%s\n", d->indent, given ? "" : "#", directive->name, value ? " " : "",
          value ? value : "");
}

/* Is there another one of the same path behind this, which counts then? */
static bool is_overridden(const apr_array_header_t *endpoints, int index)
{
    const char *path = APR_ARRAY_IDX(endpoints, index, users_location).path;

    for (int i = index + 1; i < endpoints->nelts; i++) {
        if (strcmp(APR_ARRAY_IDX(endpoints, i, users_location).path, path) == 0) {
            return true;
        }
    }
    return false;
}

static void print_settings(dump *d, const server_rec *s)
{
    const users_settings *settings = users_settings_of(s);

    print(d, "%sServerName %s\n", d->indent, s->server_hostname);
    for (const command_rec *c = users_directives; c->name; c++) {
        if (c->cmd_data) { /* UsersEndpoint has none */
            print_setting(d, c, settings);
        }
    }
    for (int i = 0; i < settings->endpoints->nelts; i++) {
        const users_location *location = &APR_ARRAY_IDX(settings->endpoints, i, users_location);

        if (!is_overridden(settings->endpoints, i)) {
            print(d, "%s<Location \"%s\">\n%s    UsersEndpoint %s\n%s</Location>\n", d->indent,
                  location->path, d->indent, users_write_endpoint(location->endpoint), d->indent);
        }
    }
}

/* An address of a <VirtualHost>, as it is written there. */
static const char *write_address(const server_addr_rec *address, apr_pool_t *pool)
{
    bool v6 = strchr(address->virthost, ':') != NULL;

    return apr_pstrcat(pool, v6 ? " [" : " ", address->virthost, v6 ? "]:" : ":",
                       address->host_port ? apr_itoa(pool, address->host_port) : "*", NULL);
}

static void print_server(dump *d, const server_rec *s)
{
    const char *before = "";

    if (!s->is_virtual) {
        print(d, "\n# The main server\n");
        d->indent = "";
        print_settings(d, s);
        return;
    }
    print(d, "\n# %s:%u\n<VirtualHost", s->defn_name, s->defn_line_number);
    for (const server_addr_rec *a = s->addrs; a; a = a->next) {
        const char *address = write_address(a, d->pool);

        if (strcmp(address, before) != 0) { /* "*" is two: of IPv4 and of IPv6 */
            print(d, "%s", address);
        }
        before = address;
    }
    print(d, ">\n");
    d->indent = "    ";
    print_settings(d, s);
    print(d, "</VirtualHost>\n");
}

void users_dump_test(apr_pool_t *pconf, server_rec *s)
{
    dump d = {.pool = pconf};

    if (!ap_exists_config_define("DUMP_USERS")) {
        return;
    }
    d.status = apr_file_open_stdout(&d.out, pconf);
    print_mpm(&d);
    for (const server_rec *each = s; each; each = each->next) {
        if (users_settings_of(each)->endpoints->nelts) {
            print_server(&d, each);
        }
    }
    if (d.status != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_EMERG, d.status, s,
                     "DUMP_USERS: the settings can't be written to standard output");
    }
}
