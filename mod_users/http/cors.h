/*
 * Pages of other origins: what tells a browser that they may call an endpoint and read its answers
 * (UsersCORSOrigin; Fetch standard, section 3.2). It covers the account and the metadata. Health
 * checks are for monitors, and the others take an application's secret, which a page must not have.
 */
#ifndef USERS_HTTP_CORS_H
#define USERS_HTTP_CORS_H

#include <httpd.h>
#include <stdbool.h>

/* Have httpd know the filter that the hooks insert. */
void users_cors_register(void);

/*
 * Hooks insert_filter and insert_error_filter: see to the header fields of an answer, whoever makes
 * it: the module, httpd, or another module that refuses the request before ours.
 */
void users_cors_insert(request_rec *r);

/* Does a browser ask, for a page whose origin is listed, whether it may send a request? */
bool users_cors_is_preflight(const request_rec *r);

/* Set what says which; allow: the methods. */
void users_cors_permit(request_rec *r, const char *allow);

#endif
