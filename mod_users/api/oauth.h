/* The OAuth endpoints: token, revoke, introspect and metadata. */
#ifndef USERS_API_OAUTH_H
#define USERS_API_OAUTH_H

#include <httpd.h>

/* Hook handler: serves what the access checker admitted to an OAuth endpoint, and nothing else. */
int users_oauth_run(request_rec *r);

#endif
