#include "api/note.h"

#include "config/settings.h"
#include "http/trace.h"

#include <apr_strings.h>
#include <string.h>

#define HEXADECIMAL "0123456789abcdefABCDEF"

/* A member of JSON; no value here has a character that needs an escape. */
static const char *text(request_rec *r, const char *name, const char *value)
{
    return value ? apr_pstrcat(r->pool, ",\"", name, "\":\"", value, "\"", NULL) : "";
}

static const char *number(request_rec *r, const char *name, apr_int64_t value)
{
    return value ? apr_psprintf(r->pool, ",\"%s\":%" APR_INT64_T_FMT, name, value) : "";
}

static const char *kind_of(const users_proof *proof)
{
    if (proof->token) {
        return "token";
    }
    return proof->credential ? "credential" : "client";
}

/* As PostgreSQL takes it: an address of IPv6 without the zone that it is of. NULL: it is none. */
static const char *address_of(request_rec *r)
{
    size_t length = strspn(r->useragent_ip, HEXADECIMAL ".:");
    char end = r->useragent_ip[length];

    return end == '\0' || end == '%' ? apr_pstrmemdup(r->pool, r->useragent_ip, length) : NULL;
}

/* An administrator may have set the variable to anything, which is no id then. */
static const char *trace_of(const request_rec *r)
{
    const char *trace = users_trace_of(r);

    return trace && trace[strspn(trace, HEXADECIMAL)] == '\0' ? trace : NULL;
}

const char *users_note_write(request_rec *r, const users_principal *principal, const char *fields)
{
    const users_settings *settings = users_settings_of(r->server);
    bool audit = settings->audit == USERS_FLAG_ON;
    bool event = settings->events == USERS_FLAG_ON;
    const char *who = "";

    if (!audit && !event) {
        return NULL;
    }
    if (audit) {
        who = apr_pstrcat(r->pool, text(r, "kind", kind_of(&principal->proof)),
                          number(r, "account", principal->user),
                          number(r, "application", principal->application),
                          text(r, "address", address_of(r)), text(r, "trace", trace_of(r)), NULL);
    }
    return apr_pstrcat(r->pool, "{\"audit\":", audit ? "true" : "false",
                       ",\"event\":", event ? "true" : "false", who, text(r, "fields", fields), "}",
                       NULL);
}
