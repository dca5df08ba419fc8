/* Form-encoded text: application/x-www-form-urlencoded (RFC 6749 appendix B). */
#ifndef USERS_CORE_FORM_H
#define USERS_CORE_FORM_H

#include <apr_hash.h>

/*
 * Decode one name or value: percent-encoding and plus signs. Returns text itself or memory of
 * pool, which is wiped (core/wipe.h); NULL where an escape is malformed, or the result is not UTF-8
 * or would hold a NUL.
 */
const char *users_form_decode(const char *text, apr_pool_t *pool);

/*
 * Read a body into a hash of const char * by name, in memory of pool. known: the names that count,
 * up to a NULL; other parameters are ignored. A parameter without a value counts as absent; a known
 * one that is repeated is an error (RFC 6749 section 3.2). bytes end
 * in a NUL that length does not count. NULL with a sentence for the client in *error (static
 * text) where the body is malformed.
 */
apr_hash_t *users_form_parse(const char *bytes, size_t length, const char *const *known,
                             apr_pool_t *pool, const char **error);

#endif
