/* Who calls, once that is known: for logs, the hooks behind ours, and Require. */
#ifndef USERS_AUTH_CALLER_H
#define USERS_AUTH_CALLER_H

#include "db/db.h"
#include "http/refusal.h"

/* Sets r->user, USERS_ID and its kin. The principal must live as long as the request. */
void users_caller_publish(request_rec *r, const users_principal *principal);

/* The scopes of r->user; NULL where there is none yet, or another module has named it. */
const char *users_caller_scopes(const request_rec *r);

/* Note that a Require failed for want of this scope. */
void users_caller_note_missing(request_rec *r, const char *scope);

/* 403 with a challenge that names the scope (RFC 6750 section 3.1). */
users_refusal users_caller_refuse_scope(request_rec *r, const char *scope);

/* 403 for what Require does not permit: the same where it is a scope that was noted. */
users_refusal users_caller_refuse_requirements(request_rec *r);

#endif
