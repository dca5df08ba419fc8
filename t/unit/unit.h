/* What every unit test begins with: cmocka and the headers it wants, TAP, a pool. */
#ifndef USERS_UNIT_H
#define USERS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <apr_general.h>
#include <apr_pools.h>

#define COUNT(array) (sizeof(array) / sizeof(*(array)))

/* A group's set-up: *state is a pool. */
static inline int unit_begin(void **state)
{
    apr_pool_t *pool = NULL;
    if (apr_initialize() != APR_SUCCESS || apr_pool_create(&pool, NULL) != APR_SUCCESS) {
        return -1;
    }
    *state = pool;
    return 0;
}

static inline int unit_end(void **state)
{
    apr_pool_destroy(*state);
    apr_terminate();
    return 0;
}

#define UNIT_MAIN(tests)                                                                           \
    int main(void)                                                                                 \
    {                                                                                              \
        cmocka_set_message_output(CM_OUTPUT_TAP);                                                  \
        return cmocka_run_group_tests(tests, unit_begin, unit_end);                                \
    }

#endif
