/* The Authorization header field and what it carries. */
#ifndef USERS_CORE_CREDENTIAL_H
#define USERS_CORE_CREDENTIAL_H

#include <apr_pools.h>
#include <stdbool.h>

#define USERS_DIGEST_LENGTH 32 /* octets of a SHA-256 digest */
#define USERS_NAME_OCTETS   18 /* of a generated user name: 144 random bits */
#define USERS_SECRET_OCTETS 24 /* of its password: 192 random bits */
#define USERS_TOKEN_OCTETS  32 /* of a token or a client secret: 256 random bits */

typedef enum {
    USERS_CREDENTIAL_NONE,    /* no header field, or a scheme that we do not serve */
    USERS_CREDENTIAL_BEARER,  /* RFC 6750 */
    USERS_CREDENTIAL_BASIC,   /* RFC 7617 */
    USERS_CREDENTIAL_REPEATED /* more than one header field: httpd joins them with a comma */
} users_credential_kind;

typedef struct {
    users_credential_kind kind;
    const char *name;   /* Basic: the user-id; NULL where the pair can't be one */
    const char *secret; /* the bearer token or the password; NULL where it can't be one */
} users_credential;

/*
 * Read the value of an Authorization header field (RFC 9110 section 11.6.2).
 * value: NULL where the request has none. The result points into value or into
 * memory of pool. Never fails: what can't be read is a credential without a secret.
 */
users_credential users_credential_parse(const char *value, apr_pool_t *pool);

/*
 * The SHA-256 digest under which the database knows a token or a generated secret.
 * Returns 0 where libcrypto fails, and digest is then undefined.
 */
int users_credential_digest(const char *secret, unsigned char digest[USERS_DIGEST_LENGTH]);

/*
 * A new secret of the given number of random octets from libcrypto's generator, in
 * base64url without padding (RFC 4648 section 5), in memory of pool; NULL where the
 * generator fails.
 */
const char *users_credential_generate(apr_size_t octets, apr_pool_t *pool);

/*
 * Could name be a user name that users_credential_generate() made? Nobody guesses one of those, and
 * their secrets are not hashed.
 */
bool users_credential_is_generated(const char *name);

#endif
