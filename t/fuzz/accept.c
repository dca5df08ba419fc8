/* Accept. */
#include "core/accept.h"

#include "fuzz.h"

static void check_version(const users_accept *accept)
{
    if (accept->version != NULL && accept->version_served) {
        long version = strtol(accept->version, NULL, 10);
        FUZZ_CHECK(version >= 51 && version <= 80);
        FUZZ_CHECK(strspn(accept->version, "0123456789") == strlen(accept->version));
    }
    FUZZ_CHECK(accept->version != NULL || accept->version_served);
}

static void check_accept(const char *value, size_t length, apr_pool_t *pool)
{
    users_accept accept = users_accept_parse(value, pool);
    (void)length;
    FUZZ_CHECK(accept.acceptable || !accept.problem);
    check_version(&accept);

    /* Who names our type in full gets it, whatever else stands there. */
    users_accept json =
        users_accept_parse(apr_pstrcat(pool, "application/json,", value, NULL), pool);
    FUZZ_CHECK(json.acceptable && (!json.problem || accept.problem));
    users_accept problem =
        users_accept_parse(apr_pstrcat(pool, "application/problem+json,", value, NULL), pool);
    FUZZ_CHECK(problem.acceptable && problem.problem);

    /* The first version counts, and what stands before is not its affair. */
    users_accept version = users_accept_parse(
        apr_pstrcat(pool, "application/json; api_version=52;,", value, NULL), pool);
    FUZZ_CHECK(version.version_served && strcmp(version.version, "52") == 0);
}

FUZZ_TARGET(check_accept)
