#include "secret.h"

#include "settings.h"

#include <ap_mpm.h>
#include <apr_md5.h>
#include <apr_strings.h>
#include <apr_thread_cond.h>
#include <apr_thread_mutex.h>
#include <http_log.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>

APLOG_USE_MODULE(users);

/*
 * Hashing a password takes a core for tens of milliseconds, on purpose. So that a flood of
 * wrong ones parks only some of a child's threads, a quarter may be here at once, and
 * UsersHashSlots of them may compute; the others wait.
 */
struct users_slots {
    int limit; /* threads that may compute */
    int crowd; /* threads that may compute or wait */

    apr_thread_mutex_t *mutex; /* guards the rest */
    apr_thread_cond_t *freed;
    int computing;
    int present; /* computing or waiting */
};

void users_secret_open(apr_pool_t *pchild, server_rec *s)
{
    struct users_slots *slots = apr_pcalloc(pchild, sizeof(*slots));
    apr_status_t status;
    int threads = 1;

    ap_mpm_query(AP_MPMQ_MAX_THREADS, &threads);
    slots->limit = users_settings_of(s)->hash_slots;
    slots->crowd = threads / 4 > slots->limit ? threads / 4 : slots->limit;
    status = apr_thread_mutex_create(&slots->mutex, APR_THREAD_MUTEX_DEFAULT, pchild);
    if (status == APR_SUCCESS) {
        status = apr_thread_cond_create(&slots->freed, pchild);
    }
    if (status != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, status, s, "no lock could be had for UsersHashSlots");
        return;
    }
    for (; s; s = s->next) {
        users_settings_of(s)->slots = slots;
    }
}

/* False at the deadline, and at once where there is a crowd already. */
static bool enter(struct users_slots *slots, apr_time_t deadline)
{
    bool entered;

    apr_thread_mutex_lock(slots->mutex);
    if (slots->present >= slots->crowd) {
        apr_thread_mutex_unlock(slots->mutex);
        return false;
    }
    slots->present++;
    while (slots->computing >= slots->limit) {
        apr_interval_time_t left = deadline - apr_time_now();

        if (left <= 0) {
            break;
        }
        apr_thread_cond_timedwait(slots->freed, slots->mutex, left);
    }
    entered = slots->computing < slots->limit;
    if (entered) {
        slots->computing++;
    } else {
        slots->present--;
    }
    apr_thread_mutex_unlock(slots->mutex);
    return entered;
}

static void leave(struct users_slots *slots)
{
    apr_thread_mutex_lock(slots->mutex);
    slots->computing--;
    slots->present--;
    apr_thread_cond_signal(slots->freed);
    apr_thread_mutex_unlock(slots->mutex);
}

/*
 * That a password has this hash stays true, so it may be remembered. The key is computed with
 * what this process alone knows: nobody can try passwords against a stolen cache.
 */
static bool derive_key(request_rec *r, const char *hash, const char *given, unsigned char *key)
{
    const char *text = apr_pstrcat(r->pool, hash, "\n", given, NULL);

    return HMAC(EVP_sha256(), users_cache_secret(r), USERS_CACHE_KEY_LENGTH,
                (const unsigned char *)text, strlen(text), key, NULL) != NULL;
}

/* Returns OK where the password is right, else as users_secret_verify(). */
static int compute_hash(request_rec *r, users_attempt *attempt, const char *given, const char *hash)
{
    const users_settings *settings = users_settings_of(r->server);
    int status = HTTP_SERVICE_UNAVAILABLE;

    if (settings->slots && enter(settings->slots, apr_time_now() + settings->db_acquire_timeout)) {
        status = users_lockout_again(r, attempt); /* others may have failed while we waited */
        if (status == OK && apr_password_validate(given, hash) != APR_SUCCESS) {
            status = HTTP_UNAUTHORIZED;
        }
        leave(settings->slots);
    } else {
        apr_table_setn(r->err_headers_out, "Retry-After", "1");
    }
    return status;
}

static int verify_hash(request_rec *r, users_attempt *attempt, const char *given, const char *hash)
{
    const users_settings *settings = users_settings_of(r->server);
    unsigned char key[USERS_CACHE_KEY_LENGTH];
    bool cached =
        settings->cache && settings->credential_cache > 0 && derive_key(r, hash, given, key);
    char verified;
    int status;

    if (cached && users_cache_get(r, key, &verified, sizeof(verified))) {
        return OK;
    }
    status = compute_hash(r, attempt, given, hash);
    if (cached && status == OK) {
        verified = 1;
        users_cache_put(r, key, &verified, sizeof(verified),
                        apr_time_now() + settings->credential_cache);
    }
    return status;
}

static int verify_digest(const char *given, const unsigned char *stored)
{
    static const unsigned char nobodys[USERS_DIGEST_LENGTH];
    unsigned char digest[USERS_DIGEST_LENGTH];

    return users_credential_digest(given, digest) &&
                   CRYPTO_memcmp(digest, stored ? stored : nobodys, sizeof(digest)) == 0
               ? OK
               : HTTP_UNAUTHORIZED;
}

int users_secret_verify(request_rec *r, users_attempt *attempt, const char *name, const char *given,
                        bool known, const users_secret *stored)
{
    /* hashes come with names of another installation; the names that we make have digests */
    bool hashed = stored->hash && (known || !users_credential_is_generated(name));
    int status = hashed ? verify_hash(r, attempt, given, stored->hash)
                        : verify_digest(given, stored->digest);

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
