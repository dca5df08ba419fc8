/*
 * What every fuzz target begins with. A target is one function over a text:
 *
 *     static void try(const char *bytes, size_t length, apr_pool_t *pool) { … FUZZ_CHECK(…); … }
 *     FUZZ_TARGET(try)
 *
 * Under libFuzzer (make fuzz) it gets invented texts. Built without it, the program replays the
 * files named by its arguments, by default those of corpus/TARGET, and tells of them in TAP.
 */
#ifndef USERS_FUZZ_H
#define USERS_FUZZ_H

#include <apr_general.h>
#include <apr_pools.h>
#include <apr_strings.h>
#include <glob.h>
#include <libgen.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What must hold whatever the input. */
#define FUZZ_CHECK(condition)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);         \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

typedef void fuzz_try(const char *bytes, size_t length, apr_pool_t *pool);

/*
 * In place of APR's: each allocation of a run is one of malloc's, so that the sanitizers see where
 * it ends. A pool's own allocations lie side by side.
 */
typedef union fuzz_allocation {
    union fuzz_allocation *next;
    max_align_t aligned;
} fuzz_allocation;

static fuzz_allocation *fuzz_allocations;

APR_DECLARE(void *) apr_palloc(apr_pool_t *pool, apr_size_t size)
{
    fuzz_allocation *allocation = malloc(sizeof(*allocation) + size);
    (void)pool;
    FUZZ_CHECK(allocation != NULL);
    allocation->next = fuzz_allocations;
    fuzz_allocations = allocation;
    return allocation + 1;
}

/* All allocations but those that were there before. */
static inline void fuzz_free(const fuzz_allocation *before)
{
    while (fuzz_allocations != before) {
        fuzz_allocation *allocation = fuzz_allocations;
        fuzz_allocations = allocation->next;
        free(allocation);
    }
}

/* The text is in memory of its own, with a NUL behind it. */
static inline void fuzz_run(fuzz_try *try, const uint8_t *data, size_t size)
{
    static apr_pool_t *base;
    apr_pool_t *pool = NULL;
    if (base == NULL) {
        FUZZ_CHECK(apr_initialize() == APR_SUCCESS);
        FUZZ_CHECK(apr_pool_create(&base, NULL) == APR_SUCCESS);
    }
    const fuzz_allocation *before = fuzz_allocations;
    FUZZ_CHECK(apr_pool_create(&pool, base) == APR_SUCCESS);
    char *bytes = malloc(size + 1);
    FUZZ_CHECK(bytes != NULL);
    if (size > 0) {
        memcpy(bytes, data, size);
    }
    bytes[size] = '\0';
    try(bytes, size, pool);
    free(bytes);
    apr_pool_destroy(pool);
    fuzz_free(before);
}

static inline void fuzz_replay(fuzz_try *try, const char *path)
{
    static uint8_t data[1 << 20];
    FILE *file = fopen(path, "rb");
    FUZZ_CHECK(file != NULL);
    size_t size = fread(data, 1, sizeof(data), file);
    FUZZ_CHECK(ferror(file) == 0);
    fclose(file);
    fuzz_run(try, data, size);
}

static inline int fuzz_main(fuzz_try *try, int count, char **arguments)
{
    const char *source = getenv("USERS_SRCDIR");
    char pattern[4096];
    glob_t found = {.gl_pathc = 0};
    snprintf(pattern, sizeof(pattern), "%s/t/fuzz/corpus/%s/*", source != NULL ? source : ".",
             basename(arguments[0]));
    if (count < 2) {
        FUZZ_CHECK(glob(pattern, 0, NULL, &found) == 0); /* there is at least one */
        count = (int)found.gl_pathc;
        arguments = found.gl_pathv;
    } else {
        count--;
        arguments++;
    }
    printf("1..%d\n", count);
    for (int i = 0; i < count; i++) {
        fflush(stdout);
        fuzz_replay(try, arguments[i]);
        printf("ok %d - %s\n", i + 1, basename(arguments[i]));
    }
    globfree(&found);
    return 0;
}

#ifdef USERS_LIBFUZZER
#define FUZZ_TARGET(try)                                                                           \
    int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);                                  \
    int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)                                   \
    {                                                                                              \
        fuzz_run(try, data, size);                                                                 \
        return 0;                                                                                  \
    }
#else
#define FUZZ_TARGET(try)                                                                           \
    int main(int count, char **arguments)                                                          \
    {                                                                                              \
        return fuzz_main(try, count, arguments);                                                   \
    }
#endif

#endif
