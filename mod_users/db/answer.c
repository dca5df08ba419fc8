#include "db/answer.h"

#include "core/json.h"
#include "db/result.h"

#include <apr_strings.h>

/* What each function of the contract may answer. */
static const struct {
    users_statement_number function;
    const char *word;
    users_change_kind kind;
} outcomes[] = {
    {USERS_UPDATE_ACCOUNT, "updated", USERS_CHANGE_DONE},
    {USERS_UPDATE_ACCOUNT, "invalid", USERS_CHANGE_INVALID},
    {USERS_UPDATE_ACCOUNT, "stale", USERS_CHANGE_STALE},
    {USERS_UPDATE_ACCOUNT, "absent", USERS_CHANGE_ABSENT},
    {USERS_UPDATE_ACCOUNT, "ended", USERS_CHANGE_ENDED},
    {USERS_REGISTER_ACCOUNT, "created", USERS_CHANGE_DONE},
    {USERS_REGISTER_ACCOUNT, "repeated", USERS_CHANGE_REPEATED},
    {USERS_REGISTER_ACCOUNT, "invalid", USERS_CHANGE_INVALID},
    {USERS_REGISTER_ACCOUNT, "duplicate", USERS_CHANGE_DUPLICATE},
    {USERS_REGISTER_ACCOUNT, "key_reused", USERS_CHANGE_REUSED},
    {USERS_REGISTER_ACCOUNT, "revoked", USERS_CHANGE_REVOKED},
    {USERS_REGISTER_ACCOUNT, "under_way", USERS_CHANGE_UNDER_WAY},
    {USERS_REGISTER_ACCOUNT, "ended", USERS_CHANGE_ENDED},
};

static bool find_kind(const users_statement *statement, const char *word, users_change_kind *kind)
{
    for (size_t i = 0; word && i < sizeof(outcomes) / sizeof(*outcomes); i++) {
        if (outcomes[i].function == statement->number && strcmp(word, outcomes[i].word) == 0) {
            *kind = outcomes[i].kind;
            return true;
        }
    }
    return false;
}

static bool are_faults(const json_t *list)
{
    size_t i;
    json_t *fault;

    json_array_foreach(list, i, fault)
    {
        if (!json_is_string(json_object_get(fault, "field")) ||
            !json_is_string(json_object_get(fault, "text"))) {
            return false;
        }
    }
    return json_is_array(list);
}

static users_db_status broken(const users_db_call *call, const users_statement *statement,
                              const char *why)
{
    users_log_at(&call->log, USERS_LOG_ERR, 0, "users_api.%s breaks the contract: %s",
                 statement->name, why);
    return USERS_DB_FAILED;
}

/* The faults of an outcome "invalid". text: may be NULL. */
static users_db_status read_faults(users_db_call *call, const users_statement *statement,
                                   const char *text, bool stores, users_change *change)
{
    if (!text) {
        /* what is not to be stored has faults that the caller knows */
        return stores ? broken(call, statement, "it refuses without a fault") : USERS_DB_OK;
    }
    change->faults = json_loads(text, JSON_DECODE_ANY, NULL);
    if (!change->faults) { /* without memory jansson gives any reason */
        users_log_at(&call->log, USERS_LOG_ERR, 0, "cannot read the faults of users_api.%s",
                     statement->name);
        return USERS_DB_FAILED;
    }
    users_json_free_with(call->pool, change->faults);
    if (!are_faults(change->faults)) {
        return broken(call, statement, "its faults are not a list of {field, text}");
    }
    return stores && !json_array_size(change->faults)
               ? broken(call, statement, "it refuses without a fault")
               : USERS_DB_OK;
}

/*
 * The document of a row. The answer to a registration adds members at the end; that to an update is
 * sent as it is.
 */
static users_db_status read_document(users_db_call *call, const users_statement *statement,
                                     const PGresult *result, int row, int column,
                                     users_change *change)
{
    const char *document = users_text_at(result, row, column);
    apr_size_t length = (apr_size_t)PQgetlength(result, row, column);

    change->document = document;
    change->document_length = length;
    if (!document || (statement->number == USERS_REGISTER_ACCOUNT &&
                      (length <= 2 || document[0] != '{' || document[length - 1] != '}'))) {
        return broken(call, statement, "its document is missing, or not an object with members");
    }
    return USERS_DB_OK;
}

users_db_status users_answer_read(users_db_call *call, const users_statement *statement,
                                  bool stores, const PGresult *result, users_change *change)
{
    const char *word = PQntuples(result) == 1 ? users_text_at(result, 0, 0) : NULL;

    *change = (users_change){.faults = NULL};
    if (!find_kind(statement, word, &change->kind)) {
        return broken(call, statement,
                      apr_psprintf(call->pool, "its outcome is '%s'", word ? word : ""));
    }
    switch (change->kind) {
    case USERS_CHANGE_DONE:
    case USERS_CHANGE_REPEATED:
        return read_document(call, statement, result, 0, 2, change);
    case USERS_CHANGE_INVALID:
        return read_faults(call, statement, users_text_at(result, 0, 1), stores, change);
    default:
        return USERS_DB_OK;
    }
}

users_db_status users_answer_take(users_db_call *call, const users_statement *statement,
                                  const PGresult *result, int row, users_change *change)
{
    *change = (users_change){.kind = USERS_CHANGE_DONE};
    return read_document(call, statement, result, row, 1, change);
}
