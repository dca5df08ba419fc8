#include "auth/counts.h"

#include "http/process.h"

#include <apr_siphash.h>
#include <http_log.h>
#include <openssl/rand.h>
#include <stdbool.h>

APLOG_USE_MODULE(users);

#define LINES_A_MINUTE 10 /* of the log, which who tries names at random is not to fill */

/* The first process's, from which children have it: made once, lest a reload begin to count anew.
 */
typedef struct {
    unsigned char key[APR_SIPHASH_KSIZE];
    bool made;
} secret;

static const secret *hash_key;

void *users_counts_memory(const server_rec *s, const char *directive, const char *name,
                          apr_size_t size)
{
    secret *kept = users_process_memory(s, "lockout key 1", sizeof(*kept));
    void *memory;

    kept->made = kept->made || RAND_bytes(kept->key, sizeof(kept->key)) == 1;
    if (!kept->made) {
        ap_log_error(APLOG_MARK, APLOG_EMERG, 0, s, "%s: there is no randomness", directive);
        return NULL;
    }
    hash_key = kept;
    memory = users_process_shared(s, name, size);
    if (!memory) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, 0, s,
                     "%s: no shared memory could be had: each child counts for itself", directive);
        memory = users_process_memory(s, name, size);
    }
    return memory;
}

apr_size_t users_counts_place(const char *text, apr_size_t places)
{
    return (apr_size_t)(apr_siphash24(text, strlen(text), hash_key->key) % places);
}

int users_counts_level(users_quota *lines)
{
    return users_quota_take(lines, LINES_A_MINUTE) ? APLOG_WARNING : APLOG_INFO;
}

void users_counts_tell_left_out(const request_rec *r, users_quota *lines, const char *what)
{
    apr_uint32_t left_out = users_quota_left_out(lines);

    if (left_out) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, r->server,
                     "%s %u times more than the log tells (%d a minute)", what, left_out,
                     LINES_A_MINUTE);
    }
}
