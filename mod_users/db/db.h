/*
 * The door to the database: what the folders above may know of it. They see neither connections nor
 * statements, nor whether a primary or its replica answers. Knows nothing of httpd.
 */
#ifndef USERS_DB_DB_H
#define USERS_DB_DB_H

#include "core/credential.h"
#include "core/figures.h"
#include "db/log.h"

#include <apr_pools.h>
#include <apr_tables.h>
#include <apr_time.h>
#include <jansson.h>
#include <stdbool.h>

/*
 * What a connection string says for a keyword, in memory of pool; *value is NULL where it does not
 * name it. False where it can't be read.
 */
bool users_conninfo_read(const char *conninfo, const char *keyword, apr_pool_t *pool,
                         const char **value);

/* What can't be right of a connection string, as a sentence in memory of pool; NULL: nothing. */
const char *users_conninfo_fault(const char *conninfo, apr_pool_t *pool);

/*
 * What libpq has against the options of a connection, those of its environment and service files
 * too, before it connects: a line in memory of pool; NULL: nothing.
 */
const char *users_conninfo_objection(const char *conninfo, apr_pool_t *pool);

/*
 * The connection string in keywords, with this in place of its password, and **** in place of other
 * secrets; NULL: without them. In memory of pool; NULL where it can't be read.
 */
const char *users_conninfo_conceal(const char *conninfo, const char *password, apr_pool_t *pool);

/*
 * What the log calls the database of a connection string: dbname@host, with ":port" where that is
 * another than 5432, and [local] for libpq's default socket. Never a password. In memory of pool.
 */
const char *users_conninfo_name(const char *conninfo, apr_pool_t *pool);

/*
 * The first host that a connection would reach over a network without being sure that it is the
 * right one and that nobody reads along: neither on loopback nor by a Unix socket, and without
 * sslmode=verify-full, gssencmode=require or channel_binding=require. NULL where there is none, or
 * libpq can't tell. *sslmode: what it is.
 */
const char *users_conninfo_exposed(const char *conninfo, apr_pool_t *pool, const char **sslmode);

/*
 * What of its lists of hosts, addresses and ports does not fit the others, as a sentence in memory
 * of pool; NULL: nothing. libpq finds that out when it connects.
 */
const char *users_conninfo_misfit(const char *conninfo, apr_pool_t *pool);

/*
 * A connection string for each host that one names (const char *), by itself, its service or the
 * environment, in its order; the string itself where that is one, or it can't be read. In memory of
 * pool.
 */
apr_array_header_t *users_conninfo_hosts(const char *conninfo, apr_pool_t *pool);

/* Where a connection string connects to, databases aside: equal for equal servers. */
const char *users_conninfo_server(const char *conninfo, apr_pool_t *pool);

#define USERS_REPLICAS_MAX 16

/* A replica of a database, and the memory for what users_db_settings has for the database itself.
 */
typedef struct {
    const char *conninfo; /* of one host: users_conninfo_hosts() */
    struct users_noted *noted;
    struct users_capacity *capacity;
    struct users_health *health;
    struct users_lanes *lanes;
    struct users_standing *standing; /* users_db_standing_size() octets; NULL: its own */
} users_db_replica;

/* A database and how to use it; what must outlive it is not copied. */
typedef struct {
    const char *program; /* another one than httpd; NULL: it is the module */
    const char *conninfo;
    const char *password;                   /* instead of conninfo's; NULL: none */
    const char *replica;                    /* conninfo of all its replicas; NULL: there are none */
    const char *replica_password;           /* as password */
    const users_db_replica *replicas;       /* each of them */
    int replica_count;                      /* USERS_REPLICAS_MAX at most */
    int db_keep;                            /* idle connections */
    int db_max;                             /* connections */
    apr_interval_time_t db_exptime;         /* of an idle connection */
    apr_interval_time_t db_acquire_timeout; /* of a request for a connection */
    apr_interval_time_t db_connect_timeout; /* of a host */
    apr_interval_time_t db_timeout;         /* of a statement */
    apr_interval_time_t request_timeout;    /* of all statements of a request */
    bool db_prepare;                        /* prepared statements and settings of a session */
    int threads;                            /* that make calls at once, at most */
    int read_lanes;                  /* queries in flight that concurrent reads share; 0: none */
    int change_lanes;                /* the same of changes, which share a commit then */
    struct users_lanes *host_lanes;  /* users_lanes_create(): of both, of all processes; NULL: any
                                        number */
    apr_interval_time_t replica_lag; /* how old a replica's answer may be */
    struct users_writers
        *writers;              /* users_db_shared_size() octets, zero at first; NULL: no replica */
    struct users_noted *noted; /* users_db_noted_size() octets; NULL: its own */
    struct users_capacity *capacity; /* users_db_capacity_size() octets; NULL: its own */
    struct users_health *health;     /* users_db_health_size() octets; NULL: its own */
    users_figures *figures;          /* to count in; NULL: its own */
    users_role role;                 /* there: users_db_open()'s to set */
} users_db_settings;

typedef struct users_db users_db;

/* Memory that all processes with the same database share. */
apr_size_t users_db_shared_size(void);

/*
 * The same, of one connection string: what the log has been told, and what its last check has
 * found; and of one server (users_conninfo_server()): how many connections it has. Zero at first.
 */
apr_size_t users_db_noted_size(void);
apr_size_t users_db_health_size(void);
apr_size_t users_db_capacity_size(void);

/* The same, of a replica for those that have the same UsersDB and replica_lag: how old it is. */
apr_size_t users_db_standing_size(void);

/*
 * Count how many connections to a server there may be: so many children, and, added for each of
 * the databases there, so many connections of each. capacity: NULL counts nothing.
 */
void users_db_capacity_begin(struct users_capacity *capacity, int children);
void users_db_capacity_add(struct users_capacity *capacity, int connections);

/*
 * How many statements, each for several requests, all children together may have a server work on
 * at once. For this process and its children, in memory of pool; NULL where the system can't. Each
 * child attaches itself. lanes: NULL does nothing.
 */
struct users_lanes *users_db_lanes(apr_pool_t *pool, int count);
void users_db_lanes_attach(struct users_lanes *lanes, apr_pool_t *pool);

/* Are these settings of the same database, so that one users_db will do for both? */
bool users_db_is_same(const users_db_settings *a, const users_db_settings *b);

/*
 * The database of these settings, with nothing connected yet, in memory of pool, whose clean-up
 * closes what is. NULL, with a line in the log, where memory or a lock could not be had.
 */
users_db *users_db_open(apr_pool_t *pool, const users_db_settings *settings, const users_log *log);

/*
 * Look how far a replica has come, from 0 to replica_count - 1, if that is due and no other process
 * does it. What it finds is all processes' to know. It takes some milliseconds, but 2.5 s where a
 * server is silent: so each replica has a thread for it, on which no request waits, and which comes
 * ten times a second. NULL does nothing.
 */
void users_db_examine_replica(users_db *db, int replica);

/* One request's use of a database. */
typedef struct {
    users_db *db;             /* NULL: it could not be opened, and every function fails */
    apr_pool_t *pool;         /* what functions return lives as long as this */
    apr_interval_time_t left; /* of the time that all its statements may take together */
    users_log log;
} users_db_call;

/* What came of a function. */
typedef enum {
    USERS_OUTCOME_DONE,
    USERS_OUTCOME_UNAVAILABLE, /* nothing was done; trying again may help */
    USERS_OUTCOME_LATE,        /* a look-up did not end in time */
    USERS_OUTCOME_UNKNOWN,     /* a change was made or not: that was not found out in time */
    USERS_OUTCOME_FAILED       /* anything else; it is in the log */
} users_outcome;

/* What the database does at the moment. */
typedef struct {
    bool reads; /* it answers look-ups, or a replica of it does */
    bool takes_changes;
} users_condition;

/*
 * Whether the database serves. One call of all processes that share its memory asks it, and the
 * next one a second after that at the earliest; it has db_timeout, and as much again for each
 * replica. The others are told what was found last, and wait half a second at most where nothing
 * was.
 */
users_condition users_db_condition(users_db_call *call);

/* Look-ups */

/*
 * What let a request in: one of these, the others being NULL. A change asks again whether it still
 * does, since the body may have been long on its way.
 */
typedef struct {
    const unsigned char
        *token;             /* digest of a live token of the user's, USERS_DIGEST_LENGTH octets */
    const char *credential; /* name of live API credentials of the user's */
    const char *client;     /* client_id of a live application, whose tokens another verifies */
} users_proof;

/* Who owns a credential, and what a look-up brings along. */
typedef struct {
    apr_int64_t application; /* 0: none, as for API credentials */
    apr_int64_t user;        /* 0: none, as for a client-credentials token */
    const char *scopes;      /* what it may do; a look-up of API credentials leaves it NULL */
    users_proof proof;       /* the caller's to set */
    bool suspended;
    const char *document; /* the account as GET answers; NULL where not asked for or no user */
    apr_size_t document_length;
} users_principal;

/* How a secret is stored: as a digest or as a hash. */
typedef struct {
    const unsigned char *digest;     /* SHA-256, USERS_DIGEST_LENGTH octets */
    const unsigned char *old_digest; /* the same of a second one that is right, too; NULL: none */
    const char *hash;                /* as apr_password_validate() knows it; beside a digest, and
                                        for a name that nobody has: another one's */
} users_secret;

/* An OAuth client. */
typedef struct {
    apr_int64_t id;
    const char *scopes;         /* what it holds */
    const char *default_scopes; /* what it gets where it asks for none */
} users_application;

/* What a request has to know of whom it is for. */
typedef enum {
    USERS_KNOW_OWNER,   /* who that is */
    USERS_KNOW_ACCOUNT, /* and the account's document, as it is now */
    USERS_KNOW_RECENT   /* and the document, as it was a moment ago: a replica may answer */
} users_knowledge;

/* The live token of this digest. *found is false where there is none. */
users_outcome users_db_find_token(users_db_call *call,
                                  const unsigned char digest[USERS_DIGEST_LENGTH],
                                  users_knowledge wanted, bool *found, users_principal *principal);

/*
 * The live API credentials of this user name, whose secret is the caller's to judge. Where it has
 * no hash, though its name is not one that we make, there is somebody's hash, if anybody has one,
 * to be compared with in vain: the time that a refusal takes must not tell whether there is the
 * name, nor how its secret is kept. A replica's answer counts only where is_known(context, secret):
 * a password that would have to be hashed, or is wrong, is one that a replica does not know.
 */
users_outcome users_db_find_credential(users_db_call *call, const char *name,
                                       users_knowledge wanted,
                                       bool (*is_known)(void *context, const users_secret *secret),
                                       void *context, bool *found, users_principal *principal,
                                       users_secret *secret);

/* A user whose token another module has verified. */
typedef struct {
    const char *client_id; /* of the application that such tokens belong to */
    const char *user;      /* external_id or id of its account; NULL: none */
    bool is_id;            /* which of the two */
} users_external;

/*
 * *found is false where there is no such application; without such an account the principal has no
 * user. Its scopes are NULL.
 */
users_outcome users_db_find_external(users_db_call *call, const users_external *external,
                                     users_knowledge wanted, bool *found,
                                     users_principal *principal);

/* The live application of this client_id, as users_db_find_credential(). */
users_outcome users_db_find_application(users_db_call *call, const char *client_id, bool *found,
                                        users_application *application, users_secret *secret);

/*
 * The members of "user" that GET shows of an account now, but for its unprocessed_usage, for as
 * long as the call's pool; *account is NULL where it has gone.
 */
users_outcome users_db_find_account(users_db_call *call, apr_int64_t user, json_t **account);

/* What RFC 7662 section 2.2 lists of a token, as JSON; *document is NULL where it is not active. */
users_outcome users_db_introspect_token(users_db_call *call,
                                        const unsigned char digest[USERS_DIGEST_LENGTH],
                                        const char **document);

/*
 * Changes: each is made once, and its outcome is found out, also where the connection was lost
 * under it.
 */

/* What became of an account; the first two bring a document. */
typedef enum {
    USERS_CHANGE_DONE,      /* stored */
    USERS_CHANGE_REPEATED,  /* registration: done before under this idempotency key */
    USERS_CHANGE_INVALID,   /* faults: nothing was stored */
    USERS_CHANGE_STALE,     /* If-Match named another state */
    USERS_CHANGE_ENDED,     /* what had let the request in has ended in the meantime */
    USERS_CHANGE_ABSENT,    /* the account has gone or was suspended in the meantime */
    USERS_CHANGE_DUPLICATE, /* the provider pair is registered already */
    USERS_CHANGE_REUSED,    /* the idempotency key came with another payload before */
    USERS_CHANGE_REVOKED,   /* what this idempotency key made was ended by somebody, or suspended */
    USERS_CHANGE_UNDER_WAY  /* the first request of this idempotency key has not ended */
} users_change_kind;

#define USERS_TAKEN "has already been taken" /* text of a fault: another account has the value */

typedef struct {
    users_change_kind kind;
    json_t *faults; /* array of {"field", "text"}; NULL where there are none */
    const char
        *document; /* update: the account as GET answers; registration: without api, labels */
    apr_size_t document_length;
    const char *labels; /* registration: JSON */
} users_change;

/* What a client wants stored. */
typedef struct {
    const json_t *fields; /* users_account_read()'s */
    const char *body;     /* the request as received, for labels and the idempotency key; or NULL */
    bool store;           /* false: judge only */
    const char *note;     /* what is to be written of it (sql/contract.sql), JSON; NULL: nothing */
} users_submission;

/* if_match: tags (const char *) of which the present one must be one; NULL: no condition. */
users_outcome users_db_update_account(users_db_call *call, const users_principal *owner,
                                      const users_submission *wanted,
                                      const apr_array_header_t *if_match, users_change *change);

typedef struct {
    apr_int64_t application; /* for which the account is made */
    users_proof proof;
    const char *idempotency_key; /* NULL: none */
    const char *name;            /* of the API credentials; random: it is that of the change, too */
    unsigned char digest[USERS_DIGEST_LENGTH]; /* of their secret */
    const char *default_currency;
    const char *default_locale;
    const char *host_name;   /* domain of generated email addresses */
    bool refuses_duplicates; /* of a provider pair */
} users_registration;

users_outcome users_db_register_account(users_db_call *call, const users_registration *registration,
                                        const users_submission *wanted, users_change *change);

/*
 * Store a token by its digest, valid from now on for a lifetime. user: 0 for the application's own;
 * credential: the user name of the API credentials that it ends with, NULL for none.
 * *created_at: seconds since 1970, by the database's clock. *issued is false where the application,
 * its scopes, the account or the credential have gone in the meantime. The token must be random:
 * its digest is the name of the change.
 */
users_outcome users_db_issue_token(users_db_call *call, apr_int64_t application, apr_int64_t user,
                                   const char *credential,
                                   const unsigned char digest[USERS_DIGEST_LENGTH],
                                   const char *scopes, apr_interval_time_t lifetime, bool *issued,
                                   apr_int64_t *created_at);

/* End a token of an application, if there is it. *foreign: it is another's, and goes on. */
users_outcome users_db_revoke_token(users_db_call *call, apr_int64_t application,
                                    const unsigned char digest[USERS_DIGEST_LENGTH], bool *foreign);

#endif
