#include "db/result.h"
#include "db/route.h"

/*
 * One row: where nobody has the name it is another's, so that the answer takes as long; and where
 * its password could be hashed ($2), and isn't, there is another's hash, for as long (see
 * users_db_find_credential()).
 */
#define FIND_CREDENTIAL(document)                                                                  \
    "select c.user_id::bigint, a.suspended, c.secret_digest, "                                     \
    " coalesce(c.secret_hash, d.secret_hash), " document                                           \
    " from (values ($1, $2::boolean)) asked (username, hashable)"                                  \
    " left join users_api.credential c on c.username = asked.username"                             \
    " left join lateral ((select user_id, secret_hash from users_api.credential"                   \
    " where secret_hash is not null and asked.hashable and c.secret_hash is null"                  \
    " order by username limit 1)"                                                                  \
    " union all (select user_id, null from users_api.credential"                                   \
    " where c.user_id is null order by username limit 1) limit 1) d on true"                       \
    " left join users_api.account a on a.user_id = coalesce(c.user_id, d.user_id)"
static const users_statement find_credential = {USERS_FIND_CREDENTIAL, "find_credential",
                                                FIND_CREDENTIAL("null"), 2, .reads = true};
static const users_statement find_credential_account = {
    USERS_FIND_CREDENTIAL_ACCOUNT, "find_credential_account", FIND_CREDENTIAL("a.document"), 2,
    .reads = true};
typedef struct {
    const char *name;
    bool with_document;
    bool (*is_known)(void *context, const users_secret *secret);
    void *context;
    bool *found;
    users_principal *principal;
    users_secret *secret;
} credential_look_up;

static void decode_credential(const PGresult *result, const credential_look_up *l)
{
    *l->secret = (users_secret){.digest = users_digest_at(result, 0, 2),
                                .hash = users_text_at(result, 0, 3)};
    *l->found = !PQgetisnull(result, 0, 0);
    if (*l->found) {
        *l->principal = (users_principal){.user = users_int8_at(result, 0, 0),
                                          .suspended = users_bool_at(result, 0, 1),
                                          .document = users_text_at(result, 0, 4),
                                          .document_length = (apr_size_t)PQgetlength(result, 0, 4)};
    }
}

/* A users_look_up. */
static users_db_status find_at(users_db_call *call, users_db *db, void *look_up, apr_int64_t *user)
{
    const credential_look_up *l = look_up;
    users_parameter parameters[] = {{l->name, 0},
                                    {users_credential_is_generated(l->name) ? "f" : "t", 0}};
    PGresult *result;
    users_db_status status =
        users_run_for(call, db, l->with_document ? &find_credential_account : &find_credential,
                      parameters, &result);

    *l->found = false;
    if (status == USERS_DB_OK && PQntuples(result) == 1) {
        decode_credential(result, l);
    }
    *user = 0;
    if (users_is_replica(db) && *l->found && l->is_known(l->context, l->secret)) {
        *user = users_route_admitted(true, l->principal);
    }
    return status;
}

users_outcome users_db_find_credential(users_db_call *call, const char *name,
                                       users_knowledge wanted,
                                       bool (*is_known)(void *context, const users_secret *secret),
                                       void *context, bool *found, users_principal *principal,
                                       users_secret *secret)
{
    credential_look_up look_up = {
        name, wanted != USERS_KNOW_OWNER, is_known, context, found, principal, secret};

    return users_route_look_up(call, wanted, find_at, &look_up);
}
