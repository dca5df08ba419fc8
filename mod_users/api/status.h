/* The figures of the module in mod_status' page, server-status. */
#ifndef USERS_API_STATUS_H
#define USERS_API_STATUS_H

#include <httpd.h>

/* Hook status_hook, which mod_status has: a section, or lines of "key: value" for ?auto. */
int users_status_show(request_rec *r, int flags);

#endif
