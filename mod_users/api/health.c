#include "api/health.h"

#include "api/draft.h"
#include "auth/access.h"
#include "config/settings.h"
#include "http/reply.h"
#include "http/urls.h"

#include <apr_strings.h>

#define RETRY_AFTER "1" /* seconds: how soon the database is asked again */

static const char *word_of(bool up)
{
    return up ? "UP" : "DOWN";
}

static int reply_live(request_rec *r)
{
    static const char up[] = "{\"status\":\"UP\",\"checks\":[]}";

    return users_reply_document(r, HTTP_OK, up, sizeof(up) - 1, NULL);
}

/*
 * Reads decide: where a database takes no changes, as during a failover, every host of its API has
 * the same, and who took them all out would lose the reads, too.
 */
static int reply_ready(request_rec *r, users_db_call *call)
{
    users_condition condition = users_db_condition(call);
    const char *json = apr_psprintf(r->pool,
                                    "{\"status\":\"%s\",\"checks\":["
                                    "{\"name\":\"reads\",\"status\":\"%s\"},"
                                    "{\"name\":\"writes\",\"status\":\"%s\"}]}",
                                    word_of(condition.reads), word_of(condition.reads),
                                    word_of(condition.takes_changes));

    if (!condition.reads) {
        apr_table_setn(r->err_headers_out, "Retry-After", RETRY_AFTER);
    }
    return users_reply_document(r, condition.reads ? HTTP_OK : HTTP_SERVICE_UNAVAILABLE, json,
                                strlen(json), NULL);
}

int users_health_run(request_rec *r)
{
    int answer;
    const users_admission *admission = users_access_enter(r, USERS_HEALTH_HANDLER, &answer);
    users_refusal refused;

    if (!admission) {
        return answer;
    }
    if (admission->operation == USERS_OPTIONS) {
        return users_access_reply_options(r);
    }
    refused = users_judge_accept(admission);
    if (refused.status != OK) {
        return users_reply_refusal(r, &admission->accept, refused);
    }
    return users_url_ends_in(users_location_of(r)->path, USERS_HEALTH_LIVE)
               ? reply_live(r)
               : reply_ready(r, admission->call);
}
