/*
 * Makes one call of mod_users fail: t/fault/torture.t preloads this into httpd, or into usersctl,
 * and has each call fail in turn. It also sets the module's clock (t/fault/clock.t).
 *
 * When the module is loaded, the entries of its table of imported functions are replaced: nobody
 * else's calls are touched, and what httpd itself exports is reached too. A function fails as its
 * library has it fail, and without having been called, unless it says otherwise here. What the
 * functions bring and take back is counted. The test and the process share a file (torture_state).
 *
 * Memory of APR's pools can't run out: httpd then ends, by design.
 */
#include <httpd.h>

#include <ap_mpm.h>
#include <apr_file_info.h>
#include <apr_file_io.h>
#include <apr_general.h>
#include <apr_md5.h>
#include <apr_optional.h>
#include <apr_proc_mutex.h>
#include <apr_shm.h>
#include <apr_thread_cond.h>
#include <apr_thread_mutex.h>
#include <apr_thread_proc.h>
#include <curl/curl.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <http_protocol.h>
#include <jansson.h>
#include <libpq-fe.h>
#include <link.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <utf8proc.h>
#include <util_filter.h>
#include <util_mutex.h>

#define FUNCTIONS_MAX   96
#define NAME_MAX_LENGTH 32

/* What is counted; t/lib/Users/Test/Torture.pm has the names. */
typedef enum {
    NOTHING,
    CONNECTION,
    RESULT,
    OPTIONS, /* of a conninfo */
    MEMORY,
    LOCK,
    SEMAPHORE,
    LIBRARY, /* memory of libpq and jansson */
    KINDS
} kind;

/* The file; its users are one test and the processes of one server. */
typedef struct {
    atomic_uint calls;      /* since the test has set it to 0 */
    atomic_uint first;      /* the calls from this number on fail; 0: none */
    atomic_uint last;       /* until this one */
    atomic_uint in_library; /* memory of libpq and jansson runs out, too */
    atomic_int ahead;       /* seconds that the module's CLOCK_MONOTONIC is, if not behind */
    atomic_uint looks;      /* of the module at it */
    atomic_int live[KINDS]; /* brought and not yet taken back */
    atomic_uint failed[FUNCTIONS_MAX]; /* how often, since the test has set it to 0 */
    unsigned functions;                /* how many names there are */
    char names[FUNCTIONS_MAX][NAME_MAX_LENGTH];
    char strangers[1024]; /* imported functions that stand in no list here */
} torture_state;

static torture_state *state;

static void count_live(kind of, int change)
{
    atomic_fetch_add(&state->live[of], change);
}

/* Does this call fail? */
static bool is_victim(unsigned function)
{
    unsigned first = atomic_load(&state->first);
    unsigned call = atomic_fetch_add(&state->calls, 1) + 1;
    bool fails = first && call >= first && call <= atomic_load(&state->last);

    if (fails) {
        atomic_fetch_add(&state->failed[function], 1);
    }
    return fails;
}

/*
 * What is needed here of the libraries, which come with the module: to be linked with them would
 * have them in httpd before it, and in all of its children's ends.
 */
static __typeof__(PQclear) *their_PQclear;
static __typeof__(PQconnectPoll) *their_PQconnectPoll;
static __typeof__(PQmakeEmptyPGresult) *their_PQmakeEmptyPGresult;
static __typeof__(PQsocket) *their_PQsocket;
static __typeof__(json_delete) *their_json_delete;
static __typeof__(json_vpack_ex) *their_json_vpack_ex;

static void find_theirs(void *handle)
{
    *(void **)&their_PQclear = dlsym(handle, "PQclear");
    *(void **)&their_PQconnectPoll = dlsym(handle, "PQconnectPoll");
    *(void **)&their_PQmakeEmptyPGresult = dlsym(handle, "PQmakeEmptyPGresult");
    *(void **)&their_PQsocket = dlsym(handle, "PQsocket");
    *(void **)&their_json_delete = dlsym(handle, "json_delete");
    *(void **)&their_json_vpack_ex = dlsym(handle, "json_vpack_ex");
}

/* json_decref(), which is inline */
static void decref(json_t *json)
{
    if (json && json->refcount != (size_t)-1 && JSON_INTERNAL_DECREF(json) == 0) {
        their_json_delete(json);
    }
}

/* How some fail */

static void *fail_with(int error)
{
    errno = error;
    return NULL;
}

/* The next call tells of it. */
static void lose(const PGconn *pg)
{
    shutdown(their_PQsocket(pg), SHUT_RDWR);
}

static PostgresPollingStatusType fail_to_connect(PGconn *pg)
{
    lose(pg);
    for (int i = 0; i < 10 && their_PQconnectPoll(pg) != PGRES_POLLING_FAILED; i++) {
    }
    return PGRES_POLLING_FAILED;
}

static PQconninfoOption *fail_to_parse(char **error)
{
    if (error) {
        *error = NULL;
    }
    return NULL;
}

static int fail_to_add(json_t *value)
{
    decref(value); /* it is theirs in any case */
    return -1;
}

/* Without a word why, as where memory runs out. */
static json_t *fail_to_load(json_error_t *error)
{
    if (error) {
        error->text[0] = '\0';
    }
    return NULL;
}

/*
 * The functions that can fail, once: what they return, name, parameters, arguments, what they
 * return when they fail; and of what a call brings how many.
 */
/* clang-format off */
#define CALLS(call) \
    /* libpq */ \
    call(PQconninfoOption *, PQconninfoParse, (const char *info, char **error), (info, error), \
         fail_to_parse(error), OPTIONS, result != NULL) \
    call(PQconninfoOption *, PQconninfo, (PGconn *pg), (pg), NULL, OPTIONS, result != NULL) \
    call(PGconn *, PQconnectStartParams, \
         (const char *const *keywords, const char *const *values, int expand), \
         (keywords, values, expand), NULL, CONNECTION, result != NULL) \
    call(PostgresPollingStatusType, PQconnectPoll, (PGconn *pg), (pg), fail_to_connect(pg), \
         NOTHING, 0) \
    call(int, PQsetnonblocking, (PGconn *pg, int on), (pg, on), -1, NOTHING, 0) \
    call(int, PQsendPrepare, \
         (PGconn *pg, const char *name, const char *sql, int count, const Oid *types), \
         (pg, name, sql, count, types), 0, NOTHING, 0) \
    call(int, PQsendQueryParams, \
         (PGconn *pg, const char *sql, int count, const Oid *types, const char *const *values, \
          const int *lengths, const int *formats, int format), \
         (pg, sql, count, types, values, lengths, formats, format), 0, NOTHING, 0) \
    call(int, PQsendQueryPrepared, \
         (PGconn *pg, const char *name, int count, const char *const *values, \
          const int *lengths, const int *formats, int format), \
         (pg, name, count, values, lengths, formats, format), 0, NOTHING, 0) \
    call(int, PQflush, (PGconn *pg), (pg), -1, NOTHING, 0) \
    call(int, PQconsumeInput, (PGconn *pg), (pg), 0, NOTHING, 0) \
    call(void *, PQresultAlloc, (PGresult *rows, size_t size), (rows, size), NULL, NOTHING, 0) \
    /* libpq, of usersctl */ \
    call(PGconn *, PQconnectdbParams, \
         (const char *const *keywords, const char *const *values, int expand), \
         (keywords, values, expand), NULL, CONNECTION, result != NULL) \
    call(PGcancel *, PQgetCancel, (PGconn *pg), (pg), NULL, NOTHING, 0) \
    call(PGresult *, PQexec, (PGconn *pg, const char *sql), (pg, sql), \
         (lose(pg), count_live(RESULT, 1), real_PQexec(pg, sql)), \
         RESULT, result != NULL) \
    call(PGresult *, PQexecParams, \
         (PGconn *pg, const char *sql, int count, const Oid *types, const char *const *values, \
          const int *lengths, const int *formats, int format), \
         (pg, sql, count, types, values, lengths, formats, format), \
         (lose(pg), count_live(RESULT, 1), \
          real_PQexecParams(pg, sql, count, types, values, lengths, formats, format)), \
         RESULT, result != NULL) \
    call(int, PQputCopyData, (PGconn *pg, const char *text, int length), (pg, text, length), \
         (lose(pg), -1), NOTHING, 0) \
    call(int, PQputCopyEnd, (PGconn *pg, const char *error), (pg, error), (lose(pg), -1), \
         NOTHING, 0) \
    call(int, PQsetvalue, (PGresult *rows, int row, int column, char *value, int length), \
         (rows, row, column, value, length), 0, NOTHING, 0) \
    /* jansson */ \
    call(json_t *, json_array, (void), (), NULL, NOTHING, 0) \
    call(json_t *, json_object, (void), (), NULL, NOTHING, 0) \
    call(json_t *, json_string, (const char *text), (text), NULL, NOTHING, 0) \
    call(json_t *, json_stringn, (const char *text, size_t length), (text, length), NULL, \
         NOTHING, 0) \
    call(int, json_array_append_new, (json_t *array, json_t *value), (array, value), \
         fail_to_add(value), NOTHING, 0) \
    call(int, json_object_set_new, (json_t *object, const char *key, json_t *value), \
         (object, key, value), fail_to_add(value), NOTHING, 0) \
    call(json_t *, json_loads, (const char *text, size_t flags, json_error_t *error), \
         (text, flags, error), fail_to_load(error), NOTHING, 0) \
    call(json_t *, json_loadb, \
         (const char *bytes, size_t length, size_t flags, json_error_t *error), \
         (bytes, length, flags, error), fail_to_load(error), NOTHING, 0) \
    call(size_t, json_dumpb, (const json_t *json, char *text, size_t size, size_t flags), \
         (json, text, size, flags), 0, NOTHING, 0) \
    /* utf8proc */ \
    call(utf8proc_ssize_t, utf8proc_map, \
         (const utf8proc_uint8_t *text, utf8proc_ssize_t length, utf8proc_uint8_t **normal, \
          utf8proc_option_t options), \
         (text, length, normal, options), UTF8PROC_ERROR_NOMEM, MEMORY, result >= 0) \
    /* libcrypto */ \
    call(int, EVP_Digest, \
         (const void *data, size_t count, unsigned char *digest, unsigned int *size, \
          const EVP_MD *type, ENGINE *engine), \
         (data, count, digest, size, type, engine), 0, NOTHING, 0) \
    call(unsigned char *, HMAC, \
         (const EVP_MD *type, const void *key, int length, const unsigned char *data, \
          size_t count, unsigned char *digest, unsigned int *size), \
         (type, key, length, data, count, digest, size), NULL, NOTHING, 0) \
    call(int, RAND_bytes, (unsigned char *bytes, int count), (bytes, count), 0, NOTHING, 0) \
    /* libc */ \
    call(void *, calloc, (size_t count, size_t size), (count, size), fail_with(ENOMEM), \
         MEMORY, result != NULL) \
    call(int, poll, (struct pollfd *fds, nfds_t count, int timeout), (fds, count, timeout), \
         (fail_with(ENOMEM), -1), NOTHING, 0) \
    call(int, sem_timedwait, (sem_t *semaphore, const struct timespec *until), \
         (semaphore, until), (fail_with(ETIMEDOUT), -1), NOTHING, 0) \
    call(int, sem_wait, (sem_t *semaphore), (semaphore), (fail_with(EINTR), -1), NOTHING, 0) \
    call(int, sched_setscheduler, \
         (pid_t pid, int policy, const struct sched_param *parameter), \
         (pid, policy, parameter), (fail_with(EPERM), -1), NOTHING, 0) \
    call(int, pthread_create, \
         (pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), \
          void *data), \
         (thread, attributes, start, data), EAGAIN, NOTHING, 0) \
    /* what it goes by is the machine's clock, which nobody sets here */ \
    call(int, pthread_cond_timedwait, \
         (pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until), \
         (cond, mutex, \
          &(struct timespec){until->tv_sec - atomic_load(&state->ahead), until->tv_nsec}), \
         ETIMEDOUT, NOTHING, 0) \
    /* libcurl, of usersctl */ \
    call(CURLcode, curl_global_init, (long flags), (flags), CURLE_OUT_OF_MEMORY, NOTHING, 0) \
    call(CURLM *, curl_multi_init, (void), (), NULL, NOTHING, 0) \
    call(CURLMcode, curl_multi_add_handle, (CURLM *multi, CURL *easy), (multi, easy), \
         CURLM_OUT_OF_MEMORY, NOTHING, 0) \
    call(CURL *, curl_easy_init, (void), (), NULL, NOTHING, 0) \
    call(struct curl_slist *, curl_slist_append, (struct curl_slist *list, const char *text), \
         (list, text), NULL, NOTHING, 0) \
    call(CURLU *, curl_url, (void), (), NULL, NOTHING, 0) \
    call(CURLUcode, curl_url_set, \
         (CURLU *url, CURLUPart part, const char *text, unsigned int flags), \
         (url, part, text, flags), CURLUE_OUT_OF_MEMORY, NOTHING, 0) \
    call(CURLUcode, curl_url_get, \
         (CURLU *url, CURLUPart part, char **text, unsigned int flags), \
         (url, part, text, flags), CURLUE_OUT_OF_MEMORY, NOTHING, 0) \
    /* libc, of usersctl */ \
    call(int, socket, (int family, int type, int protocol), (family, type, protocol), \
         (fail_with(EMFILE), -1), NOTHING, 0) \
    call(int, setenv, (const char *name, const char *value, int replace), \
         (name, value, replace), (fail_with(ENOMEM), -1), NOTHING, 0) \
    call(int, open, (const char *path, int flags, mode_t mode), (path, flags, mode), \
         (fail_with(EACCES), -1), NOTHING, 0) \
    call(FILE *, fopen, (const char *path, const char *mode), (path, mode), fail_with(EACCES), \
         NOTHING, 0) \
    call(int, fflush, (FILE *file), (file), (fail_with(ENOSPC), EOF), NOTHING, 0) \
    call(int, ferror, (FILE *file), (file), (fail_with(ENOSPC), 1), NOTHING, 0) \
    /* APR and httpd */ \
    call(apr_status_t, apr_initialize, (void), (), APR_ENOMEM, NOTHING, 0) \
    call(apr_status_t, apr_pool_create_ex, \
         (apr_pool_t **pool, apr_pool_t *parent, apr_abortfunc_t end, \
          apr_allocator_t *allocator), \
         (pool, parent, end, allocator), APR_ENOMEM, NOTHING, 0) \
    call(apr_status_t, apr_pool_create_unmanaged_ex, \
         (apr_pool_t **pool, apr_abortfunc_t end, apr_allocator_t *allocator), \
         (pool, end, allocator), APR_ENOMEM, NOTHING, 0) \
    call(apr_status_t, apr_thread_mutex_create, \
         (apr_thread_mutex_t **mutex, unsigned int flags, apr_pool_t *pool), \
         (mutex, flags, pool), APR_ENOMEM, NOTHING, 0) \
    call(apr_status_t, apr_thread_cond_create, (apr_thread_cond_t **cond, apr_pool_t *pool), \
         (cond, pool), APR_ENOMEM, NOTHING, 0) \
    call(apr_status_t, apr_thread_cond_timedwait, \
         (apr_thread_cond_t *cond, apr_thread_mutex_t *mutex, apr_interval_time_t timeout), \
         (cond, mutex, timeout), APR_TIMEUP, NOTHING, 0) \
    call(apr_status_t, apr_global_mutex_child_init, \
         (apr_global_mutex_t **mutex, const char *file, apr_pool_t *pool), \
         (mutex, file, pool), APR_EGENERAL, NOTHING, 0) \
    call(apr_status_t, apr_global_mutex_lock, (apr_global_mutex_t *mutex), (mutex), \
         APR_EGENERAL, LOCK, result == APR_SUCCESS) \
    call(apr_status_t, apr_proc_mutex_create, \
         (apr_proc_mutex_t **mutex, const char *file, apr_lockmech_e mechanism, \
          apr_pool_t *pool), \
         (mutex, file, mechanism, pool), APR_ENOTIMPL, NOTHING, 0) \
    call(apr_status_t, apr_proc_mutex_child_init, \
         (apr_proc_mutex_t **mutex, const char *file, apr_pool_t *pool), \
         (mutex, file, pool), APR_EGENERAL, NOTHING, 0) \
    call(apr_status_t, apr_proc_mutex_trylock, (apr_proc_mutex_t *mutex), (mutex), APR_EBUSY, \
         LOCK, result == APR_SUCCESS) \
    call(apr_status_t, apr_proc_mutex_timedlock, \
         (apr_proc_mutex_t *mutex, apr_interval_time_t timeout), (mutex, timeout), APR_EGENERAL, \
         LOCK, result == APR_SUCCESS) \
    call(apr_opt_fn_t *, apr_dynamic_fn_retrieve, (const char *name), (name), NULL, NOTHING, 0) \
    call(apr_status_t, apr_shm_create, \
         (apr_shm_t **memory, apr_size_t size, const char *file, apr_pool_t *pool), \
         (memory, size, file, pool), APR_ENOMEM, NOTHING, 0) \
    call(apr_status_t, apr_file_open, \
         (apr_file_t **file, const char *path, apr_int32_t flags, apr_fileperms_t mode, \
          apr_pool_t *pool), \
         (file, path, flags, mode, pool), APR_EACCES, NOTHING, 0) \
    call(apr_status_t, apr_file_open_stdout, (apr_file_t **file, apr_pool_t *pool), (file, pool), \
         APR_EBADF, NOTHING, 0) \
    call(apr_status_t, apr_file_puts, (const char *text, apr_file_t *file), (text, file), \
         APR_ENOSPC, NOTHING, 0) \
    call(apr_status_t, apr_file_info_get, \
         (apr_finfo_t *info, apr_int32_t wanted, apr_file_t *file), (info, wanted, file), \
         APR_EGENERAL, NOTHING, 0) \
    call(apr_status_t, apr_file_read_full, \
         (apr_file_t *file, void *text, apr_size_t size, apr_size_t *length), \
         (file, text, size, length), APR_EGENERAL, NOTHING, 0) \
    call(apr_status_t, apr_dir_open, (apr_dir_t **directory, const char *path, apr_pool_t *pool), \
         (directory, path, pool), APR_EACCES, NOTHING, 0) \
    call(apr_status_t, apr_dir_read, \
         (apr_finfo_t *entry, apr_int32_t wanted, apr_dir_t *directory), \
         (entry, wanted, directory), APR_EGENERAL, NOTHING, 0) \
    call(apr_status_t, apr_generate_random_bytes, (unsigned char *bytes, apr_size_t length), \
         (bytes, length), APR_EGENERAL, NOTHING, 0) \
    call(apr_status_t, apr_password_validate, (const char *password, const char *hash), \
         (password, hash), APR_ENOMEM, NOTHING, 0) \
    call(apr_status_t, apr_brigade_length, \
         (apr_bucket_brigade *brigade, int read_all, apr_off_t *length), \
         (brigade, read_all, length), APR_EGENERAL, NOTHING, 0) \
    call(apr_status_t, apr_brigade_flatten, \
         (apr_bucket_brigade *brigade, char *text, apr_size_t *length), \
         (brigade, text, length), APR_EGENERAL, NOTHING, 0) \
    call(apr_status_t, ap_get_brigade, \
         (ap_filter_t *filter, apr_bucket_brigade *brigade, ap_input_mode_t mode, \
          apr_read_type_e block, apr_off_t limit), \
         (filter, brigade, mode, block, limit), APR_EGENERAL, NOTHING, 0) \
    call(apr_status_t, ap_save_brigade, \
         (ap_filter_t *filter, apr_bucket_brigade **to, apr_bucket_brigade **from, \
          apr_pool_t *pool), \
         (filter, to, from, pool), APR_ENOMEM, NOTHING, 0) \
    call(apr_status_t, ap_pass_brigade, (ap_filter_t *filter, apr_bucket_brigade *brigade), \
         (filter, brigade), APR_EGENERAL, NOTHING, 0) \
    call(apr_status_t, ap_mpm_query, (int query, int *answer), (query, answer), APR_ENOTIMPL, \
         NOTHING, 0) \
    call(apr_status_t, ap_mutex_register, \
         (apr_pool_t *pool, const char *type, const char *directory, \
          apr_lockmech_e mechanism, apr_int32_t options), \
         (pool, type, directory, mechanism, options), APR_ENOTIMPL, NOTHING, 0) \
    call(apr_status_t, ap_global_mutex_create, \
         (apr_global_mutex_t **mutex, const char **name, const char *type, \
          const char *instance, server_rec *s, apr_pool_t *pool, apr_int32_t options), \
         (mutex, name, type, instance, s, pool, options), APR_ENOSPC, NOTHING, 0) \
    call(apr_status_t, apr_file_read, (apr_file_t *file, void *bytes, apr_size_t *count), \
         (file, bytes, count), APR_EGENERAL, NOTHING, 0) \
    call(apr_status_t, apr_file_pipe_timeout_set, \
         (apr_file_t *pipe, apr_interval_time_t timeout), (pipe, timeout), APR_EGENERAL, NOTHING, \
         0) \
    call(apr_status_t, apr_procattr_create, (apr_procattr_t **attributes, apr_pool_t *pool), \
         (attributes, pool), APR_ENOMEM, NOTHING, 0) \
    call(apr_status_t, apr_procattr_io_set, \
         (apr_procattr_t *attributes, apr_int32_t in, apr_int32_t out, apr_int32_t error), \
         (attributes, in, out, error), APR_EGENERAL, NOTHING, 0) \
    call(apr_status_t, apr_procattr_child_in_set, \
         (apr_procattr_t *attributes, apr_file_t *in, apr_file_t *ours), (attributes, in, ours), \
         APR_EGENERAL, NOTHING, 0) \
    call(apr_status_t, apr_proc_create, \
         (apr_proc_t *process, const char *program, const char *const *arguments, \
          const char *const *environment, apr_procattr_t *attributes, apr_pool_t *pool), \
         (process, program, arguments, environment, attributes, pool), APR_ENOENT, NOTHING, 0) \
    /* who tells of its end can't be found again: it is called all the same */ \
    call(apr_status_t, apr_proc_wait, \
         (apr_proc_t *process, int *code, apr_exit_why_e *why, apr_wait_how_e how), \
         (process, code, why, how), \
         (real_apr_proc_wait(process, code, why, APR_WAIT), APR_EGENERAL), NOTHING, 0)

/* Those that need more words than the table has room for. */
#define OTHER_CALLS(call) call(PQgetResult) call(json_pack)

/* What is taken back: what that returns, name, parameter, argument, kind. */
#define RETURNS(back) \
    back(void, PQfinish, (PGconn *pg), (pg), CONNECTION, pg != NULL) \
    back(void, PQclear, (PGresult *rows), (rows), RESULT, rows != NULL) \
    back(void, PQconninfoFree, (PQconninfoOption *options), (options), OPTIONS, options != NULL) \
    back(void, free, (void *memory), (memory), MEMORY, memory != NULL) \
    back(int, sem_destroy, (sem_t *semaphore), (semaphore), SEMAPHORE, 1) \
    back(int, sem_init, (sem_t *semaphore, int shared, unsigned value), \
         (semaphore, shared, value), SEMAPHORE, -1) \
    back(apr_status_t, apr_global_mutex_unlock, (apr_global_mutex_t *mutex), (mutex), LOCK, 1) \
    back(apr_status_t, apr_proc_mutex_unlock, (apr_proc_mutex_t *mutex), (mutex), LOCK, 1) \
    back(int, pthread_mutex_lock, (pthread_mutex_t *mutex), (mutex), LOCK, -1) \
    back(int, pthread_mutex_unlock, (pthread_mutex_t *mutex), (mutex), LOCK, 1) \
    back(apr_status_t, apr_thread_mutex_lock, (apr_thread_mutex_t *mutex), (mutex), LOCK, -1) \
    back(apr_status_t, apr_thread_mutex_unlock, (apr_thread_mutex_t *mutex), (mutex), LOCK, 1)

/* Memory of the libraries that the module hands its data to. */
#define LIBRARY_CALLS(call) \
    call(malloc, (size_t size), (size), result != NULL) \
    call(calloc, (size_t count, size_t size), (count, size), result != NULL) \
    call(realloc, (void *memory, size_t size), (memory, size), !memory && result) \
    call(strdup, (const char *text), (text), result != NULL)
/* clang-format on */

/*
 * The other functions that are imported. Those of APR and httpd below work in memory of a pool, or
 * on their arguments alone: what they return tells of these.
 */
static const char *const harmless[] = {
    /* tell what is there */
    "access", "fcntl*", "PQbackendPID", "PQcmdTuples", "PQconnectionNeedsPassword", "PQdb",
    "PQerrorMessage", "PQfname", "PQgetisnull", "PQgetlength", "PQgetvalue", "PQhost", "PQnfields",
    "PQntuples", "PQparameterStatus", "PQresultErrorField", "PQresultStatus", "PQserverVersion",
    "PQsocket", "PQsslAttribute", "PQsslInUse", "PQstatus", "PQtransactionStatus", "PQuser",
    "json_array_get", "json_array_size", "json_equal", "json_integer_value", "json_object_get",
    "json_number_value", "json_object_iter*", "json_object_key_to_iter", "json_object_size",
    "json_string_length", "json_string_value", "EVP_sha256", "CRYPTO_memcmp",
    /* parses; what fails is told by PQgetResult */
    "PQisBusy",
    /* set a pointer, and how much is told */
    "PQsetErrorVerbosity", "PQsetNoticeReceiver",
    /* of a message, which nobody misses */
    "PQcancel", "PQfreeCancel", "PQfreemem",
    /* whether it is connected then is asked by PQstatus */
    "PQreset",
    /* what goes wrong with a transfer is told by its result; a message without one of its options
       is not sent */
    "curl_easy_cleanup", "curl_easy_getinfo", "curl_easy_setopt", "curl_easy_strerror", "curl_free",
    "curl_global_cleanup", "curl_multi_cleanup", "curl_multi_info_read", "curl_multi_perform",
    "curl_multi_poll", "curl_multi_remove_handle", "curl_multi_setopt", "curl_slist_free_all",
    "curl_url_cleanup",
    /* characters */
    "inet_ntop", "inet_pton", "utf8proc_charwidth", "utf8proc_get_property", "utf8proc_iterate",
    "strcasecmp", "strncasecmp", "strchr", "strcmp", "strcspn", "strlen", "strncmp", "strpbrk",
    "strrchr", "strspn", "strstr", "strtol", "strtoll", "strtoul", "__isoc23_strto*", "strerror",
    "qsort", "mem*", "__mem*", "__ctype_*", "snprintf", "vsnprintf", "__snprintf_chk",
    "__vsnprintf_chk",
    /* those that there are always; and what ends when nobody has it any more */
    "json_null", "json_true", "json_false", "json_delete", "json_object_del",
    /* what the resolver does, t/fault/dns.t tests */
    "freeaddrinfo", "gai_strerror", "getaddrinfo", "getnameinfo",
    /* a semaphore of ours is in order */
    "sem_post",
    /* nor can these fail: what there is for threads of ours */
    "pthread_cond_broadcast", "pthread_cond_destroy", "pthread_cond_init", "pthread_cond_signal",
    "pthread_condattr_*", "pthread_detach", "pthread_join", "pthread_mutex_init", "pthread_sigmask",
    "sigfillset", "OPENSSL_cleanse",
    /* what becomes of a stream is asked at its end: ferror */
    "fclose", "fputc", "fputs", "fwrite", "fread", "putc", "puts", "putchar", "printf",
    "__printf_chk", "fprintf", "__fprintf_chk",
    /* the program's own */
    "isatty", "getopt_long", "getpid", "sigaction", "sysconf", "apr_terminate", "__errno_location",
    "__cxa_*", "__gmon_start__", "__libc_start_main", "__stack_chk_fail", "_ITM_*", "__asan_*",
    "__ubsan_*",
    /* APR */
    "apr_array_*", "apr_atoi64", "apr_atomic_*", "apr_brigade_create", "apr_brigade_destroy",
    "apr_bucket_*", "apr_cpystrn", "apr_cstr_*", "apr_dir_close", "apr_escape_*", "apr_file_close",
    "apr_fnmatch", "apr_fnmatch_test", "apr_global_mutex_lockfile", "apr_hash_*", "apr_itoa",
    "apr_optional_hook_add", "apr_palloc*", "apr_pdecode_*", "apr_pencode_*", "apr_pescape_*",
    "apr_pmemdup", "apr_pool_cleanup_*", "apr_pool_clear", "apr_pool_destroy",
    "apr_pool_pre_cleanup_register", "apr_pool_userdata_*", "apr_proc_kill",
    "apr_procattr_error_check_set", "apr_psprintf", "apr_pstr*", "apr_pvsprintf", "apr_punescape_*",
    "apr_shm_baseaddr_get", "apr_sleep", "apr_snprintf", "apr_strerror", "apr_vsnprintf",
    "apr_siphash24", "apr_strtoi64", "apr_strtok", "apr_table_*", "apr_thread_cond_broadcast",
    "apr_thread_cond_signal", "apr_time_now", "apr_tokenize_to_argv", "apr_uid_*", "apr_uri_*",
    /* httpd; ap_lookup_provider fails where users_cache_check() has already refused to start */
    "ap_*_output_filter", "ap_bin2hex", "ap_check_cmd_context", "ap_construct_url",
    "ap_escape_quotes", "ap_exists_config_define", "ap_get_status_line", "ap_hook_*", "ap_log_*",
    "ap_lookup_provider", "ap_map_http_request_error", "ap_parse_strict_length", "ap_random_pick",
    "ap_rprintf", "ap_rwrite", "ap_rvputs", "ap_satisfies", "ap_set_content_length",
    "ap_set_content_type", "ap_show_mpm", "ap_state_query"};

/* The number of each call */
enum {
#define NUMBER(type, name, ...) NUMBER_OF_##name,
    CALLS(NUMBER)
#undef NUMBER
#define NUMBER(name) NUMBER_OF_##name,
        OTHER_CALLS(NUMBER)
#undef NUMBER
#define NUMBER(name, ...) NUMBER_OF_LIBRARY_##name,
            LIBRARY_CALLS(NUMBER)
#undef NUMBER
                FUNCTIONS
};
_Static_assert(FUNCTIONS <= FUNCTIONS_MAX, "the file has no room for so many functions");

static const char *const names[] = {
#define NAME(type, name, ...) #name,
    CALLS(NAME)
#undef NAME
#define NAME(name) #name,
        OTHER_CALLS(NAME)
#undef NAME
#define NAME(name, ...) "a library's " #name,
            LIBRARY_CALLS(NAME)
#undef NAME
};

/* What stands in their place */

#define REPLACE(type, name, parameters, arguments, failure, of, brought)                           \
    static __typeof__(name) *real_##name;                                                          \
    static type torture_##name parameters                                                          \
    {                                                                                              \
        type result;                                                                               \
                                                                                                   \
        if (is_victim(NUMBER_OF_##name)) {                                                         \
            return failure;                                                                        \
        }                                                                                          \
        result = real_##name arguments;                                                            \
        count_live(of, brought);                                                                   \
        return result;                                                                             \
    }
CALLS(REPLACE)
#undef REPLACE

#define REPLACE(type, name, parameters, arguments, of, taken)                                      \
    static __typeof__(name) *real_##name;                                                          \
    static type torture_##name parameters                                                          \
    {                                                                                              \
        count_live(of, -(taken));                                                                  \
        return real_##name arguments;                                                              \
    }
RETURNS(REPLACE)
#undef REPLACE

#define REPLACE(name, parameters, arguments, brought)                                              \
    static void *library_##name parameters                                                         \
    {                                                                                              \
        void *result = atomic_load(&state->in_library) && is_victim(NUMBER_OF_LIBRARY_##name)      \
                           ? fail_with(ENOMEM)                                                     \
                           : name arguments;                                                       \
                                                                                                   \
        count_live(LIBRARY, brought);                                                              \
        return result;                                                                             \
    }
LIBRARY_CALLS(REPLACE)
#undef REPLACE

static void library_free(void *memory)
{
    count_live(LIBRARY, -(memory != NULL));
    free(memory);
}

/* Where no result is left nothing can fail; else the next is an error without a SQLSTATE. */
static __typeof__(PQgetResult) *real_PQgetResult;
static PGresult *torture_PQgetResult(PGconn *pg)
{
    PGresult *result = real_PQgetResult(pg);

    if (result && is_victim(NUMBER_OF_PQgetResult)) {
        their_PQclear(result);
        result = their_PQmakeEmptyPGresult(pg, PGRES_FATAL_ERROR);
    }
    count_live(RESULT, result != NULL);
    return result;
}

/* What it was given is its own, also where it fails. */
static __typeof__(json_pack) *real_json_pack;
static json_t *torture_json_pack(const char *format, ...)
{
    va_list arguments;
    json_t *packed;

    va_start(arguments, format);
    packed = their_json_vpack_ex(NULL, 0, format, arguments);
    va_end(arguments);
    if (is_victim(NUMBER_OF_json_pack)) {
        decref(packed);
        packed = NULL;
    }
    return packed;
}

static __typeof__(clock_gettime) *real_clock_gettime;
static int torture_clock_gettime(clockid_t clock, struct timespec *now)
{
    int failed = real_clock_gettime(clock, now);

    if (clock == CLOCK_MONOTONIC) {
        now->tv_sec += atomic_load(&state->ahead);
        atomic_fetch_add(&state->looks, 1);
    }
    return failed;
}

/* It has no lock while it waits. */
static __typeof__(pthread_cond_wait) *real_pthread_cond_wait;
static int torture_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    int failed;

    count_live(LOCK, -1);
    failed = real_pthread_cond_wait(cond, mutex);
    count_live(LOCK, 1);
    return failed;
}

/* Replacing */

typedef struct {
    const char *name;
    void *replacement;
    void **real; /* NULL: the linker's */
} entry;

static const entry of_module[] = {
#define ENTRY(type, name, ...) {#name, (void *)torture_##name, (void **)&real_##name},
    CALLS(ENTRY) RETURNS(ENTRY)
#undef ENTRY
#define ENTRY(name) {#name, (void *)torture_##name, (void **)&real_##name},
        OTHER_CALLS(ENTRY) ENTRY(clock_gettime) ENTRY(pthread_cond_wait)
#undef ENTRY
            {NULL, NULL, NULL}};

static const entry of_library[] = {
#define ENTRY(name, ...) {#name, (void *)library_##name, NULL},
    LIBRARY_CALLS(ENTRY)
#undef ENTRY
        {"free", (void *)library_free, NULL},
    {NULL, NULL, NULL}};

static bool is_harmless(const char *name)
{
    for (size_t i = 0; i < sizeof(harmless) / sizeof(*harmless); i++) {
        if (fnmatch(harmless[i], name, 0) == 0) {
            return true;
        }
    }
    return false;
}

static void note_stranger(const char *name)
{
    size_t used = strlen(state->strangers);

    snprintf(state->strangers + used, sizeof(state->strangers) - used, "%s ", name);
}

static void replace(void **slot, const entry *found)
{
    uintptr_t page = (uintptr_t)slot & ~(uintptr_t)(sysconf(_SC_PAGESIZE) - 1);

    mprotect((void *)page, (uintptr_t)(slot + 1) - page, PROT_READ | PROT_WRITE); /* relro */
    if (found->real) {
        *found->real = *slot;
    }
    *slot = found->replacement;
}

/* A dynamic section's address is absolute already where the linker could write it. */
static const void *address_of(const struct link_map *map, ElfW(Addr) value)
{
    return (const void *)(value < map->l_addr ? value + map->l_addr : value);
}

/* Replace the addresses that a loaded object has of these functions. */
static void replace_all(const struct link_map *map, const ElfW(Rela) * relocations, size_t size,
                        const ElfW(Sym) * symbols, const char *strings, const entry *entries)
{
    for (size_t i = 0; i < size / sizeof(*relocations); i++) {
        const ElfW(Sym) *symbol = &symbols[ELF64_R_SYM(relocations[i].r_info)];
        const char *name = strings + symbol->st_name;
        const entry *found = entries;

        if (!*name || symbol->st_shndx != SHN_UNDEF) {
            continue;
        }
        while (found->name && strcmp(found->name, name) != 0) {
            found++;
        }
        if (found->name) {
            replace((void **)(map->l_addr + relocations[i].r_offset), found);
        } else if (entries == of_module && ELF64_ST_TYPE(symbol->st_info) == STT_FUNC &&
                   !is_harmless(name)) {
            note_stranger(name);
        }
    }
}

static void torture(const struct link_map *map, const entry *entries)
{
    const ElfW(Sym) *symbols = NULL;
    const ElfW(Rela) * tables[2] = {NULL, NULL};
    const char *strings = NULL;
    size_t sizes[2] = {0, 0};

    for (const ElfW(Dyn) *d = map->l_ld; d->d_tag != DT_NULL; d++) {
        switch (d->d_tag) {
        case DT_SYMTAB:
            symbols = address_of(map, d->d_un.d_ptr);
            break;
        case DT_STRTAB:
            strings = address_of(map, d->d_un.d_ptr);
            break;
        case DT_RELA:
            tables[0] = address_of(map, d->d_un.d_ptr);
            break;
        case DT_RELASZ:
            sizes[0] = d->d_un.d_val;
            break;
        case DT_JMPREL:
            tables[1] = address_of(map, d->d_un.d_ptr);
            break;
        case DT_PLTRELSZ:
            sizes[1] = d->d_un.d_val;
            break;
        default:
            break;
        }
    }
    for (int i = 0; i < 2; i++) {
        replace_all(map, tables[i], sizes[i], symbols, strings, entries);
    }
}

/* libpq and jansson, wherever they are. */
static void torture_libraries(void)
{
    for (const struct link_map *map = _r_debug.r_map; map; map = map->l_next) {
        const char *file = strrchr(map->l_name, '/');

        if (file && (strncmp(file, "/libpq.", 7) == 0 || strncmp(file, "/libjansson.", 12) == 0)) {
            torture(map, of_library);
        }
    }
}

/* What is tortured: the file of the module, or of the program. */
static bool is_tortured(const char *file)
{
    const char *tortured = getenv("USERS_TORTURED");

    return tortured && file && strcmp(file, tortured) == 0;
}

/* httpd loads the module by this; twice when it starts. */
void *dlopen(const char *file, int mode)
{
    static __typeof__(dlopen) *real;
    void *handle;

    if (!real) {
        real = (__typeof__(dlopen) *)dlsym(RTLD_NEXT, "dlopen");
    }
    handle = real(file, mode);
    if (handle && state && is_tortured(file)) {
        find_theirs(handle);
        torture_libraries();
        torture(handle, of_module); /* it is a struct link_map * */
    }
    return handle;
}

/* USERS_TORTURE names the file that the test reads. */
__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("USERS_TORTURE");
    char program[4096] = "";
    int fd = path ? open(path, O_RDWR) : -1;
    void *shared =
        fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*state), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (shared == MAP_FAILED) {
        return;
    }
    close(fd);
    state = shared;
    state->functions = FUNCTIONS;
    for (int i = 0; i < FUNCTIONS; i++) {
        snprintf(state->names[i], NAME_MAX_LENGTH, "%s", names[i]);
    }
    if (readlink("/proc/self/exe", program, sizeof(program) - 1) > 0 && is_tortured(program)) {
        find_theirs(RTLD_DEFAULT);
        torture_libraries();
        torture(_r_debug.r_map, of_module);
    }
}
