#include "auth/verify.h"

#include "auth/hash.h"
#include "config/settings.h"

#include <apr_strings.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>

/*
 * That a password has this hash stays true, so it may be remembered. The key is computed with
 * what this process alone knows: nobody can try passwords against a stolen cache. False where
 * nothing is remembered.
 */
static bool derive_key(request_rec *r, const char *hash, const char *given, unsigned char *key)
{
    const users_settings *settings = users_settings_of(r->server);
    const char *text = apr_pstrcat(r->pool, hash, "\n", given, NULL);

    return settings->cache && settings->credential_cache > 0 &&
           HMAC(EVP_sha256(), users_cache_secret(r), USERS_CACHE_KEY_LENGTH,
                (const unsigned char *)text, strlen(text), key, NULL) != NULL;
}

static bool is_remembered(request_rec *r, const unsigned char *key)
{
    char verified;

    return users_cache_get(r, key, &verified, sizeof(verified));
}

/* Returns OK where the password is right, else as users_secret_verify(). */
static int compute_hash(request_rec *r, users_attempt *attempt, const char *given, const char *hash)
{
    bool right;

    if (!users_hash_compare(r, given, hash, &right)) {
        apr_table_setn(r->err_headers_out, "Retry-After", "1");
        return HTTP_SERVICE_UNAVAILABLE;
    }
    /* others may have failed in the meantime: then this guess came too late */
    return right ? users_lockout_again(r, attempt) : HTTP_UNAUTHORIZED;
}

/* As compute_hash(), but for what was computed before. */
static int recall_hash(request_rec *r, users_attempt *attempt, const char *given, const char *hash)
{
    unsigned char key[USERS_CACHE_KEY_LENGTH];
    bool has_key = derive_key(r, hash, given, key);
    const char verified = 1;
    int status;

    if (has_key && is_remembered(r, key)) {
        return OK;
    }
    status = compute_hash(r, attempt, given, hash);
    if (has_key && status == OK) {
        users_cache_put(r, key, &verified, sizeof(verified),
                        apr_time_now() + users_settings_of(r->server)->credential_cache);
    }
    return status;
}

/*
 * For an unknown name the hash is another's: nothing is recalled, or the time would tell who
 * guesses at that one's password under many names.
 */
static int verify_hash(request_rec *r, users_attempt *attempt, const char *given, bool known,
                       const char *hash)
{
    return known ? recall_hash(r, attempt, given, hash) : compute_hash(r, attempt, given, hash);
}

static bool is_digest(const unsigned char *digest, const unsigned char *stored)
{
    static const unsigned char nobodys[USERS_DIGEST_LENGTH];

    return CRYPTO_memcmp(digest, stored ? stored : nobodys, USERS_DIGEST_LENGTH) == 0;
}

/* Compares with both, always: the time does not tell whether there is an old one, or which it is.
 */
static int verify_digest(const char *given, const users_secret *stored)
{
    unsigned char digest[USERS_DIGEST_LENGTH];
    bool is_present;
    bool is_old;

    if (!users_credential_digest(given, digest)) {
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    is_present = is_digest(digest, stored->digest);
    is_old = is_digest(digest, stored->old_digest);
    return is_present || is_old ? OK : HTTP_UNAUTHORIZED;
}

int users_secret_verify(request_rec *r, users_attempt *attempt, const char *name, const char *given,
                        bool known, const users_secret *stored)
{
    /* hashes come with names of another installation; the names that we make have digests */
    bool hashed = stored->hash && (known || !users_credential_is_generated(name));
    int status =
        hashed ? verify_hash(r, attempt, given, known, stored->hash) : verify_digest(given, stored);

    if (status == OK && !known) {
        status = HTTP_UNAUTHORIZED;
    }
    if (status == OK) {
        users_lockout_succeeded(r, attempt);
    } else if (status == HTTP_UNAUTHORIZED) {
        status = users_lockout_failed(r, attempt);
    }
    return status;
}

bool users_secret_is_known(request_rec *r, const char *given, const users_secret *stored)
{
    unsigned char key[USERS_CACHE_KEY_LENGTH];

    if (stored->hash) {
        return derive_key(r, stored->hash, given, key) && is_remembered(r, key);
    }
    return verify_digest(given, stored) == OK;
}
