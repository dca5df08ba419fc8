/* Whether httpd lives, and whether the API can serve: for load balancers and whoever watches. */
#ifndef USERS_API_HEALTH_H
#define USERS_API_HEALTH_H

#include <httpd.h>

/*
 * Handler of GET at the two paths of UsersEndpoint health. One that ends in /live is UP wherever
 * httpd answers, and asks nobody. One that ends in /ready is UP (200) while the database answers
 * reads, else DOWN (503), and says of reads and of writes whether they work. The form is that of
 * MicroProfile Health.
 */
int users_health_run(request_rec *r);

#endif
