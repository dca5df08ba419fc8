#include "db/result.h"
#include "db/route.h"

#include <apr_strings.h>

/* An application, and its account where there is one. */
#define FIND_EXTERNAL(condition, document)                                                         \
    "select p.application_id::bigint, a.user_id::bigint, null, a.suspended, " document             \
    " from users_api.application p left join users_api.account a on " condition                    \
    " where p.client_id = $1"
#define BY_EXTERNAL_ID "a.application_id = p.application_id and a.external_id = $2"
#define BY_ID          "a.user_id = $2::text::bigint"

static const users_statement find_external = {
    USERS_FIND_EXTERNAL, "find_external", FIND_EXTERNAL(BY_EXTERNAL_ID, "null"), 2, .reads = true};
static const users_statement find_external_account = {
    USERS_FIND_EXTERNAL_ACCOUNT, "find_external_account",
    FIND_EXTERNAL(BY_EXTERNAL_ID, "a.document"), 2, .reads = true};
static const users_statement find_by_id = {USERS_FIND_BY_ID, "find_by_id",
                                           FIND_EXTERNAL(BY_ID, "null"), 2, .reads = true};
static const users_statement find_by_id_account = {USERS_FIND_BY_ID_ACCOUNT, "find_by_id_account",
                                                   FIND_EXTERNAL(BY_ID, "a.document"), 2,
                                                   .reads = true};
/* The contract of 0.1.0, and what others made after it, has no old_secret_digest. */
static const users_statement find_application = {
    USERS_FIND_APPLICATION, "find_application",
    "select application_id::bigint, secret_digest, coalesce(array_to_string(scopes, ' '), ''),"
    " coalesce(array_to_string(default_scopes, ' '), ''), (to_jsonb(p) ->> "
    "'old_secret_digest')::bytea"
    " from users_api.application p where client_id = $1",
    1, .reads = true};
static const users_statement issue_token = {
    USERS_ISSUE_TOKEN, "issue_token",
    "select users_api.issue_token($1, $2, $3, string_to_array($4, ' '),"
    " now() + make_interval(secs => $5), $6), floor(extract(epoch from now()))::bigint",
    6, .reads = false};
static const users_statement revoke_token = {
    USERS_REVOKE_TOKEN, "revoke_token", "select users_api.revoke_token($1, $2)", 2, .reads = false};
static const users_statement introspect_token = {USERS_INTROSPECT_TOKEN, "introspect_token",
                                                 "select users_api.introspect_token($1)", 1,
                                                 .reads = true};

/* External tokens */

/* A claim that is an id: a number above 0, in decimal and no other form; else NULL. */
static const char *id_of_claim(const char *claim, apr_pool_t *pool)
{
    apr_int64_t id = claim ? apr_atoi64(claim) : 0;

    return id > 0 && strcmp(claim, apr_psprintf(pool, "%" APR_INT64_T_FMT, id)) == 0 ? claim : NULL;
}

typedef struct {
    const users_external *external;
    bool with_document;
    bool *found;
    users_principal *principal;
} external_look_up;

/* A users_look_up. */
static users_db_status find_at(users_db_call *call, users_db *db, void *look_up, apr_int64_t *user)
{
    const external_look_up *l = look_up;
    const users_external *e = l->external;
    const users_statement *statement =
        e->is_id ? (l->with_document ? &find_by_id_account : &find_by_id)
                 : (l->with_document ? &find_external_account : &find_external);
    users_parameter parameters[] = {{e->client_id, 0},
                                    {e->is_id ? id_of_claim(e->user, call->pool) : e->user, 0}};
    PGresult *result;
    users_db_status status = users_run_for(call, db, statement, parameters, &result);

    *l->found = status == USERS_DB_OK && PQntuples(result) == 1;
    if (*l->found) {
        *l->principal = users_principal_at(result, 0);
    }
    *user = users_route_admitted(*l->found, l->principal);
    return status;
}

users_outcome users_db_find_external(users_db_call *call, const users_external *external,
                                     users_knowledge wanted, bool *found,
                                     users_principal *principal)
{
    external_look_up look_up = {external, wanted != USERS_KNOW_OWNER, found, principal};

    return users_route_look_up(call, wanted, find_at, &look_up);
}

/* Applications and their tokens */

users_outcome users_db_find_application(users_db_call *call, const char *client_id, bool *found,
                                        users_application *application, users_secret *secret)
{
    users_parameter parameters[] = {{client_id, 0}};
    PGresult *result;
    users_db_status status = users_run_for(call, call->db, &find_application, parameters, &result);

    *found = status == USERS_DB_OK && PQntuples(result) == 1;
    if (*found) {
        *application = (users_application){.id = users_int8_at(result, 0, 0),
                                           .scopes = users_text_at(result, 0, 2),
                                           .default_scopes = users_text_at(result, 0, 3)};
        *secret = (users_secret){.digest = users_digest_at(result, 0, 1),
                                 .old_digest = users_digest_at(result, 0, 4)};
    }
    return users_outcome_of_read(status);
}

users_outcome users_db_issue_token(users_db_call *call, apr_int64_t application, apr_int64_t user,
                                   const char *credential,
                                   const unsigned char digest[USERS_DIGEST_LENGTH],
                                   const char *scopes, apr_interval_time_t lifetime, bool *issued,
                                   apr_int64_t *created_at)
{
    users_parameter parameters[] = {
        {apr_psprintf(call->pool, "%" APR_INT64_T_FMT, application), 0},
        {user ? apr_psprintf(call->pool, "%" APR_INT64_T_FMT, user) : NULL, 0},
        {(const char *)digest, USERS_DIGEST_LENGTH},
        {scopes, 0},
        {apr_psprintf(call->pool, "%" APR_TIME_T_FMT, apr_time_sec(lifetime)), 0},
        {credential, 0},
    };
    PGresult *result;
    bool settled;
    users_db_status status = users_run_change(call, &issue_token, parameters, &result, &settled);

    if (status == USERS_DB_OK) {
        *issued = users_bool_at(result, 0, 0);
        *created_at = users_int8_at(result, 0, 1);
    }
    return users_outcome_of_change(status);
}

users_outcome users_db_revoke_token(users_db_call *call, apr_int64_t application,
                                    const unsigned char digest[USERS_DIGEST_LENGTH], bool *foreign)
{
    users_parameter parameters[] = {
        {apr_psprintf(call->pool, "%" APR_INT64_T_FMT, application), 0},
        {(const char *)digest, USERS_DIGEST_LENGTH},
    };
    PGresult *result;
    bool settled;
    users_db_status status = users_run_change(call, &revoke_token, parameters, &result, &settled);

    if (status == USERS_DB_OK) {
        *foreign = !users_bool_at(result, 0, 0);
    }
    return users_outcome_of_change(status);
}

users_outcome users_db_introspect_token(users_db_call *call,
                                        const unsigned char digest[USERS_DIGEST_LENGTH],
                                        const char **document)
{
    users_parameter parameters[] = {{(const char *)digest, USERS_DIGEST_LENGTH}};
    PGresult *result;
    users_db_status status = users_run_for(call, call->db, &introspect_token, parameters, &result);

    *document = status == USERS_DB_OK ? users_text_at(result, 0, 0) : NULL;
    return users_outcome_of_read(status);
}
