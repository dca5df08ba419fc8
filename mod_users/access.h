/* The access-checker hook: from a credential to a principal; the operation's scope. */
#ifndef USERS_ACCESS_H
#define USERS_ACCESS_H

#include "core/header.h"
#include "store.h"

#define USERS_ALLOW "GET, HEAD, PATCH, POST, OPTIONS"

typedef enum { USERS_OPTIONS, USERS_SHOW, USERS_UPDATE, USERS_REGISTER } users_operation;

/* A request that may go on: what it wants, how, and for whom. */
typedef struct {
    users_operation operation;
    users_accept accept;
    users_prefer prefer;
    const users_entity_tags *if_match;      /* NULL: no such header field */
    const users_entity_tags *if_none_match; /* NULL: no such header field */
    const char *idempotency_key;            /* NULL: no such header field */
    users_principal principal;
} users_admission;

/* Hook access_checker: admits, or answers (DONE), or returns the status of its refusal. */
int users_access_check(request_rec *r);

/*
 * The admission of this very request: not of the one that it was redirected from, nor of one that
 * it is a part of. NULL where the hook did not admit it, or never saw it.
 */
const users_admission *users_access_admission(const request_rec *r);

/* Answer as the hook judged; 403 where it never saw the request. */
int users_access_refuse(request_rec *r);

/* May the principal do what needs this scope? */
bool users_access_permits(const users_principal *principal, const char *scope);

#endif
