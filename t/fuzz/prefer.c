/* Prefer. */
#include "core/header.h"

#include "fuzz.h"

static void check_prefer(const char *value, size_t length, apr_pool_t *pool)
{
    users_prefer prefer = users_prefer_parse(value);
    users_prefer again;
    const char *plain;
    (void)length;

    /* The first of a kind counts, and nothing behind it spoils it. */
    again = users_prefer_parse(
        apr_pstrcat(pool, "return=representation, handling=lenient, @,", value, NULL));
    FUZZ_CHECK(!again.minimal && !again.strict);

    /* What was understood, sent by itself, is understood alike; and so before the rest. */
    plain = apr_pstrcat(pool, prefer.minimal ? "return=minimal" : "",
                        prefer.strict ? ", handling=strict" : "", NULL);
    again = users_prefer_parse(plain);
    FUZZ_CHECK(again.minimal == prefer.minimal && again.strict == prefer.strict);
    again = users_prefer_parse(apr_pstrcat(pool, plain, ",", value, NULL));
    FUZZ_CHECK(again.minimal == prefer.minimal && again.strict == prefer.strict);
}

FUZZ_TARGET(check_prefer)
