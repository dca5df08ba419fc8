/*
 * Sends messages as Standard Webhooks 1.0.0 (standardwebhooks.com) says: signed, several at once.
 * Redirects are not followed, no proxy is used, and answers' bodies are thrown away.
 */
#ifndef USERS_WEBHOOK_H
#define USERS_WEBHOOK_H

#include "usersctl/endpoint.h"

#include <apr_pools.h>
#include <apr_time.h>
#include <stdbool.h>

typedef struct users_webhook users_webhook;

/* A message, and what became of it. */
typedef struct {
    apr_pool_t *pool;              /* of its own */
    const char *id;                /* webhook-id */
    const char *body;              /* JSON */
    struct users_sending *sending; /* webhook.c's */

    bool ended;          /* only then is set what follows */
    long status;         /* of HTTP; 0: there was no answer */
    const char *failure; /* why it was not delivered, in printable ASCII; NULL: it was */
    apr_interval_time_t retry_after; /* what the receiver asked for; 0: nothing */
} users_message;

/*
 * Make a sender of at most parallel connections, which lives as long as pool. timeout: of one
 * message, with its connection. NULL: no memory. endpoint is not copied.
 */
users_webhook *users_webhook_create(apr_pool_t *pool, const users_endpoint *endpoint, int parallel,
                                    apr_interval_time_t timeout);

/* Begin to send a message, of which pool, id and body are set. What fails is told by the message.
 */
void users_webhook_send(users_webhook *webhook, users_message *message);

/*
 * Send and receive, and wait for at most that long until one of the messages has ended, or
 * something else happened.
 */
void users_webhook_run(users_webhook *webhook, apr_interval_time_t wait);

#endif
