#include "api/openapi.h"

#include "auth/access.h"
#include "config/settings.h"
#include "core/json.h"
#include "http/reply.h"
#include "http/urls.h"

#include <apr_strings.h>
#include <http_log.h>

APLOG_USE_MODULE(users);

/* doc/openapi.yaml, as the build has put it into C. */
static const char general[] =
#include "api/openapi.inc"
    ;

/* Where the server's own URL belongs, which a request tells. */
#define SERVER "@SERVER@"

/* The description of this server */

/* Which endpoint a path of the description is for: its x-endpoint. */
static bool is_described(const json_t *item, const users_location *location)
{
    static const struct {
        const char *word;
        users_endpoint endpoint;
        const char *prefix; /* of its path; NULL: any */
    } kinds[] = {
        {"account", USERS_ENDPOINT_ACCOUNT, NULL},
        {"token", USERS_ENDPOINT_TOKEN, NULL},
        {"revoke", USERS_ENDPOINT_REVOKE, NULL},
        {"introspect", USERS_ENDPOINT_INTROSPECT, NULL},
        {"authorization-server", USERS_ENDPOINT_METADATA, USERS_METADATA_SERVER},
        {"protected-resource", USERS_ENDPOINT_METADATA, USERS_METADATA_RESOURCE},
        {"openapi", USERS_ENDPOINT_OPENAPI, NULL},
        {"metrics", USERS_ENDPOINT_METRICS, NULL},
    };
    const char *word = json_string_value(json_object_get(item, "x-endpoint"));

    if (word && location->endpoint == USERS_ENDPOINT_HEALTH) {
        return strcmp(word, users_url_ends_in(location->path, USERS_HEALTH_LIVE)
                                ? "health-live"
                                : "health-ready") == 0;
    }

    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        if (word && strcmp(word, kinds[i].word) == 0 && location->endpoint == kinds[i].endpoint) {
            return !kinds[i].prefix || users_url_below(location->path, kinds[i].prefix);
        }
    }
    return false;
}

/* The names of operations must not be there twice. */
static void remove_names(json_t *item)
{
    const char *name;
    json_t *operation;

    json_object_foreach(item, name, operation)
    {
        json_object_del(operation, "operationId"); /* where it is one */
    }
}

/* Describe an item of the description at each endpoint that it is for. False: no memory. */
static bool add_paths(json_t *own, const users_settings *settings, json_t *item)
{
    int count = 0;

    for (int i = 0; i < settings->endpoints->nelts; i++) {
        const users_location *location = &APR_ARRAY_IDX(settings->endpoints, i, users_location);

        if (!is_described(item, location)) {
            continue;
        }
        if (json_object_set_new(own, location->path, json_incref(item)) != 0) {
            return false;
        }
        count++;
    }
    if (count > 1) {
        remove_names(item);
    }
    return true;
}

/* The paths that this server has; NULL where memory ran out. */
static json_t *paths_of(const users_settings *settings, json_t *paths)
{
    json_t *own = json_object();
    const char *name;
    json_t *item;

    json_object_foreach(paths, name, item)
    {
        if (!add_paths(own, settings, item)) {
            json_decref(own);
            return NULL;
        }
    }
    return own;
}

/* How tokens are had; where that is not here, only how they are sent. False: no memory. */
static bool set_flows(const users_settings *settings, json_t *scheme, apr_pool_t *pool)
{
    int i = 0;
    const users_location *token = users_next_endpoint(settings, USERS_ENDPOINT_TOKEN, &i);
    json_t *flows = json_object_get(scheme, "flows");
    const char *name;
    json_t *flow;

    if (!token) {
        json_object_del(scheme, "flows");
        return json_object_set_new(scheme, "type", json_string("http")) == 0 &&
               json_object_set_new(scheme, "scheme", json_string("bearer")) == 0;
    }
    if (settings->password_grant != USERS_FLAG_ON) {
        json_object_del(flows, "password");
    }
    json_object_foreach(flows, name, flow)
    {
        const char *url = apr_pstrcat(pool, SERVER, token->path, NULL);

        if (json_object_set_new(flow, "tokenUrl", json_string(url)) != 0) {
            return false;
        }
    }
    return true;
}

/* The description of this server with SERVER for its URL, in memory of pool; NULL: no memory. */
static const char *write_description(const users_settings *settings, apr_pool_t *pool)
{
    json_t *document = json_loads(general, 0, NULL);
    json_t *schemes = json_object_get(json_object_get(document, "components"), "securitySchemes");
    const char *text = NULL;

    if (document && set_flows(settings, json_object_get(schemes, "token"), pool) &&
        json_object_set_new(document, "paths",
                            paths_of(settings, json_object_get(document, "paths"))) == 0 &&
        json_object_set_new(document, "servers", json_pack("[{s:s}]", "url", SERVER)) == 0) {
        text = users_json_text(document, pool);
    }
    json_decref(document);
    return text;
}

/* The text between the places where the server's URL belongs. */
static const apr_array_header_t *cut(const char *text, apr_pool_t *pool)
{
    apr_array_header_t *parts = apr_array_make(pool, 4, sizeof(const char *));
    const char *end;

    while ((end = strstr(text, SERVER))) {
        APR_ARRAY_PUSH(parts, const char *) = apr_pstrmemdup(pool, text, (apr_size_t)(end - text));
        text = end + strlen(SERVER);
    }
    APR_ARRAY_PUSH(parts, const char *) = text;
    return parts;
}

int users_openapi_start(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    (void)plog;
    for (; s; s = s->next) {
        users_settings *settings = users_settings_of(s);
        const char *text;
        int i = 0;

        if (!users_next_endpoint(settings, USERS_ENDPOINT_OPENAPI, &i)) {
            continue;
        }
        text = write_description(settings, ptemp);
        if (!text) {
            ap_log_error(APLOG_MARK, APLOG_EMERG, APR_ENOMEM, s,
                         "UsersEndpoint openapi: the description of the API can't be written");
            return !OK;
        }
        settings->description = cut(apr_pstrdup(pconf, text), pconf);
    }
    return OK;
}

/* Requests */

/* Put the URL of the server where it belongs. NULL where memory ran out. */
static const char *description_for(request_rec *r)
{
    const apr_array_header_t *parts = users_settings_of(r->server)->description;
    apr_array_header_t *all = apr_array_make(r->pool, 2 * parts->nelts, sizeof(const char *));
    json_t *list = json_pack("[s]", users_url_issuer(r));
    const char *url = users_json_text(list, r->pool); /* ["URL"], escaped as JSON wants it */

    json_decref(list);
    if (!url) {
        return NULL;
    }
    url = apr_pstrmemdup(r->pool, url + 2, strlen(url) - 4);
    for (int i = 0; i < parts->nelts; i++) {
        if (i > 0) {
            APR_ARRAY_PUSH(all, const char *) = url;
        }
        APR_ARRAY_PUSH(all, const char *) = APR_ARRAY_IDX(parts, i, const char *);
    }
    return apr_array_pstrcat(r->pool, all, '\0');
}

static int show(request_rec *r, const users_admission *admission)
{
    const users_entity_tags *match = admission->if_match;
    const users_entity_tags *none = admission->if_none_match;
    const char *text = description_for(r);
    apr_size_t length = text ? strlen(text) : 0;
    const char *tag = text ? users_reply_tag(text, length, r->pool) : NULL;

    if (!tag) {
        return users_reply_refusal(r, &admission->accept,
                                   users_refuse_outcome(r, USERS_OUTCOME_FAILED));
    }
    if (match && !match->any && !users_entity_tags_match(match, tag, false)) {
        return users_reply_refusal(
            r, &admission->accept,
            users_refuse(HTTP_PRECONDITION_FAILED, "the description is in another state"));
    }
    if (none && (none->any || users_entity_tags_match(none, tag, true))) {
        return users_reply_empty(r, HTTP_NOT_MODIFIED, tag);
    }
    return users_reply_document(r, HTTP_OK, text, length, tag);
}

int users_openapi_run(request_rec *r)
{
    int answer;
    const users_admission *admission = users_access_enter(r, USERS_OPENAPI_HANDLER, &answer);

    if (!admission) {
        return answer;
    }
    return admission->operation == USERS_DESCRIBE ? show(r, admission)
                                                  : users_access_reply_options(r);
}
