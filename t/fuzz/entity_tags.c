/* If-Match and If-None-Match: what is read, written again, is the same list. */
#include "core/header.h"

#include "fuzz.h"

/* With a suffix that reading takes off, since a tag may end in another one. */
static const char *written(const users_entity_tags *tags, apr_pool_t *pool)
{
    const char *list = tags->any ? "*" : "";
    for (int i = 0; i < tags->tags->nelts; i++) {
        list = apr_pstrcat(pool, list, "\"", APR_ARRAY_IDX(tags->tags, i, const char *),
                           "-gzip\", ", NULL);
    }
    for (int i = 0; i < tags->weak->nelts; i++) {
        list = apr_pstrcat(pool, list, ",W/\"", APR_ARRAY_IDX(tags->weak, i, const char *),
                           "-br\"\t", NULL);
    }
    return list;
}

static void check_same(const apr_array_header_t *one, const apr_array_header_t *other)
{
    FUZZ_CHECK(one->nelts == other->nelts);
    for (int i = 0; i < one->nelts; i++) {
        FUZZ_CHECK(strcmp(APR_ARRAY_IDX(one, i, const char *),
                          APR_ARRAY_IDX(other, i, const char *)) == 0);
    }
}

static void check_entity_tags(const char *value, size_t length, apr_pool_t *pool)
{
    const users_entity_tags *tags = users_entity_tags_parse(value, pool);
    if (tags == NULL || length > 4096) {
        return;
    }
    const users_entity_tags *again = users_entity_tags_parse(written(tags, pool), pool);
    FUZZ_CHECK(again != NULL && again->any == tags->any);
    check_same(tags->tags, again->tags);
    check_same(tags->weak, again->weak);
    FUZZ_CHECK(users_entity_tags_match(tags, NULL, true) == tags->any);
    for (int i = 0; i < tags->tags->nelts; i++) {
        FUZZ_CHECK(
            users_entity_tags_match(tags, APR_ARRAY_IDX(tags->tags, i, const char *), false));
    }
    for (int i = 0; i < tags->weak->nelts; i++) {
        FUZZ_CHECK(users_entity_tags_match(tags, APR_ARRAY_IDX(tags->weak, i, const char *), true));
    }
    FUZZ_CHECK(tags->any || !users_entity_tags_match(tags, "no \"tag", true));
}

FUZZ_TARGET(check_entity_tags)
