/* The account: GET, PATCH, POST, and what OPTIONS says of them. */
#ifndef USERS_API_ACCOUNT_H
#define USERS_API_ACCOUNT_H

#include <httpd.h>

/* Hook handler: serves what the access checker admitted, and nothing else. */
int users_account_run(request_rec *r);

#endif
