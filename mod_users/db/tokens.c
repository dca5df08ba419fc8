#include "db/tokens.h"

#include "db/execute.h"
#include "db/result.h"

#include <apr_strings.h>

/* An application, and its account where there is one. */
#define FIND_EXTERNAL(condition, document)                                                         \
    "select p.application_id::bigint, a.user_id::bigint, null, a.suspended, " document             \
    " from users_api.application p left join users_api.account a on " condition                    \
    " where p.client_id = $1"
#define BY_EXTERNAL_ID "a.application_id = p.application_id and a.external_id = $2"
#define BY_ID          "a.user_id = $2::text::bigint"

static const users_statement find_external = {16, "find_external",
                                              FIND_EXTERNAL(BY_EXTERNAL_ID, "null"), 2, true};
static const users_statement find_external_account = {
    17, "find_external_account", FIND_EXTERNAL(BY_EXTERNAL_ID, "a.document"), 2, true};
static const users_statement find_by_id = {18, "find_by_id", FIND_EXTERNAL(BY_ID, "null"), 2, true};
static const users_statement find_by_id_account = {19, "find_by_id_account",
                                                   FIND_EXTERNAL(BY_ID, "a.document"), 2, true};
/* The contract of 0.1.0, and what others made after it, has no old_secret_digest. */
static const users_statement find_application = {
    20, "find_application",
    "select application_id::bigint, secret_digest, array_to_string(scopes, ' '),"
    " array_to_string(default_scopes, ' '), (to_jsonb(p) ->> 'old_secret_digest')::bytea"
    " from users_api.application p where client_id = $1",
    1, true};
static const users_statement issue_token = {
    21, "issue_token",
    "select users_api.issue_token($1, $2, $3, string_to_array($4, ' '),"
    " now() + make_interval(secs => $5)), floor(extract(epoch from now()))::bigint",
    5, false};
static const users_statement revoke_token = {22, "revoke_token",
                                             "select users_api.revoke_token($1, $2)", 2, false};
static const users_statement introspect_token = {23, "introspect_token",
                                                 "select users_api.introspect_token($1)", 1, true};

/* A claim that is an id: a number above 0, in decimal and no other form; else NULL. */
static const char *id_of_claim(const char *claim, apr_pool_t *pool)
{
    apr_int64_t id = claim ? apr_atoi64(claim) : 0;

    return id > 0 && strcmp(claim, apr_psprintf(pool, "%" APR_INT64_T_FMT, id)) == 0 ? claim : NULL;
}

users_db_status users_grant_find_external(request_rec *r, struct users_database *database,
                                          const char *user, bool with_document, bool *found,
                                          users_principal *principal)
{
    const users_settings *settings = users_settings_of(r->server);
    bool by_id = settings->token_user == USERS_TOKEN_USER_ID;
    const users_statement *statement =
        by_id ? (with_document ? &find_by_id_account : &find_by_id)
              : (with_document ? &find_external_account : &find_external);
    users_parameter parameters[] = {{settings->token_application, 0},
                                    {by_id ? id_of_claim(user, r->pool) : user, 0}};
    PGresult *result;
    users_db_status status = users_run_for(r, database, statement, parameters, &result);

    *found = status == USERS_DB_OK && PQntuples(result) == 1;
    if (*found) {
        *principal = users_store_principal(result, 0);
    }
    return status;
}

users_db_status users_grant_find_application(request_rec *r, const char *client_id, bool *found,
                                             users_application *application, users_secret *secret)
{
    users_parameter parameters[] = {{client_id, 0}};
    PGresult *result;
    users_db_status status =
        users_run_for(r, users_database_of(r), &find_application, parameters, &result);

    *found = status == USERS_DB_OK && PQntuples(result) == 1;
    if (*found) {
        *application = (users_application){.id = users_int8_at(result, 0, 0),
                                           .scopes = users_text_at(result, 0, 2),
                                           .default_scopes = users_text_at(result, 0, 3)};
        *secret = (users_secret){.digest = users_digest_at(result, 0, 1),
                                 .old_digest = users_digest_at(result, 0, 4)};
    }
    return status;
}

users_db_status users_grant_issue_token(request_rec *r, apr_int64_t application, apr_int64_t user,
                                        const unsigned char digest[USERS_DIGEST_LENGTH],
                                        const char *scopes, bool *issued, apr_int64_t *created_at)
{
    apr_interval_time_t lifetime = users_settings_of(r->server)->token_lifetime;
    users_parameter parameters[] = {
        {apr_psprintf(r->pool, "%" APR_INT64_T_FMT, application), 0},
        {user ? apr_psprintf(r->pool, "%" APR_INT64_T_FMT, user) : NULL, 0},
        {(const char *)digest, USERS_DIGEST_LENGTH},
        {scopes, 0},
        {apr_psprintf(r->pool, "%" APR_TIME_T_FMT, apr_time_sec(lifetime)), 0},
    };
    PGresult *result;
    bool settled;
    users_db_status status = users_run_change(r, &issue_token, parameters, &result, &settled);

    if (status == USERS_DB_OK) {
        *issued = users_bool_at(result, 0, 0);
        *created_at = users_int8_at(result, 0, 1);
    }
    return status;
}

users_db_status users_grant_revoke_token(request_rec *r, apr_int64_t application,
                                         const unsigned char digest[USERS_DIGEST_LENGTH],
                                         bool *foreign)
{
    users_parameter parameters[] = {
        {apr_psprintf(r->pool, "%" APR_INT64_T_FMT, application), 0},
        {(const char *)digest, USERS_DIGEST_LENGTH},
    };
    PGresult *result;
    bool settled;
    users_db_status status = users_run_change(r, &revoke_token, parameters, &result, &settled);

    if (status == USERS_DB_OK) {
        *foreign = !users_bool_at(result, 0, 0);
    }
    return status;
}

users_db_status users_grant_introspect_token(request_rec *r,
                                             const unsigned char digest[USERS_DIGEST_LENGTH],
                                             const char **document)
{
    users_parameter parameters[] = {{(const char *)digest, USERS_DIGEST_LENGTH}};
    PGresult *result;
    users_db_status status =
        users_run_for(r, users_database_of(r), &introspect_token, parameters, &result);

    *document = status == USERS_DB_OK ? users_text_at(result, 0, 0) : NULL;
    return status;
}
