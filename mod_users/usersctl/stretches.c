#include "usersctl/stretches.h"

#include "core/json.h"
#include "usersctl/actions.h"
#include "usersctl/database.h"

#include <apr_strings.h>
#include <string.h>

#define WINDOW "100000" /* rows that one statement looks at */

/* A list while it is read. */
typedef struct {
    users_invocation *invocation;
    const char *next;
    const char *list;
    const char *filters; /* an object in JSON */
    const char *newest;
    const char *after; /* the row behind which it goes on; NULL: at the beginning */
    bool ended;
    PGresult *rows; /* NULL: none was read */
} walk;

/* The options that were given, in JSON; NULL: no memory. */
static const char *filters_of(const users_invocation *invocation, const users_filter *filters)
{
    json_t *all = json_object();
    bool complete = all != NULL;

    users_json_free_with(invocation->pool, all);
    for (; filters->argument != USERS_ARG_NONE; filters++) {
        const char *value = invocation->values[filters->argument];

        if (value) {
            complete = complete && json_object_set_new(all, filters->name, json_string(value)) == 0;
        }
    }
    return complete ? users_json_text(all, invocation->pool) : NULL;
}

/* Add the rows of a result to those of all, which has the same columns. False: no memory. */
static bool append(PGresult *all, const PGresult *result)
{
    int first = PQntuples(all);

    for (int row = 0; row < PQntuples(result); row++) {
        for (int column = 0; column < PQnfields(result); column++) {
            bool null = PQgetisnull(result, row, column);

            if (!PQsetvalue(all, first + row, column, null ? NULL : PQgetvalue(result, row, column),
                            null ? -1 : PQgetlength(result, row, column))) {
                return false;
            }
        }
    }
    return true;
}

/* Read the next stretch, in which rows are wanted yet. */
static users_exit read_stretch(walk *w, int wanted)
{
    apr_pool_t *pool = w->invocation->pool;
    const char *next[] = {w->after, w->newest, WINDOW};
    const char *list[] = {w->filters, w->after, NULL, w->newest, apr_itoa(pool, wanted)};
    PGresult *result;
    users_exit status = users_database_call(w->invocation->db, w->next, next, 3, false, &result);

    if (status != USERS_EXIT_DONE) {
        return status;
    }
    w->ended = PQgetisnull(result, 0, 0);
    w->after = w->ended ? w->after : apr_pstrdup(pool, PQgetvalue(result, 0, 0));
    PQclear(result);
    if (w->ended && w->rows) {
        return USERS_EXIT_DONE;
    }
    list[2] = w->after ? w->after : "0"; /* even at the end: what filters say is to be judged */
    status = users_database_call(w->invocation->db, w->list, list, 5,
                                 w->invocation->values[USERS_ARG_JSON] != NULL, &result);
    if (status == USERS_EXIT_DONE && w->rows) {
        bool complete = append(w->rows, result);

        PQclear(result);
        return complete ? status : users_output_complain(USERS_EXIT_FAILED, "no memory");
    }
    w->rows = result;
    return status;
}

users_exit users_stretches_list(users_invocation *invocation, const char *next, const char *list,
                                const users_filter *filters)
{
    int limit = users_action_limit(invocation);
    walk w = {.invocation = invocation,
              .next = next,
              .list = list,
              .filters = filters_of(invocation, filters),
              .newest = invocation->values[USERS_ARG_NEWEST] ? "true" : "false",
              .after = invocation->values[USERS_ARG_AFTER]};
    users_exit status = USERS_EXIT_DONE;

    if (!w.filters) {
        return users_output_complain(USERS_EXIT_FAILED, "no memory");
    }
    while (status == USERS_EXIT_DONE && !w.ended && (!w.rows || PQntuples(w.rows) <= limit)) {
        status = read_stretch(&w, limit + 1 - (w.rows ? PQntuples(w.rows) : 0));
    }
    if (status == USERS_EXIT_DONE) {
        status = users_action_print_rows(invocation, w.rows);
    }
    PQclear(w.rows);
    return status;
}
