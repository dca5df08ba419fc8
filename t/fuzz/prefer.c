/* Prefer. */
#include "core/header.h"

#include "fuzz.h"

static void check_prefer(const char *value, size_t length, apr_pool_t *pool)
{
    users_prefer prefer;
    users_prefer again;
    bool well_formed = users_prefer_parse(value, &prefer);
    (void)length;

    /* The first of a kind counts; a malformed rest spoils the whole. */
    const char *first = "return=representation, handling=lenient,";
    FUZZ_CHECK(users_prefer_parse(apr_pstrcat(pool, first, value, NULL), &again) == well_formed);
    if (!well_formed) {
        return;
    }
    FUZZ_CHECK(!again.minimal && !again.strict);

    /* What was understood, sent by itself, is understood alike; and so before the rest. */
    const char *plain = apr_pstrcat(pool, prefer.minimal ? "return=minimal" : "",
                                    prefer.strict ? ", handling=strict" : "", NULL);
    FUZZ_CHECK(users_prefer_parse(plain, &again));
    FUZZ_CHECK(again.minimal == prefer.minimal && again.strict == prefer.strict);
    FUZZ_CHECK(users_prefer_parse(apr_pstrcat(pool, plain, ",", value, NULL), &again));
    FUZZ_CHECK(again.minimal == prefer.minimal && again.strict == prefer.strict);
}

FUZZ_TARGET(check_prefer)
