/* The OAuth endpoints: tokens are asked for, ended and described; clients find out where. */
#ifndef USERS_API_OAUTH_H
#define USERS_API_OAUTH_H

#include <httpd.h>

/* Hook handler: serves what the access checker admitted to an OAuth endpoint, and nothing else. */
int users_token_run(request_rec *r);

#endif
