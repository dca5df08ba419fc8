/* The access-checker hook: from a credential to a principal; the operation's scope. */
#ifndef USERS_AUTH_ACCESS_H
#define USERS_AUTH_ACCESS_H

#include "core/accept.h"
#include "core/header.h"
#include "core/operation.h"
#include "db/db.h"
#include "http/refusal.h"

/* A request that may go on: what it wants, how, and for whom. */
typedef struct {
    users_operation operation;
    const char *scope; /* that it needs; NULL: none */
    users_accept accept;
    users_prefer prefer;
    const users_entity_tags *if_match;      /* NULL: no such header field */
    const users_entity_tags *if_none_match; /* NULL: no such header field */
    const char *idempotency_key;            /* NULL: no such header field */
    users_principal principal;
    users_db_call *call; /* the request's use of its database */
} users_admission;

/* Hook access_checker: admits, or answers (DONE), or returns the status of its refusal. */
int users_access_check(request_rec *r);

/*
 * Hook fixups: does the same once more where another module verifies tokens (UsersTokenSource
 * environment), which it has not done yet when access checkers run.
 */
int users_access_complete(request_rec *r);

/* Hook log_transaction: counts what access_checker has judged, with the answer that it got. */
int users_access_count(request_rec *r);

/* The value of Allow at the endpoint that r is for, in memory of the request. */
const char *users_access_allow(const request_rec *r);

/* Answer OPTIONS. Returns what a handler returns. */
int users_access_reply_options(request_rec *r);

/*
 * For a handler of this name (r->handler): the admission of this very request, not of the one that
 * it was redirected from, nor of one that it is a part of. NULL: *answer is what the handler
 * returns, DECLINED where it is another one's request, or what came of the refusal: the hook's, or
 * a 403 where the hook never saw the request.
 */
const users_admission *users_access_enter(request_rec *r, const char *handler, int *answer);

/* May the principal do what needs this scope? */
bool users_access_permits(const users_principal *principal, const char *scope);

#endif
