/* Request bodies: what is taken is an object with a user, within the limits, and JSON. */
#include "core/request.h"

#include "fuzz.h"

/* Levels of arrays and objects. */
static int depth_of(json_t *value)
{
    int deepest = 0;
    size_t index;
    const char *key;
    json_t *member;
    if (!json_is_array(value) && !json_is_object(value)) {
        return 0;
    }
    json_array_foreach(value, index, member)
    {
        int depth = depth_of(member);
        deepest = depth > deepest ? depth : deepest;
    }
    json_object_foreach(value, key, member)
    {
        int depth = depth_of(member);
        deepest = depth > deepest ? depth : deepest;
        FUZZ_CHECK(key != NULL);
    }
    return deepest + 1;
}

/* No number of a good body is zero as a double, but for zeros. */
static void check_numbers(const char *bytes)
{
    for (const char *at = bytes; *at != '\0'; at++) {
        if (*at == '"') {
            for (at++; *at != '"'; at++) {
                at += *at == '\\';
            }
        } else if (*at >= '0' && *at <= '9') {
            size_t digits = strspn(at, ".0123456789");
            char *end;
            double number = strtod(at, &end);
            FUZZ_CHECK((number == 0) == (strspn(at, ".0") == digits));
            at = end - 1;
        }
    }
}

static void check_request(const char *given, size_t length, apr_pool_t *pool)
{
    const char *error = NULL;
    char *bytes = apr_pstrmemdup(pool, given, length);
    json_t *body = users_request_parse(bytes, length, &error);
    if (body == NULL) {
        FUZZ_CHECK(error != NULL && strncmp(error, "the request body ", 17) == 0);
        return;
    }
    FUZZ_CHECK(error == NULL);
    FUZZ_CHECK(memchr(bytes, '\0', length) == NULL);
    check_numbers(bytes);
    check_numbers(given);
    FUZZ_CHECK(json_is_object(body) && json_is_object(json_object_get(body, "user")));
    FUZZ_CHECK(depth_of(body) <= USERS_REQUEST_DEPTH);

    json_t *strictly = json_loadb(given, length, JSON_REJECT_DUPLICATES, NULL);
    FUZZ_CHECK(strictly != NULL && json_equal(body, strictly));
    json_decref(strictly);

    char *text = json_dumps(body, JSON_COMPACT);
    FUZZ_CHECK(text != NULL);
    json_t *again = users_request_parse(text, strlen(text), &error);
    FUZZ_CHECK(again != NULL && json_equal(body, again));
    free(text);
    json_decref(again);
    json_decref(body);
}

FUZZ_TARGET(check_request)
