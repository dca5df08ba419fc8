#include "auth/verify.h"

#include "auth/cache.h"
#include "auth/hash.h"
#include "auth/lockout.h"
#include "config/settings.h"
#include "core/wipe.h"
#include "http/figures.h"
#include "http/trace.h"

#include <apr_strings.h>
#include <http_log.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>

APLOG_USE_MODULE(users);

/*
 * That a password has this hash stays true, so it may be remembered. The key is computed with
 * what this process alone knows: nobody can try passwords against a stolen cache. False where
 * nothing is remembered.
 */
static bool derive_key(request_rec *r, const char *hash, const char *given, unsigned char *key)
{
    const users_settings *settings = users_settings_of(r->server);
    const char *text =
        users_wipe_text_later(r->pool, apr_pstrcat(r->pool, hash, "\n", given, NULL));

    return users_cache_is_open() && settings->credential_cache > 0 &&
           HMAC(EVP_sha256(), users_cache_secret(), USERS_CACHE_KEY_LENGTH,
                (const unsigned char *)text, strlen(text), key, NULL) != NULL;
}

static bool is_remembered(request_rec *r, const unsigned char *key)
{
    char verified;

    return users_cache_get(r, key, &verified, sizeof(verified));
}

static users_refusal wrong(void)
{
    return users_refuse(HTTP_UNAUTHORIZED, NULL);
}

static users_refusal compute_hash(request_rec *r, const users_attempt *attempt, const char *given,
                                  bool own, const char *hash)
{
    bool right;

    users_log_request(r, APLOG_TRACE3, 0, "the password has to be hashed");
    if (!users_hash_compare(r, attempt, given, own, hash, &right)) {
        return users_refuse_for_now(r, HTTP_SERVICE_UNAVAILABLE, USERS_CODE_BUSY,
                                    "too many passwords are being verified at the moment", 1);
    }
    /* others may have failed in the meantime: then this guess came too late */
    return right ? users_lockout_judge(r, attempt) : wrong();
}

/* As compute_hash(), but for what was computed before. */
static users_refusal recall_hash(request_rec *r, const users_attempt *attempt, const char *given,
                                 const char *hash)
{
    unsigned char key[USERS_CACHE_KEY_LENGTH];
    bool has_key = derive_key(r, hash, given, key);
    bool remembered = has_key && is_remembered(r, key);
    const char verified = 1;
    users_refusal refused;

    if (has_key) {
        users_count(USERS_FIGURE_CACHE_LOOKUPS + (remembered ? USERS_CACHE_HIT : USERS_CACHE_MISS));
    }
    if (remembered) {
        users_log_request(r, APLOG_TRACE3, 0, "the password was verified before");
        return users_pass();
    }
    refused = compute_hash(r, attempt, given, true, hash);
    if (has_key && refused.status == OK) {
        users_cache_put(r, key, &verified, sizeof(verified),
                        apr_time_now() + users_settings_of(r->server)->credential_cache);
    }
    return refused;
}

/*
 * Where the hash is another's nothing is recalled, or the time would tell who guesses at that one's
 * password under many names.
 */
static users_refusal verify_hash(request_rec *r, const users_attempt *attempt, const char *given,
                                 bool own, const char *hash)
{
    users_refusal refused = users_lockout_judge(r, attempt);

    if (refused.status != OK) {
        return refused;
    }
    return own ? recall_hash(r, attempt, given, hash)
               : compute_hash(r, attempt, given, false, hash);
}

static bool is_digest(const unsigned char *digest, const unsigned char *stored)
{
    static const unsigned char nobodys[USERS_DIGEST_LENGTH];

    return CRYPTO_memcmp(digest, stored ? stored : nobodys, USERS_DIGEST_LENGTH) == 0;
}

/*
 * A generated secret, if it is one. Compares with both, always: the time does not tell whether
 * there is an old one, or which it is.
 */
static users_refusal verify_digest(const char *given, const users_secret *stored)
{
    unsigned char digest[USERS_DIGEST_LENGTH];
    bool is_present;
    bool is_old;

    if (!users_credential_digest(given, digest)) {
        return users_refuse(HTTP_INTERNAL_SERVER_ERROR, USERS_NOT_SERVED);
    }
    is_present = is_digest(digest, stored->digest);
    is_old = is_digest(digest, stored->old_digest);
    return is_present || is_old ? users_pass() : wrong();
}

/*
 * What a secret is compared with, and how much that costs, is the same for every name that is not a
 * generated one: a digest, and what is not right by that a hash. Before it a lockout refuses.
 */
static users_refusal verify(request_rec *r, const users_attempt *attempt, const char *given,
                            bool own, const users_secret *stored)
{
    users_refusal refused = verify_digest(given, stored);

    if (refused.status != HTTP_UNAUTHORIZED) {
        return refused;
    }
    if (stored->hash) {
        return verify_hash(r, attempt, given, own, stored->hash);
    }
    refused = users_lockout_judge(r, attempt);
    return refused.status == OK ? wrong() : refused;
}

users_refusal users_verify_secret(request_rec *r, const char *kind, const char *name,
                                  const char *given, bool known, const users_secret *stored)
{
    bool hashed = stored->hash != NULL;
    users_attempt attempt = users_lockout_begin(r, kind, name, known ? stored : NULL, hashed);
    users_refusal refused;

    if (hashed) {
        users_hash_note(stored->hash);
    }
    refused = verify(r, &attempt, given, known && !stored->digest, stored);
    if (refused.status == OK) {
        users_lockout_succeeded(&attempt);
    } else if (refused.status == HTTP_UNAUTHORIZED) {
        refused = users_lockout_failed(r, &attempt);
    }
    return refused;
}

bool users_verify_is_known(request_rec *r, const char *given, const users_secret *stored)
{
    unsigned char key[USERS_CACHE_KEY_LENGTH];

    if (!stored->digest && stored->hash) {
        return derive_key(r, stored->hash, given, key) && is_remembered(r, key);
    }
    return verify_digest(given, stored).status == OK;
}
