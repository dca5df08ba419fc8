/* The statements of the contract (schema users_api): bind, run, decode. */
#ifndef USERS_DB_ACCOUNTS_H
#define USERS_DB_ACCOUNTS_H

#include "core/credential.h"
#include "db/pool.h"

#include <jansson.h>
#include <stdbool.h>

/* Who owns a credential, and what a look-up brings along. Memory of the request. */
typedef struct {
    apr_int64_t application; /* 0: none, as for API credentials */
    apr_int64_t user;        /* 0: none, as for a client-credentials token */
    const char *scopes;      /* what it may do; a look-up of API credentials leaves it NULL */
    bool suspended;
    const char *document; /* the account as GET answers; NULL where not asked for or no user */
    apr_size_t document_length;
} users_principal;

/* How a secret is stored: as a digest or as a hash. Memory of the request. */
typedef struct {
    const unsigned char *digest;     /* SHA-256, USERS_DIGEST_LENGTH octets */
    const unsigned char *old_digest; /* the same of a second one that is right, too; NULL: none */
    const char *hash;                /* as apr_password_validate() knows it */
} users_secret;

/* Hook child_init: a pool for each database of this child; nothing is connected yet. */
void users_store_open(apr_pool_t *pchild, server_rec *s);

/*
 * Look up the live token of this digest in a database (NULL fails); with_document brings the
 * account along in the same trip. *found is false where there is none. A read: repeated once where
 * a pooled connection turned out to be dead.
 */
users_db_status users_store_find_token(request_rec *r, struct users_database *database,
                                       const unsigned char digest[USERS_DIGEST_LENGTH],
                                       bool with_document, bool *found, users_principal *principal);

/*
 * The same for the live API credentials of this user name. The secret is the caller's to judge.
 * Where there are none it is somebody's hash, if anybody has one, to be compared with in vain: the
 * time that an answer takes must not tell whether there is the name.
 */
users_db_status users_store_find_credential(request_rec *r, struct users_database *database,
                                            const char *name, bool with_document, bool *found,
                                            users_principal *principal, users_secret *secret);

/* The owner in a row of (application, user, scopes, suspended, document). Memory of the result. */
users_principal users_store_principal(const PGresult *result, int row);

/* A clean-up of a pool: gives a reference to JSON back. */
apr_status_t users_store_release_json(void *json);

/* What came of a change; the first two bring a document. */
typedef enum {
    USERS_CHANGE_DONE,      /* stored */
    USERS_CHANGE_REPEATED,  /* registration: done before under this idempotency key */
    USERS_CHANGE_INVALID,   /* faults: nothing was stored */
    USERS_CHANGE_STALE,     /* If-Match named another state */
    USERS_CHANGE_ABSENT,    /* the account has gone or was suspended in the meantime */
    USERS_CHANGE_DUPLICATE, /* the provider pair is registered already */
    USERS_CHANGE_REUSED,    /* the idempotency key came with another payload before */
    USERS_CHANGE_UNDER_WAY  /* the first request of this idempotency key has not ended */
} users_outcome;

typedef struct {
    users_outcome outcome;
    json_t *faults; /* array of {"field", "text"}, this request's; NULL where there are none */
    const char
        *document; /* update: the account as GET answers; registration: without api, labels */
    apr_size_t document_length;
    const char *labels; /* registration: JSON */
} users_change;

/*
 * Both changes: one is made once, and what came of it is told, also where the connection was
 * lost under it. USERS_DB_UNKNOWN: that could not be found out within UsersRequestTimeout.
 */

/*
 * Update a user's account. fields: users_account_read()'s; body: the request as received, which
 * labels are read from. if_match: tags (const char *) of which the present one must be one; NULL:
 * no condition. store false: judge only.
 */
users_db_status users_store_update(request_rec *r, apr_int64_t user, const json_t *fields,
                                   const char *body, const apr_array_header_t *if_match, bool store,
                                   users_change *change);

/*
 * Register an account for an application, with API credentials of this name and secret's digest.
 * The name must be random: it is that of the change, too.
 */
users_db_status users_store_register(request_rec *r, apr_int64_t application, const json_t *fields,
                                     const char *body, const char *idempotency_key,
                                     const char *name,
                                     const unsigned char digest[USERS_DIGEST_LENGTH], bool store,
                                     users_change *change);

#endif
